//! Bad input of every kind ends with one line and an exit code, and nothing is lost.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::path::Path;

use common::{SMALL, World, ran};

#[test]
fn what_the_command_line_alone_shows_is_usage() {
    let world = World::new();
    let table: [(&[&str], &str); 17] = [
        (&["git"], "unrecognized subcommand"),
        (&["set", "counters"], "required arguments"),
        (&["set", "counters", "a", "n"], "write field=value"),
        (&["add", "counters", "a", "=5"], "write field=value"),
        (&["add", "counters", "a", "n=1", "--require", "n5"], "not a requirement"),
        (&["wait", "counters", "a", "<=5"], "names no field"),
        (&["wait", "counters", "a", "--timeout", "5d"], "for instance 10s"),
        (&["get", "counters", "a", "--if-version", "1"], "unexpected argument"),
        (&["create", "t", "--field", "n:i65"], "not a type"),
        (&["create", "T", "--field", "n:i64"], "cannot be a name"),
        (&["create", "t", "--field", "n:i64", "--slots", "0"], "not in 1.."),
        (&["counter", "orders", "--add", "1.5"], "invalid digit"),
        (&["counter", "orders", "--durable"], "required arguments"),
        (&["ids", "nodes", "--count", "0"], "not in 1..=1000000"),
        (&["create", "t"], "name its fields"),
        (&["create"], "name a table"),
        (&["get", "t", "a", "--store", "mysql://x"], "unknown scheme"),
    ];
    for (line, why) in table {
        world.fails(line, 2, why);
    }
    assert_eq!(std::fs::read_dir(world.path("")).unwrap().count(), 0, "nothing was made");
}

#[test]
fn no_message_shows_a_password() {
    let world = World::new();
    for url in [
        "postgres://app:secret@h:x/d",
        "postgres://app:secret@h/d?what=1",
        "postgres://app@h/d?passwd=secret",
        "postgre://app:secret@h/d",
        "psql://app:se cret@h/d",
        "postgres:app:secret@h/d",
    ] {
        let (option, shown) = (format!("--store={url}"), "h");
        for line in [
            &["get", "t", "a", "--store", url][..],
            &["get", "t", "a", &option],
            &["export", url],
            &["verify", url],
            &["verify", "--nonsense", url],
            &["verify", &format!("--nonsense={url}")],
        ] {
            let ran = world.run(line);
            ran.failed(2, shown);
            assert!(!ran.stderr.contains("cret"), "{line:?}: {}", ran.stderr);
        }
        let mut command = world.command(&["get", "t", "a"]);
        command.env("COMMONHOLD_STORE", url);
        let ran = ran(command);
        ran.failed(2, "--store");
        assert!(!ran.stderr.contains("cret"), "{}", ran.stderr);
    }
}

#[test]
fn a_segment_that_cannot_be_made_anew_is_not_removed() {
    let world = World::with_counters();
    world.ok(&["set", "counters", "a", "n=5"]);
    std::fs::rename(world.path("store.db"), world.path("aside")).unwrap();
    let more = ["create", "more", "--field", "n:i64"];
    world.fails(&more, 1, "no such file");
    assert_eq!(world.ok(&["get", "counters", "a", "n"]), "n=5\n");
    std::fs::rename(world.path("aside"), world.path("store.db")).unwrap();
    world.ok(&more);
    assert_eq!(world.ok(&["get", "counters", "a", "n"]), "n=5\n");
}

#[test]
fn what_the_segment_refuses_is_a_failure() {
    let world = World::with_counters();
    world.ok(&["set", "counters", "a", "n=5", "name=before"]);
    let long_key = "k".repeat(49);
    let table: [(&[&str], &str); 13] = [
        (&["get", "nope", "a"], "no table `nope`"),
        (&["dump", "nope"], "no table `nope`"),
        (&["history", "nope", "a"], "no table `nope`"),
        (&["set", "counters", "a", "m=1"], "no field `m` (it has: n, name)"),
        (&["get", "counters", "a", "m"], "no field `m`"),
        (&["set", "counters", "a", "n=x"], "not a value of type i64"),
        (&["set", "counters", "a", "n=9223372036854775808"], "not a value of type i64"),
        (&["add", "counters", "a", "name=x"], "number to add"),
        (&["add", "counters", "a", "n=9223372036854775807"], "does not fit"),
        (&["set", "counters", "a", "n=1", "name=0123456789abc"], "13 bytes do not fit in 12"),
        (&["set", "counters", &long_key, "n=1"], "a key of 49 bytes"),
        (&["set", "counters", "", "n=1"], "a key of 0 bytes"),
        (&["wait", "counters", "a", "n>=x"], "not a value of type i64"),
    ];
    for (line, why) in table {
        world.fails(line, 1, why);
    }
    assert_eq!(world.ok(&["get", "counters", "a"]), "n=5\nname=before\n_version=1\n");
    assert_eq!(world.ok(&["dump", "counters"]).lines().count(), 2);
}

