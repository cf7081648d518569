//! A whole store into another one.

use commonhold_core::catalogue::{Catalogue, History};
use commonhold_core::row::WriterId;
use commonhold_core::value::Value;
use commonhold_store::{
    Batch, Claim, Copied, MarkKind, Progress, RowCount, Store, StoreError, TableBatch, copy,
};

use super::marks::mark;
use super::{Backend, Writer, accounts, assert_sound, batch, catalogue, load, segment, table};

/// More than one transaction holds.
const MANY: u64 = 10_050;

fn two_tables() -> Catalogue {
    catalogue(vec![
        table("accounts", &["balance:i64", "name:text(20)"], History::Full),
        table("seen", &["at:timestamp", "body:bytes(30)", "j:json(30)", "f:f64"], History::Latest),
    ])
}

/// A source of epoch 3 with deletions, a floor, marks and more rows than one transaction holds.
fn source(store: &mut dyn Store) -> Claim {
    let catalogue = two_tables();
    store.claim(&segment(1), &catalogue).unwrap();
    store.claim(&segment(1), &catalogue).unwrap();
    let claim = store.claim(&segment(1), &catalogue).unwrap();
    let mut writer = Writer::new(&catalogue, 1);
    writer.id = WriterId::new(3, 1, 7);
    let mut rows: Vec<_> = (0..MANY).map(|n| writer.account(&format!("k{n:06}"), 1)).collect();
    rows.push(writer.commit("k000007", 2, None));
    rows.push(writer.account("k000007", 5));
    rows.push(writer.commit("k000009", 2, None));
    rows.push(writer.account("ключ", 1));
    let mut seen = Writer::new(&catalogue, 2);
    (seen.table, seen.schema) = ("seen".to_owned(), catalogue.tables[1].schema.clone());
    let values = |n: i64| {
        let json = format!("{{\"n\": {n},  \"a\": []}}");
        [Value::Timestamp(n), Value::Bytes(vec![0, 255, 7]), Value::Json(json), Value::F64(0.1)]
    };
    let current = ["b", "a", "B"].map(|key| {
        let mut row = seen.commit(key, 4, Some(&values(-3)));
        row.sequence = 0;
        row
    });
    let tables = vec![
        TableBatch { table: 0, rows, floor: 9, ..TableBatch::default() },
        TableBatch { table: 1, rows: current.to_vec(), ..TableBatch::default() },
    ];
    let marks = vec![mark(MarkKind::Counter, "orders", -4), mark(MarkKind::Ids, "nodes", 4096)];
    store.append(&Batch { tables, marks, ..Batch::default() }).unwrap();
    claim
}

/// A copy that is told nothing about.
fn copied(from: &impl Backend, to: &impl Backend) -> Result<Copied, StoreError> {
    copy(from.open_read_only().as_mut(), to.open().as_mut(), &segment(8), &mut |_| Ok(()))
}

/// A copy that is broken off after so many transactions.
fn broken_off(from: &impl Backend, to: &impl Backend, after: usize) -> StoreError {
    let mut told = 0;
    let mut progress = |_: &Progress| {
        told += 1;
        if told > after { Err(StoreError::Refused("that is enough".to_owned())) } else { Ok(()) }
    };
    copy(from.open_read_only().as_mut(), to.open().as_mut(), &segment(9), &mut progress)
        .unwrap_err()
}

fn contents(store: &mut dyn Store) -> (Vec<commonhold_core::row::Row>, u64, Vec<RowCount>) {
    let (mut rows, floor) = load(store, 0);
    rows.extend(load(store, 1).0);
    (rows, floor, vec![store.row_count(0).unwrap(), store.row_count(1).unwrap()])
}

/// That `to` is what `from` is, and that the next segment goes on with it.
fn assert_copied(from: &impl Backend, to: &impl Backend) {
    let (mut old, mut new) = (from.open_read_only(), to.open_read_only());
    assert_eq!(contents(old.as_mut()), contents(new.as_mut()));
    assert_eq!(old.marks(), new.marks());
    assert_eq!(new.importing(), Ok(None));
    for key in ["k000007", "k000009", "ключ"] {
        let history = |store: &mut dyn Store| {
            let mut rows = Vec::new();
            store
                .history(0, key, &mut |row| {
                    rows.push(row);
                    Ok(())
                })
                .unwrap();
            rows
        };
        let versions = history(old.as_mut());
        assert!(!versions.is_empty());
        assert_eq!(versions, history(new.as_mut()), "with its links");
    }
    assert_sound(to);
    let mut store = to.open();
    assert_eq!(store.owner(), Ok(None), "it belongs to nobody yet");
    let claim = store.claim(&segment(2), &two_tables()).unwrap();
    assert_eq!(claim.epoch, 4, "above the source's, so that no writer id comes twice");
    let mut writer = Writer::new(&two_tables(), 1);
    writer.id = WriterId::new(4, 1, 7);
    store.append(&batch(&[writer.account("later", 10)])).unwrap();
    assert_sound(to);
}

pub(crate) fn a_copy_holds_everything<A: Backend, B: Backend>() {
    let (from, to) = (A::new(), B::new());
    let claim = source(from.open().as_mut());
    let mut told = Vec::new();
    let mut progress = |p: &Progress| {
        told.push(p.clone());
        Ok(())
    };
    let (mut old, mut new) = (from.open_read_only(), to.open());
    let done = copy(old.as_mut(), new.as_mut(), &segment(8), &mut progress).unwrap();
    assert_eq!((done.epoch, done.rows, done.resumed), (claim.epoch, MANY + 4 + 3, 0));
    let sizes: Vec<_> = done.tables.iter().map(|t| (t.rows, t.versions, t.link.len())).collect();
    assert_eq!(sizes, [(MANY, MANY + 4, 64), (3, 0, 0)]);
    let steps: Vec<_> = told.iter().map(|p| p.done).collect();
    assert_eq!(steps, [10_000, MANY + 4, MANY + 7, MANY + 7], "no transaction holds more");
    assert!(told.iter().all(|p| p.total == MANY + 7));
    drop((old, new));
    assert_copied(&from, &to);
}

