//! Rows that somebody else changed in the database.

use commonhold_core::catalogue::{History, OnForeignChange};
use commonhold_core::row::{Row, WriterId};
use commonhold_core::value::Value;
use commonhold_store::{Accepted, Appended, Batch, ForeignChange, Known, MarkKind, TableBatch};

use super::marks::mark;
use super::{Backend, Writer, accounts, assert_sound, batch, catalogue, claimed, segment, table};

/// Rows, each with what the segment last stored of its key.
fn knowing(rows: &[(Row, Known)]) -> Batch {
    let (rows, known): (Vec<Row>, Vec<Known>) = rows.iter().cloned().unzip();
    let part = TableBatch { rows, known, ..TableBatch::default() };
    Batch { tables: vec![part], ..Batch::default() }
}

fn accepting(mut batch: Batch, change: &ForeignChange, policy: OnForeignChange) -> Batch {
    let (key, found) = (change.key.clone(), change.found.clone());
    batch.tables[0].accepted.push(Accepted { key, found, policy });
    batch
}

/// The one change that was met.
fn only(appended: Appended) -> ForeignChange {
    assert_eq!(appended.foreign.len(), 1, "{appended:?}");
    appended.foreign.into_iter().next().unwrap()
}

/// The version that each of the keys has in T.
fn versions(store: &mut dyn commonhold_store::Store) -> Vec<(String, u64)> {
    let (rows, _) = super::load(store, 0);
    rows.into_iter().map(|row| (row.key, row.version)).collect()
}

pub(crate) fn a_changed_row_stops_its_table_and_is_kept<B: Backend>() {
    let backend = B::new();
    let (mut store, _, mut writer) = claimed(&backend);
    let first = ["a", "b"].map(|key| (writer.account(key, 1), Known::Nothing));
    assert_eq!(store.append(&knowing(&first)).unwrap().foreign, Vec::new());
    backend.execute("UPDATE accounts SET balance = 777 WHERE key = 'a'");
    let second = ["a", "b"].map(|key| (writer.account(key, 2), Known::Version(1)));
    let second = knowing(&second);
    let appended = store.append(&second).unwrap();
    assert_eq!(appended.batch, 2, "the note is a batch");
    let change = only(appended);
    assert_eq!((change.table, change.key.as_str(), change.new), (0, "a", true));
    assert!(change.why.contains("hash"), "{}", change.why);
    let found = change.found.clone().unwrap();
    assert!(found.contains("\"balance\":777") && found.contains("\"_version\":1"), "{found}");
    assert_eq!(store.row_count(0).unwrap().history, 2, "nothing of the table is written");
    let conflicts = store.conflicts().unwrap();
    assert_eq!(conflicts.len(), 1);
    let kept = &conflicts[0];
    assert_eq!((kept.id, kept.stored, kept.policy.as_str()), (1, 1, "fail"));
    assert_eq!((kept.table.as_str(), kept.key.as_str()), ("accounts", "a"));
    assert_eq!(kept.found, found);
    assert!(kept.ours.contains("\"balance\":20,") && kept.ours.contains("\"_version\":2"));
    assert!(kept.at > 1_600_000_000_000_000, "{}", kept.at);
    // Tried again, also on another connection, it is met again and noted no more.
    let mut other = backend.open();
    other.join([1; 16], 1, 2, &accounts()).unwrap();
    for store in [&mut store, &mut other] {
        let again = store.append(&second).unwrap();
        assert_eq!(again.batch, 2, "nothing was written");
        assert_eq!(only(again), ForeignChange { new: false, ..change.clone() });
        assert_eq!(store.conflicts().unwrap(), conflicts);
    }
    // Put back by hand, it goes on.
    backend.execute("UPDATE accounts SET balance = 10 WHERE key = 'a'");
    assert_eq!(store.append(&second).unwrap().foreign, Vec::new());
    assert_eq!(versions(store.as_mut()), [("a".to_owned(), 2), ("b".to_owned(), 2)]);
    assert_sound(&backend);
}

