//! What the audit and the script find when somebody with write access changes something.

use commonhold_core::catalogue::History;
use commonhold_core::value::Value;
use commonhold_store::{Audit, Check};

use super::{Backend, Writer, assert_sound, batch, catalogue, claimed, segment, table};

/// The rows, in the order of positions: `a` 1 to 4, `b` 1, deleted, 3, `c` 1, by two writers.
///
/// | position | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 |
/// | --- | --- | --- | --- | --- | --- | --- | --- | --- |
/// | row | a 1 | b 1 | a 2 | c 1 | b 2 deleted | a 3 | b 3 | a 4 |
fn stored<B: Backend>() -> B {
    let backend = B::new();
    let (mut store, _, mut one) = claimed(&backend);
    let mut two = Writer::new(&super::accounts(), 2);
    let rows = [
        one.account("a", 1),
        two.account("b", 1),
        two.account("a", 2),
        one.account("c", 1),
        two.commit("b", 2, None),
        one.account("a", 3),
        one.account("b", 3),
        one.account("a", 4),
    ];
    store.append(&batch(&rows[..3])).unwrap();
    store.append(&batch(&rows[3..])).unwrap();
    backend
}

/// The store after `sql`, as audit and script see it. Both must find something.
fn after<B: Backend>(sql: &str) -> (Audit, String) {
    let backend = stored::<B>();
    backend.execute(sql);
    let audit = backend.open_read_only().audit().unwrap();
    let (ok, text) = backend.script();
    assert!(!audit.ok(), "the audit finds nothing after {sql}");
    assert!(!ok, "the script finds nothing after {sql}");
    (audit, text)
}

fn texts(audit: &Audit) -> Vec<&str> {
    audit.findings().map(|f| f.text.as_str()).collect()
}

/// Asserts that audit and script name `what`, and the audit for the reason `check`.
fn assert_named(found: &(Audit, String), check: Check, what: &str) {
    let (audit, script) = found;
    let named = audit.findings().any(|f| f.check == check && f.text.contains(what));
    assert!(named, "{check:?} {what}: {:#?}", texts(audit));
    assert!(script.contains(what), "{what}: {script}");
}

pub(crate) fn a_sound_store_has_no_findings<B: Backend>() {
    let backend = stored::<B>();
    assert_sound(&backend);
    let audit = backend.open_read_only().audit().unwrap();
    let t = &audit.tables[0];
    assert_eq!((t.rows, t.history_rows, t.keys, t.writers), (3, 8, 3, 2));
    assert!(audit.holds(Check::Links) && audit.total() == 0);
    let (_, text) = backend.script();
    assert!(text.starts_with("8 history rows in 1 tables"), "{text}");
    // An unused store is sound too.
    let empty = B::new();
    claimed(&empty);
    assert_sound(&empty);
}

pub(crate) fn every_changed_column_is_found_and_named<B: Backend>() {
    let changes = [
        "balance = 21",
        "balance = NULL",
        "name = 'A the 2th'",
        "_hash = '0000000000000000'",
        "_hash = upper(_hash)",
        "_clock = '2,1,18446744073709551614'",
        "_clock = '2,1'",
        "_clock = 'x'",
        "_writer = '1-1-7'",
        "_writer = 'x'",
        "_seq = 9",
        "_seq = -1",
        "_committed_at = _committed_at + 1",
    ];
    let deleted = format!("_deleted = {}", B::TYPES.yes);
    let loose = if B::TYPES.loose { &["balance = 'x'", "_deleted = 2"][..] } else { &[] };
    for change in changes.iter().chain([&deleted.as_str()]).chain(loose) {
        let sql = format!("UPDATE accounts_history SET {change} WHERE key = 'a' AND _version = 2");
        let found = after::<B>(&sql);
        // Each column is under the link, so the script names the row whatever the column.
        let (audit, script) = &found;
        let name = "version 2";
        let links: Vec<_> = audit.findings().filter(|f| f.check == Check::Links).collect();
        assert_eq!(links.len(), 1, "{change}: the row and no other: {:#?}", texts(audit));
        assert!(links[0].text.contains("key \"a\" version 2"), "{change}: {}", links[0].text);
        assert!(script.contains("key 'a' version 2 at position 3: its link"), "{script}");
        assert_eq!(script.matches("its link").count(), 1, "{change}: {script}");
        assert!(texts(audit).iter().any(|t| t.contains(name)), "{:#?}", texts(audit));
    }
    for (change, name) in [("key = 'z'", "\"z\" version 2"), ("_version = 9", "\"a\" version 9")] {
        let sql = format!("UPDATE accounts_history SET {change} WHERE _position = 3");
        let (audit, script) = after::<B>(&sql);
        assert!(texts(&audit)[0].contains(name), "{:#?}", texts(&audit));
        assert!(!audit.holds(Check::Versions) && !audit.holds(Check::Hashes));
        assert!(script.contains("at position 3: its link"), "{script}");
    }
}