#[test]
fn a_counter_refuses_a_sum_that_does_not_fit() {
    let world = World::with_counters();
    let most = i64::MAX.to_string();
    world.ok(&["counter", "orders", "--add", &most]);
    world.fails(
        &["counter", "orders", "--add", "1"],
        1,
        "does not fit in 64 bits; nothing was added",
    );
    assert_eq!(world.ok(&["counter", "orders"]), format!("{most}\n"));
    world.fails(&["counter", "", "--add", "1"], 1, "it is empty");
    world.fails(&["ids", &"n".repeat(65)], 1, "the name has 65 bytes; at most 64 fit");
}

#[test]
fn numbers_that_no_database_returns_are_refused() {
    let world = World::new();
    let fields = ["create", "t", "--field", "f:f64", "--field", "u:u64", "--field", "j:json(9)"];
    world.ok(&[&fields[..], &SMALL[..]].concat());
    for (value, why) in [
        ("f=NaN", "not a finite number"),
        ("f=inf", "not a finite number"),
        ("u=9223372036854775808", "2^63 or more"),
        ("u=-1", "not a value of type u64"),
        ("j={", "not valid JSON"),
    ] {
        world.fails(&["set", "t", "a", value], 1, why);
    }
    world.ok(&["set", "t", "a", "f=1e308"]);
    world.fails(&["add", "t", "a", "f=1e308"], 1, "not a finite number");
    assert_eq!(world.ok(&["get", "t", "a", "u"]), "u=0\n");
}

#[test]
fn a_full_table_says_what_to_raise() {
    let world = World::new();
    let create = ["create", "t", "--field", "n:i64", "--participants=8", "--slots=2", "--cells=40"];
    world.ok(&create);
    world.ok(&["set", "t", "a", "n=1"]);
    world.ok(&["set", "t", "b", "n=2"]);
    world.fails(&["set", "t", "c", "n=3", "--room-wait", "1ms"], 1, "raise `slots`");
    world.ok(&["add", "t", "a", "n=1"]);
    assert_eq!(world.ok(&["dump", "t"]), "key,n\na,2\nb,2\n");
    world.ok(&["create", "t", "--slots", "3"]);
    world.ok(&["set", "t", "c", "n=3"]);
    world.ok(&["verify"]);
}

#[test]
fn nothing_to_open_makes_nothing() {
    let world = World::new();
    for line in [&["get", "t", "a"][..], &["set", "t", "a", "n=1"], &["dump", "t"], &["watch", "t"]]
    {
        world.fails(line, 1, "create a table first");
    }
    for line in [&["inspect"][..], &["destroy"], &["drain"], &["sweep"]] {
        let ran = world.run(line);
        ran.failed(1, "no segment");
    }
    world.fails(&["verify"], 1, "no such file");
    assert_eq!(std::fs::read_dir(world.path("")).unwrap().count(), 0);
}

/// A segment file as words, and the way back, with the checksum made right.
struct Words(Vec<u64>);

impl Words {
    fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        Self(bytes.chunks(8).map(|c| u64::from_le_bytes(c.try_into().unwrap())).collect())
    }

    fn write(&self, path: &Path) {
        let bytes: Vec<u8> = self.0.iter().flat_map(|w| w.to_le_bytes()).collect();
        std::fs::write(path, bytes).unwrap();
    }

    fn seal(mut self) -> Self {
        let catalogue_bytes = (self.0[9] >> 32) as usize;
        let header = self.0[..511].iter().flat_map(|w| w.to_le_bytes());
        let catalogue = self.0[512..].iter().flat_map(|w| w.to_le_bytes()).take(catalogue_bytes);
        let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        self.0[511] = header.chain(catalogue).fold(0xcbf2_9ce4_8422_2325, fnv);
        self
    }
}

#[test]
fn an_unfit_segment_file_is_refused_and_the_store_has_the_records() {
    type Spoil = fn(&Path);
    let spoils: [(&str, Spoil, &str); 4] = [
        (
            "truncated",
            |path| {
                let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
                file.set_len(8192).unwrap();
            },
            "it is truncated: 8192 bytes",
        ),
        (
            "damaged",
            |path| {
                let mut words = Words::read(path);
                words.0[40] ^= 4;
                words.write(path);
            },
            "its header is damaged",
        ),
        (
            "of another format",
            |path| {
                let mut words = Words::read(path);
                words.0[1] += 1;
                words.seal().write(path);
            },
            "its format is 5",
        ),
        (
            "of another boot",
            |path| {
                let mut words = Words::read(path);
                words.0[5] ^= 1;
                words.seal().write(path);
            },
            "before the machine's last start",
        ),
    ];
    for (name, spoil, why) in spoils {
        let world = World::with_counters();
        world.ok(&["set", "counters", "a", "n=5"]);
        spoil(&world.path("segment"));
        for line in [
            &["get", "counters", "a"][..],
            &["add", "counters", "a", "n=1"],
            &["drain"],
            &["destroy"],
        ] {
            world.fails(line, 1, why);
        }
        // The audit needs no segment.
        world.ok(&["verify"]);
        world.ok(&["destroy", "--force"]);
        assert_eq!(world.ok(&["get", "counters", "a", "n"]), "n=5\n", "{name}");
    }
}

