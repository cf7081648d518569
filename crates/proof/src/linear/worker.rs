//! A process of a history: random calls on a few keys, each noted before and after.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use commonhold_core::hash::{record_prefix, state_hash};
use commonhold_core::{Error, Handle, Inserted, RecordRef, Snapshot, UpdateError};

use crate::linear::board::{Board, Lane, Shape};
use crate::linear::spec::{Answer, Call, step};
use crate::linear::stage::{Stage, TABLE, key};
use crate::random::Random;
use crate::{Failure, Plan};

/// References that a process holds of records it met.
const HELD: usize = 6;

/// What the processes do wrong on purpose.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wrong {
    /// An update computes outside of its closure, from what was read before.
    blind: bool,
    /// A read answers what the last one did.
    stale: bool,
}

impl Wrong {
    pub(crate) fn of(plan: &Plan) -> Self {
        Self { blind: plan.sabotaged("blind-write"), stale: plan.sabotaged("stale-read") }
    }
}

/// Why a closure refused.
enum Refused {
    /// The value is odd.
    Odd(i64, u64),
    /// What it saw is no state of this key.
    Broken(String),
}

struct Worker<'a> {
    handle: Handle,
    stage: &'a Stage,
    lane: Lane,
    random: RefCell<Random>,
    shape: Shape,
    wrong: Wrong,
    held: Vec<(usize, RecordRef, u64)>,
    seen: [u64; 4],
    last_read: Cell<Option<(usize, Answer)>>,
    number: i64,
}

/// A process's life: a part in every round from the one after `last` on.
pub(crate) fn live(
    stage: &Stage,
    board: Board,
    lane: usize,
    mut last: u64,
    seed: u64,
    wrong: Wrong,
) -> Result<(), Failure> {
    let space = stage.attach()?;
    let handle = Handle::open(&space)?;
    let random = RefCell::new(Random::of(seed, lane as u64));
    let number = (lane as i64 + 1) << 32;
    let mut worker = Worker {
        handle,
        stage,
        lane: board.lane(lane),
        random,
        shape: board.shape(),
        wrong,
        held: Vec::new(),
        seen: [0; 4],
        last_read: Cell::new(None),
        number,
    };
    loop {
        last = board.await_round(last);
        worker.shape = board.shape();
        worker.play();
        board.finish(worker.lane, last);
    }
}

