//! The small segment on which operations are killed and frozen: made once, put back before each injection.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use commonhold::catalogue::History;
use commonhold::{Config, Error, Handle, Runtime, TableConfig};
use commonhold_core::hash::{record_prefix, state_hash};
use commonhold_core::row::Row;
use commonhold_core::{Inserted, RecordRef, Snapshot, Space};
use commonhold_runtime::steward::Term;

use super::spec::{Key, Op, Seen};
use crate::Failure;
use crate::child::shared_words;

/// The table with full history, and the one with latest; at positions 0 and 1.
pub(crate) const TABLES: [&str; 2] = ["full", "latest"];
/// The slots of each table, and how many participants there may be.
pub(crate) const SLOTS: u32 = 6;
const PARTICIPANTS: u32 = 4;
/// Versions that the table with full history may have before they are stored.
const WAITING: u32 = 24;
/// Pages for guarded changes.
const INTENTS: u32 = 2;
/// What every value is multiplied by in a record's second field: a torn record shows.
const FACTOR: i64 = 0x1234_5678_9abc;

/// The segment, its first state, and a page on which a child says what it did.
#[derive(Debug)]
pub(crate) struct World {
    runtime: Runtime,
    /// The database, when there is one, and what it was in the first state.
    database: Option<(PathBuf, Vec<u8>)>,
    clean: Vec<u64>,
    /// The versions that the store has in the first state.
    stored: Vec<(usize, &'static str, u64)>,
    /// What a fresh segment has room for.
    pub(crate) room: Vec<u32>,
    /// What the child says; it outlives the child.
    told: &'static [AtomicU64],
}

/// The payload of `value`.
pub(crate) fn payload(value: i64) -> Vec<u8> {
    [value.to_le_bytes(), value.wrapping_mul(FACTOR).to_le_bytes()].concat()
}

/// The value of a payload; none when its fields do not belong together.
pub(crate) fn value_of(payload: &[u8]) -> Option<i64> {
    let [value, check] = payload.as_chunks::<8>().0 else { return None };
    let value = i64::from_le_bytes(*value);
    (i64::from_le_bytes(*check) == value.wrapping_mul(FACTOR)).then_some(value)
}

impl World {
    /// Makes the segment in `folder`, with its first state: `a` (a value of 3, partly stored), `b`, `m`, `n` (stored), and
    /// `gone`, deleted and stored. `stored`: in a database; else what is drained goes nowhere.
    pub(crate) fn build(folder: &Path, stored: bool) -> Result<Self, Failure> {
        let database = folder.join("store.db");
        let store = format!("sqlite:{}", database.display());
        let table = |name: &str, history| {
            let config = TableConfig::new(name, &["n:i64", "check:i64"]);
            config.history(history).slots(SLOTS).key_bytes(8)
        };
        let cells = SLOTS * 2 + PARTICIPANTS + 1 + WAITING;
        let config = Config::named(&folder.join("segment").display().to_string())
            .store(if stored { &store } else { "none" })
            .participants(PARTICIPANTS)
            .lanes(2)
            .names(2)
            .share_words(4)
            .intents(INTENTS)
            .without_steward()
            .table(table("full", History::Full).cells(cells))
            .table(table("latest", History::Latest).cells(SLOTS + PARTICIPANTS + 1));
        let runtime = Runtime::open(config)?;
        let told = shared_words(3)?;
        let database = stored.then_some((database, Vec::new()));
        let mut world = Self {
            runtime,
            database,
            clean: Vec::new(),
            stored: Vec::new(),
            room: Vec::new(),
            told,
        };
        let fresh = world.words();
        world.room = world.capacity()?;
        world.clean = fresh;
        world.restore();
        world.populate()?;
        world.clean = world.words();
        if let Some((database, clean)) = &mut world.database {
            *clean = std::fs::read(database)?;
        }
        Ok(world)
    }

    fn populate(&mut self) -> Result<(), Failure> {
        let handle = self.handle()?;
        for table in 0..TABLES.len() {
            for key in ["gone", "a", "b", "m", "n"] {
                self.act(&handle, table, key, Op::Insert(0))?;
            }
            self.act(&handle, table, "a", Op::Add)?;
            self.act(&handle, table, "gone", Op::Delete)?;
        }
        match &self.database {
            Some(_) => self.serve()?,
            None => self.drain(&handle).map(drop)?,
        }
        self.note_stored()?;
        for table in 0..TABLES.len() {
            self.act(&handle, table, "a", Op::Add)?;
            self.act(&handle, table, "a", Op::Add)?;
        }
        Ok(())
    }

    fn note_stored(&mut self) -> Result<(), Failure> {
        self.stored.clear();
        for table in 0..TABLES.len() {
            for key in ["a", "b", "m", "n"] {
                let version = self.peek(table, key)?.map_or(0, |(_, version)| version);
                self.stored.push((table, key, version));
            }
        }
        Ok(())
    }

    /// Makes what is there now the first state. Everything is drained, and nobody has a handle.
    pub(crate) fn keep(&mut self) -> Result<(), Failure> {
        self.note_stored()?;
        self.clean = self.words();
        Ok(())
    }

