//! The directory of names on a segment in the heap.
#![cfg(not(feature = "loom"))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::collections::BTreeSet;
use std::sync::Arc;

use commonhold_core::catalogue::Catalogue;
use commonhold_core::directory::{NAME_BYTES_MAX, NameKind, NewName};
use commonhold_core::{Error, Handle, Space};
use commonhold_segment::NamedGeometry;

fn space_of(names: u32, share_words: u32) -> Arc<Space> {
    let named = NamedGeometry { names, share_words, intents: 0 };
    let catalogue = Catalogue::new(8, 1, Vec::new()).unwrap().with_named(named).unwrap();
    Space::in_heap(&catalogue).unwrap()
}

fn new(kind: NameKind, name: &str, width: u16) -> NewName<'_> {
    NewName { kind, name, unit: "", labels: "", help: "what it is for", extra: 0, width }
}

#[test]
fn a_name_is_registered_once_and_found_by_everybody() {
    let space = space_of(4, 8);
    let (one, two) = (Handle::open(&space).unwrap(), Handle::open(&space).unwrap());
    let first = one.register_name(&new(NameKind::Guard, "a", 2)).unwrap();
    let second = two.register_name(&new(NameKind::Counter, "a", 0)).unwrap();
    let again = two.register_name(&new(NameKind::Guard, "a", 2)).unwrap();
    assert_eq!(first, again);
    assert_ne!(first.index, second.index, "guards and counters have their own names");
    let third = two.register_name(&new(NameKind::Guard, "ä", 3)).unwrap();
    assert_eq!((first.offset, second.offset, third.offset), (0, 2, 2), "shares follow each other");
    assert_eq!(space.names().unwrap(), [first.clone(), second, third]);
    assert_eq!(space.find_name(NameKind::Guard, "a").unwrap(), Some(first));
    assert_eq!(space.find_name(NameKind::Ids, "a").unwrap(), None);
}

#[test]
fn labels_make_another_metric_and_kinds_do_not_mix() {
    let space = space_of(4, 8);
    let handle = Handle::open(&space).unwrap();
    let metric = |kind, labels| NewName { labels, unit: "seconds", ..new(kind, "m", 1) };
    let one = handle.register_name(&metric(NameKind::MetricCounter, "code=\"1\"")).unwrap();
    let two = handle.register_name(&metric(NameKind::MetricCounter, "code=\"2\"")).unwrap();
    assert_ne!(one.index, two.index);
    let other = handle.register_name(&metric(NameKind::Gauge, "code=\"1\"")).unwrap_err();
    assert!(matches!(&other, Error::OtherKind { .. }), "{other}");
    let limit = NewName { extra: 5_000_000, ..new(NameKind::Guard, "g", 2) };
    handle.register_name(&limit).unwrap();
    let other = handle.register_name(&new(NameKind::Guard, "g", 2)).unwrap_err().to_string();
    let want = "`g` is a guard with a hold limit of 5 ms, not a guard without a hold limit; use that, or another name";
    assert_eq!(other, want);
}

#[test]
fn what_does_not_fit_is_refused_and_leaves_nothing() {
    let space = space_of(2, 3);
    let handle = Handle::open(&space).unwrap();
    let long = "x".repeat(NAME_BYTES_MAX + 1);
    for name in ["", "a\nb", &long] {
        let refused = handle.register_name(&new(NameKind::Guard, name, 0)).unwrap_err();
        assert!(matches!(refused, Error::BadName { .. }), "{refused}");
    }
    handle.register_name(&new(NameKind::Guard, &long[1..], 2)).unwrap();
    let refused = handle.register_name(&new(NameKind::Guard, "wide", 2)).unwrap_err();
    assert!(matches!(refused, Error::NamesFull { raise: "share_words", .. }), "{refused}");
    handle.register_name(&new(NameKind::Guard, "b", 1)).unwrap();
    let refused = handle.register_name(&new(NameKind::Guard, "c", 0)).unwrap_err();
    assert!(matches!(refused, Error::NamesFull { raise: "names", limit: 2, .. }), "{refused}");
    assert_eq!(space.names().unwrap().len(), 2);
}

#[test]
fn many_who_register_the_same_names_get_the_same_entries() {
    let space = space_of(32, 64);
    let names: Vec<String> = (0..32).map(|i| format!("name {i}")).collect();
    let found: Vec<Vec<(u16, u32)>> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..4)
            .map(|thread| {
                let (space, names) = (&space, &names);
                scope.spawn(move || {
                    let handle = Handle::open(space).unwrap();
                    let mut found = vec![(0, 0); names.len()];
                    for i in 0..names.len() {
                        let at = (i * 7 + thread * 11) % names.len();
                        let name = new(NameKind::Gauge, &names[at], 2);
                        let registered = handle.register_name(&name).unwrap();
                        found[at] = (registered.index, registered.offset);
                    }
                    found
                })
            })
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(found.iter().all(|one| *one == found[0]), "{found:?}");
    let offsets: BTreeSet<u32> = found[0].iter().map(|(_, offset)| *offset).collect();
    assert_eq!(offsets, (0..64).step_by(2).collect(), "each its own words");
}
