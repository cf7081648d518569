//! What is a line of an access log, and what is not.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

const HEAD: &str = "1.2.3.4 - - [17/May/2015:10:05:03 +0000] ";

/// Client, status and size of a line that parses.
fn parsed(line: &[u8]) -> (String, u16, i64) {
    let request = parse(line).unwrap_or_else(|e| panic!("{}: {e}", String::from_utf8_lossy(line)));
    (request.client.to_owned(), request.status, request.size)
}

#[test]
fn lines_of_the_two_formats() {
    let cases: [(&str, u16, i64); 11] = [
        (r#""GET / HTTP/1.0" 200 2326"#, 200, 2326),
        (r#""GET / HTTP/1.0" 304 -"#, 304, 0),
        (r#""GET /a HTTP/1.1" 200 17 "http://x/" "Mozilla/5.0 (X11)""#, 200, 17),
        (r#""GET /a HTTP/1.1" 200 235 "-" "Mozilla/5.0 (no end"#, 200, 235),
        (r#""GET /a HTTP/1.1" 200 235 "no end"#, 200, 235),
        (r#""GET /a b c HTTP/1.1" 404 9 "-" "-""#, 404, 9),
        (r#""GET /\"q\" 200 7 HTTP/1.1" 404 9 "-" "-""#, 404, 9),
        (r#""GET /"q" HTTP/1.1" 404 9 "-" "-""#, 404, 9),
        (r#""-" 408 - "-" "-""#, 408, 0),
        (r#""" 400 0"#, 400, 0),
        (r#""GET /x\\" 200 9223372036854775807 "-" "-""#, 200, i64::MAX),
    ];
    for (rest, status, size) in cases {
        let line = format!("{HEAD}{rest}");
        assert_eq!(parsed(line.as_bytes()), ("1.2.3.4".to_owned(), status, size), "{line}");
    }
}

#[test]
fn clients_are_any_word_and_users_may_have_spaces() {
    let rest = r#"[17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 5"#;
    for client in ["::1", "2001:db8::ff00:42:8329", "example.org", "client-ä"] {
        assert_eq!(parsed(format!("{client} - - {rest}").as_bytes()).0, client);
    }
    assert_eq!(parsed(format!("h ident john doe {rest}").as_bytes()).0, "h");
    let odd = parse(br#"h - - [x] "\"GET" 200 5"#).unwrap();
    assert_eq!(odd.request, br#"\"GET"#);
}

#[test]
fn bytes_that_are_not_utf8_harm_in_the_client_only() {
    assert_eq!(parsed(b"h - \xff [x] \"GET /\xfe\x80 HTTP/1.1\" 200 5 \"\xff").2, 5);
    assert_eq!(parse(b"h\xff - - [x] \"GET / HTTP/1.1\" 200 5"), Err(Unparsed::BadClient));
    assert_eq!(parse(b"h\0 - - [x] \"GET / HTTP/1.1\" 200 5"), Err(Unparsed::BadClient));
    let long = format!("{} - - [x] \"GET / HTTP/1.1\" 200 5", "h".repeat(1025));
    assert_eq!(parse(long.as_bytes()), Err(Unparsed::BadClient));
}

#[test]
fn what_is_no_line_says_why() {
    let cases: [(&str, Unparsed); 16] = [
        ("", Unparsed::NoClient),
        ("garbage", Unparsed::NoClient),
        (" - - [x] \"GET /\" 200 5", Unparsed::NoClient),
        ("garbage and more", Unparsed::NoTime),
        ("h - - \"GET / HTTP/1.1\" 200 5", Unparsed::NoTime),
        ("h - - [x \"GET / HTTP/1.1\" 200 5", Unparsed::NoTime),
        ("h - - [x] GET / 200 5", Unparsed::NoTime),
        ("h - - [x] \"GET / HTTP/1.1", Unparsed::NoRequest),
        ("h - - [x] \"GET / HTTP/1.1\"", Unparsed::NoRequest),
        ("h - - [x] \"GET / HTTP/1.1\" 200", Unparsed::NoRequest),
        ("h - - [x] \"GET / HTTP/1.1\" 20 5", Unparsed::NoRequest),
        ("h - - [x] \"GET / HTTP/1.1\" 2000 5", Unparsed::NoRequest),
        ("h - - [x] \"GET / HTTP/1.1\" +20 5", Unparsed::NoRequest),
        ("h - - [x] \"GET / HTTP/1.1\" 200 -5", Unparsed::NoRequest),
        ("h - - [x] \"GET / HTTP/1.1\" 200 5x", Unparsed::NoRequest),
        ("h - - [x] \"GET / HTTP/1.1\" 200 9223372036854775808", Unparsed::HugeSize),
    ];
    for (line, why) in cases {
        assert_eq!(parse(line.as_bytes()), Err(why), "{line}");
    }
}

type Outcome = (u64, Result<i64, Unparsed>);

/// Number and outcome of each line of a file with `bytes` in it.
fn read(name: &str, bytes: &[u8]) -> Result<Vec<Outcome>, LogError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let mut log = AccessLog::open(&path)?;
    let mut lines = Vec::new();
    while let Some((number, line)) = log.next_line()? {
        lines.push((number, line.map(|request| request.size)));
    }
    Ok(lines)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn files_are_read_plain_and_zipped_in_one_or_several_pieces() {
    let (one, two) =
        (format!("{HEAD}\"GET /\" 200 1\r\n\n"), format!("{HEAD}\"GET /\" 200 2 without an end"));
    let want = vec![(1, Ok(1)), (2, Err(Unparsed::NoClient)), (3, Ok(2))];
    let whole = [one.as_bytes(), two.as_bytes()].concat();
    assert_eq!(read("plain.gz", &whole).unwrap(), want, "what the name says does not matter");
    assert_eq!(read("zipped", &gzip(&whole)).unwrap(), want);
    let pieces = [gzip(one.as_bytes()), gzip(two.as_bytes())].concat();
    assert_eq!(read("pieces.gz", &pieces).unwrap(), want);
    assert_eq!(read("empty", b"").unwrap(), vec![]);
}

#[test]
fn an_endless_line_is_skipped_and_a_cut_file_is_an_error() {
    let mut bytes = vec![b'x'; 2 * LINE_BYTES_MAX + 7];
    bytes.extend(format!("\n{HEAD}\"GET /\" 200 3\n").as_bytes());
    assert_eq!(read("long", &bytes).unwrap(), vec![(1, Err(Unparsed::TooLong)), (2, Ok(3))]);
    let mut cut = gzip(format!("{HEAD}\"GET /\" 200 3\n").repeat(100).as_bytes());
    cut.truncate(cut.len() - 9);
    let error = read("cut.gz", &cut).unwrap_err().to_string();
    assert!(error.contains("cannot read the log") && error.contains("cut.gz"), "{error}");
    assert!(AccessLog::open(Path::new("/nowhere/a.log")).is_err());
}