    /// The version of `key` that the store has in the first state.
    pub(crate) fn stored(&self, table: usize, key: &str) -> Option<u64> {
        self.stored.iter().find(|s| (s.0, s.1) == (table, key)).map(|s| s.2)
    }

    /// The segment.
    pub(crate) fn space(&self) -> &Arc<Space> {
        self.runtime.space()
    }

    /// A participant that waits for nobody.
    pub(crate) fn handle(&self) -> Result<Handle, Error> {
        let handle = Handle::open(self.space())?;
        handle.set_room_wait(Duration::ZERO);
        Ok(handle)
    }

    /// Every word of the segment.
    pub(crate) fn words(&self) -> Vec<u64> {
        let words = self.space().segment().words();
        words.iter().map(|w| w.load(Ordering::Relaxed)).collect()
    }

    /// Brings `last` up to what the words are now; whether they differed.
    pub(crate) fn changed(&self, last: &mut [u64]) -> bool {
        let words = self.space().segment().words();
        let mut differ = false;
        for (last, word) in last.iter_mut().zip(words) {
            let now = word.load(Ordering::Relaxed);
            differ |= now != *last;
            *last = now;
        }
        differ
    }

    /// Has a steward of this process store everything.
    pub(crate) fn serve(&self) -> Result<(), Failure> {
        let mut term = Term::begin(self.space())?;
        while term.round()? > 0 {}
        Ok(())
    }

    /// The runtime, and the database when there is one.
    pub(crate) fn stored_in(&self) -> Option<(&Runtime, &Path)> {
        self.database.as_ref().map(|(path, _)| (&self.runtime, path.as_path()))
    }

    /// Puts the first state of the database back.
    pub(crate) fn restore_database(&self) -> Result<(), Failure> {
        let Some((path, clean)) = &self.database else { return Ok(()) };
        for behind in ["-wal", "-shm", "-journal"] {
            let mut name = path.clone().into_os_string();
            name.push(behind);
            match std::fs::remove_file(name) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e.into()),
                _ => {}
            }
        }
        Ok(std::fs::write(path, clean)?)
    }

    /// Puts the first state back. Nobody may have a handle.
    pub(crate) fn restore(&self) {
        for (word, clean) in self.space().segment().words().iter().zip(&self.clean) {
            word.store(*clean, Ordering::Relaxed);
        }
        self.told.iter().for_each(|word| word.store(0, Ordering::SeqCst));
    }

    /// Does `op` and says what was seen.
    pub(crate) fn act(
        &self,
        handle: &Handle,
        table: usize,
        key: &str,
        op: Op,
    ) -> Result<Seen, Error> {
        if let Op::Insert(value) = op {
            return Ok(match handle.insert(table, key, &payload(value))? {
                Inserted::Committed(c) => Seen::Done { version: c.version, value },
                Inserted::Exists(_) => Seen::Exists,
            });
        }
        let Some(record) = handle.locate(table, key)? else { return Ok(Seen::Gone) };
        match op {
            Op::Add => add(handle, table, record),
            Op::Delete => {
                let deleted = handle.delete_at(table, record, |_| Ok::<(), Error>(()));
                let deleted = deleted.map_err(plain)?;
                let done = |version| Seen::Done { version, value: 0 };
                Ok(deleted.map_or(Seen::Gone, |c| done(c.version)))
            }
            Op::Read | Op::Insert(_) => read(handle, table, key, record),
        }
    }

    /// What is in memory under `key`, seen without a handle.
    pub(crate) fn peek(&self, table: usize, key: &str) -> Result<Option<(i64, u64)>, Failure> {
        let Some(seen) = self.space().peek(table, key)? else { return Ok(None) };
        Ok(Some(judge_copy(table, key, &seen)?))
    }

    /// The key's state as the sequential specification begins.
    pub(crate) fn key(&self, table: usize, key: &str) -> Result<Key, Failure> {
        Ok(Key::new(self.peek(table, key)?))
    }

    /// Drains both tables into nothing but what is returned: the rows of each, in the order of writing.
    pub(crate) fn drain(&self, steward: &Handle) -> Result<[Vec<Row>; 2], Error> {
        let mut all = [Vec::new(), Vec::new()];
        for (table, rows) in all.iter_mut().enumerate() {
            loop {
                let mut drained = steward.collect(table, 1000)?;
                if drained.is_empty() {
                    break;
                }
                steward.complete(&drained)?;
                rows.append(&mut drained.rows);
            }
        }
        Ok(all)
    }

    /// How much there is room for, found by taking all of it: participants, and in each table records, and (full) the
    /// versions that wait for the store, (latest) the cells that participants may have to spare.
    ///
    /// It empties the tables first and leaves them full. Nobody else may have a handle.
    pub(crate) fn capacity(&self) -> Result<Vec<u32>, Failure> {
        let mut handles = Vec::new();
        loop {
            match self.handle() {
                Ok(handle) => handles.push(handle),
                Err(Error::Participants { .. }) => break,
                Err(e) => return Err(e.into()),
            }
        }
        let mut room = vec![handles.len() as u32];
        let Some(first) = handles.first() else { return Ok(room) };
        for table in 0..TABLES.len() {
            self.empty(first, table)?;
            room.push(fill(|n| first.insert(table, &format!("k{n}"), &payload(0)).map(drop))?);
            let Some(record) = first.locate(table, "k0")? else { continue };
            room.push(match table {
                0 => fill(|_| add(first, 0, record).map(drop))?,
                _ => {
                    let mut adds = handles.iter();
                    fill(|_| match adds.next() {
                        Some(handle) => add(handle, 1, record).map(drop),
                        None => Err(Error::Participants { limit: 0 }),
                    })?
                }
            });
        }
        Ok(room)
    }

    /// Deletes every record and stores that.
    fn empty(&self, handle: &Handle, table: usize) -> Result<(), Failure> {
        let mut keys = Vec::new();
        let note = |key: &str, _: &Snapshot| {
            keys.push(key.to_owned());
            Ok::<(), Error>(())
        };
        self.space().scan(table, note)?;
        for key in keys {
            match self.act(handle, table, &key, Op::Delete) {
                Err(Error::Guarded { guard, .. }) => {
                    super::guard::delete(handle, &guard, table, &key)?
                }
                done => done.map(drop)?,
            }
        }
        self.drain(handle)?;
        Ok(())
    }

    /// For the child: says what its operation returned.
    pub(crate) fn tell(&self, seen: Seen) {
        let [state, version, value] = self.told else { return };
        let (code, numbers) = match seen {
            Seen::Unknown => (0, (0, 0)),
            Seen::Done { version, value } => (1, (version, value)),
            Seen::Gone => (2, (0, 0)),
            Seen::Exists => (3, (0, 0)),
        };
        version.store(numbers.0, Ordering::Relaxed);
        value.store(numbers.1.cast_unsigned(), Ordering::Relaxed);
        state.store(code, Ordering::Release);
    }

    /// For the child: it failed.
    pub(crate) fn tell_failed(&self) {
        if let [state, ..] = self.told {
            state.store(9, Ordering::Release);
        }
    }

    /// What the child said its operation returned; an error when it said that it failed.
    pub(crate) fn told(&self) -> Result<Seen, Failure> {
        let [state, version, value] = self.told else { return Err("no words".into()) };
        let code = state.load(Ordering::Acquire);
        let version = version.load(Ordering::Relaxed);
        let value = value.load(Ordering::Relaxed).cast_signed();
        match code {
            0 => Ok(Seen::Unknown),
            1 => Ok(Seen::Done { version, value }),
            2 => Ok(Seen::Gone),
            3 => Ok(Seen::Exists),
            _ => Err("the operation returned an error".into()),
        }
    }
}

