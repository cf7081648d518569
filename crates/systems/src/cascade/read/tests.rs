//! Files that are read, and files that are refused with the reason.

use std::io::Cursor;

use hound::{SampleFormat, WavSpec, WavWriter};
use proptest::prelude::*;

use super::*;

/// What a file of this name and content is read as.
fn file(name: &str, content: &[u8], options: ReadOptions) -> Result<Recording, ReadError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    read_signal(&path, &options)
}

/// Why it is refused, without the folder.
fn refusal(name: &str, content: &[u8], options: ReadOptions) -> String {
    let said = file(name, content, options).unwrap_err().to_string();
    assert!(!said.contains('\n'), "{said}");
    let at = said.find(name).unwrap_or_else(|| panic!("{said} does not name the file"));
    said[at..].to_owned()
}

fn rated(rate_hz: f64) -> ReadOptions {
    ReadOptions { rate_hz: Some(rate_hz), ..ReadOptions::default() }
}

fn wav(bits: u16, float: bool, channels: u16, samples: &[f64]) -> Vec<u8> {
    let sample_format = if float { SampleFormat::Float } else { SampleFormat::Int };
    let spec = WavSpec { channels, sample_rate: 8000, bits_per_sample: bits, sample_format };
    let mut to = Cursor::new(Vec::new());
    let mut writer = WavWriter::new(&mut to, spec).unwrap();
    for sample in samples {
        if float {
            writer.write_sample(*sample as f32).unwrap();
        } else {
            writer.write_sample((sample * f64::from(bits - 1).exp2()) as i32).unwrap();
        }
    }
    writer.finalize().unwrap();
    to.into_inner()
}

/// Numbers that are whole in eighths, so that every format holds them.
fn eighths(count: usize) -> Vec<f64> {
    (0..count).map(|n| (n % 15) as f64 / 8.0 - 1.0).map(|x| x.clamp(-1.0, 0.875)).collect()
}

#[test]
fn every_kind_of_wav_is_read() {
    let samples = eighths(300);
    for (bits, float) in [(8, false), (16, false), (24, false), (32, false), (32, true)] {
        let bytes = wav(bits, float, 3, &samples);
        let recording = file("a.bin", &bytes, ReadOptions::default()).unwrap();
        assert_eq!(recording.signal.rate_hz(), 8000.0);
        assert_eq!(recording.names, ["channel 0", "channel 1", "channel 2"]);
        for (channel, got) in recording.signal.channels().iter().enumerate() {
            let expected: Vec<f64> = samples.iter().copied().skip(channel).step_by(3).collect();
            assert_eq!(*got, expected, "{bits} bits, float: {float}");
        }
    }
    assert_eq!(
        file("a.wav", &wav(16, false, 2, &samples), ReadOptions::default()).unwrap().names,
        ["left", "right"]
    );
}

#[test]
fn a_part_of_a_file_is_read() {
    let samples = eighths(16_000);
    let bytes = wav(16, false, 2, &samples);
    let part = |from_s, seconds| {
        let options = ReadOptions { rate_hz: None, from_s, seconds };
        file("a.wav", &bytes, options).map(|recording| recording.signal)
    };
    let left: Vec<f64> = samples.iter().copied().step_by(2).collect();
    assert_eq!(part(0.5, Some(0.25)).unwrap().channels()[0], left[4000..6000]);
    assert_eq!(part(0.5, None).unwrap().channels()[0], left[4000..]);
    assert_eq!(part(0.9, Some(100.0)).unwrap().channels()[0], left[7200..]);
    let refused = |from_s, seconds| part(from_s, seconds).unwrap_err().to_string();
    for from_s in [-1.0, 1.0, f64::NAN] {
        let expected = format!("a.wav: it lasts 1 s; nothing can be read from {from_s} s on");
        assert!(refused(from_s, None).ends_with(&expected), "{from_s}");
    }
    assert!(refused(0.0, Some(0.0)).ends_with("a.wav: 0 s of it; name a length above 0"));
    assert!(refused(0.999, None).ends_with("the signal has 8 samples; give at least 64"));

    let rows: String = (0..200).map(|n| format!("{n}\n")).collect();
    let options = ReadOptions { from_s: 10.0, seconds: Some(7.0), ..rated(10.0) };
    let expected: Vec<f64> = (100..170).map(f64::from).collect();
    assert_eq!(file("a.csv", rows.as_bytes(), options).unwrap().signal.channels(), [expected]);
}

