//! After the damage: the real steward on a damaged segment, then the segment removed and made anew from its store.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a panic is a violation

use std::collections::BTreeMap;
use std::time::Duration;

use commonhold::store::Check;
use commonhold::{OpenError, Runtime, Table, Text, admin};

use super::Random;
use super::map::{Map, Touched, Wrong};
use super::scene::{Item, LIMIT, Scene, TABLES};
use super::worker::{Progress, Series};
use crate::{Failure, Outcome, Plan};

type Rows = [BTreeMap<String, Item>; 2];

fn damage(plan: &Plan, number: u64, scene: &Scene, map: &Map) -> Vec<Wrong> {
    let mut random = Random::of(plan.seed ^ 0xbad, number);
    let count = if number.is_multiple_of(2) { 1 } else { 1 + random.below(300) };
    (0..count).map(|_| map.wrong(&mut random, &scene.base)).collect()
}

/// Damages, serves and heals again and again.
pub(super) fn run(plan: &Plan, scene: &Scene, map: &Map) -> Result<Outcome, Failure> {
    let make = |number: u64, _: u64, progress: &Progress| {
        let wrong = damage(plan, number, scene, map);
        let touched = match wrong.as_slice() {
            [one] => map.touched(scene, one),
            _ => Touched { all: true, ..Touched::default() },
        };
        let mut found = Vec::new();
        if let Err(e) = once(scene, &wrong, &touched, progress, &mut found) {
            found.push(e.to_string());
        }
        found
    };
    let about = |number: u64| {
        let wrong = damage(plan, number, scene, map);
        format!("{} words, the first {}; seed {}", wrong.len(), wrong[0], plan.seed)
    };
    let numbers = 0..plan.of(100, 3000);
    let steps = &["open", "serve", "drop", "remove", "make anew"][..];
    let (name, folder, limit) = ("heal", plan.folder.as_path(), Duration::from_secs(30));
    let (make, about) = (&make, &about);
    let series = Series { name, folder, numbers, workers: 1, limit, steps, make, about };
    let mut outcome = series.run()?;
    outcome.figures = format!("{} damaged segments served, then made anew", outcome.faults);
    Ok(outcome)
}

fn once(
    scene: &Scene,
    wrong: &[Wrong],
    touched: &Touched,
    progress: &Progress,
    found: &mut Vec<String>,
) -> Result<(), Failure> {
    let path = scene.segment();
    let mut image = scene.base.clone();
    wrong.iter().for_each(|w| image[w.at] = w.new);
    let bytes: Vec<u8> = image.iter().flat_map(|w| w.to_le_bytes()).collect();
    std::fs::write(&path, bytes)?;
    scene.restore_store(&scene.database())?;
    progress.step(0);
    let config = Scene::config(&scene.folder);
    let there = config.clone().attach_only();
    match Runtime::open(there.clone()) {
        Ok(runtime) => {
            progress.step(1);
            serve(&runtime, scene, touched, found)?;
            progress.step(2);
        }
        Err(e) if !touched.all => found.push(format!("refused: {e}")),
        Err(_) => {}
    }
    progress.step(3);
    match admin::destroy(&there, Duration::ZERO, true) {
        Err(OpenError::Core(_)) => std::fs::remove_file(&path)?, // it has lost its magic number
        done => done?,
    }
    let stored = stored(scene)?;
    progress.step(4);
    let runtime = Runtime::open(config)?;
    anew(&runtime, &stored, found)?;
    drop(runtime);
    audit(scene, found)
}

/// What is not touched becomes durable.
fn serve(
    runtime: &Runtime,
    scene: &Scene,
    touched: &Touched,
    found: &mut Vec<String>,
) -> Result<(), Failure> {
    for (at, name) in TABLES.iter().enumerate() {
        let table: Table<Item> = match runtime.table(name) {
            Ok(table) => table,
            Err(_) if touched.all => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        for key in scene.expected[at].keys().take(6) {
            let sound = !touched.all && !touched.keys.contains(&(at, key.clone()));
            let limit = if sound { LIMIT } else { Duration::from_millis(1) };
            let there = scene.expected[at][key].is_some();
            let text = Text::new("served")?;
            let done = table
                .update(key, |item| item.text = text)
                .map_err(|e| e.to_string())
                .and_then(|commit| commit.durable(limit).map_err(|e| e.to_string()));
            if let Err(e) = done
                && sound
                && there
            {
                found.push(format!("{name} {key}: {e}"));
            }
        }
    }
    Ok(())
}

/// What the store has.
fn stored(scene: &Scene) -> Result<Rows, Failure> {
    use commonhold::core::record::Record;
    use commonhold::core::schema::Decoder;
    let url = format!("sqlite:{}", scene.database().display());
    let mut store = commonhold::store::open(&url)?;
    let mut rows = Rows::default();
    for (at, rows) in rows.iter_mut().enumerate() {
        store.load(at, &mut |row| {
            let item = Item::decode(&mut Decoder::new(&row.payload)).unwrap();
            rows.insert(row.key, item);
            Ok(())
        })?;
    }
    Ok(rows)
}

/// The segment made anew holds what was stored, and works.
fn anew(runtime: &Runtime, stored: &Rows, found: &mut Vec<String>) -> Result<(), Failure> {
    for (name, stored) in TABLES.iter().zip(stored) {
        let table: Table<Item> = runtime.table(name)?;
        let mut here = BTreeMap::new();
        table.scan(|key, item| {
            here.insert(key.to_owned(), item);
        })?;
        if here != *stored {
            found.push(format!("{name} made anew: {here:?} instead of {stored:?}"));
        }
        for key in stored.keys() {
            table.update(key, |item| item.n += 1)?.durable(LIMIT)?;
        }
    }
    Ok(())
}

/// No damage came into the store but of what no hash covers.
fn audit(scene: &Scene, found: &mut Vec<String>) -> Result<(), Failure> {
    let url = format!("sqlite:{}", scene.database().display());
    let audit = commonhold::store::open(&url)?.audit()?;
    for finding in audit.tables.iter().flat_map(|t| &t.findings) {
        if !matches!(finding.check, Check::Writers | Check::Clocks | Check::Versions) {
            found.push(format!("stored: {finding:?}"));
        }
    }
    Ok(())
}