pub(crate) fn every_kind_of_change_is_met<B: Backend>() {
    let other = "'00000000000000ff'";
    let copied = "INSERT INTO accounts SELECT 'c', balance, name, _version, _hash, _clock, _writer,
                  _seq, _committed_at FROM accounts WHERE key = 'a'";
    for (sql, key, why) in [
        ("UPDATE accounts SET name = 'x' WHERE key = 'a'".to_owned(), "a", "hash"),
        ("UPDATE accounts SET name = NULL WHERE key = 'a'".to_owned(), "a", "NULL"),
        (format!("UPDATE accounts SET _hash = {other} WHERE key = 'a'"), "a", "hash"),
        ("UPDATE accounts SET _hash = 'none' WHERE key = 'a'".to_owned(), "a", "_hash"),
        ("UPDATE accounts SET _version = 9 WHERE key = 'a'".to_owned(), "a", "hash"),
        ("DELETE FROM accounts WHERE key = 'a'".to_owned(), "a", "the row is gone, version 2"),
        (copied.to_owned(), "c", "hash"),
    ] {
        for history in [History::Full, History::Latest] {
            let backend = B::new();
            let catalogue =
                catalogue(vec![table("accounts", &["balance:i64", "name:text(20)"], history)]);
            let mut store = backend.open();
            store.claim(&segment(1), &catalogue).unwrap();
            let mut writer = Writer::new(&catalogue, 1);
            let rows = [1, 2].map(|version| (writer.account("a", version), Known::Nothing));
            store.append(&knowing(&rows)).unwrap();
            backend.execute(&sql);
            let next = [
                (writer.account("a", 3), Known::Version(2)),
                (writer.account("c", 1), Known::Nothing),
            ];
            let change = only(store.append(&knowing(&next)).unwrap());
            assert_eq!(change.key, key, "{sql}");
            assert!(change.why.contains(why), "{sql}: {}", change.why);
            let whole = change.found.is_some() && !sql.contains("NULL");
            assert_eq!(change.payload.is_some(), whole, "{sql}: {change:?}");
            assert_eq!(store.conflicts().unwrap().len(), 1);
        }
    }
}

pub(crate) fn an_older_row_that_is_sound_is_met_too<B: Backend>() {
    let backend = B::new();
    let (mut store, _, mut writer) = claimed(&backend);
    store.append(&knowing(&[(writer.account("a", 1), Known::Nothing)])).unwrap();
    backend.execute("CREATE TABLE older AS SELECT * FROM accounts");
    store.append(&knowing(&[(writer.account("a", 2), Known::Version(1))])).unwrap();
    backend.execute("DELETE FROM accounts; INSERT INTO accounts SELECT * FROM older");
    let change =
        only(store.append(&knowing(&[(writer.account("a", 3), Known::Version(2))])).unwrap());
    assert_eq!(change.why, "version 1 is there, version 2 was stored");
    // A row of which the segment knows nothing, by a writer of another epoch.
    let mut far = Writer::new(&accounts(), 1);
    far.id = WriterId::new(7, 1, 7);
    let backend = B::new();
    let (mut store, ..) = claimed(&backend);
    store.append(&batch(&[far.account("a", 1)])).unwrap();
    let change = only(store.append(&knowing(&[(writer.account("a", 4), Known::Nothing)])).unwrap());
    assert_eq!(change.why, "a row is there, version 1, and none was stored");
    // Nor one of this epoch that is older than its key's deletion: an old row was put back.
    let backend = B::new();
    let (mut store, _, mut writer) = claimed(&backend);
    store.append(&batch(&[writer.account("a", 3)])).unwrap();
    let next = [(writer.account("a", 6), Known::NothingAfter(5))];
    let change = only(store.append(&knowing(&next)).unwrap());
    assert_eq!(change.why, "a row is there, version 3, and none was stored");
    store.append(&batch(&[writer.account("a", 7)])).unwrap();
    let next = [(writer.account("a", 8), Known::NothingAfter(5))];
    assert_eq!(store.append(&knowing(&next)).unwrap().foreign, Vec::new());
}

