//! The daemon as a process: signals, the end, what is left, and what does not start.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use common::World;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// What is waited for comes within this time, or the test has failed.
const LIMIT: Duration = Duration::from_secs(60);

/// A daemon; it is killed with its test.
struct Daemon {
    child: Child,
    address: SocketAddr,
    log: mpsc::Receiver<Value>,
}

impl Daemon {
    /// Starts one on a port of its own, in a process group of its own; it serves when this returns.
    fn start(world: &World, arguments: &[&str]) -> Self {
        Self::start_with(world, arguments, &[])
    }

    fn start_with(world: &World, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut all = [&["serve", "--listen", "127.0.0.1:0", "--json-log"], arguments].concat();
        let small = world.text_path("small.toml");
        if !arguments.contains(&"--config") {
            std::fs::write(&small, "[serve]\nsigils = 256\n").unwrap();
            all.extend(["--config", &small]);
        }
        let mut command = world.command(&all);
        command.envs(variables.iter().copied());
        command.process_group(0).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (tell, log) = mpsc::channel();
        let lines = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || read_log(lines, &tell));
        let mut daemon = Self { child, address: SocketAddr::from(([127, 0, 0, 1], 0)), log };
        let serving = daemon.event("serving");
        daemon.address = serving["address"].as_str().unwrap().parse().unwrap();
        daemon
    }

    /// The next line of the log with this message.
    fn event(&self, message: &str) -> Value {
        loop {
            let line = self.log.recv_timeout(LIMIT).unwrap();
            if line["message"] == message {
                return line;
            }
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap())
    }

    /// Waits for the end: the exit code, and what was logged last.
    fn end(mut self) -> (Option<i32>, Vec<Value>) {
        let code = self.child.wait().unwrap().code();
        (code, self.log.iter().collect())
    }

    fn stop(self, signal: Signal) -> Vec<Value> {
        kill(self.pid(), signal).unwrap();
        let (code, log) = self.end();
        assert_eq!(code, Some(0), "{log:?}");
        log
    }

    /// The processes that it has started and that are there.
    fn children(&self) -> Vec<i32> {
        let path = format!("/proc/{0}/task/", self.pid());
        let tasks = std::fs::read_dir(path).unwrap();
        let children = tasks.flat_map(|task| {
            let text = std::fs::read_to_string(task.unwrap().path().join("children"));
            let text = text.unwrap_or_default();
            text.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<i32>>()
        });
        children.collect()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Has ended already when the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every line is an object, or comes from before the log was there.
fn read_log(lines: BufReader<ChildStderr>, tell: &mpsc::Sender<Value>) {
    for line in lines.lines().map_while(Result::ok) {
        let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
        if tell.send(value).is_err() {
            return;
        }
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

/// Asks once; the whole answer, none when the connection ended before it.
fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(head.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    (!answer.is_empty()).then_some(answer)
}

fn is_ok(address: SocketAddr, path: &str) {
    let answer = ask(address, "GET", path, "").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// A request whose body does not come.
fn hang(address: SocketAddr) -> TcpStream {
    let mut stream = connect(address);
    let head = "PUT /v1/tables/counters/records/k HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                content-length: 18\r\nexpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut line = [0; 25];
    stream.read_exact(&mut line).unwrap();
    assert!(line.starts_with(b"HTTP/1.1 100 "));
    stream
}

fn is_there(pid: i32) -> bool {
    kill(Pid::from_raw(pid), None).is_ok()
}

#[test]
fn a_signal_stops_it_and_nothing_is_left() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let world = World::with_counters();
        let daemon = Daemon::start(&world, &["--workers", "2"]);
        let address = daemon.address;
        for path in ["/healthz", "/readyz", "/metrics", "/openapi.json"] {
            is_ok(address, path);
        }
        let put = ask(
            address,
            "PUT",
            "/v1/tables/counters/records/a",
            "{\"fields\":{\"n\":3,\"name\":\"x\"}}",
        );
        assert!(put.as_ref().is_some_and(|answer| answer.contains(" 201 ")), "{put:?}");
        let workers = daemon.children();
        assert!(!workers.is_empty());
        daemon.stop(signal);
        assert!(TcpStream::connect(address).is_err());
        assert!(!workers.into_iter().any(is_there), "workers are left");
        let mut left: Vec<String> = std::fs::read_dir(world.path(""))
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with("store.db"))
            .collect();
        left.sort();
        assert_eq!(left, ["segment", "segment.lock", "small.toml"]);
        assert_eq!(world.json(&["get", "counters", "a"])["fields"]["n"], 3);
        world.ok(&["verify"]);
        world.ok(&["destroy"]);
    }
}

#[test]
fn a_second_signal_hurries() {
    let world = World::with_counters();
    let daemon = Daemon::start(&world, &["--grace", "1h"]);
    let mut busy = hang(daemon.address);
    kill(daemon.pid(), Signal::SIGTERM).unwrap();
    let since = Instant::now();
    while TcpStream::connect(daemon.address).is_ok() {
        assert!(since.elapsed() < LIMIT);
    }
    daemon.stop(Signal::SIGTERM);
    let mut rest = Vec::new();
    assert!(busy.read_to_end(&mut rest).map_or(true, |_| rest.is_empty()));
}

#[test]
fn a_terminals_signal_reaches_the_daemon_alone() {
    let world = World::with_counters();
    let daemon = Daemon::start(&world, &["--workers", "1"]);
    let workers = daemon.children();
    assert_eq!(workers.len(), 1);
    killpg(daemon.pid(), Signal::SIGINT).unwrap();
    let (code, log) = daemon.end();
    assert_eq!(code, Some(0), "{log:?}");
    let ended = world.json(&["workers"]);
    assert_eq!(ended["workers"][0]["last_end"], "exited with status 0", "{ended}");
}

#[test]
fn requests_are_logged_without_keys_and_tokens() {
    let world = World::with_counters();
    let token = world.path("token");
    std::fs::write(&token, "0123456789abcdef\n").unwrap();
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
    let daemon = Daemon::start(&world, &["--token-file", token.to_str().unwrap(), "--workers=0"]);
    let mut stream = connect(daemon.address);
    let head = "GET /v1/tables/counters/records/secret-key?x=secret HTTP/1.1\r\nhost: localhost\r\nx-request-id: mine\r\n\
                authorization: Bearer 0123456789abcdef\r\nconnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
    let line = loop {
        let line = daemon.log.recv_timeout(LIMIT).unwrap();
        if line["target"] == "commonhold::request" {
            break line;
        }
    };
    assert_eq!(line["method"], "GET", "{line}");
    assert_eq!(line["route"], "/v1/tables/{table}/records/{key}", "{line}");
    assert!(line["status"].is_u64() && line["micros"].is_u64() && line["bytes"].is_u64(), "{line}");
    assert_eq!(line["id"], "mine", "{line}");
    let rest = daemon.stop(Signal::SIGTERM);
    let text = format!("{line} {rest:?}");
    assert!(!text.contains("secret") && !text.contains("0123456789abcdef"), "{text}");
}

#[test]
fn the_service_manager_is_told() {
    let world = World::with_counters();
    let path = world.text_path("notify");
    let manager = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(LIMIT)).unwrap();
    let heard = |what: &str| {
        let mut bytes = [0; 1000];
        loop {
            let length = manager.recv(&mut bytes).unwrap();
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if text.lines().any(|line| line == what) {
                return text;
            }
        }
    };
    let variables = [("NOTIFY_SOCKET", path.as_str()), ("WATCHDOG_USEC", "300000")];
    let daemon = Daemon::start_with(&world, &["--workers=0"], &variables);
    let ready = heard("READY=1");
    assert!(ready.contains(&format!("STATUS=serving at http://{}", daemon.address)), "{ready}");
    for _ in 0..3 {
        heard("WATCHDOG=1");
    }
    let stopping = kill(daemon.pid(), Signal::SIGTERM);
    stopping.unwrap();
    heard("STOPPING=1");
    assert_eq!(daemon.end().0, Some(0));
}

