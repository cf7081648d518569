//! Clients that are slow, silent, huge, foreign or many: each is told or ended, and others are served meanwhile.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::io::{ErrorKind, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use common::{Client, RECORD, World, eventually, get, hang};
use commonhold_server::ServerOptions;

const SHORT: Duration = Duration::from_millis(200);
const TOKEN: &str = "0123456789abcdef-token";

fn is_served(address: SocketAddr) {
    assert_eq!(get(address, "/healthz").status, 200);
    get(address, "/no-such-route").problem(404);
}

#[test]
fn a_head_that_does_not_come_is_not_waited_for() {
    let world = World::new();
    let server = world.serve_with(|options| options.header_time = SHORT);
    let mut slow = Client::to(server.address());
    slow.send(b"GET /healthz HTTP/1.1\r\nhost: loc");
    is_served(server.address());
    assert!(slow.is_closed_silently());
    // One that trickles is no better.
    let mut trickle = Client::to(server.address());
    trickle.send(b"GET /healthz HTTP/1.1\r\n");
    eventually("a trickling client is ended", || trickle.stream.write_all(b"x: y\r\n").is_err());
    is_served(server.address());
    server.stop().unwrap();
}

#[test]
fn an_idle_connection_is_ended_and_a_used_one_is_not() {
    let world = World::new();
    let server = world.serve_with(|options| options.idle_time = SHORT);
    let (mut silent, mut idle) = (Client::to(server.address()), Client::to(server.address()));
    assert_eq!(idle.get("/healthz").status, 200);
    assert!(silent.is_closed_silently() && idle.is_closed_silently());
    let server = world.serve_with(|options| options.header_time = SHORT);
    let mut kept = Client::to(server.address());
    assert_eq!(kept.get("/healthz").status, 200);
    let mut silent = Client::to(server.address());
    silent.send(b"GET");
    assert!(silent.is_closed_silently());
    assert_eq!(kept.get("/healthz").status, 200, "the limit for heads is not one for pauses");
}

#[test]
fn a_body_that_does_not_come_is_the_clients_fault() {
    let world = World::new();
    let server = world.serve_with(|options| options.request_time = SHORT);
    let mut slow = hang(server.address());
    slow.send(&RECORD[..4]);
    let answer = slow.answer();
    answer.problem(408);
    is_served(server.address());
}

#[test]
fn who_does_not_take_his_answers_is_ended() {
    let world = World::new();
    let server = world.serve_with(|options| options.stall_time = SHORT);
    let mut deaf = Client::to(server.address());
    deaf.stream.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
    let asks = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(100);
    eventually("the deaf client is ended", || match deaf.stream.write_all(&asks) {
        Ok(()) => false,
        Err(e) => !matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    });
    is_served(server.address());
}

