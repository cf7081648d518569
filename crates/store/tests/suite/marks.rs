//! Marks of id allocators and counters.

use commonhold_store::{Batch, Mark, MarkKind, RowCount, StoreError};

use super::{Backend, accounts, assert_sound, batch, claimed, segment};

pub(crate) fn mark(kind: MarkKind, name: &str, value: i64) -> Mark {
    Mark { kind, name: name.to_owned(), value }
}

fn marks(marks: &[Mark]) -> Batch {
    Batch { marks: marks.to_vec(), ..Batch::default() }
}

pub(crate) fn ids_only_rise_and_counters_are_set<B: Backend>() {
    let backend = B::new();
    let (mut store, ..) = claimed(&backend);
    assert_eq!(store.marks(), Ok(vec![]));
    let highest = i64::MAX;
    for (ids, counter, want) in [
        (0, 0, 0),
        (4096, i64::MIN, 4096),
        (7, -3, 4096),
        (-1, highest, 4096),
        (highest, 5, highest),
        (4097, 6, highest),
    ] {
        let ids = mark(MarkKind::Ids, "a b:c'%", ids);
        let counter = mark(MarkKind::Counter, "a b:c'%", counter);
        store.append(&marks(&[ids.clone(), counter.clone()])).unwrap();
        let want = vec![counter, Mark { value: want, ..ids }];
        assert_eq!(backend.open_read_only().marks(), Ok(want));
    }
    // One name is no other's, and none is an entry of another kind.
    let other = mark(MarkKind::Ids, "a b:c", 1);
    store.append(&marks(std::slice::from_ref(&other))).unwrap();
    let names: Vec<_> =
        store.marks().unwrap().into_iter().map(|m| (m.kind, m.name, m.value)).collect();
    let all = [(MarkKind::Counter, "a b:c'%", 6), (MarkKind::Ids, "a b:c", 1)];
    let want: Vec<_> = all
        .into_iter()
        .chain([(MarkKind::Ids, "a b:c'%", highest)])
        .map(|(k, n, v)| (k, n.to_owned(), v))
        .collect();
    assert_eq!(names, want);
    assert_sound(&backend);
}

pub(crate) fn marks_stay_when_the_owner_changes<B: Backend>() {
    let backend = B::new();
    let (mut old, _, mut writer) = claimed(&backend);
    let both = [mark(MarkKind::Counter, "orders", -4), mark(MarkKind::Ids, "nodes", 4096)];
    let with_row = Batch { marks: both.to_vec(), ..batch(&[writer.account("a", 1)]) };
    old.append(&with_row).unwrap();
    old.append(&with_row).unwrap();
    assert_eq!(old.row_count(0), Ok(RowCount { current: 1, history: 1 }));
    let mut new = backend.open();
    new.claim(&segment(2), &accounts()).unwrap();
    assert_eq!(new.marks(), Ok(both.to_vec()));
    // Who was replaced raises nothing, and sets nothing.
    for late in [mark(MarkKind::Ids, "nodes", 9999), mark(MarkKind::Counter, "orders", 1)] {
        let error = old.append(&marks(&[late])).unwrap_err();
        assert!(matches!(error, StoreError::Fenced { .. }), "{error}");
    }
    assert_eq!(new.marks(), Ok(both.to_vec()));
    assert_sound(&backend);
}

pub(crate) fn a_mark_that_is_no_number_is_named<B: Backend>() {
    for key in ["ids:nodes", "counter:nodes"] {
        let backend = B::new();
        let (mut store, ..) = claimed(&backend);
        let both = [mark(MarkKind::Ids, "nodes", 1), mark(MarkKind::Counter, "nodes", 1)];
        store.append(&marks(&both)).unwrap();
        backend.execute(&format!("UPDATE commonhold_meta SET value = 'x' WHERE key = '{key}'"));
        let error = store.marks().unwrap_err();
        assert!(error.to_string().contains(key), "{error}");
    }
    let backend = B::new();
    let (mut store, ..) = claimed(&backend);
    store.append(&marks(&[mark(MarkKind::Ids, "nodes", 1)])).unwrap();
    backend.execute("UPDATE commonhold_meta SET value = '-1' WHERE key = 'ids:nodes'");
    let error = store.append(&marks(&[mark(MarkKind::Ids, "nodes", 2)])).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
}
