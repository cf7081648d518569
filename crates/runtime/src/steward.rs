//! The steward: the one process that drains, reaps and sweeps. Every runtime has a candidate thread; whoever
//! holds the steward's lock byte serves, and the others watch his process, so that the role moves at once
//! when he dies. No daemon is needed.
//!
//! **A term**: open a handle and the store, check that segment and store still belong together, announce,
//! reap the dead, flag everything whose truth is `head ≠ persisted`; then drain in rounds until told to
//! stop; then drain what is left and leave.
//!
//! **Store down, slow or full**: the batch's slots are flagged again, the error becomes the steward's
//! message (durable waits and `inspect` show it), and the next try comes after a pause that doubles from
//! 10 ms to 1 s. Commits go on in memory meanwhile.
//!
//! **Damage**: what is damaged is left out and becomes the message; all else is stored. A segment whose file was cut
//! short ends the candidates' lives: nothing of it can be trusted.

mod stops;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use commonhold_core::directory::NameKind;
use commonhold_core::drain::{Base, Drained};
use commonhold_core::marks::Marks;
use commonhold_core::space::LOCK_STEWARD;
use commonhold_core::{Error, Handle, Space};
use commonhold_os::fork;
use commonhold_os::lock::Mode;
use commonhold_os::process::{Bell, wait_for_end};
use commonhold_segment::sync::{Fault, planted};
use commonhold_store::{
    Appended, Batch, ForeignChange, Known, Mark, MarkKind, Stamps, Store, StoreError, TableBatch,
};

use stops::Stops;

/// The most rows of one transaction, about.
const BATCH_ROWS: usize = 10_000;
/// Commits of this time go into one transaction, unless somebody waits for it.
const PACE: Duration = Duration::from_millis(10);
/// So often the steward looks for dead participants.
const REAP_EVERY: Duration = Duration::from_millis(100);
/// So often he looks through all slots although no flag says so.
const SCAN_EVERY: Duration = Duration::from_secs(10);
/// So often he stores the counters that changed, unless somebody waits for that.
const COUNTERS_EVERY: Duration = Duration::from_secs(1);
/// So often a candidate looks whether there is a steward, when his process cannot be watched.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// So often when it can be.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// So long a leaving steward tries a store that fails, and serves others who commit without end.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);
const RETRY_FIRST: Duration = Duration::from_millis(10);
const RETRY_LAST: Duration = Duration::from_secs(1);

/// The candidate thread of one runtime.
#[derive(Debug)]
pub(crate) struct Candidate {
    bell: Arc<Bell>,
    stop: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
    generation: u64,
}

