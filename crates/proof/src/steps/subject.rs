//! The operations that are killed and frozen, and what others do meanwhile.

use std::time::{Duration, Instant};

use commonhold::Handle;
use commonhold_core::row::Row;

use super::spec::{Event, Op, Seen};
use super::world::{TABLES, World};
use crate::Failure;
use crate::trace::Traced;

/// The next operation of another process takes at most so long.
const NEXT_WITHIN: Duration = Duration::from_secs(1);

/// One operation of the child.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    pub(crate) table: usize,
    pub(crate) key: &'static str,
    /// What the child does to the key before it marks.
    before: &'static [Op],
    pub(crate) op: Op,
}

macro_rules! subjects {
    ($($name:literal $key:literal $before:expr, $op:expr;)*) => {
        &[$(
            Subject { name: concat!($name, ", full"), table: 0, key: $key, before: $before, op: $op },
            Subject { name: concat!($name, ", latest"), table: 1, key: $key, before: $before, op: $op },
        )*]
    };
}

/// All of them.
pub(crate) const SUBJECTS: &[Subject] = subjects! {
    "read" "a" &[], Op::Read;
    "update" "n" &[], Op::Add;
    "update again" "a" &[Op::Add], Op::Add;
    "insert" "new" &[], Op::Insert(7);
    "insert over a deletion" "b" &[Op::Delete], Op::Insert(7);
    "delete" "a" &[], Op::Delete;
    "delete after an update" "b" &[Op::Add], Op::Delete;
};

/// A record that no subject is about.
const NEIGHBOUR: &str = "m";

/// The subject of this name.
pub(crate) fn named(name: &str) -> Result<&'static Subject, Failure> {
    SUBJECTS.iter().find(|s| s.name == name).ok_or_else(|| format!("no subject {name}").into())
}

/// How many scripts [`Others::play`] has.
pub(crate) const SCRIPTS: u64 = 5;

impl Subject {
    /// Starts the child; it stands at its first mark.
    pub(crate) fn start(&self, world: &World) -> Result<Traced, Failure> {
        let mut child = Traced::start(|| self.life(world))?;
        child.first_mark()?;
        Ok(child)
    }

    fn life(&self, world: &World) {
        let Ok(handle) = world.handle() else { return };
        for op in self.before {
            if world.act(&handle, self.table, self.key, *op).is_err() {
                return;
            }
        }
        super::mark();
        match world.act(&handle, self.table, self.key, self.op) {
            Ok(seen) => world.tell(seen),
            Err(_) => world.tell_failed(),
        }
        super::mark();
        drop(handle);
    }
}

/// Another process beside the child: this one.
pub(crate) struct Others<'a> {
    world: &'a World,
    handle: &'a Handle,
    table: usize,
    key: &'static str,
    /// Somebody is dead.
    pub(crate) corpse: bool,
    /// What it did to the child's key, in order.
    pub(crate) events: Vec<Event>,
    /// What it drained.
    pub(crate) rows: [Vec<Row>; TABLES.len()],
}

impl<'a> Others<'a> {
    pub(crate) fn new(world: &'a World, handle: &'a Handle, subject: &Subject) -> Self {
        let Subject { table, key, .. } = *subject;
        let rows = Default::default();
        Self { world, handle, table, key, corpse: false, events: Vec::new(), rows }
    }

    pub(crate) fn act(&mut self, op: Op) -> Result<Seen, Failure> {
        let start = Instant::now();
        let seen = self.world.act(self.handle, self.table, self.key, op)?;
        let took = start.elapsed();
        if took > NEXT_WITHIN {
            return Err(format!("{op:?} of another process took {took:?}").into());
        }
        self.events.push(Event { op, seen });
        Ok(seen)
    }

    /// Reads.
    pub(crate) fn look(&mut self) -> Result<(), Failure> {
        self.act(Op::Read).map(drop)
    }

    /// Reads without a handle, which finishes nothing that somebody began.
    pub(crate) fn peek(&mut self) -> Result<(), Failure> {
        let there = self.world.peek(self.table, self.key)?;
        let seen = there.map_or(Seen::Gone, |(value, version)| Seen::Done { version, value });
        self.events.push(Event { op: Op::Read, seen });
        Ok(())
    }

