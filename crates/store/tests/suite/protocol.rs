//! Claiming, writing, reading.

use commonhold_core::catalogue::{Catalogue, History};
use commonhold_core::row::{Row, WriterId};
use commonhold_core::value::Value;
use commonhold_store::{Batch, MarkKind, RowCount, StoreError, TableBatch};

use super::marks::mark;
use super::{
    Backend, Writer, accounts, assert_sound, batch, catalogue, claimed, load, segment, table,
};

pub(crate) fn a_claim_raises_the_epoch_and_joins_are_checked<B: Backend>() {
    let backend = B::new();
    let mut store = backend.open();
    assert_eq!(store.owner(), Ok(None));
    assert_eq!(store.catalogue(), Ok(None));
    let error = store.join([1; 16], 1, 0, &accounts()).unwrap_err();
    assert!(matches!(error, StoreError::Unclaimed(_)), "{error}");
    let error = store.append(&Batch::default()).unwrap_err();
    assert!(matches!(error, StoreError::NotAttached(_)), "{error}");

    let first = store.claim(&segment(1), &accounts()).unwrap();
    let second = store.claim(&segment(2), &accounts()).unwrap();
    assert_eq!((first.epoch, second.epoch), (1, 2));
    assert_eq!(first.store_id, store.store_id());
    assert_eq!(store.catalogue(), Ok(Some(accounts())));

    let mut other = backend.open();
    assert_eq!(other.store_id(), first.store_id, "one store, one identity");
    assert_ne!(other.store_id(), B::new().open().store_id());
    let owner = other.owner().unwrap().unwrap();
    assert_eq!((owner.uuid, owner.epoch), ([2; 16], 2));
    assert_eq!((owner.path.as_str(), owner.boot_id.as_str()), ("/dev/shm/2", "boot"));
    for (uuid, epoch) in [([1; 16], 1), ([1; 16], 2), ([2; 16], 1), ([2; 16], 3)] {
        let error = other.join(uuid, epoch, 0, &accounts()).unwrap_err();
        assert!(matches!(error, StoreError::Fenced { .. }), "{error}");
    }
    other.join([2; 16], 2, 0, &accounts()).unwrap();
    other.append(&batch(&[Writer::new(&accounts(), 1).account("a", 1)])).unwrap();
    assert_sound(&backend);
}

