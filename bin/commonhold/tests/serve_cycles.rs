//! 200 starts and stops of the daemon in one process, with worker processes, jobs and requests in between: descriptors,
//! threads, processes and memory are as before. A test alone in its file, for it looks at the whole process.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use commonhold::workers::PoolOptions;
use commonhold::{Config, TableConfig};
use commonhold_server::{Server, ServerOptions};
use commonhold_testing::process::threads;

/// Rounds before what is kept for good (thread-local storage, lazily made tables, the allocator's own) is there.
const WARM_UP: u32 = 20;
const ROUNDS: u32 = 200;
/// What 200 rounds may have added, in KiB: a leak of 80 KiB a round shows. Less is noise: the allocator keeps an arena for
/// each thread there ever was at once, and their number differs by some MiB from run to run.
const GROWTH_KIB: u64 = 16 * 1024;

/// What the process has just now.
#[derive(Debug, PartialEq, Eq)]
struct Holdings {
    descriptors: Vec<String>,
    threads: usize,
    children: usize,
    mappings: usize,
}

fn holdings() -> Holdings {
    let names = |path| std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    let mut descriptors: Vec<String> = names("/proc/self/fd")
        .filter_map(|path| std::fs::read_link(path).ok())
        // Of this look itself.
        .filter(|target| !target.starts_with("/proc"))
        .map(|target| kind(target.to_str().unwrap()))
        .collect();
    descriptors.sort();
    let children = names("/proc/self/task").map(|task| {
        let children = std::fs::read_to_string(task.join("children")).unwrap_or_default();
        children.split_whitespace().count()
    });
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mappings = maps.lines().filter(|line| line.contains("/dev/shm/")).count();
    let threads = threads().unwrap();
    Holdings { descriptors, threads, children: children.sum(), mappings }
}

/// A descriptor's target without its number.
fn kind(target: &str) -> String {
    target.split_once(":[").map_or(target, |(kind, _)| kind).to_owned()
}

/// Memory that is of this process alone, in KiB.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn round(options: &ServerOptions, number: u32) {
    let server = Server::start(options.clone()).unwrap();
    let head =
        "HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n";
    for path in ["/readyz", "/metrics", "/openapi.json"] {
        let answer = ask(server.address(), &format!("GET {path} {head}\r\n"));
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    let body = format!("{{\"fields\":{{\"n\":{number}}}}}");
    let length = body.len();
    let put =
        format!("PUT /v1/tables/counters/records/k {head}content-length: {length}\r\n\r\n{body}");
    let answer = ask(server.address(), &put);
    assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
    // One that is left in the middle of a request, too.
    let mut half = TcpStream::connect(server.address()).unwrap();
    half.write_all(b"GET /healthz HT").unwrap();
    server.stop().unwrap();
}

#[test]
fn starting_and_stopping_leaves_nothing() {
    let folder = tempfile::Builder::new().prefix("commonhold-cycles-").tempdir_in("/dev/shm");
    let folder = folder.unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let counters = TableConfig::new("counters", &["n:i64"]).slots(16).cells(1000);
    let segment = Config::named(&at("segment")).store(&format!("sqlite:{}", at("store.db")));
    let mut options = ServerOptions::new(segment.participants(64).table(counters));
    options.listen.set_port(0);
    options.sigils = 64;
    let program = env!("CARGO_BIN_EXE_commonhold");
    options.pool = Some(PoolOptions::new().workers(1..=1).command(program, [""; 0]));
    (0..WARM_UP).for_each(|number| round(&options, number));
    let (before, memory_before) = (holdings(), memory());
    (0..ROUNDS).for_each(|number| round(&options, number));
    assert_eq!(holdings(), before);
    let grown = memory().saturating_sub(memory_before);
    println!("{ROUNDS} rounds: {before:?}, memory {memory_before} KiB and {grown} KiB more");
    assert!(grown <= GROWTH_KIB, "{grown} KiB more than before");
}
