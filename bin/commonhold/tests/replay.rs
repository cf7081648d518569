//! `replay` through the built command: what a log says is what the table, the store and an `awk` over the log say.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use commonhold::Runtime;
use commonhold::prelude::Config;
use commonhold::systems::clients::{Client, Clients};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use tempfile::TempDir;

/// Requests, bytes and denied of each client.
type Table = BTreeMap<String, (i64, i64, i64)>;

struct Place {
    folder: TempDir,
    segment: String,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let segment = folder.path().join("segment").display().to_string();
        Self { folder, segment }
    }

    fn log(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Replays into this place's segment, which must go well.
    fn replay(&self, log: &Path, options: &[&str]) -> Value {
        report(replay(log, options).args(["--segment", &self.segment]))
    }

    /// The table in memory.
    fn table(&self) -> Table {
        let runtime = Runtime::open(Config::named(&self.segment).attach_only()).unwrap();
        let mut table = Table::new();
        let each = |key: &str, Client { requests, bytes, denied }| {
            assert_eq!(table.insert(key.to_owned(), (requests, bytes, denied)), None);
        };
        Clients::open(&runtime).unwrap().table().scan(each).unwrap();
        table
    }

    /// The table in the store.
    fn stored(&self) -> Table {
        let store = rusqlite::Connection::open(format!("{}.db", self.segment)).unwrap();
        let mut rows = store.prepare("select key, requests, bytes, denied from clients").unwrap();
        let row = |r: &rusqlite::Row<'_>| Ok((r.get(0)?, (r.get(1)?, r.get(2)?, r.get(3)?)));
        rows.query_map((), row).unwrap().map(Result::unwrap).collect()
    }
}

fn replay(log: &Path, options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_commonhold"));
    command.env_remove("COMMONHOLD_SEGMENT").env_remove("COMMONHOLD_STORE");
    command.arg("replay").arg(log).arg("--json").args(options);
    command
}

/// The one JSON object of a run that goes well.
fn report(command: &mut Command) -> Value {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ok"], true, "{report}");
    assert_eq!(report["verify_ok"], true, "{report}");
    assert_eq!(report["store_rows"], report["parsed"], "{report}");
    report
}

fn text(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|b| String::from_utf8_lossy(b));
    format!("{} {out}{err}", output.status)
}

/// A log of `lines` lines like a real one: few clients ask often and in a row, most seldom.
fn made_log(lines: u64) -> Vec<u8> {
    let mut log = Vec::new();
    let (mut random, mut client) = (7_u64, 0);
    for line in 0..lines {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let (a, b) = (random >> 33, random >> 48);
        if a % 3 == 0 {
            client = b * b % 1753 * (a % 7) / 6;
        }
        let address = format!("10.0.{}.{}", client / 256, client % 256);
        let size = if a % 15 == 0 { "-".to_owned() } else { (b * 7).to_string() };
        let end = if line == lines / 2 { "" } else { "\"" };
        writeln!(
            log,
            "{address} - - [17/May/2015:10:05:03 +0000] \"GET /{b} HTTP/1.1\" 200 {size} \"-\" \"M {a}{end}"
        )
        .unwrap();
    }
    log
}

/// The real log if it lies beside the checkout, else one like it; zipped.
fn large_log(place: &Place) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().find(|p| p.join(".git").exists());
    let beside = root.and_then(Path::parent).map(|p| p.join("shared/data/access.log.gz"));
    if let Some(real) = beside.filter(|path| path.exists()) {
        return real;
    }
    let mut zipped = GzEncoder::new(Vec::new(), Compression::fast());
    zipped.write_all(&made_log(10_000)).unwrap();
    place.log("access.log.gz", &zipped.finish().unwrap())
}

