//! What the supervisor and its workers say: written to this process's standard error by a thread of its own, so that
//! nobody who does not read it stops the supervisor.

use std::io::Write;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

/// Lines that may wait to be written; what is beyond is left out, and counted.
const LINES_MAX: usize = 1000;

/// The way to standard error.
#[derive(Debug, Default)]
pub(super) struct Voice {
    lines: Option<SyncSender<String>>,
    left_out: u64,
    last: String,
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
        let lines = match &self.lines {
            Some(lines) => lines,
            None => match start() {
                Some(lines) => self.lines.insert(lines),
                None => return false,
            },
        };
        match lines.try_send(line) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => false,
            Err(TrySendError::Disconnected(_)) => {
                self.lines = None;
                false
            }
        }
    }
}

/// The thread that writes; it ends when nobody can say anything any more.
fn start() -> Option<SyncSender<String>> {
    let (sender, lines) = sync_channel::<String>(LINES_MAX);
    let write = move || {
        for line in lines {
            // Nobody may be there to read it.
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    };
    let thread = std::thread::Builder::new().name("commonhold-voice".to_owned());
    thread.spawn(write).ok().map(|_| sender)
}
