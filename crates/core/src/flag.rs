//! Flags and doorbell: how the steward learns that a record changed.
//!
//! Truth is `head ≠ persisted`; a flag is a hint, one bit a slot. The committer looks before it sets (the
//! line stays shared while the bit is set). The steward clears before it reads the head. Both are `SeqCst`,
//! so either the committer sees the cleared bit and sets it again, or the steward sees the new head.
//!
//! Who asks for ids, or for the counters to be stored, sets a bit of another word (ids.rs, counter.rs); it counts as a
//! flag, and crosses with the doorbell in the same way.
//!
//! **Doorbell** states: the steward alone puts it to Asleep, Pacing or None; anybody puts it to Awake.
//!
//! | state | the steward | rung by |
//! | --- | --- | --- |
//! | Awake | looks at the flags before it sleeps | nobody needs to |
//! | Asleep | sleeps until a flag is set | every new flag |
//! | Pacing | gathers commits for the next transaction | those who wait: durable waits, no room |
//! | Hurried | like Awake, and somebody waits: he does not pace before the next look | nobody needs to |
//! | None | there is none | every new flag wakes this process's own candidate |

use std::time::Duration;

use commonhold_segment::layout::LINE_WORDS;
use commonhold_segment::sync::{
    AtomicU64, Fault, Ordering, crossing, fence, futex_wait, futex_wake_all, planted,
};

use crate::error::Error;
use crate::head::Head;
use crate::space::{Space, control};
use crate::table::TableView;
use crate::word::{Phase, Word};

/// What the doorbell says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Doorbell {
    /// The steward is at work.
    Awake = 0,
    /// The steward sleeps until a flag is set.
    Asleep = 1,
    /// The steward gathers commits.
    Pacing = 2,
    /// Nobody is steward.
    None = 3,
    /// The steward is at work, and somebody waits for what he does next.
    Hurried = 4,
}

/// The longest message of the steward, in bytes.
const MESSAGE_BYTES: usize = 400;

impl Doorbell {
    fn from_bits(bits: u64) -> Self {
        match bits {
            1 => Self::Asleep,
            2 => Self::Pacing,
            3 => Self::None,
            4 => Self::Hurried,
            _ => Self::Awake,
        }
    }
}

impl Space {
    pub(crate) fn control_line(&self, line: usize) -> Result<&AtomicU64, Error> {
        self.word(self.layout().control.start + line * LINE_WORDS)
    }

    pub(crate) fn doorbell(&self) -> Result<&AtomicU64, Error> {
        self.control_line(control::DOORBELL)
    }

    /// Flags a slot for the steward, and rings if he sleeps for lack of flags.
    #[inline]
    pub(crate) fn flag(&self, table: &TableView<'_>, slot: u32) {
        let words = table.words.get(table.layout.dirty.clone()).unwrap_or_default();
        let Some(word) = words.get(slot as usize / 64) else { return };
        let bit = 1 << (slot % 64);
        crossing();
        if word.load(Ordering::SeqCst) & bit == 0 {
            self.flag_slow(word, bit);
        }
    }

    #[cold]
    fn flag_slow(&self, word: &AtomicU64, bit: u64) {
        word.fetch_or(bit, Ordering::SeqCst);
        crossing();
        if let Ok(bell) = self.doorbell()
            && !planted(Fault::NoRing)
        {
            self.ring(bell, false);
        }
    }

    fn ring(&self, bell: &AtomicU64, urgent: bool) {
        let mut now = bell.load(Ordering::SeqCst);
        loop {
            let next = match Doorbell::from_bits(now) {
                Doorbell::Awake if urgent => Doorbell::Hurried,
                Doorbell::Pacing if urgent => Doorbell::Awake,
                Doorbell::Asleep => Doorbell::Awake,
                Doorbell::None => return self.wake_candidate(),
                Doorbell::Awake | Doorbell::Pacing | Doorbell::Hurried => return,
            };
            let rung = bell.compare_exchange(now, next as u64, Ordering::SeqCst, Ordering::SeqCst);
            match rung {
                Ok(_) if next == Doorbell::Awake => return futex_wake_all(bell),
                Ok(_) => return,
                // He just went to sleep or to pace, or left: look again.
                Err(other) => now = other,
            }
        }
    }

    /// Rings for somebody who waits for the steward.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged.
    pub fn hurry_steward(&self) -> Result<(), Error> {
        if !planted(Fault::NoHurry) {
            self.ring(self.doorbell()?, true);
        }
        Ok(())
    }

    /// Rings for something that nobody waits for yet.
    pub(crate) fn ring_steward(&self) -> Result<(), Error> {
        crossing();
        self.ring(self.doorbell()?, false);
        Ok(())
    }

    /// Flags every slot whose truth is `head ≠ persisted`: at take-over, after a failed batch, when idle.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged.
    pub fn flag_all(&self) -> Result<(), Error> {
        if planted(Fault::NoFlagAll) {
            return Ok(());
        }
        self.tables().for_each(|table| self.flag_behind(&table));
        self.check_whole()
    }

    /// Flags every slot of `table` whose truth is `head ≠ persisted`.
    pub(crate) fn flag_behind(&self, table: &TableView<'_>) {
        for slot in table.slots() {
            let phase = Word::load(slot.word, Ordering::Acquire).phase();
            let head = Head::load(slot.head, Ordering::SeqCst);
            let persisted = Head::load(slot.persisted, Ordering::SeqCst);
            let behind = phase == Phase::Published && head.tag() != persisted.tag();
            if behind || phase == Phase::Retired {
                self.flag(table, slot.index);
            }
        }
    }

