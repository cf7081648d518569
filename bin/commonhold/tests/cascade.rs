//! `cascade`, as a user meets it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::f64::consts::TAU;
use std::fs::OpenOptions;
use std::io::Write;

use common::World;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;

/// A sine of 50 Hz with a tenth of its third harmonic and some noise, and the noise alone, at 1000 Hz.
fn csv(samples: u32) -> String {
    let mut state = 1u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (f64::from(state) / f64::from(u32::MAX) - 0.5) / 100.0
    };
    let row = |n: u32| {
        let turn = TAU * 0.05 * f64::from(n);
        let noise = noise();
        format!(
            "{},{:.6},{noise:.6}\n",
            f64::from(n) / 1000.0,
            turn.sin() + 0.1 * (3.0 * turn).sin() + noise
        )
    };
    std::iter::once("time,pump,room\n".to_owned()).chain((0..samples).map(row)).collect()
}

/// A WAV file of 16 bits and 8000 Hz: seconds of silence, 400, 500 and 600 Hz, the third the loudest.
fn wav() -> Vec<u8> {
    let tone = |n: u32| {
        let (hz, amplitude) =
            [(0.0, 0.0), (400.0, 0.25), (500.0, 0.75), (600.0, 0.5)][n as usize / 8000];
        (amplitude * (TAU * hz * f64::from(n) / 8000.0).sin() * 32768.0) as i16
    };
    let samples: Vec<u8> = (0..32_000).flat_map(|n| tone(n).to_le_bytes()).collect();
    let mut file = b"RIFF".to_vec();
    file.extend((36 + samples.len() as u32).to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    file.extend(8000u32.to_le_bytes());
    file.extend(16_000u32.to_le_bytes());
    file.extend(b"\x02\0\x10\0data");
    file.extend((samples.len() as u32).to_le_bytes());
    [file, samples].concat()
}

/// A world in which both files are.
fn world() -> World {
    let world = World::new();
    std::fs::write(world.path("s.csv"), csv(2000)).unwrap();
    std::fs::write(world.path("t.wav"), wav()).unwrap();
    world
}

#[test]
fn a_csv_file_is_analysed() {
    let world = world();
    let found = world.json(&["cascade", "s.csv"]);
    let near = |found: &serde_json::Value, wanted: f64, off: f64| {
        assert!((found.as_f64().unwrap() - wanted).abs() < off, "{found} is not {wanted}");
    };
    near(&found["fundamental_hz"], 50.0, 1e-3);
    near(&found["rate_hz"], 1000.0, 1e-9);
    near(&found["thd"], 0.1, 1e-3);
    let harmonics = found["harmonics"].as_array().unwrap();
    assert_eq!(harmonics.len(), 9, "below 500 Hz");
    near(&harmonics[2]["hz"], 150.0, 1e-2);
    near(&harmonics[2]["amplitude"], 0.1, 1e-3);
    near(&harmonics[2]["phase"], -TAU / 4.0, 1e-2);
    assert_eq!(found["names"], serde_json::json!(["pump", "room"]));
    assert_eq!(found["nodes"].as_array().unwrap().len(), 2);
    assert!(found["coherence"][0]["at_fundamental"].as_f64().unwrap() < 0.5);
    assert!(found["coherence"][0]["mean"].as_f64().unwrap() > 0.5, "the noise is in both");
    // Without the times' column, the rate is to be given.
    let bare: String =
        csv(2000).lines().skip(1).map(|l| format!("{}\n", l.split_once(',').unwrap().1)).collect();
    std::fs::write(world.path("bare.csv"), bare).unwrap();
    let options = ["--rate=2000", "--window=hann", "--harmonics=1", "--min-hz=20", "--max-hz=200"];
    let twice = world.json(&[&["cascade", "bare.csv"], &options[..]].concat());
    near(&twice["fundamental_hz"], 100.0, 1e-2);
    assert_eq!((&twice["window"], &twice["thd"]), (&"hann".into(), &serde_json::Value::Null));
}

#[test]
fn tables_are_for_people() {
    let world = world();
    let shown = world.ok(&["cascade", "s.csv", "--harmonics", "3", "--window", "rectangular"]);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[0], "s.csv: 2 nodes at 1000 Hz, 2.000 s, window rectangular");
    assert!(lines[2].starts_with("node  fundamental") && lines[2].ends_with("mean"), "{shown}");
    assert!(lines[3].starts_with("pump        50 Hz"), "{shown}");
    assert!(lines[6].starts_with("pump  frequency"), "{shown}");
    assert!(lines[9].starts_with(" 3       150 Hz") && lines[9].contains("-20.0 dB"), "{shown}");
    assert!(lines[9].ends_with("rad") && lines[10].is_empty(), "{shown}");
    assert!(shown.contains("\npump, room") && shown.ends_with("(61 segments)\n"), "{shown}");
}