#[test]
fn a_body_that_is_too_large_is_refused_unread() {
    let world = World::new();
    let server = world.serve();
    let head = "PUT /v1/tables/counters/records/k HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    let mut told = Client::to(server.address());
    told.send(format!("{head}content-length: 10000000\r\n\r\n").as_bytes());
    let refused = told.answer();
    assert_eq!(
        refused.header("connection"),
        Some("close"),
        "the next request would meet no reader"
    );
    refused.problem(413);
    // Who sends it all the same still gets the answer.
    let mut sent = Client::to(server.address());
    sent.send(format!("{head}content-length: 10000000\r\n\r\n").as_bytes());
    let mut sender = sent.stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || sender.write_all(&vec![b' '; 10_000_000]));
    sent.answer().problem(413);
    sending.join().unwrap().expect("who looks for the answer only then would not get it");
    // In pieces, without a length: as soon as it is too much.
    let mut pieces = Client::to(server.address());
    pieces.send(format!("{head}transfer-encoding: chunked\r\n\r\n").as_bytes());
    let mut sender = pieces.stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        let piece = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
        while sender.write_all(&piece).is_ok() {}
    });
    pieces.answer().problem(413);
    drop(pieces);
    server.hurry();
    sending.join().unwrap();
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let world = World::new();
    let server = world.serve();
    let host = "host: localhost\r\n";
    let record = "/v1/tables/counters/records/";
    for (what, bytes) in [
        ("line", b"\xff\xfe\x00\r\n\r\n".to_vec()),
        ("no http", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(9)),
        ("raw path", [b"GET /\xff HTTP/1.1\r\n", host.as_bytes(), b"\r\n"].concat()),
        ("path", format!("GET {record}%ff HTTP/1.1\r\n{host}\r\n").into_bytes()),
        ("query", format!("GET {record}k?durable=%ff HTTP/1.1\r\n{host}\r\n").into_bytes()),
        ("header name", [b"GET /no HTTP/1.1\r\nx\xff: y\r\n", host.as_bytes(), b"\r\n"].concat()),
        ("header", [b"GET /no HTTP/1.1\r\nif-match: \xff\r\n", host.as_bytes(), b"\r\n"].concat()),
        ("host", b"GET /no HTTP/1.1\r\nhost: \xff\r\n\r\n".to_vec()),
        ("id", [b"GET /no HTTP/1.1\r\nx-request-id: \xff\r\n", host.as_bytes(), b"\r\n"].concat()),
        ("nul", [b"GET /no HTTP/1.1\r\nx: \0\r\n", host.as_bytes(), b"\r\n"].concat()),
        ("long head", [b"GET /no HTTP/1.1\r\nx: ", vec![b'x'; 100_000].as_slice()].concat()),
        ("many headers", format!("GET /no HTTP/1.1\r\n{}", "x: y\r\n".repeat(500)).into_bytes()),
        (
            "body",
            [
                format!("PUT {record}k HTTP/1.1\r\n{host}content-type: application/json\r\n")
                    .as_bytes(),
                b"content-length: 9\r\n\r\n{\"n\": \xff\xff}",
            ]
            .concat(),
        ),
        (
            "two lengths",
            format!(
                "PUT {record}k HTTP/1.1\r\n{host}content-length: 1\r\ncontent-length: 2\r\n\r\nxx"
            )
            .into_bytes(),
        ),
    ] {
        let mut client = Client::to(server.address());
        // The daemon may have answered, and closed, before it is all sent.
        let _ = client.stream.write_all(&bytes);
        let answer = client.try_answer().unwrap_or_else(|| panic!("{what}: no answer"));
        assert!((400..500).contains(&answer.status), "{what}: {answer:?}");
        is_served(server.address());
    }
}