pub(crate) fn a_changed_link_is_named_once<B: Backend>() {
    for (position, name) in [(1, "\"a\" version 1"), (5, "\"b\" version 2"), (8, "\"a\" version 4")]
    {
        for link in ["replace(_link, substr(_link, 1, 8), '00000000')", "upper(_link)", "'x'"] {
            let sql =
                format!("UPDATE accounts_history SET _link = {link} WHERE _position = {position}");
            let (audit, script) = after::<B>(&sql);
            let texts = texts(&audit);
            assert!(texts.iter().all(|t| t.contains(name)), "{texts:#?}");
            assert!(script.contains(&format!("at position {position}: its link")), "{script}");
            assert_eq!(script.lines().count(), 1, "{script}");
        }
    }
}

pub(crate) fn a_removed_row_is_named<B: Backend>() {
    let remove = |n: u8| format!("DELETE FROM accounts_history WHERE _position = {n}");
    // In the middle of a key: by position, by version, by the writer's sequence.
    let (audit, script) = after::<B>(&remove(3));
    let texts = texts(&audit);
    assert!(texts[0].contains("position 3 is missing, between key \"b\" version 1"), "{texts:#?}");
    assert!(texts.iter().any(|t| t.contains("key \"a\": version 2 is missing")), "{texts:#?}");
    assert!(texts.iter().any(|t| t.contains("writer 1-2-7: sequence 2 is missing")), "{texts:#?}");
    assert!(audit.holds(Check::Links), "the rows after it are not accused: {texts:#?}");
    assert!(script.contains("position 3 was due"), "{script}");
    assert!(script.contains("'a' version 3 at position 6: it follows version 1"), "{script}");
    // The first row.
    let (audit, script) = after::<B>(&remove(1));
    let first = self::texts(&audit)[0];
    assert!(first.contains("position 1 is missing, between at the start"), "{first}");
    assert!(script.contains("position 1 was due"), "{script}");
    // A deletion: the record that came back is then one that jumped.
    let (audit, _) = after::<B>(&remove(5));
    let texts = self::texts(&audit);
    assert!(texts.iter().any(|t| t.contains("key \"b\": version 2 is missing")), "{texts:#?}");
}

pub(crate) fn a_cut_tail_is_found<B: Backend>() {
    let cut = "DELETE FROM accounts_history WHERE _position > 6;";
    let (audit, script) = after::<B>(cut);
    let texts = texts(&audit);
    assert!(texts[0].contains("position 7 to 8 are missing: the tail is cut"), "{texts:#?}");
    let ends = "key \"a\" has version 4; accounts_history ends with version 3";
    assert!(texts.iter().any(|t| t.contains(ends)), "{texts:#?}");
    assert!(script.contains("ends at position 6; the meta table counts 8"), "{script}");
    assert!(script.contains("key 'a' is not what its history ends with"), "{script}");
    // The same with T brought in line: count and head still tell.
    let last = "DELETE FROM accounts_history WHERE _position = 8;
        DELETE FROM accounts WHERE key = 'a';
        INSERT INTO accounts SELECT key, balance, name, _version, _hash, _clock, _writer, _seq,
            _committed_at FROM accounts_history WHERE key = 'a' AND _version = 3;";
    let (audit, script) = after::<B>(last);
    assert_eq!(self::texts(&audit).len(), 1, "{:#?}", self::texts(&audit));
    assert!(self::texts(&audit)[0].contains("position 8 is missing: the tail is cut"));
    assert!(script.contains("ends at position 7; the meta table counts 8"), "{script}");
    // And with the count lowered: the head tells.
    let count =
        format!("{last} UPDATE commonhold_meta SET value = '7' WHERE key = 'count:accounts'");
    let found = after::<B>(&count);
    assert!(self::texts(&found.0)[0].contains("the link of key \"b\" version 3"));
}