#[test]
fn what_is_no_wav_is_refused() {
    let all = ReadOptions::default();
    let known = "integers of 8 to 32 bits and 32-bit floats are read; convert it";
    let expected = format!("a.wav: no WAV file that is read (no RIFF tag found); {known}");
    assert_eq!(refusal("a.wav", b"RIFX0000WAVE", all), expected);
    assert!(refusal("a.WAV", b"", all).starts_with("a.WAV: no whole WAV header: "));
    let rate = "a.wav: a WAV file tells its own sample rate; leave the rate out";
    assert_eq!(refusal("a.wav", &wav(16, false, 1, &eighths(99)), rated(1.0)), rate);
    let mut cut = wav(16, false, 1, &eighths(200));
    cut.truncate(cut.len() - 101);
    let said = refusal("a.wav", &cut, all);
    assert!(said.starts_with("a.wav: sample 149 of 200 cannot be read ("), "{said}");
    let many = refusal("a.wav", &wav(16, false, 17, &eighths(17 * 64)), all);
    assert_eq!(many, "a.wav: the signal has 17 channels; at most 16 are taken");
    let mut law = wav(16, false, 1, &eighths(99));
    law[20] = 7;
    assert!(refusal("a.wav", &law, all).contains("convert it"), "{}", refusal("a.wav", &law, all));
    let nan = wav(32, true, 1, &[vec![0.0; 70], vec![f64::NAN], vec![0.0; 9]].concat());
    let said = refusal("a.wav", &nan, all);
    assert!(said.starts_with("a.wav: sample 70 of channel 0 is NaN"), "{said}");
    let missing = read_signal(Path::new("no/such.wav"), &all).unwrap_err().to_string();
    assert!(missing.starts_with("cannot read no/such.wav: No such file"), "{missing}");
}

/// `count` rows of time and two nodes, between `separator`s.
fn rows(count: usize, separator: char, time: impl Fn(usize) -> f64) -> String {
    (0..count).map(|n| format!("{}{separator}{n}{separator} -{n}.5\n", time(n))).collect()
}

#[test]
fn the_rate_of_a_csv_is_given_or_told_by_its_times() {
    let step = |n: usize| (n as f64 / 3.0).round() / 1000.0;
    let seconds = |n: usize| n as f64 / 100.0;
    let body = rows(100, ',', seconds);
    let expected = |recording: &Recording| {
        let (a, b) = (&recording.signal.channels()[0], &recording.signal.channels()[1]);
        assert_eq!((a[7], b[7], a.len(), b.len()), (7.0, -7.5, 100, 100));
    };
    for (content, names) in [
        (body.clone(), ["column 2", "column 3"]),
        (format!("time,x, y \n{body}"), ["x", "y"]),
        (format!("\u{feff}Time (s),x,y\n{body}").replace('\n', "\r\n"), ["x", "y"]),
        (format!("# made by hand\n\nt,x,y\n# begin\n{body}"), ["x", "y"]),
        (format!("time_ms;x;y\n{}", rows(100, ';', |n| n as f64 * 10.0)), ["x", "y"]),
        (format!("t_us\tx\ty\n{}", rows(100, '\t', |n| n as f64 * 1e4)), ["x", "y"]),
    ] {
        let recording = file("a.csv", content.as_bytes(), ReadOptions::default()).unwrap();
        assert_eq!(recording.signal.rate_hz(), 100.0, "{:.30}", content);
        assert_eq!(recording.names, names);
        expected(&recording);
    }
    // A given rate is what counts, and times are still no node.
    let both = file("a.csv", format!("time,x,y\n{body}").as_bytes(), rated(7.0)).unwrap();
    assert_eq!(both.signal.rate_hz(), 7.0);
    expected(&both);
    // Without a name it is one, then.
    let all = file("a.csv", body.as_bytes(), rated(7.0)).unwrap();
    assert_eq!((all.signal.channels().len(), all.names[0].as_str()), (3, "column 1"));
    // Times in thousandths, of a rate of 3000: rounded, but not by a tenth of a step.
    let said = refusal("a.csv", rows(100, ',', step).as_bytes(), ReadOptions::default());
    assert!(said.starts_with("a.csv, line 2: column 1 is the time and does not step"), "{said}");
    for (off, even) in [(0.08, true), (0.12, false)] {
        let jitter = |n: usize| n as f64 + if n == 50 { off } else { 0.0 };
        let read = file("a.csv", rows(100, ',', jitter).as_bytes(), ReadOptions::default());
        assert_eq!(read.is_ok(), even, "{off} of a step");
    }
    let exact = |n: usize| (n as f64 / 3.0 * 100.0).round() / 1e5;
    let third = file("a.csv", rows(100, ',', exact).as_bytes(), ReadOptions::default()).unwrap();
    assert_eq!(third.signal.rate_hz(), 3000.0);
}