#[test]
fn a_foreign_file_is_left_alone() {
    for content in [vec![], b"hello\n".to_vec(), vec![7; 9000]] {
        let world = World::new();
        std::fs::write(world.path("segment"), &content).unwrap();
        for line in [
            &["get", "t", "a"][..],
            &["create", "t", "--field", "n:i64"],
            &["inspect"],
            &["destroy"],
            &["destroy", "--force"],
        ] {
            let ran = world.run(line);
            ran.failed(1, "it is not a");
        }
        assert_eq!(std::fs::read(world.path("segment")).unwrap(), content);
        assert_eq!(std::fs::read_dir(world.path("")).unwrap().count(), 1, "and nothing beside it");
    }
}

#[test]
fn a_store_belongs_to_one_segment_and_one_schema() {
    let world = World::with_counters();
    world.ok(&["set", "counters", "a", "n=5"]);
    // Another segment, while the first is there.
    let other = world.text_path("other");
    let create = ["create", "u", "--field", "n:i64", "--segment", &other];
    world.fails(&create, 1, "belongs to segment");
    // The segment has another store than the one named.
    let elsewhere = format!("sqlite:{}", world.text_path("elsewhere.db"));
    for line in [
        &["get", "counters", "a", "--store", &elsewhere][..],
        &["set", "counters", "a", "n=1", "--store", &elsewhere],
        &["create", "u", "--field", "n:i64", "--store", &elsewhere],
    ] {
        world.fails(line, 1, "belongs to store");
    }
    assert!(!world.path("other").exists() && !world.path("elsewhere.db").exists());
    // The same table with other fields: in the segment, and in the store alone.
    let schema = ["create", "counters", "--field", "n:text(8)", "--field", "name:text(12)"];
    world.fails(&schema, 1, "has table `counters` with (n:i64, name:text(12))");
    world.ok(&["destroy"]);
    world.fails(&schema, 1, "db has table `counters` with (n:i64, name:text(12))");
    // Types that share a column type in the database are other types all the same.
    let schema = ["create", "counters", "--field", "n:u64", "--field", "name:text(12)"];
    world.fails(&schema, 1, "not with (n:u64, name:text(12))");
    assert_eq!(world.ok(&["get", "counters", "a", "n"]), "n=5\n");
    world.ok(&["verify"]);
}

#[test]
fn places_that_cannot_be_are_named() {
    let world = World::new();
    std::fs::write(world.path("file"), "some notes").unwrap();
    let (under, store) = (world.text_path("file/segment"), world.text_path("file/store.db"));
    let store = format!("sqlite:{store}");
    let create = ["create", "t", "--field", "n:i64"];
    world.fails(&[&create[..], &["--segment", &under]].concat(), 1, "file/segment");
    world.fails(&[&create[..], &["--segment", "/proc/commonhold"]].concat(), 1, "/proc/commonhold");
    world.fails(&[&create[..], &["--store", &store]].concat(), 1, "file/store.db");
    let text = format!("sqlite:{}", world.text_path("file"));
    world.fails(&[&create[..], &["--store", &text]].concat(), 1, "not a sqlite database");
    world.fails(&["verify", "--store", &text], 1, "not a sqlite database");
    assert_eq!(std::fs::read_to_string(world.path("file")).unwrap(), "some notes");
    // A segment larger than the memory.
    let huge = ["--cells", "16000000", "--field", "b:bytes(60000)"];
    world.fails(&[&create[..], &huge[..]].concat(), 1, "free space there");
}

#[test]
fn a_wrong_configuration_is_named_with_its_place() {
    let world = World::new();
    std::fs::write(world.path("commonhold.toml"), "lanes = 8\n[tables.t]\nfeilds = []\n").unwrap();
    world.fails(&["tables"], 1, "commonhold.toml:3:1: unknown field `feilds`");
    world.fails(&["tables", "--config", "missing.toml"], 1, "cannot read missing.toml");
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let world = World::with_counters();
    world.ok(&["set", "counters", "a", "n=1"]);
    for line in [&["dump", "counters"][..], &["get", "counters", "a", "--json"], &["--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = world.command(line);
        let child = command.stdout(writer).stderr(std::process::Stdio::piped()).spawn().unwrap();
        let output = child.wait_with_output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), errors.as_str()), (Some(0), ""), "{line:?}");
    }
}

#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let world = World::with_counters();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = world.command(&["tables"]);
    let output = command.stdout(full).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let output = output.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("cannot write the output"));
    let mut plain = world.command(&["tables"]);
    plain.arg("--json");
    assert_eq!(ran(plain).code, Some(0));
}