/// What a copy of the segment stored under the very version is no earlier try.
pub(crate) fn the_version_that_is_sent_with_another_state_is_met<B: Backend>() {
    for history in [History::Full, History::Latest] {
        let backend = B::new();
        let fields = ["balance:i64", "name:text(20)"];
        let catalogue = catalogue(vec![table("accounts", &fields, history)]);
        let mut store = backend.open();
        store.claim(&segment(1), &catalogue).unwrap();
        let mut writer = Writer::new(&catalogue, 1);
        let values = [1, 2].map(|n| [Value::I64(n), Value::Text("x".to_owned())]);
        let [theirs, ours] = values.map(|values| writer.commit("a", 2, Some(&values)));
        store.append(&knowing(&[(writer.account("a", 1), Known::Nothing)])).unwrap();
        store.append(&batch(&[theirs])).unwrap();
        let change = only(store.append(&knowing(&[(ours, Known::Version(1))])).unwrap());
        assert_eq!(change.why, "version 2 is there, version 1 was stored");
    }
}

pub(crate) fn the_other_tables_and_the_marks_go_on<B: Backend>() {
    let backend = B::new();
    let tables = ["accounts", "others"].map(|name| table(name, &["n:i64"], History::Full));
    let catalogue = catalogue(tables.to_vec());
    let mut store = backend.open();
    store.claim(&segment(1), &catalogue).unwrap();
    let mut of_accounts = Writer::new(&catalogue, 1);
    let mut of_others = Writer::new(&catalogue, 1);
    of_others.table = "others".to_owned();
    let n = |n| [Value::I64(n)];
    let mut send = |version, known| {
        let part = |table, row| TableBatch {
            table,
            rows: vec![row],
            known: vec![known],
            floor: version,
            ..TableBatch::default()
        };
        let rows = [&mut of_accounts, &mut of_others].map(|w| w.commit("a", version, Some(&n(5))));
        let [first, second] = rows;
        let tables = vec![part(0, first), part(1, second)];
        let marks = vec![mark(MarkKind::Counter, "n", version as i64)];
        store.append(&Batch { tables, marks, ..Batch::default() }).unwrap()
    };
    assert_eq!(send(1, Known::Nothing).foreign, Vec::new());
    backend.execute("UPDATE accounts SET n = 6");
    let change = only(send(2, Known::Version(1)));
    assert_eq!(change.table, 0);
    assert_eq!(store.marks().unwrap(), [mark(MarkKind::Counter, "n", 2)]);
    let (rows, floor) = super::load(store.as_mut(), 1);
    assert_eq!((rows[0].version, floor), (2, 2));
    backend.execute("UPDATE accounts SET n = 5");
    let (rows, floor) = super::load(store.as_mut(), 0);
    assert_eq!((rows[0].version, floor), (1, 1), "neither rows nor floor of the stopped table");
}

pub(crate) fn what_is_accepted_is_replaced<B: Backend>() {
    for history in [History::Full, History::Latest] {
        let backend = B::new();
        let catalogue =
            catalogue(vec![table("accounts", &["balance:i64", "name:text(20)"], history)]);
        let mut store = backend.open();
        store.claim(&segment(1), &catalogue).unwrap();
        let mut writer = Writer::new(&catalogue, 1);
        let keys = ["changed", "gone", "newer"];
        let first = keys.map(|key| (writer.account(key, 1), Known::Nothing));
        store.append(&knowing(&first)).unwrap();
        backend.execute(
            "UPDATE accounts SET balance = 777 WHERE key = 'changed';
             DELETE FROM accounts WHERE key = 'gone';
             UPDATE accounts SET _version = 100 WHERE key = 'newer'",
        );
        let rows = keys.map(|key| (writer.account(key, 2), Known::Version(1)));
        let met = store.append(&knowing(&rows)).unwrap().foreign;
        assert_eq!(met.iter().map(|c| c.key.as_str()).collect::<Vec<_>>(), keys);
        // The first is adopted as version 3, the others are overwritten.
        let values = [Value::I64(777), Value::Text("changed the 1th".to_owned())];
        let adopted = writer.commit("changed", 3, Some(&values));
        assert_eq!(met[0].payload.as_ref(), Some(&adopted.payload));
        let mut rows = rows.to_vec();
        rows.insert(1, (adopted, Known::Version(1)));
        let mut batch = accepting(knowing(&rows), &met[0], OnForeignChange::Adopt);
        for change in &met[1..] {
            batch = accepting(batch, change, OnForeignChange::Overwrite);
        }
        // What is not among the rows of the batch is left alone.
        let stray = ForeignChange { key: "stray".to_owned(), ..met[1].clone() };
        backend.execute(
            "INSERT INTO accounts SELECT 'stray', balance, name, _version, _hash,
                         _clock, _writer, _seq, _committed_at FROM accounts WHERE key = 'changed'",
        );
        let batch = accepting(batch, &stray, OnForeignChange::Overwrite);
        assert_eq!(store.append(&batch).unwrap().foreign, Vec::new());
        assert_eq!(store.row_count(0).unwrap().current, 4);
        backend.execute("DELETE FROM accounts WHERE key = 'stray'");
        let want = [("changed", 3), ("gone", 2), ("newer", 2)];
        assert_eq!(versions(store.as_mut()), want.map(|(key, v)| (key.to_owned(), v)));
        let done: Vec<_> = store.conflicts().unwrap().into_iter().map(|c| c.policy).collect();
        assert_eq!(done, ["adopt", "overwrite", "overwrite"]);
        assert_sound(&backend);
    }
}

