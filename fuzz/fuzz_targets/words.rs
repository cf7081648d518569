//! Operations on a segment whose words come from the input: each pair of 2 + 8 bytes is an operation, or a word.
#![no_main]

use std::sync::Arc;
use std::time::Duration;

use commonhold_core::catalogue::{Catalogue, History, TableSpec};
use commonhold_core::schema::Schema;
use commonhold_core::{Error, Handle, Space};
use commonhold_segment::sync::Ordering;
use libfuzzer_sys::fuzz_target;

const KEYS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

fn space() -> Arc<Space> {
    let table = |name, history| {
        let schema = Schema::new(vec!["n:i64".parse().unwrap(), "t:text(8)".parse().unwrap()]);
        TableSpec { history, slots: 8, cells: 28, key_bytes: 8, ..TableSpec::new(name, schema.unwrap()) }
    };
    let tables = vec![table("full", History::Full), table("latest", History::Latest)];
    let catalogue = Catalogue::new(4, 2, tables).unwrap();
    Space::in_heap(&catalogue).unwrap()
}

fn step(space: &Space, handle: &Handle, what: u8, key: &str, payload: &[u8]) -> Result<(), Error> {
    let table = usize::from(what & 1);
    let next = |_: &[u8], next: &mut Vec<u8>| {
        next.extend_from_slice(payload);
        Ok::<(), Error>(())
    };
    match what >> 1 & 7 {
        0 => drop(handle.insert(table, key, payload)?),
        1 => {
            if let Some(record) = handle.locate(table, key)? {
                drop(handle.update_at(table, record, next));
            }
        }
        2 => drop(handle.delete(table, key, |_| Ok::<(), Error>(()))),
        3 => space.scan(table, |_, _| Ok::<(), Error>(()))?,
        4 => {
            space.flag_all()?;
            let drained = handle.collect(table, 100)?;
            handle.complete(&drained)?;
        }
        5 => drop((space.figures(table)?, space.unreferenced_cells(table)?)),
        6 => drop(commonhold_core::sweep::sweep(space, &space_dead(what))?),
        _ => drop(space.peek(table, key)?),
    }
    Ok(())
}

/// One of the entries, taken for dead.
fn space_dead(what: u8) -> commonhold_core::participant::DeadSet {
    let mut dead = commonhold_core::participant::DeadSet::new();
    let entry = u16::from(what >> 4 & 3);
    dead.insert(entry, commonhold_core::word::Word::from_bits(u64::from(what)));
    dead
}

fuzz_target!(|bytes: &[u8]| {
    let space = space();
    let Ok(handle) = Handle::open(&space) else { return };
    handle.set_room_wait(Duration::ZERO);
    let words = space.segment().words();
    // The header is not read again, and the last word is a cut's.
    let first = space.segment().layout().control.start;
    for each in bytes.chunks_exact(10).take(200) {
        let value = u64::from_le_bytes(each[2..].try_into().unwrap());
        let place = usize::from(u16::from_le_bytes([each[0], each[1]]));
        if place & 1 == 0 {
            let key = KEYS[usize::from(each[1]) % KEYS.len()];
            drop(step(&space, &handle, each[0] >> 1, key, &each[2..]));
        } else {
            let at = first + (place >> 1) % (words.len() - first - 1);
            words[at].store(value, Ordering::SeqCst);
        }
    }
});