#[test]
fn what_is_wrong_with_a_csv_is_said_with_its_line() {
    let all = ReadOptions::default();
    let body = rows(100, ',', |n| n as f64 / 100.0);
    let with = |line: &str| format!("time,x,y\n{body}\n# a comment\n{line}\n{body}").into_bytes();
    let said = |line: &str| refusal("a.csv", &with(line), all);
    assert_eq!(said("1,2,zwei"), "a.csv, line 104: column 3 (y): `zwei` is no finite number");
    assert_eq!(said("1,,3"), "a.csv, line 104: column 2 (x): empty");
    assert_eq!(said("1,nan,3"), "a.csv, line 104: column 2 (x): `nan` is no finite number");
    let fields = "a.csv, line 104: 2 fields, and 3 in the first row; make them equal";
    assert_eq!(said("1,2"), fields);
    let long = said(&format!("1,\u{1}{},3", "é".repeat(99)));
    assert!(long.len() < 200 && long.contains("…") && long.contains("\\u{1}"), "{long}");
    // The times begin anew there.
    assert!(said("1,2,3").contains("line 3: column 1 is the time"), "{}", said("1,2,3"));

    let no_rate = "a.csv: no time column: give the sample rate, or name the first column `time`";
    assert_eq!(refusal("a.csv", b"1\n2\n3\n", all), no_rate);
    assert_eq!(refusal("a.csv", b"u,v\n2,3\n3,4\n", all), no_rate);
    assert_eq!(refusal("a.csv", b"time\n2\n3\n", rated(1.0)), "a.csv: a time column and no other");
    for nothing in ["", "\n\n", "time,x\n", "# x\n"] {
        let expected = "a.csv: no row of numbers; a row a sample is read";
        assert_eq!(refusal("a.csv", nothing.as_bytes(), all), expected, "{nothing:?}");
    }
    let short = refusal("a.csv", b"0,1\n1,2\n2,4\n", all);
    assert_eq!(short, "a.csv: the signal has 3 samples; give at least 64");
    let rate = refusal("a.csv", b"1\n2\n", rated(-3.0));
    assert_eq!(rate, "a.csv: the sample rate is -3.0 Hz; it must be above 0, from 1e-12 to 1e12");
    for same in ["0,1\n0,2\n", "0,1\n", "3,1\n2,1\n"] {
        let said = refusal("a.csv", same.as_bytes(), all);
        assert!(said.starts_with("a.csv, line 1: column 1 is the time"), "{said}");
    }
    let wide = format!("{}\n", vec!["1"; 17].join(","));
    let many = "a.csv: the signal has 17 channels; at most 16 are taken";
    assert_eq!(refusal("a.csv", wide.as_bytes(), rated(1.0)), many);
    assert!(refusal("a.csv", b"\xff\xfe1\x002\x00\n", rated(1.0)).starts_with("a.csv"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_or_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        text in "[-0-9.,;\t\n\r\"#a-e ]{0,300}",
        changes in proptest::collection::vec((0usize..60, any::<u8>()), 1..6),
    ) {
        let riff = [b"RIFF", bytes.as_slice()].concat();
        let mut near = wav(16, false, 2, &eighths(200));
        for (at, to) in changes {
            near[at] = to;
        }
        for bytes in [bytes, riff, text.into_bytes(), near] {
            for options in [ReadOptions::default(), rated(10.0)] {
                if let Ok(recording) = file("a", &bytes, options) {
                    prop_assert_eq!(recording.names.len(), recording.signal.channels().len());
                }
            }
        }
    }
}
