//! A daemon of its own for each test, and clients that speak HTTP by hand.

#![allow(dead_code)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use commonhold::{Config, TableConfig};
use commonhold_server::{Server, ServerOptions};
use tempfile::TempDir;

/// What is waited for comes within this time, or the test has failed.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// A folder in shared memory with a segment and a store.
pub(crate) struct World {
    folder: TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("commonhold-serve-").tempdir_in("/dev/shm");
        Self { folder: folder.unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn config(&self) -> Config {
        let store = format!("sqlite:{}", self.path("store.db").display());
        let counters = TableConfig::new("counters", &["n:i64"]).slots(64).cells(2000);
        let segment = Config::named(self.path("segment").to_str().unwrap());
        segment.store(&store).participants(64).table(counters)
    }

    /// Options for a daemon on a port of its own, without worker processes.
    pub(crate) fn options(&self) -> ServerOptions {
        let mut options = ServerOptions::new(self.config());
        options.listen.set_port(0);
        options.pool = None;
        options.sigils = 256;
        options
    }

    pub(crate) fn serve(&self) -> Server {
        Server::start(self.options()).unwrap()
    }

    pub(crate) fn serve_with(&self, change: impl FnOnce(&mut ServerOptions)) -> Server {
        let mut options = self.options();
        change(&mut options);
        Server::start(options).unwrap()
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// It is a problem with this status, in JSON.
    pub(crate) fn problem(&self, status: u16) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let value: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(value["status"], status, "{value}");
        assert!(value["detail"].as_str().is_some_and(|d| !d.is_empty()), "{value}");
    }
}

/// A connection.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn to(address: SocketAddr) -> Self {
        Self::try_to(address).unwrap()
    }

    /// None: nobody listens.
    pub(crate) fn try_to(address: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        Some(Self { stream, reader })
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Reads an answer with a length.
    pub(crate) fn answer(&mut self) -> Answer {
        self.try_answer().unwrap_or_else(|| panic!("the connection ended without an answer"))
    }

    /// None: the connection ended first.
    pub(crate) fn try_answer(&mut self) -> Option<Answer> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            match self.reader.read_line(&mut head) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => panic!("no answer: {e}"),
                Err(_) => return None,
            }
        }
        let status = head.get(9..12).unwrap().parse().unwrap();
        let mut answer = Answer { status, head, body: Vec::new() };
        let length = answer.header("content-length").map_or(0, |n| n.parse().unwrap());
        answer.body.resize(length, 0);
        self.reader.read_exact(&mut answer.body).ok()?;
        Some(answer)
    }

    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes());
        self.answer()
    }

    pub(crate) fn put(&mut self, path: &str, json: &str) -> Option<Answer> {
        let head = format!(
            "PUT {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{json}",
            json.len()
        );
        self.stream.write_all(head.as_bytes()).ok()?;
        self.try_answer()
    }

    /// Waits until the daemon closes; whether it did without an answer.
    pub(crate) fn is_closed_silently(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.reader.read_to_end(&mut rest) {
            Ok(_) => rest.is_empty(),
            Err(e) => e.kind() == std::io::ErrorKind::ConnectionReset && rest.is_empty(),
        }
    }
}

/// A record of `counters`.
pub(crate) const RECORD: &[u8] = b"{\"fields\":{\"n\":1}}";

/// Begins a request whose body, [`RECORD`], does not come yet; it is under way when this returns.
pub(crate) fn hang(address: SocketAddr) -> Client {
    let mut client = Client::to(address);
    let head = format!(
        "PUT /v1/tables/counters/records/k HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nexpect: 100-continue\r\n\r\n",
        RECORD.len()
    );
    client.send(head.as_bytes());
    // Who reads the body says so first.
    let mut line = [0; 25];
    client.stream.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"HTTP/1.1 100 Continue\r\n\r\n");
    client
}

/// Asks once, on a connection of its own.
pub(crate) fn get(address: SocketAddr, path: &str) -> Answer {
    Client::to(address).get(path)
}

/// Waits until something holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let since = std::time::Instant::now();
    while !holds() {
        assert!(since.elapsed() < LIMIT, "it never came that {what}");
        std::thread::yield_now();
    }
}
