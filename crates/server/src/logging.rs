//! The log: one line an event on stderr, for people or as JSON. Lines are written by a thread of their own: where nobody
//! reads stderr, lines are left out and counted, and nobody waits.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// What is logged when no filter is given.
pub const DEFAULT_FILTER: &str = "info";

/// So many lines wait at most.
const LINES: usize = 4096;
/// How long the last lines may take at the end.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Writes lines, on a thread of its own, until it is dropped.
#[derive(Debug)]
pub struct Log {
    lines: Option<Lines>,
    done: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

/// Where lines are handed in.
#[derive(Debug, Clone)]
struct Lines {
    to: Arc<Mutex<Option<SyncSender<Vec<u8>>>>>,
    left_out: Arc<AtomicU64>,
}

impl Log {
    /// Starts the log of this process, once: JSON or not, and what is logged, as `tracing_subscriber`'s `EnvFilter` has
    /// it (`info`, `warn,commonhold::request=off`).
    ///
    /// # Errors
    /// What is wrong with the filter, or that there is a log already.
    pub fn start(json: bool, filter: &str) -> Result<Self, String> {
        let filter = EnvFilter::builder().parse(filter).map_err(|e| {
            format!("`{filter}` is no filter ({e}); write a level, or target=level, with commas")
        })?;
        let (to, from) = sync_channel(LINES);
        let lines = Lines { to: Arc::new(Mutex::new(Some(to))), left_out: Arc::default() };
        let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(lines.clone());
        let set = if json {
            builder.json().flatten_event(true).try_init()
        } else {
            builder.with_ansi(false).try_init()
        };
        set.map_err(|e| format!("cannot start the log: {e}"))?;
        let (tell, done) = sync_channel(1);
        let left_out = Arc::clone(&lines.left_out);
        let write = move || {
            write_lines(&from, &left_out, &mut std::io::stderr());
            let _ = tell.send(());
        };
        let thread = std::thread::Builder::new().name("log".to_owned()).spawn(write);
        let thread = thread.map_err(|e| format!("cannot start the log's thread: {e}"))?;
        Ok(Self { lines: Some(lines), done, thread: Some(thread) })
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Some(lines) = self.lines.take() {
            lines.to.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
        // Who does not read the log does not keep the daemon from ending.
        if self.done.recv_timeout(LAST_LINES).is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

fn write_lines(from: &Receiver<Vec<u8>>, left_out: &AtomicU64, to: &mut impl Write) {
    while let Ok(line) = from.recv() {
        // Where nobody can read there is nobody to tell.
        let _ = to.write_all(&line);
        match left_out.swap(0, Ordering::Relaxed) {
            0 => {}
            count => {
                let _ = writeln!(
                    to,
                    "commonhold: {count} lines were left out here: stderr is not read fast enough"
                );
            }
        }
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { lines: self, bytes: Vec::new() }
    }
}

/// A line that is being made.
struct Line<'a> {
    lines: &'a Lines,
    bytes: Vec<u8>,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        let to = self.lines.to.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(to) = to.as_ref().filter(|_| !bytes.is_empty())
            && let Err(TrySendError::Full(_)) = to.try_send(bytes)
        {
            self.lines.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_counted() {
        let (to, from) = sync_channel(2);
        let lines = Lines { to: Arc::new(Mutex::new(Some(to))), left_out: Arc::default() };
        for line in ["a\n", "b\n", "c\n", "d\n"] {
            lines.make_writer().write_all(line.as_bytes()).unwrap();
        }
        lines.to.lock().unwrap().take();
        let mut written = Vec::new();
        write_lines(&from, &lines.left_out, &mut written);
        let text = String::from_utf8(written).unwrap();
        assert!(
            text.starts_with("a\ncommonhold: 2 lines were left out") && text.ends_with("\nb\n"),
            "{text}"
        );
    }

    #[test]
    fn a_bad_filter_is_named() {
        let error = Log::start(false, "commonhold=loud").unwrap_err();
        assert!(error.contains("`commonhold=loud` is no filter"), "{error}");
    }
}
