//! `top` from outside: one frame as text, and live on a terminal of its own.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::{Child, ExitStatus, Stdio};

use common::World;
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::{Pid, write};

/// `top` on a terminal of its own.
struct Live {
    child: Child,
    /// Our end of the terminal, and its other end, kept to look at its modes.
    master: File,
    terminal: OwnedFd,
    /// What it wrote so far.
    seen: String,
}

impl Live {
    fn start(world: &World) -> Self {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(Some(&size), None).unwrap();
        let mut command = world.command(&["top", "--interval", "20ms"]);
        command.env("TERM", "xterm").stdin(slave.try_clone().unwrap());
        command.stdout(slave.try_clone().unwrap()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        let seen = String::new();
        Self { child, master: File::from(master), terminal: slave, seen }
    }

    fn read(&mut self) {
        let mut buffer = [0; 4096];
        let count = self.master.read(&mut buffer).unwrap();
        self.seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }

    /// Reads until the terminal was sent `text`.
    fn wait_for_bytes(&mut self, text: &str) {
        while !self.seen.contains(text) {
            self.read();
        }
    }

    /// Reads until the terminal shows `text`.
    fn wait_for(&mut self, text: &str) {
        while !picture(&self.seen).contains(text) {
            self.read();
        }
    }

    fn press(&self, keys: &[u8]) {
        write(&self.master, keys).unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Whether programs on the terminal get whole lines, echoed: as it was before.
    fn is_usual(&self) -> bool {
        let flags = tcgetattr(&self.terminal).unwrap().local_flags;
        flags.contains(LocalFlags::ICANON | LocalFlags::ECHO)
    }

    /// It ended, and gave the terminal back: the first screen, its modes, the cursor.
    fn ended(mut self) -> ExitStatus {
        self.wait_for_bytes("\u{1b}[?1049l");
        self.wait_for_bytes("\u{1b}[?25h");
        let status = self.child.wait().unwrap();
        assert!(self.is_usual(), "{status}");
        let mut errors = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        assert_eq!(errors, "");
        status
    }
}

/// What a terminal shows that was sent this: only what changed is sent, with moves of the cursor between.
fn picture(sent: &str) -> String {
    let mut cells = vec![vec![' '; 200]; 50];
    let (mut row, mut column) = (0, 0);
    let mut rest = sent.chars();
    while let Some(c) = rest.next() {
        if c != '\u{1b}' {
            cells[row][column] = c;
            column += 1;
            continue;
        }
        let mut sequence = String::new();
        while !sequence.ends_with(|c: char| c.is_ascii_alphabetic()) {
            let Some(c) = rest.next() else { break };
            sequence.push(c);
        }
        let place = sequence.strip_prefix('[').and_then(|s| s.strip_suffix('H'));
        if let Some((y, x)) = place.and_then(|s| s.split_once(';')) {
            let number = |n: &str| n.parse::<usize>().unwrap() - 1;
            (row, column) = (number(y).min(49), number(x).min(100));
        }
    }
    cells.iter().map(|line| line.iter().collect::<String>() + "\n").collect()
}

impl Drop for Live {
    fn drop(&mut self) {
        // Has ended already when the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn one_frame_as_text() {
    let world = World::with_counters();
    world.ok(&["set", "counters", "a", "n=5"]);
    let text = world.ok(&["top", "--once", "--interval", "10ms"]);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with(&format!("segment {}  ", world.segment())), "{text}");
    assert_eq!(lines[1], format!("store {}", world.store()));
    assert!(lines[3].starts_with("commits 0/s  (1 in all)  lost exchanges 0/s"), "{text}");
    assert_eq!(lines[4], "participants 0 alive  0 dead  of 16");
    let table: Vec<&str> = lines[7].split_whitespace().collect();
    assert_eq!(table, ["counters", "full", "1", "16", "300", "299", "0", "0"]);
    assert!(!text.contains('\u{1b}'), "no escape sequences");
}

#[test]
fn it_needs_a_terminal_and_a_segment() {
    let world = World::new();
    world.fails(&["top"], 2, "commonhold top --once");
    world.fails(&["top", "--interval", "1ms"], 2, "at least 10ms");
    world.fails(&["top", "--once"], 1, "create it first");
}

#[test]
fn a_signal_ends_the_wait_for_the_frame() {
    let world = World::with_counters();
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let mut live = Live::start(&world);
        live.wait_for("participants");
        live.signal(signal);
        assert_eq!(live.ended().code(), Some(code));
    }
}

#[test]
fn keys_end_it_and_the_terminal_is_as_before() {
    let world = World::with_counters();
    for (keys, code) in [(&b"q"[..], 0), (b"\x1b", 0), (b"\x03", 130)] {
        let mut live = Live::start(&world);
        live.wait_for("participants");
        assert!(!live.is_usual(), "it has the terminal for itself");
        live.press(b"\t\x1b[B\x1b[6~");
        live.press(keys);
        assert_eq!(live.ended().code(), Some(code), "{keys:?}");
    }
}

#[test]
fn a_segment_that_goes_is_waited_for() {
    let world = World::with_counters();
    let mut live = Live::start(&world);
    live.wait_for("participants");
    world.ok(&["destroy"]);
    live.wait_for("looking");
    world.ok(&["create", "others", "--field", "n:i64"]);
    live.wait_for("anew");
    live.wait_for("others");
    live.press(b"q");
    assert_eq!(live.ended().code(), Some(0));
}