pub(crate) fn a_removed_key_is_found<B: Backend>() {
    let history = "DELETE FROM accounts_history WHERE key = 'c';";
    let found = after::<B>(history);
    assert_named(&found, Check::Current, "accounts: key");
    let texts = texts(&found.0);
    let named = "key \"c\" version 1 (writer 1-1-7, sequence 2) has no row";
    assert!(texts.iter().any(|t| t.contains(named)), "{texts:#?}");
    // With its row of T: the position and the writer's sequence are left to tell.
    let (audit, script) = after::<B>(&format!("{history} DELETE FROM accounts WHERE key = 'c'"));
    let texts = self::texts(&audit);
    assert_eq!(texts.len(), 2, "{texts:#?}");
    assert!(texts[0].contains("position 4 is missing"), "{texts:#?}");
    assert!(texts[1].contains("writer 1-1-7: sequence 2 is missing"), "{texts:#?}");
    assert!(script.contains("position 4 was due"), "{script}");
}

pub(crate) fn an_inserted_row_is_named<B: Backend>() {
    let (no, two) = (B::TYPES.no, B::TYPES.two);
    let copy = |position: &str| {
        format!(
            "{two} INSERT INTO accounts_history SELECT 'd', balance, name, _version, _hash, _clock,
                _writer, 5, _committed_at, {no}, {position}, _link
             FROM accounts_history WHERE _position = 1"
        )
    };
    // At the end, within, and before the start.
    for (position, check) in [("9", Check::Links), ("4", Check::Links), ("0", Check::Positions)] {
        let (audit, script) = after::<B>(&copy(position));
        let named = format!("key \"d\" version 1 at position {position}");
        let found = audit.findings().any(|f| f.check == check && f.text.contains(&named));
        assert!(found, "{:#?}", texts(&audit));
        let others = audit.findings().filter(|f| f.check == Check::Links);
        assert!(others.into_iter().all(|f| f.text.contains("\"d\"")), "{:#?}", texts(&audit));
        assert!(script.contains("key 'd' version 1"), "{script}");
        assert!(!audit.holds(Check::Hashes) && !audit.holds(Check::Current));
    }
    // Moved onto another's position and read before it: the true one and what follows it are not accused.
    let moved = format!("{two} UPDATE accounts_history SET _position = 4 WHERE _position = 2");
    let (audit, _) = after::<B>(&moved);
    let links: Vec<_> = audit.findings().filter(|f| f.check == Check::Links).collect();
    assert_eq!(links.len(), 1, "{:#?}", texts(&audit));
    assert!(links[0].text.contains("key \"b\" version 1 at position 4"), "{}", links[0].text);
    assert!(texts(&audit)[0].contains("position 2 is missing"), "{:#?}", texts(&audit));
}

pub(crate) fn swapped_rows_are_named<B: Backend>() {
    let swap = "UPDATE accounts_history SET _position = 99 WHERE _position = 3;
        UPDATE accounts_history SET _position = 3 WHERE _position = 4;
        UPDATE accounts_history SET _position = 4 WHERE _position = 99;";
    let found = after::<B>(swap);
    let texts = texts(&found.0);
    for name in [
        "key \"a\" version 2 at position 4: its link",
        "key \"c\" version 1 at position 3: its link",
    ] {
        assert!(texts.iter().any(|t| t.contains(name)), "{texts:#?}");
    }
    assert!(found.1.contains("'a' version 2 at position 4: its link"), "{}", found.1);
}

pub(crate) fn a_changed_current_row_is_named<B: Backend>() {
    for change in ["balance = 1", "name = ''", "_committed_at = 0", "_seq = 1", "_writer = '1-1-1'"]
    {
        let sql = format!("UPDATE accounts SET {change} WHERE key = 'b'");
        let (audit, script) = after::<B>(&sql);
        let text = "accounts: key \"b\" version 3 differs from the same version";
        assert!(texts(&audit).iter().any(|t| t.contains(text)), "{change}: {:#?}", texts(&audit));
        assert_eq!(script, "accounts: key 'b' is not what its history ends with\n");
    }
    let (audit, script) = after::<B>("DELETE FROM accounts WHERE key = 'b'");
    assert!(texts(&audit)[0].contains("key \"b\" is missing"), "{:#?}", texts(&audit));
    assert!(script.contains("key 'b'"), "{script}");
    let insert =
        "INSERT INTO accounts SELECT 'bb', balance, name, _version, _hash, _clock, _writer,
        _seq, _committed_at FROM accounts WHERE key = 'c'";
    let (audit, script) = after::<B>(insert);
    assert!(texts(&audit).iter().any(|t| t.contains("key \"bb\" version 1 (writer")));
    assert!(script.contains("key 'bb'"), "{script}");
}

