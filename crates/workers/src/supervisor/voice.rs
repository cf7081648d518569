//! What the supervisor and its workers say: written to this process's standard error by a thread of its own, so that
//! nobody who does not read it stops the supervisor.

use std::io::Write;
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel,
};
use std::thread::JoinHandle;
use std::time::Duration;

/// Lines that may wait to be written; what is beyond is left out, and counted.
const LINES_MAX: usize = 1000;

/// How long the last lines are waited for.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The way to standard error.
#[derive(Debug, Default)]
pub(super) struct Voice {
    writer: Option<Writer>,
    left_out: u64,
    last: String,
}

/// The thread that writes; it ends when nobody can say anything any more.
#[derive(Debug)]
struct Writer {
    lines: SyncSender<String>,
    /// Never sent to; closed when the thread ends.
    ended: Receiver<()>,
    thread: JoinHandle<()>,
}

impl Voice {
    /// Says something, unless it was what this said last.
    pub(super) fn say_once(&mut self, what: &str) {
        if self.last != what {
            what.clone_into(&mut self.last);
            self.say(format!("commonhold pool: {what}"));
        }
    }

    pub(super) fn say(&mut self, line: String) {
        if self.left_out > 0 {
            let text = format!("commonhold pool: {} lines of output were left out", self.left_out);
            if self.send(text) {
                self.left_out = 0;
            }
        }
        if self.left_out > 0 || !self.send(line) {
            self.left_out += 1;
        }
    }

    fn send(&mut self, line: String) -> bool {
        let writer = match &self.writer {
            Some(writer) => writer,
            None => match Writer::start() {
                Some(writer) => self.writer.insert(writer),
                None => return false,
            },
        };
        match writer.lines.try_send(line) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => false,
            Err(TrySendError::Disconnected(_)) => {
                self.writer = None;
                false
            }
        }
    }
}

impl Drop for Voice {
    fn drop(&mut self) {
        let Some(Writer { lines, ended, thread }) = self.writer.take() else { return };
        drop(lines);
        // Who may end right after this has said all; but nobody waits for long for one who does not read.
        if ended.recv_timeout(LAST_LINES) == Err(RecvTimeoutError::Disconnected) {
            let _ = thread.join();
        }
    }
}

impl Writer {
    fn start() -> Option<Self> {
        let (sender, lines) = sync_channel::<String>(LINES_MAX);
        let (ends, ended): (Sender<()>, _) = channel();
        let write = move || {
            let _ends = ends;
            for line in lines {
                // Nobody may be there to read it.
                let _ = writeln!(std::io::stderr(), "{line}");
            }
        };
        let named = std::thread::Builder::new().name("commonhold-voice".to_owned());
        named.spawn(write).ok().map(|thread| Self { lines: sender, ended, thread })
    }
}