impl Worker<'_> {
    fn below(&self, limit: u64) -> u64 {
        self.random.borrow_mut().below(limit)
    }

    /// One round.
    fn play(&mut self) {
        self.held.clear();
        self.last_read.set(None);
        for _ in 0..self.shape.calls {
            let (at, held, call) = self.draw();
            self.lane.call(at, call);
            match self.make(at, held, call) {
                Ok(answer) => self.lane.answer(answer),
                Err(text) => return self.lane.complain(&format!("{call:?} of key {at}: {text}")),
            }
        }
    }

    /// The next call: its key, and the reference if it goes through one.
    fn draw(&mut self) -> (usize, Option<RecordRef>, Call) {
        self.number += 1;
        let at = self.below(self.shape.keys) as usize;
        let add = self.number * 2 + self.below(2).cast_signed();
        let low = self.seen.get(at).copied().unwrap_or(0) + self.below(3);
        let call = match self.below(100) {
            0..24 => Call::Read,
            24..54 => Call::Add(add),
            54..64 => Call::AddEven(add),
            64..76 => Call::Insert(add),
            76..84 => Call::Delete,
            84..89 => Call::WaitAbove(low),
            _ => {
                let which = self.below(self.held.len() as u64) as usize;
                let Some((at, record, seen)) = self.held.get(which) else {
                    return (at, None, Call::Read);
                };
                return (*at, Some(*record), Call::AddHeld(add, *seen));
            }
        };
        (at, None, call)
    }

    fn make(&mut self, at: usize, held: Option<RecordRef>, call: Call) -> Result<Answer, String> {
        match call {
            Call::Read => self.read(at),
            Call::Add(add) => self.update(at, self.locate(at)?, add, false, Answer::Absent),
            Call::AddEven(add) => self.update(at, self.locate(at)?, add, true, Answer::Absent),
            Call::AddHeld(add, _) => self.update(at, held, add, false, Answer::Gone),
            Call::Insert(value) => self.insert(at, value),
            Call::Delete => self.delete(at),
            Call::WaitAbove(low) => self.wait_above(at, low),
        }
    }

    fn locate(&self, at: usize) -> Result<Option<RecordRef>, String> {
        self.handle.locate(TABLE, key(at)).map_err(|e| e.to_string())
    }

    fn read(&mut self, at: usize) -> Result<Answer, String> {
        if let (true, Some((key, answer))) = (self.wrong.stale, self.last_read.get())
            && key == at
        {
            return Ok(answer);
        }
        let answer = match self.locate(at)? {
            None => Answer::Absent,
            Some(record) => match self.peek(at, record)? {
                None => Answer::Absent,
                Some((value, version)) => {
                    self.hold(at, record, version);
                    Answer::Seen(value, version)
                }
            },
        };
        self.last_read.set(Some((at, answer)));
        Ok(answer)
    }

    fn peek(&self, at: usize, record: RecordRef) -> Result<Option<(i64, u64)>, String> {
        let take = |s: &Snapshot| self.stage.decode(at, s).map(|value| (value, s.version));
        let read = self.handle.read_at(TABLE, record, take).map_err(|e| e.to_string())?;
        read.transpose()
    }

    fn hold(&mut self, at: usize, record: RecordRef, version: u64) {
        if let Some(seen) = self.seen.get_mut(at) {
            *seen = version;
        }
        if self.held.len() >= HELD {
            self.held.remove(0);
        }
        self.held.push((at, record, version));
    }

    fn update(
        &mut self,
        at: usize,
        record: Option<RecordRef>,
        add: i64,
        even: bool,
        gone: Answer,
    ) -> Result<Answer, String> {
        let Some(record) = record else { return Ok(gone) };
        let before = if self.wrong.blind { self.peek(at, record)? } else { None };
        let mut made = 0;
        let change = |seen: &Snapshot, next: &mut Vec<u8>| {
            let now = self.stage.decode(at, seen).map_err(Refused::Broken)?;
            if even && now & 1 != 0 {
                return Err(Refused::Odd(now, seen.version));
            }
            made = step(before.map_or(now, |(value, _)| value), add);
            self.idle();
            self.stage.encode(at, made, next);
            Ok(())
        };
        match self.handle.update_seen(TABLE, record, change) {
            Ok(Some(done)) => {
                self.hold(at, record, done.version);
                Ok(Answer::Done(made, done.version))
            }
            Ok(None) => Ok(gone),
            Err(UpdateError::Refused(Refused::Odd(value, version))) => {
                Ok(Answer::Seen(value, version))
            }
            Err(UpdateError::Refused(Refused::Broken(text))) => Err(text),
            Err(UpdateError::Failed(e)) => Err(e.to_string()),
        }
    }

    fn insert(&mut self, at: usize, value: i64) -> Result<Answer, String> {
        let mut payload = Vec::new();
        self.stage.encode(at, value, &mut payload);
        match self.handle.insert(TABLE, key(at), &payload) {
            Ok(Inserted::Committed(done)) => {
                self.hold(at, done.record, done.version);
                Ok(Answer::Done(value, done.version))
            }
            Ok(Inserted::Exists(_)) => Ok(Answer::Exists),
            Err(e) => Err(e.to_string()),
        }
    }

    fn delete(&mut self, at: usize) -> Result<Answer, String> {
        let mut last = 0;
        let allow = |seen: &Snapshot| {
            last = self.stage.decode(at, seen)?;
            self.idle();
            Ok::<(), String>(())
        };
        match self.handle.delete(TABLE, key(at), allow) {
            Ok(done) => Ok(Answer::Done(last, done.version)),
            Err(UpdateError::Failed(Error::NotFound { .. })) => Ok(Answer::Absent),
            Err(e) => Err(e.to_string()),
        }
    }

    fn wait_above(&mut self, at: usize, low: u64) -> Result<Answer, String> {
        let limit = Duration::from_nanos(self.below(300_000));
        let ready = |s: &Snapshot| {
            let seen = self.stage.decode(at, s).map(|value| (value, s.version));
            let wanted = seen.as_ref().map_or(true, |(_, version)| *version > low);
            Ok(Some(seen).filter(|_| wanted))
        };
        match self.handle.wait_for(TABLE, key(at), limit, ready) {
            Ok(seen) => seen.map(|(value, version)| Answer::Seen(value, version)),
            Err(Error::Timeout { .. }) => Ok(Answer::Timeout),
            Err(e) => Err(e.to_string()),
        }
    }

    /// Takes a while inside of a closure, so that others get between its read and its exchange.
    fn idle(&self) {
        let turns = self.below(self.shape.idles + 1);
        if turns > 0 && turns.is_multiple_of(16) {
            std::thread::yield_now();
        }
        for _ in 0..turns {
            std::hint::spin_loop();
        }
    }
}

impl Stage {
    /// Appends the payload that says `value` of key `at`.
    pub(crate) fn encode(&self, at: usize, value: i64, out: &mut Vec<u8>) {
        for i in 0..self.payload_words() {
            out.extend_from_slice(&word(at, value, i).to_le_bytes());
        }
    }

    /// The value of key `at` in a copy, which must be whole and its own.
    pub(crate) fn decode(&self, at: usize, seen: &Snapshot) -> Result<i64, String> {
        let (words, rest) = seen.payload.as_chunks::<8>();
        let value = words.first().map_or(0, |w| i64::from_le_bytes(*w));
        let whole = |(i, w): (usize, &[u8; 8])| i64::from_le_bytes(*w) == word(at, value, i);
        let fits = words.len() == self.payload_words() && rest.is_empty();
        if !fits || !words.iter().enumerate().all(whole) {
            let owner = words.get(1).map_or(-1, |w| i64::from_le_bytes(*w).wrapping_sub(value));
            let version = seen.version;
            return Err(format!("a torn or foreign copy (key {owner}, version {version})"));
        }
        let prefix = record_prefix(self.table_name(), key(at));
        if state_hash(prefix, seen.version, &seen.payload) != seen.hash {
            return Err(format!("version {} with a wrong hash", seen.version));
        }
        Ok(value)
    }
}

/// Word `i` of the payload: the value, the key, then mixtures of both.
fn word(at: usize, value: i64, i: usize) -> i64 {
    match i {
        0 => value,
        1 => value.wrapping_add(at as i64),
        _ => value.wrapping_mul(2 * i as i64 + 1).wrapping_add(at as i64),
    }
}