pub(crate) fn a_history_recomputed_without_its_head_is_found<B: Backend>() {
    let (audit, script) =
        after::<B>("UPDATE commonhold_meta SET value = '9' WHERE key = 'count:accounts'");
    assert!(texts(&audit)[0].contains("position 9 is missing"), "{:#?}", texts(&audit));
    assert!(script.contains("the meta table counts 9"), "{script}");
    let zeros = "0".repeat(64);
    let zeros = format!("UPDATE commonhold_meta SET value = '{zeros}' WHERE key = 'link:accounts'");
    let (audit, _) = after::<B>(&zeros);
    assert!(texts(&audit)[0].contains("not the head in the meta table"), "{:#?}", texts(&audit));
    let (audit, _) = after::<B>("DELETE FROM commonhold_meta WHERE key = 'link:accounts'");
    assert!(!audit.holds(Check::Layout), "{:#?}", texts(&audit));
}

/// Rows that the store itself chained, so that links hold and only the other checks can find what is wrong.
pub(crate) fn wrong_rows_with_right_links_are_found<B: Backend>() {
    let sound = |writer: &mut Writer| [writer.account("a", 1), writer.account("a", 2)];
    type Spoil = fn(&mut [commonhold_core::row::Row; 2]);
    let cases: [(Check, &str, Spoil); 7] = [
        (Check::Hashes, "version 2 at position 2: its hash", |r| r[1].hash ^= 1),
        (Check::Clocks, "version 2 at position 2: its clock", |r| r[1].clock = r[0].clock.clone()),
        (Check::Clocks, "version 2 at position 2: its clock", |r| r[1].clock[0] = 0),
        (Check::Versions, "version 2 is missing", |r| r[1].version = 3),
        (Check::Unique, "another version has the same hash", |r| r[1].hash = r[0].hash),
        (Check::Writers, "sequence 1 is missing", |r| {
            r[0].sequence = 3;
        }),
        (Check::Writers, "has sequence 1 already", |r| r[1].sequence = 1),
    ];
    for (check, want, spoil) in cases {
        let backend = B::new();
        let (mut store, _, mut writer) = claimed(&backend);
        let mut rows = sound(&mut writer);
        spoil(&mut rows);
        store.append(&batch(&rows)).unwrap();
        let audit = store.audit().unwrap();
        let named = audit.findings().any(|f| f.check == check && f.text.contains(want));
        assert!(named, "{check:?} {want}: {:#?}", texts(&audit));
        assert!(audit.holds(Check::Links) && audit.holds(Check::Positions));
        let seen_by_script = [Check::Hashes, Check::Versions, Check::Unique].contains(&check);
        assert_eq!(backend.script().0, !seen_by_script, "{check:?}");
    }
}

pub(crate) fn latest_tables_are_audited_too<B: Backend>() {
    let backend = B::new();
    let latest = catalogue(vec![table("t", &["n:i64"], History::Latest)]);
    let mut store = backend.open();
    store.claim(&segment(1), &latest).unwrap();
    let mut writer = Writer::new(&latest, 1);
    let rows: Vec<_> = ["x", "y"].map(|k| writer.commit(k, 4, Some(&[Value::I64(1)]))).to_vec();
    store.append(&batch(&rows)).unwrap();
    assert!(store.audit().unwrap().ok());
    backend.execute("UPDATE t SET n = 2 WHERE key = 'y'");
    let audit = store.audit().unwrap();
    assert_eq!(texts(&audit), ["t: key \"y\" version 4: its hash is not the one of its columns"]);
    assert_eq!(audit.tables[0].rows, 2);
}

pub(crate) fn a_missing_table_is_a_finding<B: Backend>() {
    for (sql, want) in [
        ("DROP TABLE accounts_history", "accounts_history: the table is missing"),
        ("DROP TABLE accounts", "accounts: the table is missing"),
        ("ALTER TABLE accounts RENAME COLUMN name TO nom", "accounts: column 3 is `nom`"),
    ] {
        let backend = stored::<B>();
        backend.execute(sql);
        let audit = backend.open_read_only().audit().unwrap();
        assert!(texts(&audit)[0].starts_with(want), "{:#?}", texts(&audit));
        assert!(!audit.holds(Check::Layout));
    }
}
