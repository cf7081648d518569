//! Segments and stores that cannot be used, and pools that run dry: one line that says what to do, nothing lost.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use commonhold::{
    Config, Error, Handle, OpenError, Runtime, Table, TableConfig, UpdateError, admin,
};
use commonhold_segment::Segment;
use commonhold_tests::stage::LIMIT;
use commonhold_tests::{FULL, Item, LATEST, Stage, judge, stage};

/// One line that says `what` and what to do.
fn says(error: &dyn std::fmt::Display, what: &[&str]) {
    let text = error.to_string();
    assert!(!text.contains('\n'), "{text:?}");
    what.iter().for_each(|what| assert!(text.contains(what), "{what:?} is not in {text:?}"));
}

fn refused(config: Config) -> OpenError {
    Runtime::open(config).map(|_| ()).unwrap_err()
}

/// A segment with one stored record, nobody using it.
fn stage_with_record() -> Stage {
    let stage = stage!();
    let runtime = stage.open();
    let table: Table<Item> = runtime.table(FULL).unwrap();
    let commit = table.insert("key", &Item { owner: 1, n: 2 }).unwrap();
    commit.durable(LIMIT).unwrap();
    stage
}

/// The damaged segment goes by force, and one made anew has the record.
fn comes_back(stage: &Stage) {
    admin::destroy(&stage.there(), LIMIT, true).unwrap();
    let runtime = stage.open();
    let table: Table<Item> = runtime.table(FULL).unwrap();
    assert_eq!(table.get("key").unwrap(), Some(Item { owner: 1, n: 2 }));
    assert_eq!(table.update("key", |item| item.n += 1).unwrap().version(), 2);
    drop(table);
    judge::settle(stage, &runtime);
}

#[test]
fn a_foreign_file_is_left_alone() {
    for content in [&b"not a segment"[..], &[7; 8192], &[0; 8192]] {
        let stage = stage!();
        std::fs::write(stage.path("segment"), content).unwrap();
        for config in [stage.there(), stage.config()] {
            says(&refused(config), &[&stage.segment(), "not a Commonhold segment", "--segment"]);
        }
        admin::destroy(&stage.there(), LIMIT, true).unwrap_err();
        assert_eq!(std::fs::read(stage.path("segment")).unwrap(), content);
    }
    let stage = stage!();
    std::fs::write(stage.path("segment"), "").unwrap();
    says(&refused(stage.config()), &[&stage.segment(), "not a segment file"]);
    std::fs::remove_file(stage.path("segment")).unwrap();
    std::os::unix::fs::symlink("elsewhere", stage.path("segment")).unwrap();
    says(&refused(stage.config()), &[&stage.segment()]);
}

#[test]
fn a_truncated_segment_is_refused() {
    for keep in [4096_u64, 5000, 100_000] {
        let stage = stage_with_record();
        let file = OpenOptions::new().write(true).open(stage.segment()).unwrap();
        file.set_len(keep).unwrap();
        let found = format!("{keep} bytes of");
        says(&refused(stage.there()), &[&stage.segment(), "truncated", &found, "remove it"]);
        comes_back(&stage);
    }
}

#[test]
fn a_damaged_header_is_refused() {
    // The segment's id, a size, the store's url, the checksum, the catalogue.
    for byte in [24, 64, 2049, 4095, 4100] {
        let stage = stage_with_record();
        let file = OpenOptions::new().read(true).write(true).open(stage.segment()).unwrap();
        let mut was = [0];
        file.read_exact_at(&mut was, byte).unwrap();
        file.write_all_at(&[was[0] ^ 4], byte).unwrap();
        says(&refused(stage.there()), &[&stage.segment(), "damaged", "remove it"]);
        comes_back(&stage);
    }
}

#[test]
fn a_segment_of_another_format_or_boot_is_refused() {
    let stage = stage_with_record();
    let file = OpenOptions::new().write(true).open(stage.segment()).unwrap();
    let segment = Segment::attach(&stage.path("segment"), false).unwrap();
    let mut header = segment.header().clone();
    let (total, catalogue) = (segment.layout().total, segment.catalogue().to_vec());
    drop(segment);
    file.write_all_at(&1_u32.to_le_bytes(), 8).unwrap();
    says(&refused(stage.there()), &["its format is 1, this build reads 4", "destroy"]);
    header.boot_id[3] ^= 1;
    let words = header.encode(total, &catalogue).unwrap();
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    file.write_all_at(&bytes, 0).unwrap();
    for config in [stage.there(), stage.config()] {
        says(&refused(config), &[&stage.segment(), "before the machine's last start", "--force"]);
    }
    says(&admin::destroy(&stage.there(), LIMIT, false).unwrap_err(), &["--force"]);
    comes_back(&stage);
}

#[test]
fn a_store_has_one_segment_and_a_segment_one_store() {
    let stage = stage_with_record();
    let second = stage.path("second").display().to_string();
    let config = stage.config().with_segment(Some(&second));
    let error = refused(config.clone());
    assert!(matches!(error, OpenError::StoreInUse { .. }), "{error}");
    says(&error, &["store.db", &stage.segment(), "destroy it first"]);
    assert!(!stage.path("second").exists());
    let other = format!("sqlite:{}", stage.path("other.db").display());
    let error = refused(stage.there().store(&other));
    assert!(matches!(error, OpenError::OtherStore { .. }), "{error}");
    says(&error, &["store.db", "other.db", "--segment"]);
    assert!(!stage.path("other.db").exists());
    // With the first segment gone the second may have the store, and all that is in it.
    admin::destroy(&stage.there(), LIMIT, false).unwrap();
    let runtime = Runtime::open(config).unwrap();
    let table: Table<Item> = runtime.table(FULL).unwrap();
    assert_eq!(table.get("key").unwrap(), Some(Item { owner: 1, n: 2 }));
}