#[test]
fn what_cannot_start_is_one_line() {
    let world = World::with_counters();
    let daemon = Daemon::start(&world, &["--workers=0"]);
    let address = daemon.address.to_string();
    let taken = format!("cannot listen on {address}: somebody listens there already");
    world.fails(&["serve", "--listen", &address, "--workers=0"], 1, &taken);
    world.fails(
        &["serve", "--listen", "0.0.0.0:0"],
        2,
        "name a file with a token (--token-file FILE)",
    );
    world.fails(&["serve", "--listen", "localhost"], 2, "invalid socket address");
    world.fails(
        &["serve", "--log", "commonhold=loud", "--listen", "127.0.0.1:0"],
        2,
        "is no filter",
    );
    let token = world.path("token");
    std::fs::write(&token, "0123456789abcdef\n").unwrap();
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644)).unwrap();
    let token = token.to_str().unwrap();
    world.fails(&["serve", "--listen=0.0.0.0:0", "--token-file", token], 1, "its mode is 0644");
    let file = world.text_path("commonhold.toml");
    std::fs::write(&file, "[serve]\nlisten = \"127.0.0.1:0\"\ncolour = 3\n").unwrap();
    world.fails(&["serve", "--config", &file], 1, "commonhold.toml:3:1: unknown field `colour`");
    is_ok(daemon.address, "/healthz");
    daemon.stop(Signal::SIGTERM);
}