pub(crate) fn an_owner_that_was_replaced_is_fenced_out<B: Backend>() {
    let backend = B::new();
    let (mut old, _, mut writer) = claimed(&backend);
    let mut new = backend.open();
    new.claim(&segment(2), &accounts()).unwrap();
    let row = writer.account("a", 1);
    for _ in 0..2 {
        // Also the second time, on a connection opened anew.
        let error = old.append(&batch(std::slice::from_ref(&row))).unwrap_err();
        let StoreError::Fenced { owner_epoch, epoch, owner, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!((*owner_epoch, *epoch), (2, 1));
        assert!(owner.contains("/dev/shm/2"), "{owner}");
    }
    assert_eq!(new.row_count(0), Ok(RowCount::default()), "nothing of it was written");
}

/// A table with every type.
fn everything(history: History) -> Catalogue {
    let fields = [
        "i:i64",
        "u:u64",
        "f:f64",
        "b:bool",
        "t:text(40)",
        "order:bytes(40)",
        "j:json(60)",
        "at:timestamp",
    ];
    catalogue(vec![table("everything", &fields, history)])
}

fn extremes() -> Vec<[Value; 8]> {
    let row = |i, u, f, b, t: &str, x: &[u8], j: &str, at| {
        [
            Value::I64(i),
            Value::U64(u),
            Value::F64(f),
            Value::Bool(b),
            Value::Text(t.to_owned()),
            Value::Bytes(x.to_vec()),
            Value::Json(j.to_owned()),
            Value::Timestamp(at),
        ]
    };
    vec![
        row(i64::MIN, 0, f64::MAX, false, "", &[], "null", i64::MIN),
        row(
            i64::MAX,
            i64::MAX as u64,
            f64::MIN_POSITIVE,
            true,
            "grüße 🦀 'q\"",
            &[0, 255],
            "{\"a\": [1, 2]}",
            i64::MAX,
        ),
        row(0, 1, 5e-324, false, "12", b"12", "12", 0),
        row(-1, 7, -3.0, true, "\u{feff}\n\t", &[0; 40], "\"\\u0000\"", -1),
        row(1, 7, 0.1 + 0.2, true, "NULL\u{fffe}\u{10ffff}", b"text", "[]", 1),
    ]
}

pub(crate) fn every_type_comes_back_as_it_was<B: Backend>() {
    for history in [History::Full, History::Latest] {
        let backend = B::new();
        let catalogue = everything(history);
        let mut store = backend.open();
        store.claim(&segment(1), &catalogue).unwrap();
        let mut writer = Writer::new(&catalogue, 2);
        let keys = ["", "b", "ключ", "k'\"; --", "z"];
        let mut rows: Vec<Row> = extremes()
            .iter()
            .zip(keys)
            .map(|(values, key)| writer.commit(key, 3, Some(values)))
            .collect();
        store.append(&batch(&rows)).unwrap();
        let (loaded, _) = load(store.as_mut(), 0);
        rows.sort_by(|a, b| a.key.cmp(&b.key));
        assert_eq!(loaded, rows);
        assert_sound(&backend);
    }
}

pub(crate) fn rows_sent_again_are_recognised<B: Backend>() {
    let backend = B::new();
    let (mut store, _, mut writer) = claimed(&backend);
    let rows: Vec<Row> = [("a", 1), ("b", 1), ("a", 2), ("a", 3), ("b", 2)]
        .map(|(k, v)| writer.account(k, v))
        .to_vec();
    store.append(&batch(&rows[..2])).unwrap();
    store.append(&batch(&rows[..2])).unwrap();
    // Half of it known, half new; then all known, by another connection.
    store.append(&batch(&rows[1..4])).unwrap();
    store.append(&batch(&rows)).unwrap();
    let mut other = backend.open();
    other.join([1; 16], 1, 0, &accounts()).unwrap();
    other.append(&batch(&rows)).unwrap();
    assert_eq!(other.row_count(0), Ok(RowCount { current: 2, history: 5 }));
    let versions: Vec<_> = load(other.as_mut(), 0).0.iter().map(|r| r.version).collect();
    assert_eq!(versions, [3, 2]);
    assert_sound(&backend);
}

pub(crate) fn a_version_with_another_state_is_a_conflict<B: Backend>() {
    let backend = B::new();
    let (mut store, _, mut writer) = claimed(&backend);
    store.append(&batch(&[writer.account("a", 1)])).unwrap();
    let other = writer.commit("a", 1, Some(&[Value::I64(99)]));
    let error = store.append(&batch(&[writer.account("b", 1), other])).unwrap_err();
    let StoreError::Conflict { key, version, .. } = &error else { panic!("{error}") };
    assert_eq!((key.as_str(), *version), ("a", 1));
    assert_eq!(store.row_count(0).unwrap().history, 1, "`b` is not written either");
}

pub(crate) fn a_batch_is_written_whole_or_not_at_all<B: Backend>() {
    let backend = B::new();
    let mut store = backend.open();
    let fields = ["n:i64"];
    let two = catalogue(vec![
        table("first", &fields, History::Full),
        table("second", &fields, History::Latest),
    ]);
    store.claim(&segment(1), &two).unwrap();
    let mut writer = Writer::new(&two, 1);
    let good = writer.commit("k", 1, Some(&[Value::I64(1)]));
    let bad = Row { payload: vec![1, 2], ..good.clone() };
    let part = |table, row: &Row| TableBatch {
        table,
        rows: vec![row.clone()],
        floor: 9,
        ..TableBatch::default()
    };
    let both = |second: &Row| Batch {
        tables: vec![part(0, &good), part(1, second)],
        marks: vec![mark(MarkKind::Ids, "n", 7), mark(MarkKind::Counter, "n", 7)],
        ..Batch::default()
    };
    let error = store.append(&both(&bad)).unwrap_err();
    assert!(matches!(error, StoreError::BadRow { .. }), "{error}");
    let error = store
        .append(&Batch { tables: vec![part(0, &good), part(2, &good)], ..both(&good) })
        .unwrap_err();
    assert!(matches!(error, StoreError::NoTable { position: 2, .. }), "{error}");
    assert_eq!(store.row_count(0), Ok(RowCount::default()));
    assert_eq!(load(store.as_mut(), 0), (vec![], 0), "not even the floor");
    assert_eq!(store.marks(), Ok(vec![]), "nor a mark");
}

pub(crate) fn an_older_version_never_replaces_a_newer_one<B: Backend>() {
    let backend = B::new();
    let latest = catalogue(vec![table("t", &["n:i64"], History::Latest)]);
    let mut store = backend.open();
    store.claim(&segment(1), &latest).unwrap();
    let mut writer = Writer::new(&latest, 1);
    let [old, new] = [1, 2].map(|v| writer.commit("k", v, Some(&[Value::I64(v as i64)])));
    let deletion = writer.commit("k", 1, None);
    store.append(&batch(std::slice::from_ref(&new))).unwrap();
    store.append(&batch(&[old])).unwrap();
    store.append(&batch(&[deletion])).unwrap();
    assert_eq!(load(store.as_mut(), 0).0, [new]);
}

pub(crate) fn a_deleted_record_goes_and_may_come_back<B: Backend>() {
    let backend = B::new();
    let (mut store, _, mut writer) = claimed(&backend);
    let (one, stays) = (writer.account("a", 1), writer.account("b", 1));
    let (gone, back) = (writer.commit("a", 2, None), writer.account("a", 6));
    store.append(&batch(&[one.clone(), stays.clone()])).unwrap();
    store.append(&batch(std::slice::from_ref(&gone))).unwrap();
    assert_eq!(load(store.as_mut(), 0).0, std::slice::from_ref(&stays));
    assert_sound(&backend);
    // What was there before the deletion, sent again alone, revives nothing.
    store.append(&batch(&[one])).unwrap();
    assert_eq!(load(store.as_mut(), 0).0, std::slice::from_ref(&stays));
    store.append(&batch(std::slice::from_ref(&back))).unwrap();
    store.append(&batch(&[gone])).unwrap();
    assert_eq!(load(store.as_mut(), 0).0, [back, stays]);
    assert_sound(&backend);
    // Gone and back within one batch; who makes it anew need not have seen the old one's clock.
    let mut again =
        [writer.commit("b", 2, None), writer.account("b", 7), writer.commit("b", 8, None)];
    again[1].clock = vec![0, 0, 0];
    store.append(&batch(&again)).unwrap();
    assert_eq!(load(store.as_mut(), 0).0.len(), 1);
    assert_eq!(store.row_count(0), Ok(RowCount { current: 1, history: 7 }));
    assert_sound(&backend);
}

pub(crate) fn the_floor_only_rises<B: Backend>() {
    let backend = B::new();
    let (mut store, ..) = claimed(&backend);
    for (floor, want) in [(0, 0), (7, 7), (3, 7), (0, 7), (8, 8)] {
        let tables = vec![TableBatch { table: 0, rows: vec![], floor, ..TableBatch::default() }];
        store.append(&Batch { tables, ..Batch::default() }).unwrap();
        assert_eq!(load(backend.open().as_mut(), 0).1, want);
    }
}

pub(crate) fn a_restart_finds_everything<B: Backend>() {
    let backend = B::new();
    let (mut store, claim, mut writer) = claimed(&backend);
    let rows = [writer.account("a", 1), writer.account("b", 1)];
    store.append(&batch(&rows)).unwrap();
    drop(store);
    let mut store = backend.open();
    let again = store.claim(&segment(2), &accounts()).unwrap();
    assert_eq!((again.epoch, again.store_id), (claim.epoch + 1, claim.store_id));
    assert_eq!(load(store.as_mut(), 0).0, rows);
    store.append(&batch(&[writer.account("a", 2)])).unwrap();
    drop(store);
    // Also without a claim, by the stored catalogue.
    let mut store = backend.open_read_only();
    assert_eq!(load(store.as_mut(), 0).0[0].version, 2);
    assert_eq!(store.row_count(0), Ok(RowCount { current: 2, history: 3 }));
    assert_sound(&backend);
}

pub(crate) fn latest_history_keeps_the_last_version_only<B: Backend>() {
    let backend = B::new();
    let latest = catalogue(vec![table("t", &["n:i64"], History::Latest)]);
    let mut store = backend.open();
    store.claim(&segment(1), &latest).unwrap();
    let mut writer = Writer::new(&latest, 1);
    let rows: Vec<Row> =
        (1..=5).map(|v| writer.commit("k", v, Some(&[Value::I64(v as i64)]))).collect();
    store.append(&batch(&rows)).unwrap();
    assert_eq!(load(store.as_mut(), 0).0, rows[4..]);
    assert_eq!(store.row_count(0), Ok(RowCount { current: 1, history: 0 }));
    assert_eq!(store.highest_sequence(0, writer.id), Ok(0), "latest history has no sequences");
    store.append(&batch(&[writer.commit("k", 6, None)])).unwrap();
    assert_eq!(load(store.as_mut(), 0).0, []);
    assert_sound(&backend);
}

pub(crate) fn a_table_may_begin_its_history_later<B: Backend>() {
    let backend = B::new();
    let mut latest = accounts();
    latest.tables[0].history = History::Latest;
    let mut store = backend.open();
    store.claim(&segment(1), &latest).unwrap();
    let mut writer = Writer::new(&accounts(), 1);
    let rows: Vec<Row> =
        (0..2500).map(|i| Row { sequence: 0, ..writer.account(&format!("k{i:04}"), 4) }).collect();
    store.append(&batch(&rows)).unwrap();
    store.claim(&segment(2), &accounts()).unwrap();
    assert_eq!(store.row_count(0), Ok(RowCount { current: 2500, history: 2500 }));
    let clock = vec![5, 8, u64::MAX];
    let first =
        Row { clock, sequence: 1, writer: WriterId::new(2, 2, 1), ..writer.account("k0007", 5) };
    store.append(&batch(&[first])).unwrap();
    assert_sound(&backend);
}

pub(crate) fn a_table_keeps_its_history<B: Backend>() {
    let backend = B::new();
    let (mut store, ..) = claimed(&backend);
    let mut latest = accounts();
    latest.tables[0].history = History::Latest;
    let error = store.claim(&segment(2), &latest).unwrap_err();
    assert!(error.to_string().contains("history = full"), "{error}");
    assert_eq!(store.owner().unwrap().unwrap().epoch, 1, "a refused claim takes nothing");
}

pub(crate) fn a_schema_that_differs_is_refused_by_column<B: Backend>() {
    let backend = B::new();
    let (mut store, ..) = claimed(&backend);
    let types = format!("`balance` is {}, not {}", B::TYPES.integer, B::TYPES.real);
    for (fields, want) in [
        (&["balance:i64"][..], "`_version`"),
        (&["balance:f64", "name:text(20)"], &types),
        (&["balance:i64", "nick:text(20)"], "`name`, not `nick`"),
        (&["balance:i64", "name:text(20)", "more:i64"], "`more`"),
    ] {
        let other = catalogue(vec![table("accounts", fields, History::Full)]);
        let error = store.claim(&segment(2), &other).unwrap_err();
        assert!(matches!(error, StoreError::SchemaDiffers { .. }), "{error}");
        assert!(error.to_string().contains(want), "{error}");
    }
    // A wider limit is the same column.
    let wider =
        catalogue(vec![table("accounts", &["balance:u64", "name:text(99)"], History::Full)]);
    store.claim(&segment(2), &wider).unwrap();
}

pub(crate) fn tables_of_other_catalogues_are_left_alone<B: Backend>() {
    let backend = B::new();
    let (mut store, _, mut writer) = claimed(&backend);
    let row = writer.account("a", 1);
    store.append(&batch(std::slice::from_ref(&row))).unwrap();
    let other = catalogue(vec![table("other", &["n:i64"], History::Full)]);
    store.claim(&segment(2), &other).unwrap();
    assert_eq!(store.row_count(0), Ok(RowCount::default()), "position 0 is now `other`");
    store.claim(&segment(3), &accounts()).unwrap();
    assert_eq!(load(store.as_mut(), 0).0, [row]);
    assert_sound(&backend);
}

pub(crate) fn rows_that_are_none_are_refused<B: Backend>() {
    let backend = B::new();
    let (mut store, _, mut writer) = claimed(&backend);
    let good = writer.account("a", 1);
    let long = Row { payload: [&good.payload[..], &[0]].concat(), ..good.clone() };
    let kept = Row { deleted: true, ..good.clone() };
    let huge = Row { version: 1 << 63, ..good.clone() };
    let late = Row { sequence: 1 << 63, ..good.clone() };
    for row in [long, kept, huge, late] {
        let error = store.append(&batch(&[row])).unwrap_err();
        assert!(matches!(error, StoreError::BadRow { .. }), "{error}");
    }
    let unordered = [writer.account("a", 3), writer.account("a", 2)];
    let error = store.append(&batch(&unordered)).unwrap_err();
    assert!(error.to_string().contains("ascending"), "{error}");
    assert_eq!(store.row_count(0), Ok(RowCount::default()));
    store.append(&batch(&[good])).unwrap();
}

pub(crate) fn a_changed_row_is_not_loaded<B: Backend>() {
    let backend = B::new();
    let (mut store, _, mut writer) = claimed(&backend);
    store.append(&batch(&[writer.account("a", 1), writer.account("b", 1)])).unwrap();
    backend.execute("UPDATE accounts SET balance = balance + 1 WHERE key = 'b'");
    let mut seen = Vec::new();
    let mut sink = |row: Row| {
        seen.push(row.key);
        Ok(())
    };
    let error = store.load(0, &mut sink).unwrap_err();
    let StoreError::Row { key, version, .. } = &error else { panic!("{error}") };
    assert_eq!((key.as_str(), *version), ("b", 1));
    assert_eq!(seen, ["a"]);
    let mut refuse = |_| Err(StoreError::Refused("no".to_owned()));
    assert_eq!(store.load(0, &mut refuse), Err(StoreError::Refused("no".to_owned())));
}

pub(crate) fn sequences_and_counts<B: Backend>() {
    let backend = B::new();
    let (mut store, _, mut writer) = claimed(&backend);
    let mut second = Writer::new(&accounts(), 2);
    let rows = [writer.account("a", 1), second.account("a", 2), writer.account("b", 1)];
    store.append(&batch(&rows)).unwrap();
    assert_eq!(store.highest_sequence(0, writer.id), Ok(2));
    assert_eq!(store.highest_sequence(0, second.id), Ok(1));
    assert_eq!(store.highest_sequence(0, WriterId::new(9, 9, 9)), Ok(0));
    let error = store.row_count(1).unwrap_err();
    assert!(matches!(error, StoreError::NoTable { position: 1, .. }), "{error}");
}

pub(crate) fn the_history_of_a_key_comes_in_order<B: Backend>() {
    let backend = B::new();
    let (mut store, _, mut writer) = claimed(&backend);
    let rows = [
        writer.account("a", 1),
        writer.account("b", 1),
        writer.account("a", 2),
        writer.commit("a", 3, None),
    ];
    store.append(&batch(&rows)).unwrap();
    let mut seen = Vec::new();
    let mut sink = |row: commonhold_store::HistoryRow| {
        seen.push((row.position, row.row));
        Ok(())
    };
    store.history(0, "a", &mut sink).unwrap();
    store.history(0, "none", &mut sink).unwrap();
    let [first, _, second, third] = rows;
    assert_eq!(seen, [(1, first), (3, second), (4, third)]);
    backend.execute("UPDATE accounts_history SET balance = 0 WHERE key = 'a' AND _version = 2");
    let error = store.history(0, "a", &mut |_| Ok(())).unwrap_err();
    assert!(matches!(error, StoreError::Row { version: 2, .. }), "{error}");
}