/// How often `take` succeeds before there is no room left.
fn fill(mut take: impl FnMut(u32) -> Result<(), Error>) -> Result<u32, Failure> {
    for n in 0.. {
        match take(n) {
            Ok(()) => {}
            Err(Error::Full { .. } | Error::Participants { .. }) => return Ok(n),
            Err(e) => return Err(e.into()),
        }
    }
    Ok(u32::MAX)
}

fn plain(error: commonhold_core::UpdateError<Error>) -> Error {
    match error {
        commonhold_core::UpdateError::Refused(e) | commonhold_core::UpdateError::Failed(e) => e,
    }
}

/// Adds one to `record`.
pub(crate) fn add(handle: &Handle, table: usize, record: RecordRef) -> Result<Seen, Error> {
    let mut added = 0;
    let step = |now: &[u8], next: &mut Vec<u8>| {
        added = value_of(now).unwrap_or(i64::MIN).wrapping_add(1);
        next.extend_from_slice(&payload(added));
        Ok::<(), Error>(())
    };
    let done = handle.update_at(table, record, step).map_err(plain)?;
    Ok(done.map_or(Seen::Gone, |c| Seen::Done { version: c.version, value: added }))
}

fn read(handle: &Handle, table: usize, key: &str, record: RecordRef) -> Result<Seen, Error> {
    let copied = handle.read_at(table, record, Clone::clone)?;
    Ok(copied.map_or(Seen::Gone, |seen: Snapshot| match judge_copy(table, key, &seen) {
        Ok((value, version)) => Seen::Done { version, value },
        Err(_) => Seen::Done { version: seen.version, value: i64::MIN },
    }))
}

/// Value and version of a copy whose hash and fields are right.
fn judge_copy(table: usize, key: &str, seen: &Snapshot) -> Result<(i64, u64), Failure> {
    let name = TABLES.get(table).copied().unwrap_or_default();
    if seen.hash != state_hash(record_prefix(name, key), seen.version, &seen.payload) {
        return Err(format!("{key}: version {} has a wrong hash", seen.version).into());
    }
    let value = value_of(&seen.payload).ok_or_else(|| format!("{key}: a torn record"))?;
    Ok((value, seen.version))
}