pub(crate) fn what_was_changed_once_more_is_met_once_more<B: Backend>() {
    let backend = B::new();
    let (mut store, _, mut writer) = claimed(&backend);
    store.append(&knowing(&[(writer.account("a", 1), Known::Nothing)])).unwrap();
    let next = knowing(&[(writer.account("a", 2), Known::Version(1))]);
    backend.execute("UPDATE accounts SET balance = 5");
    let first = only(store.append(&next).unwrap());
    backend.execute("UPDATE accounts SET balance = 6");
    let batch = accepting(next.clone(), &first, OnForeignChange::Overwrite);
    let second = only(store.append(&batch).unwrap());
    assert!(second.new && second.found != first.found);
    backend.execute("DELETE FROM accounts");
    let batch = accepting(next.clone(), &second, OnForeignChange::Overwrite);
    let third = only(store.append(&batch).unwrap());
    assert_eq!(third.found, None);
    assert_eq!(store.conflicts().unwrap().last().unwrap().found, "null");
    let batch = accepting(next, &third, OnForeignChange::Overwrite);
    assert_eq!(store.append(&batch).unwrap().foreign, Vec::new());
    let done: Vec<_> = store.conflicts().unwrap().into_iter().map(|c| c.policy).collect();
    assert_eq!(done, ["fail", "fail", "overwrite"]);
    assert_sound(&backend);
}

/// After an unknown outcome the batch, and what was committed since, is sent again: that is no foreign change.
pub(crate) fn an_earlier_try_is_not_foreign<B: Backend>() {
    for history in [History::Full, History::Latest] {
        let backend = B::new();
        let catalogue =
            catalogue(vec![table("accounts", &["balance:i64", "name:text(20)"], history)]);
        let mut store = backend.open();
        store.claim(&segment(1), &catalogue).unwrap();
        let mut writer = Writer::new(&catalogue, 1);
        let mut send = |rows: &[(Row, Known)]| {
            // With latest history only the last version of a key is sent, and its deletion.
            let appended = store.append(&knowing(rows)).unwrap();
            assert_eq!(appended.foreign, Vec::new(), "{rows:?}");
        };
        let [v1, v2, v3] = [1, 2, 3].map(|version| writer.account("a", version));
        let deleted = writer.commit("a", 4, None);
        let again = writer.account("a", 5);
        let full = history == History::Full;
        let step = |rows: &[&Row], known| -> Vec<(Row, Known)> {
            let kept = rows.iter().enumerate();
            let last = |(i, row): &(usize, &&Row)| full || *i + 1 == rows.len() || row.deleted;
            kept.filter(last).map(|(_, row)| ((*row).clone(), known)).collect()
        };
        // Each of the first is stored, and the segment does not know it when it sends the second.
        send(&step(&[&v1], Known::Nothing));
        send(&step(&[&v1, &v2], Known::Nothing));
        send(&step(&[&v1, &v2, &v3], Known::Nothing));
        send(&step(&[&v2, &v3], Known::Version(1)));
        send(&step(&[&v3, &deleted], Known::Version(2)));
        send(&step(&[&v3, &deleted], Known::Version(2)));
        send(&step(&[&deleted, &again], Known::Version(3)));
        // The deletion alone, in a batch that ends between the two.
        send(&step(&[&deleted], Known::Version(3)));
        assert_eq!(versions(store.as_mut()), [("a".to_owned(), 5)]);
        assert_eq!(store.conflicts(), Ok(Vec::new()));
        assert_sound(&backend);
    }
}