#[test]
fn half_open_connections_are_served_or_ended() {
    let world = World::new();
    let server = world.serve();
    let mut asks = Client::to(server.address());
    asks.send(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n");
    asks.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(asks.answer().status, 200);
    assert!(asks.is_closed_silently());
    let mut silent = Client::to(server.address());
    silent.stream.shutdown(Shutdown::Write).unwrap();
    assert!(silent.is_closed_silently());
    // A durable write is answered a while later, and its sender has closed his side long since.
    let mut waits = Client::to(server.address());
    waits.send(
        b"PUT /v1/tables/counters/records/k?durable=true HTTP/1.1\r\nhost: localhost\r\n\
          content-type: application/json\r\ncontent-length: 18\r\n\r\n{\"fields\":{\"n\":1}}",
    );
    waits.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(waits.answer().status, 201);
    assert!(waits.is_closed_silently());
    let mut half = Client::to(server.address());
    half.send(b"PUT /v1/tables/counters/records/k HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n{");
    half.stream.shutdown(Shutdown::Write).unwrap();
    // An answer or none: it ends.
    while half.try_answer().is_some() {}
    is_served(server.address());
}

#[test]
fn a_newcomer_takes_the_place_of_who_is_idle_longest() {
    let world = World::new();
    let server = world.serve_with(|options| options.connections = 4);
    let mut clients: Vec<Client> = (0..4).map(|_| Client::to(server.address())).collect();
    for client in &mut clients {
        assert_eq!(client.get("/healthz").status, 200);
    }
    let mut busy = hang(server.address());
    assert!(clients[0].is_closed_silently(), "the first one had been idle for longest");
    let mut last = Client::to(server.address());
    assert_eq!(last.get("/healthz").status, 200);
    assert!(clients[1].is_closed_silently());
    for _ in 0..100 {
        is_served(server.address());
    }
    busy.send(RECORD);
    assert!(busy.answer().status < 300, "who is at work keeps his place");
}

#[test]
fn where_all_are_at_work_a_newcomer_waits() {
    let world = World::new();
    let server = world.serve_with(|options| {
        (options.connections, options.body_time) = (2, Duration::from_secs(60));
    });
    let (mut first, mut second) = (hang(server.address()), hang(server.address()));
    let mut newcomer = Client::to(server.address());
    newcomer.send(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n");
    first.send(RECORD);
    assert!(first.answer().status < 300);
    assert_eq!(newcomer.answer().status, 200);
    second.send(RECORD);
    assert!(second.answer().status < 300);
}

#[test]
fn too_many_requests_are_told_to_come_again() {
    let world = World::new();
    let server = world.serve_with(|options| {
        (options.requests, options.body_time) = (1, Duration::from_secs(60));
    });
    let mut busy = hang(server.address());
    let refused = get(server.address(), "/metrics");
    refused.problem(503);
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(get(server.address(), "/healthz").status, 200);
    busy.send(RECORD);
    assert!(busy.answer().status < 300);
    assert_eq!(get(server.address(), "/metrics").status, 200);
}

#[test]
fn bodies_that_do_not_come_keep_no_places() {
    let world = World::new();
    let day = Duration::from_secs(86_400);
    let slow =
        |options: &mut ServerOptions| (options.body_time, options.request_time) = (SHORT, day);
    for connections in [100, 4] {
        let server = world.serve_with(|options| {
            slow(options);
            (options.requests, options.connections) = (4, connections);
        });
        let mut silent: Vec<Client> = (0..4).map(|_| hang(server.address())).collect();
        eventually("others are served", || get(server.address(), "/metrics").status == 200);
        assert!(silent[0].is_closed_silently(), "the one that has been silent for longest");
        drop(silent);
        server.stop().unwrap();
    }
}

#[test]
fn who_has_no_token_gets_nothing() {
    let world = World::new();
    let file = world.path("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let server = world.serve_with(|options| options.token_file = Some(file));
    let ask = |headers: &str| {
        let mut client = Client::to(server.address());
        client.send(
            format!("GET /metrics HTTP/1.1\r\nhost: example.com\r\n{headers}\r\n").as_bytes(),
        );
        client.answer()
    };
    let right = format!("authorization: Bearer {TOKEN}\r\n");
    assert_eq!(ask(&right).status, 200);
    for wrong in [
        String::new(),
        "authorization: Bearer 0123456789abcdef-tokex\r\n".to_owned(),
        format!("authorization: Basic {TOKEN}\r\n"),
        format!("authorization: {TOKEN}\r\n"),
        format!("{right}{right}"),
        format!("x-authorization: Bearer {TOKEN}\r\n"),
    ] {
        let answer = ask(&wrong);
        answer.problem(401);
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        assert!(!answer.text().contains(TOKEN));
    }
    for open in ["/healthz", "/readyz"] {
        assert_eq!(get(server.address(), open).status, 200);
    }
}

#[test]
fn requests_for_other_hosts_are_refused() {
    let world = World::new();
    let server = world.serve();
    for (host, status) in [("evil.example", 421), ("evil.example:7340", 421), ("127.0.0.1", 200)] {
        let mut client = Client::to(server.address());
        client.send(format!("GET /metrics HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes());
        let answer = client.answer();
        assert_eq!(answer.status, status, "{host}");
        if status == 421 {
            answer.problem(421);
        }
    }
}

#[test]
fn every_answer_has_an_id() {
    let world = World::new();
    let server = world.serve();
    let made = get(server.address(), "/healthz");
    assert!(made.header("x-request-id").is_some_and(|id| id.len() > 16), "{made:?}");
    let mut client = Client::to(server.address());
    for (id, taken) in [("mine-1", true), ("not{mine}", false)] {
        client.send(
            format!("GET /no HTTP/1.1\r\nhost: localhost\r\nx-request-id: {id}\r\n\r\n").as_bytes(),
        );
        assert_eq!(client.answer().header("x-request-id") == Some(id), taken);
    }
}
