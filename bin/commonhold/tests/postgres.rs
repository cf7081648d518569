//! What is particular to a store on a PostgreSQL server.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use common::World;
use commonhold_testing::postgres::Database;

#[test]
fn nothing_is_made_by_a_mistyped_name() {
    let (world, database) = (World::new(), Database::new());
    let url = format!("{}&schema=typo", database.url());
    for (line, why) in [
        (&["get", "t", "a"][..], "create a table first"),
        (&["set", "t", "a", "n=1"], "create a table first"),
        (&["verify"], "not a commonhold store"),
        (&["take-over"], "not a commonhold store"),
        (&["export", "sqlite:copy.db"], "not a commonhold store"),
    ] {
        world.fails(&[line, &["--store", &url]].concat(), 1, why);
    }
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = 'typo'";
    assert_eq!(database.sql(schemas), "0\n");
    assert!(!world.path("copy.db").exists());
}
