//! Who holds a lock: what stands in a lock file, and whether he is still there.
//!
//! Only the kernel's word counts, never a time: a paused owner keeps his lock, a dead one loses it at once. The time
//! in the file is for people.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;

use commonhold_os::clock::wall_micros;
use commonhold_os::process::{Identity, Liveness, Pidfd, boot_id};
use commonhold_os::random::{hex, uuid};
use commonhold_os::{OsError, fork};
use serde::{Deserialize, Serialize};

/// The owner of a lock, as one line of JSON in the lock file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The process, in its own pid namespace.
    pub pid: u32,
    /// When it started: clock ticks since boot (`/proc/PID/stat`, field 22).
    pub start_ticks: u64,
    /// The inode of its pidfd; unique per process since Linux 6.9.
    pub pidfd_inode: u64,
    /// The inode of its pid namespace.
    pub pid_namespace: u64,
    /// The boot of its machine.
    pub boot: String,
    /// The machine's name.
    pub host: String,
    /// The machine's id (`/etc/machine-id`); empty when it has none.
    pub machine: String,
    /// When the lock was taken, in microseconds since 1970. Nothing is decided by it.
    pub taken_at: i64,
    /// Unique to this taking of the lock.
    pub nonce: String,
    /// The program, for people.
    pub program: String,
    /// Whether it got the kernel's lock on the file: only then a free one says anything.
    #[serde(default)]
    pub locked: bool,
    /// Whether it gave the lock up and could not remove the file.
    #[serde(default)]
    pub released: bool,
}

/// What is known of an owner without asking the kernel's locks.
#[derive(Debug)]
pub(crate) enum Standing {
    /// The process is there; a descriptor to wait for its end.
    Alive(Option<Pidfd>),
    /// It has ended, or its machine was started anew.
    Dead,
    /// It cannot be told from here: another machine or another pid namespace.
    Unknown,
}

/// What this process writes into its locks. It is found out once for each thread and each process that is forked.
#[derive(Debug, Clone)]
struct Me {
    generation: u64,
    identity: Identity,
    boot: String,
    host: String,
    machine: String,
    program: String,
    /// The nonce of its next lock: random, and then one more each time.
    nonce: Cell<u128>,
}

thread_local! {
    // No lock that a forked child might find taken.
    static ME: RefCell<Option<Rc<Me>>> = const { RefCell::new(None) };
}

impl Me {
    fn get() -> Result<Rc<Self>, OsError> {
        let generation = fork::generation();
        let known = ME.with_borrow(Clone::clone);
        if let Some(me) = known.filter(|me| me.generation == generation) {
            return Ok(me);
        }
        let me = Rc::new(Self {
            generation,
            identity: Identity::current()?,
            boot: boot(),
            host: host(),
            machine: machine(),
            program: program(),
            nonce: Cell::new(u128::from_le_bytes(uuid())),
        });
        ME.set(Some(Rc::clone(&me)));
        Ok(me)
    }
}

impl Owner {
    /// This process, taking a lock now; `locked`: it has the kernel's.
    pub(crate) fn current(locked: bool) -> Result<Self, OsError> {
        let me = Me::get()?;
        let nonce = me.nonce.get();
        me.nonce.set(nonce.wrapping_add(1));
        Ok(Self {
            pid: me.identity.pid,
            start_ticks: me.identity.start_ticks,
            pidfd_inode: me.identity.pidfd_inode,
            pid_namespace: me.identity.pid_namespace,
            boot: me.boot.clone(),
            host: me.host.clone(),
            machine: me.machine.clone(),
            taken_at: wall_micros(),
            nonce: hex(&nonce.to_be_bytes()),
            program: me.program.clone(),
            locked,
            released: false,
        })
    }

    /// Reads what stands in a lock file; none when it is not one of ours, or damaged.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let owner: Self = serde_json::from_slice(text).ok()?;
        // The nonce becomes part of a file's name.
        let hexadecimal = !owner.nonce.is_empty()
            && owner.nonce.len() <= 64
            && owner.nonce.bytes().all(|b| b.is_ascii_hexdigit());
        hexadecimal.then_some(owner)
    }

    pub(crate) fn line(&self) -> Vec<u8> {
        let mut line = Vec::with_capacity(512);
        // It has nothing that cannot be written, and the memory is there.
        let _ = serde_json::to_writer(&mut line, self);
        line.push(b'\n');
        line
    }

    /// What is known of him. `free`: the kernel calls his lock free, and it would know, for he got it here; `before`: the
    /// lock is older than this boot.
    pub(crate) fn standing(&self, free: bool, before: bool) -> Standing {
        let Ok(me) = Me::get() else { return Standing::Unknown };
        if self.released {
            return Standing::Dead;
        }
        if self.boot.is_empty() || me.boot.is_empty() {
            // In a sandbox that hides the boot's id.
            return if free { Standing::Dead } else { Standing::Unknown };
        }
        if self.boot != me.boot {
            // Another kernel may have the file system too, by way of this one.
            let same =
                !self.machine.is_empty() && self.machine == me.machine && self.host == me.host;
            return if same || free && before { Standing::Dead } else { Standing::Unknown };
        }
        if free {
            // He may live, but what he held it by is closed.
            return Standing::Dead;
        }
        let identity = Identity {
            pid: self.pid,
            start_ticks: self.start_ticks,
            pidfd_inode: self.pidfd_inode,
            pid_namespace: self.pid_namespace,
        };
        match identity.find() {
            (Liveness::Alive, pidfd) => Standing::Alive(pidfd),
            (Liveness::Dead, _) => Standing::Dead,
            (Liveness::Unknown, _) => Standing::Unknown,
        }
    }

    /// Whether it is a process of this kernel, maybe in another container.
    pub(crate) fn is_of_this_boot(&self) -> bool {
        Me::get().is_ok_and(|me| !me.boot.is_empty() && self.boot == me.boot)
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} ({})", self.pid, self.program)?;
        let here = Me::get().is_ok_and(|me| me.host == self.host);
        if here { Ok(()) } else { write!(f, " on {}", self.host) }
    }
}

/// The boot as text; empty when it is not known.
fn boot() -> String {
    let id = boot_id();
    if id == [0; 16] { String::new() } else { hex(&id) }
}

fn host() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn machine() -> String {
    std::fs::read_to_string("/etc/machine-id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

fn program() -> String {
    let program = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&program).file_name().unwrap_or_default();
    name.to_string_lossy().chars().take(64).collect()
}