    /// Goes on with what is there: an update, or an insert when there is none.
    pub(crate) fn go_on(&mut self) -> Result<(), Failure> {
        if self.act(Op::Add)? == Seen::Gone {
            self.act(Op::Insert(0))?;
        }
        self.look()
    }

    /// With full history: updates until every cell is in use, so that a cell that was freed wrongly is written.
    pub(crate) fn fill(&mut self) -> Result<(), Failure> {
        while self.table == 0 {
            match self.world.act(self.handle, self.table, self.key, Op::Add) {
                Ok(seen) => self.events.push(Event { op: Op::Add, seen }),
                Err(commonhold::Error::Full { .. }) => break,
                Err(e) => return Err(e.into()),
            }
            if self.events.last().is_some_and(|e| e.seen == Seen::Gone) {
                break;
            }
        }
        Ok(())
    }

    /// With latest history: as many participants as there may be take every cell and slot, and work with them, so that
    /// a cell with two owners shows.
    pub(crate) fn crowd(&mut self) -> Result<(), Failure> {
        if self.table == 0 {
            return Ok(());
        }
        self.sweep()?;
        let mut crowd = Vec::new();
        while let Ok(handle) = self.world.handle() {
            crowd.push(handle);
        }
        let table = self.table;
        let add = |handle| match self.world.act(handle, table, NEIGHBOUR, Op::Add) {
            Ok(_) | Err(commonhold::Error::Full { .. }) => Ok(()),
            Err(e) => Err(e),
        };
        crowd.iter().try_for_each(add)?;
        let keys = ["x0", "x1", "x2", "x3", "x4", "x5"];
        keys.iter().try_for_each(|key| self.elsewhere(key))?;
        for _ in 0..2 {
            self.act(Op::Add)?;
            crowd.iter().try_for_each(add)?;
        }
        for key in keys.iter().chain(&[NEIGHBOUR, self.key]) {
            self.world.peek(table, key)?;
        }
        keys.iter().try_for_each(|key| self.leave(key))
    }

    fn drain(&mut self) -> Result<(), Failure> {
        let more = self.world.drain(self.handle)?;
        for (rows, mut more) in self.rows.iter_mut().zip(more) {
            rows.append(&mut more);
        }
        Ok(())
    }

    /// A sweep that must find nobody dead but who is.
    pub(crate) fn sweep(&self) -> Result<(), Failure> {
        let swept = self.world.space().reap(true)?;
        if swept.participants > u32::from(self.corpse) {
            return Err("a stopped participant was taken for dead".into());
        }
        Ok(())
    }

    /// Puts another record where there is room.
    fn elsewhere(&self, key: &str) -> Result<(), Failure> {
        match self.world.act(self.handle, self.table, key, Op::Insert(100)) {
            // The child has the last slot.
            Ok(_) | Err(commonhold::Error::Full { .. }) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Takes it away again.
    fn leave(&self, key: &str) -> Result<(), Failure> {
        self.world.act(self.handle, self.table, key, Op::Delete)?;
        Ok(())
    }

    /// What others do while the child stands.
    pub(crate) fn play(&mut self, script: u64) -> Result<(), Failure> {
        match script {
            // Commits, so that cells come and go.
            0 => {
                for _ in 0..5 {
                    self.act(Op::Add)?;
                }
                self.act(Op::Read)?;
            }
            // The record goes and comes again, not stored.
            1 => {
                self.act(Op::Delete)?;
                self.act(Op::Insert(0))?;
                self.act(Op::Add)?;
                self.sweep()?;
                self.act(Op::Add)?;
            }
            // It goes, that is stored, it comes again, others come into what was its slot, and no slot is left.
            2 => {
                self.act(Op::Add)?;
                self.act(Op::Delete)?;
                self.drain()?;
                self.act(Op::Insert(0))?;
                self.elsewhere("x")?;
                self.elsewhere("y")?;
                self.act(Op::Add)?;
                self.drain()?;
            }
            // The cell that was the head comes to another record.
            3 => {
                self.act(Op::Add)?;
                for _ in 0..3 {
                    self.world.act(self.handle, self.table, NEIGHBOUR, Op::Add)?;
                }
                self.act(Op::Read)?;
            }
            // Sweeps and drains between commits.
            _ => {
                for _ in 0..3 {
                    self.act(Op::Add)?;
                    self.sweep()?;
                    self.drain()?;
                    self.act(Op::Add)?;
                }
            }
        }
        Ok(())
    }
}