    /// Whether something is there for the steward. A stopped table's flags wait until somebody decides, and keep nobody
    /// awake.
    #[must_use]
    pub fn has_flags(&self) -> bool {
        let goes = self.tables().filter(|t| !self.is_stopped(t.position));
        let mut dirty = goes.filter_map(|t| t.words.get(t.layout.dirty.clone()));
        let flagged = dirty.any(|words| words.iter().any(|w| w.load(Ordering::SeqCst) != 0));
        // What is damaged asks for nothing: the steward reports it in his rounds.
        let asked = || self.marks_asked().unwrap_or(false);
        flagged || asked()
    }

    /// For the steward: sleeps at most `timeout`; with `pacing` only somebody who waits wakes him earlier,
    /// else any flag does.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged.
    pub fn sleep_as_steward(&self, pacing: bool, timeout: Duration) -> Result<(), Error> {
        let bell = self.doorbell()?;
        let state = if pacing { Doorbell::Pacing } else { Doorbell::Asleep } as u64;
        let awake = Doorbell::Awake as u64;
        let calm = bell.compare_exchange(awake, state, Ordering::SeqCst, Ordering::SeqCst);
        crossing();
        let blind = pacing || planted(Fault::NoLookAtFlags);
        if calm.is_ok() && (blind || !self.has_flags()) {
            futex_wait(bell, state as u32, timeout);
        }
        // Not a store: loom orders two stores that do not know of each other in no way at all.
        bell.swap(awake, Ordering::SeqCst);
        Ok(())
    }

    /// For the steward: says whether he serves. After `false` he looks at the flags once more before he
    /// leaves: who set one meanwhile thought him there.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged.
    pub fn serve(&self, serves: bool) -> Result<bool, Error> {
        let state = if serves { Doorbell::Awake } else { Doorbell::None };
        self.doorbell()?.swap(state as u64, Ordering::SeqCst); // as above
        crossing();
        let looks = !serves && !planted(Fault::BlindLeaver);
        Ok(looks && self.has_flags())
    }

    /// What the doorbell says.
    #[must_use]
    pub fn steward_state(&self) -> Doorbell {
        self.doorbell().map_or(Doorbell::None, |b| Doorbell::from_bits(b.load(Ordering::Relaxed)))
    }

    /// For the steward: who he is, so that candidates can watch his process.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged.
    pub fn announce_steward(&self, entry: u16) -> Result<u64, Error> {
        let word = self.control_line(control::STEWARD)?;
        let terms = (word.load(Ordering::Relaxed) >> 16) + 1;
        word.store((terms << 16 | u64::from(entry)) + 1, Ordering::SeqCst);
        Ok(terms)
    }

    /// The entry of the last steward, and how many there have been.
    #[must_use]
    pub fn steward(&self) -> Option<(u16, u64)> {
        let word = self.control_line(control::STEWARD).ok()?.load(Ordering::SeqCst);
        ((word & 0xffff) as u16).checked_sub(1).map(|entry| (entry, word >> 16))
    }

    /// For the steward: the last error of the store, or none.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged.
    pub fn set_steward_message(&self, message: &str) -> Result<(), Error> {
        let version = self.control_line(control::MESSAGE)?;
        let start = self.layout().control.start + control::MESSAGE_TEXT * LINE_WORDS;
        let words = self.segment().words().get(start..).unwrap_or_default();
        let mut cut = message.len().min(MESSAGE_BYTES);
        while !message.is_char_boundary(cut) {
            cut -= 1;
        }
        let text = message.get(..cut).unwrap_or_default();
        // A sequence lock with one writer: odd while the text is being written.
        let now = version.load(Ordering::Relaxed) | 1;
        version.store(now, Ordering::Relaxed);
        fence(Ordering::Release);
        if let [length, rest @ ..] = words {
            length.store(text.len() as u64, Ordering::Relaxed);
            crate::table::store_bytes(rest, text.as_bytes());
        }
        version.store(now.wrapping_add(1), Ordering::Release);
        Ok(())
    }

    /// The store's last error as the steward reported it.
    #[must_use]
    pub fn steward_message(&self) -> Option<String> {
        let version = self.control_line(control::MESSAGE).ok()?;
        let start = self.layout().control.start + control::MESSAGE_TEXT * LINE_WORDS;
        let [length, rest @ ..] = self.segment().words().get(start..)? else { return None };
        let mut text = Vec::new();
        for _ in 0..1000 {
            let before = version.load(Ordering::Acquire);
            let count = length.load(Ordering::Relaxed) as usize;
            crate::table::load_bytes(rest, count.min(MESSAGE_BYTES), &mut text);
            fence(Ordering::Acquire);
            if before & 1 == 0 && version.load(Ordering::Relaxed) == before {
                return String::from_utf8(text).ok().filter(|t| !t.is_empty());
            }
        }
        None
    }

    /// Why something may not be stored yet, to stand behind a message: what the store said, or who has to store it.
    #[must_use]
    pub fn why_not_stored(&self) -> String {
        if let Some(message) = self.steward_message() {
            return format!(": {message}");
        }
        let steward = self.steward().filter(|_| self.steward_state() != Doorbell::None);
        match steward.and_then(|(entry, _)| self.identity_of(entry)) {
            Some(identity) => {
                let pid = identity.pid;
                format!(": process {pid} is the steward; see whether it is stopped or overloaded")
            }
            None => ": no process is the steward; attach one that may be (not `without_steward`)"
                .to_owned(),
        }
    }
}
