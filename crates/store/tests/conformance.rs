//! The conformance suite of `Store`, run on every database: each implements [`suite::Backend`].
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod suite;

use std::path::{Path, PathBuf};
use std::process::Command;

use commonhold_testing::postgres::Database;
use suite::{Backend, Types};

/// A SQLite file in a folder of its own.
struct Sqlite {
    folder: tempfile::TempDir,
}

impl Sqlite {
    fn path(&self) -> PathBuf {
        self.folder.path().join("store.db")
    }
}

/// Whether a script of the repository is content, and what it prints.
fn python(script: &str, arguments: &[&Path]) -> (bool, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts").join(script);
    let output = Command::new("python3").arg(script).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(errors, "", "the script must not break");
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

impl Backend for Sqlite {
    const TYPES: Types =
        Types { integer: "INTEGER", real: "REAL", no: "0", yes: "1", loose: true, two: "" };

    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn url(&self) -> String {
        // No case pulls the plug, so none needs the syncs.
        format!("sqlite:{}?synchronous=normal", self.path().display())
    }

    fn execute(&self, sql: &str) {
        rusqlite::Connection::open(self.path()).unwrap().execute_batch(sql).unwrap();
    }

    fn script(&self) -> (bool, String) {
        python("verify_history.py", &[&self.path()])
    }
}

/// A database of a PostgreSQL server.
struct Postgres(Database);

impl Backend for Postgres {
    const TYPES: Types = Types {
        integer: "bigint",
        real: "double precision",
        no: "false",
        yes: "true",
        loose: false,
        two: "ALTER TABLE accounts_history DROP CONSTRAINT accounts_history__position_key;",
    };

    fn new() -> Self {
        Self(Database::new())
    }

    fn url(&self) -> String {
        self.0.url()
    }

    fn execute(&self, sql: &str) {
        self.0.sql(sql);
    }

    fn script(&self) -> (bool, String) {
        let folder = tempfile::tempdir().unwrap();
        let (url, copy) = (self.0.url(), folder.path().join("copy.db"));
        assert!(python("postgres_to_sqlite.py", &[Path::new(&url), &copy]).0);
        python("verify_history.py", &[&copy])
    }
}

macro_rules! on_every_database {
    ($($module:ident: $($case:ident),+;)+) => {
        mod sqlite {
            $(mod $module {
                $(#[test]
                fn $case() {
                    crate::suite::$module::$case::<crate::Sqlite>();
                })+
            })+
        }
        mod postgres {
            $(mod $module {
                $(#[test]
                fn $case() {
                    crate::suite::$module::$case::<crate::Postgres>();
                })+
            })+
        }
    };
}

on_every_database! {
    protocol:
        a_claim_raises_the_epoch_and_joins_are_checked,
        an_owner_that_was_replaced_is_fenced_out,
        every_type_comes_back_as_it_was,
        rows_sent_again_are_recognised,
        a_version_with_another_state_is_a_conflict,
        a_batch_is_written_whole_or_not_at_all,
        an_older_version_never_replaces_a_newer_one,
        a_deleted_record_goes_and_may_come_back,
        the_floor_only_rises,
        a_restart_finds_everything,
        latest_history_keeps_the_last_version_only,
        a_table_may_begin_its_history_later,
        a_table_keeps_its_history,
        a_schema_that_differs_is_refused_by_column,
        tables_of_other_catalogues_are_left_alone,
        rows_that_are_none_are_refused,
        a_changed_row_is_not_loaded,
        sequences_and_counts,
        the_history_of_a_key_comes_in_order;
    marks:
        ids_only_rise_and_counters_are_set,
        marks_stay_when_the_owner_changes,
        a_mark_that_is_no_number_is_named;
    owner:
        the_owner_says_its_machine,
        a_take_over_fences_the_owner_off,
        batches_are_numbered,
        a_store_that_was_rolled_back_is_refused,
        a_copy_of_the_owner_is_refused,
        a_claim_is_of_the_owner_that_was_looked_at,
        a_later_format_is_refused,
        what_is_not_there_is_not_made;
    foreign:
        a_changed_row_stops_its_table_and_is_kept,
        every_kind_of_change_is_met,
        an_older_row_that_is_sound_is_met_too,
        the_version_that_is_sent_with_another_state_is_met,
        the_other_tables_and_the_marks_go_on,
        what_is_accepted_is_replaced,
        what_was_changed_once_more_is_met_once_more,
        an_earlier_try_is_not_foreign,
        an_adopted_deletion_is_noted,
        what_both_deleted_is_deleted,
        every_type_is_kept_as_json;
    audit:
        a_sound_store_has_no_findings,
        every_changed_column_is_found_and_named,
        a_changed_link_is_named_once,
        a_removed_row_is_named,
        a_cut_tail_is_found,
        a_removed_key_is_found,
        an_inserted_row_is_named,
        swapped_rows_are_named,
        a_changed_current_row_is_named,
        a_history_recomputed_without_its_head_is_found,
        wrong_rows_with_right_links_are_found,
        latest_tables_are_audited_too,
        a_missing_table_is_a_finding;
}

macro_rules! between {
    ($($pair:ident: $from:ty => $to:ty;)+) => {
        $(mod $pair {
            between!(@cases $from, $to:
                a_copy_holds_everything,
                a_copy_that_was_broken_off_goes_on,
                what_is_gone_from_the_source_meanwhile_is_not_in_the_copy,
                of_two_copies_at_once_the_first_is_fenced_off,
                only_an_empty_store_is_a_target,
                what_is_no_copy_is_found);
        })+
    };
    (@cases $from:ty, $to:ty: $($case:ident),+) => {
        $(#[test]
        fn $case() {
            crate::suite::transfer::$case::<$from, $to>();
        })+
    };
}

between! {
    from_sqlite_to_sqlite: crate::Sqlite => crate::Sqlite;
    from_sqlite_to_postgres: crate::Sqlite => crate::Postgres;
    from_postgres_to_sqlite: crate::Postgres => crate::Sqlite;
    from_postgres_to_postgres: crate::Postgres => crate::Postgres;
}