pub(crate) fn an_adopted_deletion_is_noted<B: Backend>() {
    let backend = B::new();
    let (mut store, _, mut writer) = claimed(&backend);
    store.append(&knowing(&[(writer.account("a", 1), Known::Nothing)])).unwrap();
    backend.execute("DELETE FROM accounts");
    let second = (writer.account("a", 2), Known::Version(1));
    let change = only(store.append(&knowing(std::slice::from_ref(&second))).unwrap());
    assert_eq!((change.found.clone(), change.payload.clone()), (None, None));
    let rows = [second, (writer.commit("a", 3, None), Known::Version(1))];
    let batch = accepting(knowing(&rows), &change, OnForeignChange::Adopt);
    assert_eq!(store.append(&batch).unwrap().foreign, Vec::new());
    let conflicts = store.conflicts().unwrap();
    assert_eq!((conflicts.len(), conflicts[0].policy.as_str()), (1, "adopt"));
    assert_sound(&backend);
}

pub(crate) fn what_both_deleted_is_deleted<B: Backend>() {
    let backend = B::new();
    let (mut store, _, mut writer) = claimed(&backend);
    store.append(&knowing(&[(writer.account("a", 1), Known::Nothing)])).unwrap();
    backend.execute("DELETE FROM accounts");
    let deleted = knowing(&[(writer.commit("a", 2, None), Known::Version(1))]);
    assert_eq!(store.append(&deleted).unwrap().foreign, Vec::new());
    assert_eq!(store.row_count(0).unwrap().history, 2);
    assert_sound(&backend);
}

/// What is found is kept as what it is, whatever its type.
pub(crate) fn every_type_is_kept_as_json<B: Backend>() {
    let fields = ["i:i64", "f:f64", "b:bool", "t:text(40)", "x:bytes(40)", "j:json(60)"];
    let backend = B::new();
    let catalogue = catalogue(vec![table("everything", &fields, History::Latest)]);
    let mut store = backend.open();
    store.claim(&segment(1), &catalogue).unwrap();
    let mut writer = Writer::new(&catalogue, 1);
    let mut values = [
        Value::I64(i64::MIN),
        Value::F64(0.1),
        Value::Bool(true),
        Value::Text("grüße \"q\"\n".to_owned()),
        Value::Bytes(vec![0, 255]),
        Value::Json("{\"a\": [1, 2]}".to_owned()),
    ];
    store.append(&knowing(&[(writer.commit("k", 1, Some(&values)), Known::Nothing)])).unwrap();
    backend.execute("UPDATE everything SET i = 5");
    let next = knowing(&[(writer.commit("k", 2, Some(&values)), Known::Version(1))]);
    let change = only(store.append(&next).unwrap());
    let rest =
        "\"f\":0.1,\"b\":true,\"t\":\"grüße \\\"q\\\"\\n\",\"x\":\"00ff\",\"j\":{\"a\": [1, 2]},";
    let found = change.found.unwrap();
    assert!(
        found.starts_with(&format!("{{\"key\":\"k\",\"i\":5,{rest}\"_version\":1,")),
        "{found}"
    );
    let ours = &store.conflicts().unwrap()[0].ours;
    let begin = format!("{{\"key\":\"k\",\"i\":{},{rest}\"_version\":2,", i64::MIN);
    assert!(ours.starts_with(&begin), "{ours}");
    values[0] = Value::I64(5);
    assert_eq!(change.payload, Some(writer.commit("k", 1, Some(&values)).payload));
}