pub(crate) fn a_copy_that_was_broken_off_goes_on<A: Backend, B: Backend>() {
    let (from, to, other) = (A::new(), B::new(), A::new());
    source(from.open().as_mut());
    source(other.open().as_mut());
    let error = broken_off(&from, &to, 0);
    assert_eq!(error, StoreError::Refused("that is enough".to_owned()));
    let source_url = from.open_read_only().url();
    let assert_incomplete = |error: StoreError| {
        let StoreError::Incomplete { source_url: found, .. } = &error else { panic!("{error}") };
        assert_eq!(found, &source_url);
    };
    let begun = to.open_read_only().importing().unwrap().unwrap();
    assert_eq!(begun.source, source_url);
    // Nobody takes it for a store, as the target of another copy, or as a source.
    assert_incomplete(to.open().claim(&segment(3), &two_tables()).unwrap_err());
    assert_incomplete(copied(&other, &to).unwrap_err());
    assert_incomplete(copied(&to, &B::new()).unwrap_err());
    broken_off(&from, &to, 1);
    let done = copied(&from, &to).unwrap();
    assert_eq!((done.resumed, done.rows), (MANY + 4, 3));
    assert_copied(&from, &to);
}

pub(crate) fn what_is_gone_from_the_source_meanwhile_is_not_in_the_copy<A: Backend, B: Backend>() {
    let (from, to) = (A::new(), B::new());
    source(from.open().as_mut());
    // The rows of the table without history are written.
    broken_off(&from, &to, 2);
    from.execute("DELETE FROM seen WHERE key = 'b'");
    copied(&from, &to).unwrap();
    assert_copied(&from, &to);
}

pub(crate) fn of_two_copies_at_once_the_first_is_fenced_off<A: Backend, B: Backend>() {
    let (from, to) = (A::new(), B::new());
    source(from.open().as_mut());
    let mut second = None;
    let mut progress = |_: &Progress| {
        second.get_or_insert_with(|| broken_off(&from, &to, 0));
        Ok(())
    };
    let (mut old, mut new) = (from.open_read_only(), to.open());
    let error = copy(old.as_mut(), new.as_mut(), &segment(8), &mut progress).unwrap_err();
    assert!(matches!(error, StoreError::Fenced { .. }), "{error}");
    drop((old, new));
    copied(&from, &to).unwrap();
    assert_copied(&from, &to);
}

pub(crate) fn only_an_empty_store_is_a_target<A: Backend, B: Backend>() {
    let from = A::new();
    from.open();
    let error = copied(&from, &B::new()).unwrap_err();
    assert!(error.to_string().contains("no segment has claimed"), "{error}");
    source(from.open().as_mut());
    let refused = |to: &B, why: &str| {
        let error = copied(&from, to).unwrap_err();
        assert!(matches!(error, StoreError::NotEmpty { .. }), "{error}");
        assert!(error.to_string().contains(why), "{error}");
    };
    let claimed = B::new();
    claimed.open().claim(&segment(3), &accounts()).unwrap();
    refused(&claimed, "it belongs to segment /dev/shm/3");
    claimed.execute("DELETE FROM commonhold_meta WHERE key = 'owner'");
    refused(&claimed, "it holds the tables of a segment");
    let done = B::new();
    copied(&from, &done).unwrap();
    refused(&done, "it holds the tables of a segment");
    // A table that somebody made, with the very columns.
    claimed.execute("DELETE FROM commonhold_meta WHERE key <> 'store_id'");
    refused(&claimed, "it has a table accounts already");
    assert_sound(&done);
}

pub(crate) fn what_is_no_copy_is_found<A: Backend, B: Backend>() {
    let prepared = || {
        let from = A::new();
        source(from.open().as_mut());
        from
    };
    // A row of the source that is not what its hash says.
    for sql in [
        "UPDATE accounts_history SET balance = 1 WHERE key = 'k000123'",
        "UPDATE accounts SET balance = 1 WHERE key = 'k000123'",
    ] {
        let from = prepared();
        from.execute(sql);
        let error = copied(&from, &B::new()).unwrap_err();
        assert!(matches!(&error, StoreError::Row { key, .. } if key == "k000123"), "{error}");
    }
    // A source whose hashes hold, and whose chain or current rows do not.
    for (sql, why) in [
        ("UPDATE accounts_history SET _committed_at = 5 WHERE key = 'k000123'", "chain"),
        ("DELETE FROM accounts_history WHERE key = 'k010007'", "chain"),
        ("UPDATE accounts SET _committed_at = 5 WHERE key = 'k000123'", "its current rows"),
        ("DELETE FROM accounts WHERE key = 'k000123'", "rows"),
    ] {
        let (from, to) = (prepared(), B::new());
        from.execute(sql);
        let error = copied(&from, &to).unwrap_err();
        assert!(matches!(error, StoreError::NotCopied { .. }), "{error}");
        assert!(error.to_string().contains(why), "{error}");
        assert!(to.open().importing().unwrap().is_some(), "it does not pass for a copy");
    }
    // A target that was changed between two runs.
    let (from, to) = (prepared(), B::new());
    broken_off(&from, &to, 0);
    to.execute("UPDATE accounts_history SET _committed_at = 5 WHERE key = 'k000123'");
    let error = copied(&from, &to).unwrap_err();
    assert!(error.to_string().contains("its link"), "{error}");
}