/// A store that was taken over although its segment is still in use: what that commits is not mixed in.
#[test]
fn a_segment_that_lost_its_store_says_so() {
    let stage = stage_with_record();
    let old = stage.open();
    let hidden = stage.path("hidden");
    std::fs::rename(stage.path("segment"), &hidden).unwrap();
    let new = stage.open();
    let table: Table<Item> = old.table(FULL).unwrap();
    let late = table.update("key", |item| item.n = 99).unwrap();
    let late = late.durable(Duration::from_millis(300)).unwrap_err();
    says(&late, &["cannot be stored", "belongs to segment", "epoch 2"]);
    let table: Table<Item> = new.table(FULL).unwrap();
    assert_eq!(table.get("key").unwrap(), Some(Item { owner: 1, n: 2 }));
    table.update("key", |item| item.n += 1).unwrap().durable(LIMIT).unwrap();
    drop(table);
    judge::settle(&stage, &new);
}

#[test]
fn other_fields_are_refused() {
    let stage = stage_with_record();
    let other = TableConfig::new(FULL, &["owner:i64", "n:u64"]);
    let error = refused(stage.there().table(other.clone()));
    assert!(matches!(error, OpenError::OtherSchema { .. }), "{error}");
    says(&error, &["`full`", "n:i64", "n:u64", "use those fields"]);
    let error = refused(stage.there().table(TableConfig::of::<Item>("more")));
    says(&error, &["`more`", "full, latest", "create it first"]);
    admin::destroy(&stage.there(), LIMIT, false).unwrap();
    says(&refused(stage.config().table(other)), &["full", "n:u64"]);
    drop(stage.open());
    comes_back(&stage);
}

#[test]
fn participants_run_out_and_come_again() {
    let stage = stage!();
    let runtime = Runtime::open(stage.sized(4, 8, 100)).unwrap();
    let table: Table<Item> = runtime.table(FULL).unwrap();
    table.insert("key", &Item::default()).unwrap().durable(LIMIT).unwrap(); // the steward has his entry
    let handles = [0; 2].map(|_| runtime.handle().unwrap());
    let error = runtime.handle().map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::Participants { limit: 4 }), "{error}");
    says(&error, &["all 4 participants", "raise `participants`"]);
    table.update("key", |item| item.n += 1).unwrap();
    drop(handles);
    drop(runtime.handle().unwrap());
    drop(table);
    judge::settle(&stage, &runtime);
}

#[test]
fn slots_run_out_and_come_again() {
    let stage = stage!();
    let config = stage.sized(8, 8, 100).room_wait(Duration::from_millis(20));
    let runtime = Runtime::open(config).unwrap();
    let handle: Handle = runtime.handle().unwrap();
    for name in [FULL, LATEST] {
        let table: Table<Item, _> = Table::new(&handle, name).unwrap();
        for i in 0..8 {
            table.insert(&format!("key-{i}"), &Item::default()).unwrap();
        }
        for _ in 0..3 {
            let error = table.insert("one more", &Item::default()).unwrap_err();
            says(&error, &["all 8 slots are in use", "raise `slots`"]);
            assert_eq!(table.get("one more").unwrap(), None);
        }
        table.update("key-3", |item| item.n += 1).unwrap();
        assert_eq!(table.len().unwrap(), 8);
        handle.set_room_wait(LIMIT);
        table.delete("key-3").unwrap();
        table.insert("one more", &Item::default()).unwrap();
        handle.set_room_wait(Duration::from_millis(20));
    }
    drop(handle);
    judge::settle(&stage, &runtime);
}

#[test]
fn cells_run_out_while_the_steward_is_stopped() {
    let stage = stage!();
    drop(Runtime::open(stage.sized(8, 8, 100)).unwrap());
    let mut steward = stage.role("candidate", &[]);
    steward.hear("ready");
    steward.tell("durable");
    steward.hear("durable");
    let runtime = stage.attach();
    let handle = runtime.handle().unwrap();
    let table: Table<Item, _> = Table::new(&handle, FULL).unwrap();
    table.insert("key", &Item::default()).unwrap().durable(LIMIT).unwrap();
    steward.stop();
    handle.set_room_wait(Duration::from_millis(150));
    let mut committed = 0;
    let error = loop {
        match table.update("key", |item| item.n += 1) {
            Ok(_) => committed += 1,
            Err(UpdateError::Failed(error)) => break error,
            Err(UpdateError::Refused(never)) => match never {},
        }
    };
    assert!(matches!(error, Error::Full { what: "cells", .. }), "{error}");
    says(&error, &["table `full` is full", "waited 1", "raise `cells`"]);
    assert!(committed >= 100, "{committed}");
    assert_eq!(table.get("key").unwrap().unwrap().n, committed, "what was refused changed nothing");
    let latest: Table<Item, _> = Table::new(&handle, LATEST).unwrap();
    latest.insert("key", &Item::default()).unwrap();
    for _ in 0..1000 {
        latest.update("key", |item| item.n += 1).unwrap(); // takes no room
    }
    steward.resume();
    handle.set_room_wait(LIMIT);
    let commit = table.update("key", |item| item.n += 1).unwrap();
    commit.durable(LIMIT).unwrap();
    assert_eq!(judge::stored(&stage, FULL)["key"].1, committed + 1);
    drop(handle);
    judge::settle(&stage, &runtime);
}
