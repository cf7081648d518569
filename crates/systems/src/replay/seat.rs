//! A seat: one share, and the process that has it at the time.

use std::io::Write;
use std::process::Child;

use commonhold_runtime::WriterId;

use super::pace::Leave;
use super::plan::Kills;

/// So often in a row a worker may die without having committed anything.
const FRUITLESS_MAX: u32 = 10;

/// One share and its worker.
#[derive(Debug, Default)]
pub(crate) struct Seat {
    /// The process, from its start until it is reaped.
    pub(crate) child: Option<Child>,
    /// Who it commits as, once it has said so.
    pub(crate) writer: Option<WriterId>,
    /// So many lines of the share were done when it started.
    pub(crate) position: u64,
    /// The share's lines.
    pub(crate) length: u64,
    /// So many commits were acknowledged to it, as far as it has told: only victims tell.
    pub(crate) acknowledged: u64,
    /// Who of this seat is killed, and when.
    pub(crate) kills: Kills,
    /// It waits for leave to go on.
    pub(crate) waiting: bool,
    /// The share is done.
    pub(crate) done: bool,
    fruitless: u32,
}

impl Seat {
    pub(crate) fn new(length: u64, kills: Kills) -> Self {
        Self { length, kills, ..Self::default() }
    }

    /// Lets its worker go on.
    pub(crate) fn let_go(&mut self, leave: Leave) {
        self.waiting = false;
        if let Some(pipe) = self.child.as_mut().and_then(|child| child.stdin.as_mut()) {
            // Fails when it is dead, which will be noticed.
            let _ = pipe.write_all(&leave.to_bytes());
        }
    }

    /// Whether a death now counts as a kill: one commit acknowledged, one left.
    pub(crate) fn counts(&self) -> bool {
        self.acknowledged >= 1 && self.position + self.acknowledged < self.length
    }

    /// The next worker goes on behind the `committed` lines of the one that died.
    pub(crate) fn advance(&mut self, committed: u64) -> Result<(), String> {
        let position = self.position + committed;
        if committed < self.acknowledged {
            let acknowledged = self.acknowledged;
            return Err(format!(
                "{acknowledged} commits were acknowledged and {committed} are in the store; run `verify` on it"
            ));
        }
        if position > self.length {
            let length = self.length;
            return Err(format!(
                "{position} commits for {length} lines; run `verify` on the store"
            ));
        }
        self.fruitless = if committed == 0 { self.fruitless + 1 } else { 0 };
        if self.fruitless > FRUITLESS_MAX {
            return Err(format!("{FRUITLESS_MAX} in a row were killed before they did anything"));
        }
        (self.position, self.acknowledged, self.writer) = (position, 0, None);
        self.waiting = false;
        self.done = position == self.length;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_advances_by_what_the_store_has() {
        let mut seat = Seat::new(10, Kills::default());
        assert!(!seat.counts());
        seat.acknowledged = 4;
        assert!(seat.counts());
        assert!(seat.advance(3).is_err(), "an acknowledged commit is missing");
        assert!(seat.advance(11).is_err(), "more than there is");
        seat.advance(5).unwrap();
        assert_eq!((seat.position, seat.acknowledged, seat.done), (5, 0, false));
        seat.acknowledged = 5;
        assert!(!seat.counts(), "nothing left");
        seat.advance(5).unwrap();
        assert!(seat.done);
    }

    #[test]
    fn dying_at_once_again_and_again_ends_it() {
        let mut seat = Seat::new(10, Kills::default());
        assert_eq!((0..99).take_while(|_| seat.advance(0).is_ok()).count(), 10);
    }
}
