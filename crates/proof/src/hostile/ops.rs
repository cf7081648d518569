//! Every operation on a segment, one after the other in a random order. None may fail to end; their answers are judged
//! only where nothing that they depend on was touched.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a panic is a violation

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use commonhold::core::drain::Drained;
use commonhold::core::wait::Deadline;
use commonhold::store::{Batch, TableBatch};
use commonhold::{DynamicTable, Error, Handle, Table, Text, admin};
use commonhold_core::Space;
use commonhold_segment::Segment;

use super::Random;
use super::map::Touched;
use super::scene::{Expected, Item, Scene, TABLES};
use super::worker::Progress;

/// The steps, by number.
pub(super) const STEPS: &[&str] = &[
    "attach", "judge", "get", "update", "insert", "delete", "scan", "wait for", "look", "peek",
    "reap", "drain", "waits", "dynamic", "handle", "close",
];
const SHORT: Duration = Duration::from_millis(1);

/// One visit of a segment that may be damaged.
pub(super) struct Visit<'a> {
    pub(super) scene: &'a Scene,
    pub(super) progress: &'a Progress,
    pub(super) path: &'a Path,
    /// A store of this worker's own, to drain into; none: nowhere.
    pub(super) database: Option<&'a Path>,
    pub(super) random: Random,
}

type Any = Result<(), Box<dyn std::error::Error>>;

impl Visit<'_> {
    /// Attaches, judges what was not `touched`, then does everything; `between` is called before each step.
    pub(super) fn make(
        &mut self,
        touched: Option<&Touched>,
        between: &dyn Fn(usize),
    ) -> Vec<String> {
        self.progress.step(0);
        let segment = match Segment::attach(self.path, true) {
            Ok(segment) => segment,
            Err(e) => return refused(touched, &e.to_string()),
        };
        let space = match Space::new(segment) {
            Ok(Some(space)) => space,
            Ok(None) => return refused(touched, "being removed"),
            Err(e) => return refused(touched, &e.to_string()),
        };
        let handle = match Handle::open(&space) {
            Ok(handle) => handle,
            Err(e) => return refused(touched, &e.to_string()),
        };
        let mut wrong = Vec::new();
        if let Some(touched) = touched.filter(|t| !t.all) {
            self.progress.step(1);
            judge(&handle, &self.scene.expected, touched, &mut wrong);
        }
        handle.set_room_wait(Duration::from_millis(4));
        if let Some(path) = self.database {
            self.scene.restore_store(path).unwrap();
        }
        for turn in 0..22 {
            between(turn);
            let step = 2 + self.random.below(STEPS.len() - 3);
            self.progress.step(step);
            let done = self.step(STEPS[step], &space, &handle);
            // Errors must be able to say what they are.
            let _ = done.map_err(|e| e.to_string());
        }
        self.progress.step(STEPS.len() - 1);
        drop(handle);
        wrong
    }

    fn key(&mut self) -> String {
        let all: Vec<&String> = self.scene.expected[0].keys().collect();
        all[self.random.below(all.len())].clone()
    }

    fn step(&mut self, step: &str, space: &Arc<Space>, handle: &Handle) -> Any {
        let at = self.random.below(2);
        let key = self.key();
        let table = Table::<Item, _>::new(handle, TABLES[at])?;
        match step {
            "get" => table.get(&key).map(|_| ())?,
            "update" => table.update(&key, |i| i.n += 1).map(|_| ())?,
            "insert" => table.upsert(&key, &Item::default()).map(|_| ())?,
            "delete" => table.delete(&key).map(|_| ())?,
            "scan" => table.scan(|_, _| {})?,
            "wait for" => table.wait_for(&key, |i| i.n == -1, SHORT).map(|_| ())?,
            "look" => look(space, at)?,
            "peek" => drop(space.peek(at, &key)?),
            "reap" => space.reap(self.random.below(2) == 0).map(|_| ())?,
            "drain" => self.drain(space, handle)?,
            "waits" => {
                let commit = table.update(&key, |i| i.n += 1)?;
                commit.durable(SHORT)?;
                handle.wait_drained(SHORT)?;
                let seen = handle.watch_table(at)?;
                handle.wait_table_changed(at, seen, &Deadline::after(SHORT))?;
            }
            "dynamic" => DynamicTable::new(handle, TABLES[at])?.scan(|_, _| Ok::<(), Error>(()))?,
            _ => drop(Handle::open(space)?),
        }
        Ok(())
    }

    /// What the steward does, with or without a store.
    fn drain(&self, space: &Space, handle: &Handle) -> Any {
        let Some(path) = self.database else { return forget(handle) };
        let mut store = commonhold::store::open(&format!("sqlite:{}", path.display()))?;
        let header = space.segment().header();
        store.join(header.uuid, header.store_epoch, 0, space.catalogue())?;
        space.flag_all()?;
        let mut drained = collect(handle)?;
        let tables = drained.iter_mut().map(|d| TableBatch {
            table: d.table,
            rows: std::mem::take(&mut d.rows),
            floor: d.floor,
            ..TableBatch::default()
        });
        store.append(&Batch { tables: tables.collect(), ..Batch::default() })?;
        for each in &drained {
            handle.complete(each)?;
        }
        let audit = store.audit()?;
        for finding in audit.tables.iter().flat_map(|t| &t.findings) {
            use commonhold::store::Check;
            // Writer, sequence and clock of a version are not part of its hash; and who inserts a key whose slot is lost
            // begins at a version that leaves a gap.
            let unproved =
                matches!(finding.check, Check::Writers | Check::Clocks | Check::Versions);
            assert!(unproved, "stored: {finding:?}");
        }
        Ok(())
    }
}