/// What `awk` says of a zipped log, to the byte what `dump` prints: the pipeline of the README.
fn awk_csv(log: &Path) -> String {
    let program = r#"{ r[$1]++; b[$1] += $10 } END { for (c in r) printf "%s,%.0f,%.0f,0\n", c, r[c], b[c] }"#;
    let command =
        r#"echo key,requests,bytes,denied; zcat "$1" | awk "$2" | LC_ALL=C sort -t, -k1,1"#;
    let mut shell = Command::new("sh");
    let output = shell.args(["-c", command, "sh"]).arg(log).arg(program).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn awk(log: &Path) -> Table {
    let row = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        let [requests, bytes] = [1, 2].map(|i| fields[i].parse().unwrap());
        (fields[0].to_owned(), (requests, bytes, 0))
    };
    awk_csv(log).lines().skip(1).map(row).collect()
}

#[test]
fn one_worker_and_eight_say_what_awk_says() {
    for workers in ["1", "8"] {
        let place = Place::new();
        let log = large_log(&place);
        let want = awk(&log);
        let report = place.replay(&log, &["--workers", workers, "--by", "client"]);
        assert_eq!(place.table(), want);
        assert_eq!(place.stored(), want);
        assert_eq!(report["clients"], want.len());
        assert_eq!(report["unparsed"], 0);
        assert_eq!(report["requests"], want.values().map(|c| c.0).sum::<i64>());
        assert_eq!(report["bytes"], want.values().map(|c| c.1).sum::<i64>());
        let mut dump = Command::new(env!("CARGO_BIN_EXE_commonhold"));
        let dump = dump.args(["--segment", &place.segment, "dump", "clients"]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&dump.stdout), awk_csv(&log), "{}", text(&dump));
        let lost = report["lost_exchanges"].as_u64().unwrap();
        if workers == "1" {
            assert_eq!(lost, 0, "nobody to lose to");
        } else if std::thread::available_parallelism().is_ok_and(|n| n.get() > 1) {
            assert!(lost > 0, "the workers never met");
        }
    }
}

#[test]
fn killed_workers_shares_are_taken_over() {
    let place = Place::new();
    let log = large_log(&place);
    let want = awk(&log);
    let options = ["--workers", "8", "--by", "client", "--kill", "3", "--seed", "1"];
    let report = place.replay(&log, &options);
    assert_eq!((&report["kills"], &report["seed"]), (&3.into(), &1.into()));
    assert!(report["replacements"].as_u64() >= Some(3));
    assert_eq!(place.table(), want);
    assert_eq!(place.stored(), want);
}

#[test]
fn as_many_kills_as_there_can_be_and_not_one_more() {
    let place = Place::new();
    let log = place.log("log", &made_log(20));
    // Shares of 7, 7 and 6: 6 + 6 + 5 kills leave each worker one line done and one left.
    let report = place.replay(&log, &["--workers", "3", "--kill", "17"]);
    assert_eq!(report["kills"], 17);
    assert_eq!(report["denied"], 0);
    let output = replay(&log, &["--workers", "3", "--kill", "18"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["kills"], &report["ok"]), (&17.into(), &false.into()));
    assert_eq!(report["requests"], 20, "all is counted all the same");
}

#[test]
fn nobody_exceeds_a_cap_and_what_is_denied_counts_in_nothing_else() {
    let place = Place::new();
    let log = large_log(&place);
    let asked = awk(&log);
    let caps = ["--workers", "8", "--cap-requests", "20", "--cap-bytes", "1000000", "--kill", "2"];
    let report = place.replay(&log, &caps);
    let table = place.table();
    assert_eq!(table.len(), asked.len());
    for (client, (requests, bytes, denied)) in &table {
        assert_eq!(requests + denied, asked[client].0, "{client}");
        assert!(*requests <= 20 && *bytes <= 1_000_000, "{client}");
        let within = asked[client].0 <= 20 && asked[client].1 <= 1_000_000;
        assert_eq!(*denied == 0, within, "{client}");
        assert!(!within || *bytes == asked[client].1, "{client}");
    }
    assert!(report["denied"].as_i64() > Some(0));
    assert_eq!(place.stored(), table);
}