/// What keeps a term from going on.
#[derive(Debug, thiserror::Error)]
pub enum TermError {
    /// The segment.
    #[error(transparent)]
    Core(#[from] Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Candidate {
    /// Starts the thread.
    pub(crate) fn start(space: &Arc<Space>) -> Result<Self, Error> {
        let bell = Arc::new(Bell::new()?);
        let stop = Arc::new(AtomicBool::new(false));
        let ringer = Arc::clone(&bell);
        space.on_no_steward(Box::new(move || ringer.ring()));
        let (its_space, its_bell, its_stop) =
            (Arc::clone(space), Arc::clone(&bell), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name("commonhold-steward".to_owned())
            .spawn(move || stand(&its_space, &its_bell, &its_stop));
        let path = std::path::Path::new("the steward's thread");
        let thread = thread.map_err(|e| commonhold_os::OsError::new("start", path, e))?;
        Ok(Self { bell, stop, thread: Mutex::new(Some(thread)), generation: fork::generation() })
    }

    /// Whether it is of this process, not of the one that this one was forked from.
    pub(crate) fn is_ours(&self) -> bool {
        self.generation == fork::generation()
    }

    /// Ends the thread, after it has drained if it is the steward's.
    pub(crate) fn stop(&self, space: &Space) {
        if !self.is_ours() {
            return;
        }
        self.stop.store(true, Ordering::Release);
        self.bell.ring();
        // It may be this thread that serves, asleep. If it is another process's, he looks once for nothing.
        let _ = space.hurry_steward();
        let thread = self.thread.lock().ok().and_then(|mut t| t.take());
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

/// A candidate's life: serve when nobody does, else watch who does.
fn stand(space: &Arc<Space>, bell: &Bell, stop: &AtomicBool) {
    let Ok(Some(lock)) = space.segment().lock_file() else {
        serve(space, bell, stop);
        return;
    };
    let mut leaving: Option<Instant> = None;
    loop {
        let stopping = stop.load(Ordering::Acquire);
        // The last one out looks too: somebody may have left commits behind.
        if matches!(lock.try_lock(LOCK_STEWARD, Mode::Exclusive), Ok(true)) {
            let calm = serve(space, bell, stop);
            lock.unlock(LOCK_STEWARD);
            // Who committed after the last look and left before the unlock found the lock taken: nobody else looks.
            if calm && stop.load(Ordering::Acquire) && space.has_flags() {
                let since = *leaving.get_or_insert_with(Instant::now);
                if since.elapsed() < LEAVE_WITHIN {
                    continue;
                }
            }
        }
        if stopping || stop.load(Ordering::Acquire) || space.check_whole().is_err() {
            return;
        }
        watch(space, bell);
    }
}

fn watch(space: &Space, bell: &Bell) {
    let pidfd =
        space.steward().and_then(|(entry, _)| space.identity_of(entry)).and_then(|i| i.find().1);
    let every = if pidfd.is_some() { WATCH_EVERY } else { LOOK_EVERY };
    wait_for_end(pidfd.as_ref(), bell, every);
}

/// One term, however often the store fails; whether nothing was left to store at its end.
fn serve(space: &Arc<Space>, bell: &Bell, stop: &AtomicBool) -> bool {
    let mut pause = RETRY_FIRST;
    let mut leaving: Option<Instant> = None;
    let calm = loop {
        let error = match term(space, stop, &mut pause) {
            Ok(calm) => break calm,
            Err(error) => error,
        };
        if space.check_whole().is_err() {
            break false;
        }
        let _ = space.set_steward_message(&error.to_string());
        if matches!(&error, TermError::Store(e) if e.is_final()) {
            let _ = space.set_refused(true);
        }
        if stop.load(Ordering::Acquire) {
            let since = *leaving.get_or_insert_with(Instant::now);
            let hopeless = matches!(&error, TermError::Store(e) if !e.is_transient());
            if hopeless || since.elapsed() >= LEAVE_WITHIN {
                break false;
            }
        }
        wait_for_end(None, bell, pause);
        pause = (pause * 2).min(RETRY_LAST);
    };
    let _ = space.serve(false);
    calm
}

/// From announcing to leaving; an error of the store ends it, to be tried again. Whether nothing was left to store.
fn term(space: &Arc<Space>, stop: &AtomicBool, pause: &mut Duration) -> Result<bool, TermError> {
    let mut term = Term::begin(space)?;
    let (mut reaped, mut scanned) = (Instant::now(), Instant::now());
    let mut counted = Instant::now();
    // A term that began has its store, also when it has nothing to write yet.
    let mut begins = true;
    let mut leaving: Option<Instant> = None;
    loop {
        let started = Instant::now();
        let stopping = stop.load(Ordering::Acquire);
        let left_for = stopping.then(|| leaving.get_or_insert(started).elapsed());
        if reaped.elapsed() >= REAP_EVERY {
            term.damage.reported(space, space.reap(false))?;
            term.damage.finish(&term.handle)?;
            reaped = Instant::now();
        }
        let counters = stopping || counted.elapsed() >= COUNTERS_EVERY;
        let rows = term.drain(counters)?;
        if counters {
            counted = Instant::now();
        }
        if rows > 0 {
            *pause = RETRY_FIRST;
        }
        if rows > 0 || std::mem::take(&mut begins) {
            space.set_steward_message(&term.message())?;
        }
        match rows {
            0 if stopping => {
                // Who flags from here on wakes his own candidate; who did before is served now.
                if !space.serve(false)? {
                    return Ok(true);
                }
                space.serve(true)?;
            }
            0 if scanned.elapsed() >= SCAN_EVERY => {
                term.damage = Damage::default();
                space.flag_all()?;
                scanned = Instant::now();
            }
            0 => space.sleep_as_steward(false, REAP_EVERY)?,
            // Everything that there was when he was told to go is stored. What came since is for who comes.
            rows if rows < BATCH_ROWS && left_for.is_some_and(|time| time >= LEAVE_WITHIN) => {
                space.serve(false)?;
                return Ok(false);
            }
            rows if rows < BATCH_ROWS && !stopping => {
                let left = PACE.saturating_sub(started.elapsed());
                if !left.is_zero() {
                    space.sleep_as_steward(true, left)?;
                }
            }
            _ => {}
        }
    }
}

/// One term of the steward, step by step: for the candidate's thread, and for checks that stop it anywhere.
pub struct Term {
    handle: Handle,
    store: Box<dyn Store>,
    damage: Damage,
    stops: Stops,
    /// The table with which the next round begins.
    first: usize,
}

impl std::fmt::Debug for Term {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Term({})", self.store.url())
    }
}

impl Term {
    /// Opens handle and store, announces, reaps the dead, flags everything that is not stored. The caller is the
    /// steward: he holds the lock, or nobody else stands for it.
    ///
    /// # Errors
    /// [`TermError`].
    pub fn begin(space: &Arc<Space>) -> Result<Self, TermError> {
        let handle = Handle::open(space)?;
        // Everybody waits for the steward: he waits for nobody for long.
        handle.set_room_wait(PACE);
        space.announce_steward(handle.entry_index())?;
        space.serve(true)?;
        let mut damage = Damage::default();
        // Before the store, which may take its time: others wait for what the dead held.
        damage.reported(space, space.reap(true))?;
        damage.finish(&handle)?;
        let header = space.segment().header();
        let mut store = commonhold_store::open_existing(&header.store_url)?;
        store.join(header.uuid, header.store_epoch, space.seen_batch()?, space.catalogue())?;
        if let Some([stored, sent]) = space.stamps()? {
            Stamps { stored, sent }.check(&store.url(), store.stamp()?)?;
        }
        space.set_refused(false)?;
        space.flag_all()?;
        Ok(Self { handle, store, damage, stops: Stops::default(), first: 0 })
    }

    /// Drains once: one transaction over all tables, ids and counters. About how many rows were in it.
    ///
    /// # Errors
    /// [`TermError`]; then the batch is collected again by a later round, of this term or the next.
    pub fn round(&mut self) -> Result<usize, TermError> {
        self.drain(true)
    }

    /// A round that stores the counters only with `counters`, or when somebody waits for them.
    fn drain(&mut self, counters: bool) -> Result<usize, TermError> {
        round(self, counters)
    }

    /// What is wrong, if anything is: for people, and for who waits.
    fn message(&self) -> String {
        let stopped = self.stops.text(self.handle.space());
        stopped.unwrap_or_else(|| self.damage.text().to_owned())
    }
}

/// The first damage that was met since the steward last looked through all slots.
#[derive(Debug, Default)]
struct Damage(Option<String>);

impl Damage {
    fn text(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }

    fn note(&mut self, space: &Space, text: String) -> Result<(), Error> {
        if self.0.is_none() {
            space.set_steward_message(self.0.insert(text))?;
        }
        Ok(())
    }

    /// Finishes what dead holders of guards had decided; what cannot be finished yet is tried again.
    fn finish(&mut self, handle: &Handle) -> Result<(), Error> {
        match handle.finish_left_intents() {
            Err(error @ Error::Unfinished { .. }) => self.note(handle.space(), error.to_string()),
            other => self.reported(handle.space(), other),
        }
    }

    /// Notes damage; every other error ends the term.
    fn reported<T>(&mut self, space: &Space, result: Result<T, Error>) -> Result<(), Error> {
        match result {
            Ok(_) => Ok(()),
            Err(error) if error.is_damage() => self.note(space, error.to_string()),
            Err(error) => Err(error),
        }
    }
}

/// What the tables have for the store, beginning with `first`: about as many rows as a batch may have.
fn collect(
    handle: &Handle,
    damage: &mut Damage,
    stops: &mut Stops,
    first: &mut usize,
) -> Result<Vec<Drained>, Error> {
    let space = handle.space();
    let mut drained: Vec<Drained> = Vec::new();
    let mut left = BATCH_ROWS;
    let (count, begin) = (space.catalogue().tables.len(), *first);
    for position in (0..count).cycle().skip(begin).take(count) {
        let Some(mut table) = stops.collect(handle, position, left)? else { continue };
        table.damage.take().map_or(Ok(()), |text| damage.note(space, text))?;
        let whole = left == BATCH_ROWS;
        left = left.saturating_sub(table.rows.len()).max(1);
        if table.cut {
            // Who had the whole room comes last the next time, who had what others left comes first.
            *first = (position + usize::from(whole)) % count;
        }
        drained.extend(Some(table).filter(|t| !t.is_empty()));
    }
    Ok(drained)
}

/// Drains once: one transaction over all tables, ids and counters. How many rows and marks were in it.
fn round(term: &mut Term, counters: bool) -> Result<usize, TermError> {
    let Term { handle, store, damage, stops, first } = term;
    let space = handle.space();
    let mut drained = collect(handle, damage, stops, first)?;
    let marks = match space.collect_marks(counters) {
        Err(error) => damage.reported(space, Err::<(), _>(error)).map(|()| Marks::default())?,
        Ok(marks) => marks,
    };
    if drained.is_empty() && marks.is_empty() {
        return Ok(0);
    }
    let tables = drained.iter_mut().map(|table| table_batch(table, stops)).collect();
    let marks_of = marks.marks.iter().map(mark).collect();
    let [stored, sent] = space.next_stamps()?.unwrap_or_default();
    let stamps = Stamps { stored, sent };
    let batch = Batch { tables, marks: marks_of, seen: space.seen_batch()?, stamps };
    if planted(Fault::CompleteFirst) {
        drained.iter().try_for_each(|table| handle.complete(table))?;
        space.complete_marks(&marks)?;
    }
    let appended = match append(store.as_mut(), &batch) {
        Err(_) if planted(Fault::FailureIsStored) => Appended::default(),
        Err(error) => {
            drained.iter().try_for_each(|table| handle.return_batch(table))?;
            let halted = error.table().map(|(name, key)| {
                let of_name = |part: &&TableBatch| {
                    space.catalogue().tables.get(part.table).is_some_and(|spec| spec.name == name)
                };
                let rows = batch.tables.iter().filter(of_name).flat_map(|part| &part.rows);
                let keys =
                    rows.map(|row| row.key.as_str()).filter(|k| key.is_none_or(|key| key == *k));
                let halted =
                    stops.halt(space, (name, &mut keys.map(str::to_owned)), error.to_string());
                // What else was tried is tried again without it.
                batch.tables.iter().filter(|p| !of_name(p)).for_each(|p| stops.untried(p.table));
                halted
            });
            return if halted.transpose()?.unwrap_or(false) { Ok(1) } else { Err(error.into()) };
        }
        Ok(appended) => appended,
    };
    space.note_batch(appended.batch)?;
    if sent != 0 && appended.written {
        space.note_stamp(sent)?;
    }
    let mut completed = damage.reported(space, space.complete_marks(&marks));
    let mut rows = batch.marks.len();
    for (table, part) in drained.iter().zip(&batch.tables) {
        let of_table = |change: &&ForeignChange| change.table == table.table;
        let met: Vec<&ForeignChange> = appended.foreign.iter().filter(of_table).collect();
        if !met.is_empty() {
            // What it had is collected again when that is settled.
            rows += usize::from(stops.met(handle, table.table, &met)?);
            continue;
        }
        rows += part.rows.len().max(1);
        completed = completed.and(damage.reported(space, handle.complete(table)));
        stops.stored(space, table.table, !table.cut)?;
    }
    completed?;
    if drained.iter().any(|table| table.cut) {
        return Ok(BATCH_ROWS);
    }
    Ok(if appended.foreign.is_empty() { rows.max(1) } else { rows })
}

/// Appends a batch. What is moved amid the first try, with all that is beside it, is no table's fault: the second says so.
fn append(store: &mut dyn Store, batch: &Batch) -> Result<Appended, StoreError> {
    match store.append(batch) {
        Err(error) if error.table().is_some() => store.append(batch),
        appended => appended,
    }
}

/// What a table has for the store, with what the segment knows to be there.
fn table_batch(table: &mut Drained, stops: &Stops) -> TableBatch {
    let known = std::mem::take(&mut table.known);
    TableBatch {
        table: table.table,
        rows: std::mem::take(&mut table.rows),
        floor: table.floor,
        known: known.into_iter().map(known_of).collect(),
        accepted: stops.accepted(table.table),
    }
}

fn known_of(base: Base) -> Known {
    match base {
        Base::Stored(version) => Known::Version(version),
        Base::After(version) => Known::NothingAfter(version),
        Base::Unknown => Known::Anything,
    }
}

fn mark(mark: &commonhold_core::marks::Mark) -> Mark {
    let kind = match mark.kind {
        NameKind::Ids => MarkKind::Ids,
        _ => MarkKind::Counter,
    };
    Mark { kind, name: mark.name.clone(), value: mark.value }
}