#[test]
fn a_long_file_is_cut_into_blocks_and_the_loudest_shown() {
    let world = world();
    let found = world.json(&["cascade", "t.wav", "--block=1", "--workers=3"]);
    let blocks = found["blocks"].as_array().unwrap();
    let heard: Vec<Option<f64>> =
        blocks.iter().map(|b| b["fundamental_hz"].as_f64().map(f64::round)).collect();
    assert_eq!(heard, [None, Some(400.0), Some(500.0), Some(600.0)]);
    let from: Vec<f64> = blocks.iter().map(|block| block["from_s"].as_f64().unwrap()).collect();
    assert_eq!(from, [0.0, 1.0, 2.0, 3.0]);
    assert_eq!((&found["block"], &found["from_s"]), (&2.into(), &2.0.into()));
    assert_eq!(found["fundamental_hz"], blocks[2]["fundamental_hz"]);
    let shown = world.ok(&["cascade", "t.wav", "--block", "1"]);
    let silent = shown.lines().find(|line| line.starts_with("0.000 s")).unwrap();
    let cells: Vec<&str> = silent.split_whitespace().collect();
    assert_eq!(cells, ["0.000", "s", "channel", "0", "-", "-", "-", "-"], "{shown}");
    assert!(shown.contains("\nThe loudest of the 4 blocks is that from 2.000 s:\n"), "{shown}");
    let part = world.json(&["cascade", "t.wav", "--from=3", "--seconds=0.5", "--block=0.25"]);
    let blocks = part["blocks"].as_array().unwrap();
    let from: Vec<f64> = blocks.iter().map(|block| block["from_s"].as_f64().unwrap()).collect();
    assert_eq!((from, blocks[0]["samples"].as_u64()), (vec![3.0, 3.25], Some(2000)));
    // More blocks than the queue holds at once.
    let many = world.json(&["cascade", "t.wav", "--block=0.05", "--workers=1"]);
    assert_eq!(many["blocks"].as_array().unwrap().len(), 80);
}

#[test]
fn what_cannot_be_analysed_is_said_in_one_line() {
    let world = world();
    for (name, content) in [
        ("empty.csv", ""),
        ("short.csv", "time,x\n0,1\n1,2\n2,4\n"),
        ("bad.csv", "time,x\n0,1\n1,two\n"),
        ("nan.csv", "time,x\n0,1\n1,nan\n"),
        ("bare.csv", "1\n2\n3\n"),
        ("bad.wav", "RIFF and no more"),
    ] {
        std::fs::write(world.path(name), content).unwrap();
    }
    let table: [(&[&str], i32, &str); 20] = [
        (&["none.wav"], 1, "cannot read none.wav: No such file"),
        (&["."], 1, "cannot read .: Is a directory"),
        (&["empty.csv"], 1, "empty.csv: no row of numbers"),
        (&["short.csv"], 1, "short.csv: the signal has 3 samples; give at least 64"),
        (&["bad.csv"], 1, "bad.csv, line 3: column 2 (x): `two` is no finite number"),
        (&["nan.csv"], 1, "nan.csv, line 3: column 2 (x): `nan` is no finite number"),
        (&["bare.csv"], 1, "bare.csv: no time column: give the sample rate"),
        (&["bad.wav"], 1, "bad.wav: no W"),
        (&["t.wav", "--rate=8000"], 1, "t.wav: a WAV file tells its own sample rate"),
        (&["t.wav", "--from=4"], 1, "t.wav: it lasts 4 s; nothing can be read from 4 s on"),
        (&["t.wav", "--block=0.001"], 1, "t.wav: blocks of 0.001 s have 8 samples"),
        (&["t.wav", "--min-hz=9000"], 1, "t.wav: no fundamental can be found from 9000 to"),
        (&["t.wav", "--segment-samples=7"], 1, "t.wav: segments of 7 samples"),
        (&["s.csv", "--rate=0"], 2, "give a number above 0"),
        (&["s.csv", "--rate=-1"], 2, "give a number above 0"),
        (&["s.csv", "--rate=inf"], 2, "give a number above 0"),
        (&["s.csv", "--from=-1"], 2, "give a number from 0 up"),
        (&["s.csv", "--window=none"], 2, "it is one of rectangular, hann, blackman-harris"),
        (&["s.csv", "--harmonics=0"], 2, "0 is not in 1..=256"),
        (&["s.csv", "--workers=0"], 2, "0 is not in 1..=64"),
    ];
    for (arguments, code, why) in table {
        world.fails(&[&["cascade"], arguments].concat(), code, why);
    }
}

#[test]
fn an_interrupted_run_ends_with_130() {
    let world = world();
    nix::unistd::mkfifo(&world.path("fifo"), Mode::S_IRWXU).unwrap();
    let run = world.start(&["cascade", "fifo"]);
    // This opens when the command has opened the other end; from then on it catches signals.
    let mut fifo = OpenOptions::new().write(true).open(world.path("fifo")).unwrap();
    run.signal(Signal::SIGINT);
    fifo.write_all(csv(2000).as_bytes()).unwrap();
    drop(fifo);
    let ran = run.end();
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(130), "", ""));
}