#[test]
fn what_is_there_is_added_to_and_broken_lines_are_named() {
    let place = Place::new();
    let log = place.log("log", &[&made_log(50)[..], b"garbage\n\xff\xfe - - [\n"].concat());
    for round in 1..=3 {
        let report = place.replay(&log, &["--workers", "2"]);
        assert_eq!((&report["lines"], &report["parsed"]), (&52.into(), &50.into()));
        assert_eq!(report["unparsed"], 2);
        assert_eq!(report["requests"], 50);
        assert_eq!(place.table().values().map(|c| c.0).sum::<i64>(), 50 * round);
    }
    let output = replay(&log, &["--workers", "2"]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let named: Vec<bool> = [":51: ", ":52: "].map(|n| stderr.contains(n)).to_vec();
    assert_eq!(named, [true, true], "{stderr}");
}

#[test]
fn logs_without_lines_more_workers_than_lines_and_no_store() {
    let place = Place::new();
    for lines in [0, 1, 3] {
        let log = place.log("log", &made_log(lines));
        let report = report(&mut replay(&log, &["--workers", "5"]));
        assert_eq!(report["requests"], lines);
        let none = replay(&log, &["--store", "none"]).output().unwrap();
        assert!(none.status.success(), "{}", text(&none));
    }
    let log = place.log("log", &made_log(9));
    for (options, code, want) in [
        (&["--store", "none", "--kill", "1"][..], 1, "kills need a store"),
        (&["--workers", "0"], 2, "0"),
        (&["--by", "server"], 2, "server"),
        (&["--cap-bytes", "-1"], 2, "-1"),
    ] {
        let output = replay(&log, options).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", text(&output));
        assert!(text(&output).contains(want), "{}", text(&output));
    }
    let missing = replay(Path::new("/nowhere/log"), &[]).output().unwrap();
    assert_eq!(missing.status.code(), Some(1), "{}", text(&missing));
}

/// The ephemeral segments, and the folders of replays.
fn left_behind(temporary: &Path) -> Vec<PathBuf> {
    let list = |folder: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
    };
    list(temporary)
}

#[test]
fn a_signal_stops_it_cleanly_and_nothing_is_left() {
    let (place, temporary) = (Place::new(), tempfile::tempdir().unwrap());
    let log = place.log("log", &made_log(400_000));
    for (signal, code, wait_ms) in [("INT", 130, 300), ("TERM", 143, 900)] {
        let mut command = replay(&log, &["--workers", "3"]);
        command.env("TMPDIR", temporary.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let pid = child.id().to_string();
        let started = Instant::now();
        // Once there is a temporary folder, signals are held back.
        while left_behind(temporary.path()).is_empty() {
            assert!(started.elapsed() < Duration::from_secs(60), "it never began");
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(wait_ms));
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        let status = child.wait().unwrap();
        let mut out = String::new();
        child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        assert_eq!(status.code(), Some(code), "{out}");
        assert_eq!(left_behind(temporary.path()), [] as [PathBuf; 0]);
        assert!(!any_process_mentions(&temporary.path().display().to_string()));
    }
}

#[test]
fn workers_end_with_their_coordinator() {
    let (place, temporary) = (Place::new(), tempfile::tempdir().unwrap());
    let log = place.log("log", &made_log(400_000));
    let mut command = replay(&log, &["--workers", "3"]);
    let mut child = command.env("TMPDIR", temporary.path()).stdout(Stdio::null()).spawn().unwrap();
    let mention = temporary.path().display().to_string();
    let until = Instant::now() + Duration::from_secs(60);
    while !any_process_mentions(&mention) && child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < until, "no worker came");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while any_process_mentions(&mention) {
        assert!(Instant::now() < until, "a worker outlived its coordinator");
        std::thread::sleep(Duration::from_millis(5));
    }
    // The segment that it could not remove, the next replay does.
    report(&mut replay(&place.log("small", &made_log(5)), &[]));
}

/// Whether a process has `text` in its arguments: workers have their share's file there.
fn any_process_mentions(text: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .any(|line| String::from_utf8_lossy(&line).contains(text))
}

#[test]
fn a_worker_started_by_hand_says_what_it_is() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_commonhold"));
    let output = command.args(["__replay-worker", "x"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
}