#[test]
fn the_file_says_how() {
    let world = World::with_counters();
    let file = world.text_path("commonhold.toml");
    std::fs::write(&file, "[serve]\nsigils = 256\nworkers = 0\nbody_bytes = 10\n").unwrap();
    let daemon = Daemon::start(&world, &["--config", &file]);
    assert!(daemon.children().is_empty());
    let large =
        ask(daemon.address, "PUT", "/v1/tables/counters/records/a", "{\"fields\":{}}").unwrap();
    assert!(large.starts_with("HTTP/1.1 413 "), "{large}");
    // Other commands leave the section alone.
    world.ok(&["--config", &file, "tables"]);
    daemon.stop(Signal::SIGTERM);
}

/// As many descriptors as this user may have.
fn raise_descriptors() -> u64 {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    hard
}

#[test]
fn ten_thousand_idle_connections_keep_nobody_out() {
    let world = World::with_counters();
    let file = world.text_path("commonhold.toml");
    // Room for all of them, and for fewer: those that are idle longest make room.
    for connections in [12_000, 1_000] {
        std::fs::write(
            &file,
            format!("[serve]\nsigils = 256\nworkers = 0\nconnections = {connections}\n"),
        )
        .unwrap();
        let daemon =
            Daemon::start(&world, &["--config", &file, "--log", "info,commonhold::request=off"]);
        let many = 10_000.min(raise_descriptors().saturating_sub(500));
        let mut idle = Vec::new();
        for number in 0..many {
            idle.push(connect(daemon.address));
            if number % 500 == 0 {
                is_ok(daemon.address, "/readyz");
            }
        }
        for _ in 0..20 {
            is_ok(daemon.address, "/readyz");
            is_ok(daemon.address, "/metrics");
        }
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count();
        if connections < many {
            assert!(descriptors < connections as usize + 100, "{descriptors} descriptors");
        } else {
            assert!(descriptors as u64 >= many, "{descriptors} descriptors");
        }
        daemon.stop(Signal::SIGTERM);
    }
}

#[test]
fn a_cascade_is_computed_by_a_worker() {
    let world = World::with_counters();
    let daemon = Daemon::start(&world, &["--workers", "1"]);
    let post = |body: &Value| {
        let path = "/v1/resonance/cascade";
        let answer = ask(daemon.address, "POST", path, &body.to_string()).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().to_owned();
        (status, serde_json::from_str::<Value>(body).unwrap())
    };
    let wave = |hz: f64| -> Vec<f64> {
        (0..1024).map(|n| (std::f64::consts::TAU * hz * f64::from(n) / 8000.0).cos()).collect()
    };
    let (status, found) =
        post(&json!({"rate_hz": 8000, "channels": [wave(440.0), wave(1000.0)], "harmonics": 3}));
    assert_eq!(status, "200", "{found}");
    for (node, hz) in [(0, 440.0), (1, 1000.0)] {
        let fundamental = found["nodes"][node]["fundamental_hz"].as_f64().unwrap();
        assert!((fundamental - hz).abs() < 0.01, "{fundamental}");
    }
    assert_eq!(found["nodes"][0]["harmonics"].as_array().unwrap().len(), 3);
    for (body, place) in [
        (json!({"rate_hz": 8000, "channels": [[1.0]]}), "/channels"),
        (json!({"rate_hz": 8000, "channels": [wave(440.0), [1.0]]}), "/channels/1"),
        (json!({"rate_hz": 0, "channels": [wave(440.0)]}), "/rate_hz"),
        (json!({"rate_hz": 8000, "channels": [wave(440.0)], "harmonics": 0}), "/harmonics"),
        (json!({"rate_hz": 8000, "channels": [wave(440.0)], "window": "none"}), "/window"),
        (json!({"rate_hz": 8000, "channels": [wave(440.0)], "segment": 1000}), "/segment"),
        (json!({"rate_hz": 8000, "channels": [[1.0, "2"]]}), "/channels/0/1"),
    ] {
        let (status, problem) = post(&body);
        assert_eq!((status.as_str(), &problem["field"]), ("422", &json!(place)), "{problem}");
    }
    daemon.stop(Signal::SIGTERM);
}

#[test]
fn the_log_tells_when_the_store_is_gone_and_when_it_is_back() {
    let world = World::with_counters();
    let daemon = Daemon::start(&world, &[]);
    std::fs::rename(world.path("store.db"), world.path("aside")).unwrap();
    std::fs::create_dir(world.path("store.db")).unwrap();
    world.ok(&["set", "counters", "a", "n=1"]);
    let gone = daemon.event("the store does not take what is committed");
    assert!(gone["why"].as_str().unwrap().contains("store.db"), "{gone}");
    assert!(gone["level"] == "WARN" && gone["unstored"].as_u64() >= Some(1), "{gone}");
    std::fs::remove_dir(world.path("store.db")).unwrap();
    std::fs::rename(world.path("aside"), world.path("store.db")).unwrap();
    daemon.event("the store takes what is committed again");
    world.ok(&["drain"]);
    assert_eq!(world.json(&["inspect"])["unstored_versions"], json!(0));
    daemon.stop(Signal::SIGTERM);
}
