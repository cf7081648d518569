//! Words that no correct process wrote: what is found, and that everything else works on.
#![cfg(not(feature = "loom"))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::sync::Arc;

use commonhold_core::catalogue::{Catalogue, History, TableSpec};
use commonhold_core::drain::Base;
use commonhold_core::schema::Schema;
use commonhold_core::{Error, Handle, Space};
use commonhold_segment::sync::Ordering;

/// Ten records, `k0` to `k9`, each in the slot and the cell of its number.
fn ten(history: History) -> (Arc<Space>, Handle) {
    let schema = Schema::new(vec!["n:i64".parse().unwrap()]).unwrap();
    let table = TableSpec { history, slots: 16, ..TableSpec::new("t", schema) };
    let catalogue = Catalogue::new(4, 2, vec![table]).unwrap();
    let space = Space::in_heap(&catalogue).unwrap();
    let handle = Handle::open(&space).unwrap();
    for n in 0..10_i64 {
        assert!(handle.insert(0, &format!("k{n}"), &n.to_le_bytes()).is_ok());
    }
    (space, handle)
}

/// Adds one to word `word` of cell `cell`.
fn damage_cell(space: &Space, cell: usize, word: usize) {
    let layout = &space.segment().layout().tables[0];
    let at = layout.cells.start + cell * layout.cell_stride + word;
    space.segment().words()[at].fetch_add(1, Ordering::SeqCst);
}

#[test]
fn a_damaged_record_is_left_out_and_the_others_are_stored() {
    for history in [History::Full, History::Latest] {
        // Slot generation, version, previous, hash, payload.
        for word in [2, 3, 5, 12] {
            let (space, handle) = ten(history);
            damage_cell(&space, 4, word);
            let drained = handle.collect(0, 100).unwrap();
            let keys: Vec<&str> = drained.rows.iter().map(|row| row.key.as_str()).collect();
            assert_eq!(keys, ["k0", "k1", "k2", "k3", "k5", "k6", "k7", "k8", "k9"], "{word}");
            let damage = drained.damage.clone().unwrap();
            assert!(damage.contains("table `t`, slot 4"), "{damage}");
            handle.complete(&drained).unwrap();
            assert_eq!(space.figures(0).unwrap().unstored_records, 1);
        }
    }
}

#[test]
fn what_the_store_has_is_not_told_by_a_damaged_word() {
    let mut unknown = 0;
    for bit in 0..64 {
        let (space, handle) = ten(History::Latest);
        handle.complete(&handle.collect(0, 100).unwrap()).unwrap();
        let layout = &space.segment().layout().tables[0];
        let persisted = layout.slots.start + 4 * layout.slot_stride + 1;
        space.segment().words()[persisted].fetch_xor(1 << bit, Ordering::SeqCst);
        space.flag_all().unwrap();
        let drained = handle.collect(0, 100).unwrap();
        for (row, known) in drained.rows.iter().zip(&drained.known) {
            match known {
                Base::Stored(version) | Base::After(version) => assert!(*version <= row.version),
                Base::Unknown => unknown += 1,
            }
        }
        handle.complete(&drained).unwrap();
        assert_eq!(space.figures(0).unwrap().unstored_records, 0, "it is stored once more");
    }
    assert!(unknown > 30, "most bits make it newer than the record: {unknown}");
}

#[test]
fn an_entry_that_leads_nowhere_ends_an_insert() {
    let (space, handle) = ten(History::Latest);
    damage_cell(&space, 4, 2);
    let done = handle.insert(0, "k4", &1_i64.to_le_bytes());
    assert!(matches!(done, Err(Error::Corrupt { .. })), "{done:?}");
    assert!(handle.insert(0, "another", &1_i64.to_le_bytes()).is_ok());
}

#[test]
fn another_slots_version_is_not_taken_for_ones_own() {
    let (space, handle) = ten(History::Latest);
    let layout = &space.segment().layout().tables[0];
    let head =
        |slot: usize| &space.segment().words()[layout.slots.start + slot * layout.slot_stride];
    head(4).store(head(5).load(Ordering::SeqCst), Ordering::SeqCst);
    let record = handle.locate(0, "k4").unwrap().unwrap();
    let read = handle.read_at(0, record, |seen| seen.payload.clone());
    assert!(matches!(read, Err(Error::Corrupt { .. })), "{read:?}");
}

#[test]
fn behind_a_cut_there_is_nothing_but_the_error() {
    let (space, handle) = ten(History::Full);
    let record = handle.locate(0, "k4").unwrap().unwrap();
    // As the handler leaves it: from some page on there are zeros.
    let words = space.segment().words();
    words[words.len() / 2..].iter().for_each(|word| word.store(0, Ordering::SeqCst));
    let cut = |error: Option<Error>| matches!(error, Some(Error::Truncated { .. }));
    assert!(cut(handle.locate(0, "k4").err()));
    assert!(cut(handle.read_at(0, record, |_| ()).err()));
    assert!(cut(handle.insert(0, "new", &1_i64.to_le_bytes()).err()));
    assert!(cut(handle.collect(0, 100).err()));
    assert!(cut(space.figures(0).err()));
    assert!(cut(space.peek(0, "k4").err()));
    assert!(cut(space.scan(0, |_, _| Ok::<(), Error>(())).err()));
    assert!(cut(Handle::open(&space).err()));
}