/// Whether it may be refused as a whole.
fn refused(touched: Option<&Touched>, why: &str) -> Vec<String> {
    match touched {
        Some(touched) if !touched.all => vec![format!("refused: {why}")],
        _ => Vec::new(),
    }
}

/// What is not touched reads right, can be updated, and goes to the store.
fn judge(handle: &Handle, expected: &Expected, touched: &Touched, wrong: &mut Vec<String>) {
    for (at, (name, expected)) in TABLES.iter().zip(expected).enumerate() {
        let table = Table::<Item, _>::new(handle, name).unwrap();
        let sound = |key: &&String| !touched.keys.contains(&(at, (*key).clone()));
        let keys: Vec<&String> = expected.keys().filter(sound).collect();
        for key in &keys {
            let found = table.get(key);
            if !matches!(&found, Ok(found) if found == &expected[*key]) {
                wrong.push(format!("{name} {key}: {found:?} instead of {:?}", expected[*key]));
            }
        }
        let Some(key) = keys.iter().find(|key| expected[**key].is_some()) else { continue };
        let text = Text::new("still here").unwrap();
        if let Err(e) = table.update(key, |item| item.text = text) {
            wrong.push(format!("{name} {key}: update: {e}"));
            continue;
        }
        let _ = handle.space().flag_all();
        match handle.collect(at, 10_000) {
            Ok(drained) if drained.rows.iter().any(|row| row.key == **key) => {
                let _ = handle.return_batch(&drained);
            }
            Ok(_) => wrong.push(format!("{name} {key}: not collected for the store")),
            Err(e) => wrong.push(format!("{name} {key}: not collected for the store: {e}")),
        }
    }
}

fn look(space: &Space, at: usize) -> Any {
    drop(space.participants());
    let _ = (space.totals(), space.steward(), space.steward_state(), space.steward_message());
    space.figures(at)?;
    space.unreferenced_cells(at)?;
    admin::unstored(space)?;
    Ok(())
}

fn collect(handle: &Handle) -> Result<Vec<Drained>, Error> {
    (0..TABLES.len()).map(|at| handle.collect(at, 10_000)).collect()
}

/// What the steward does, without a store.
fn forget(handle: &Handle) -> Any {
    handle.space().flag_all()?;
    for drained in collect(handle)? {
        handle.complete(&drained)?;
    }
    let _ = handle.space().set_steward_message("nothing");
    Ok(())
}
