//! What the child did to the files of its store, and what it said of its commits, in order.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::store::work::{MARKS, Version};
use crate::syscalls::{Action, Call, Child, Watcher};

/// A file, whatever its names; never used twice.
pub(crate) type FileId = usize;

/// One thing that happened.
#[derive(Clone)]
pub(crate) enum Event {
    /// A name for a new file.
    Create { name: String, file: FileId },
    /// The name is gone.
    Unlink { name: String },
    /// The file has another name.
    Rename { from: String, to: String },
    /// Bytes were written.
    Write { file: FileId, at: u64, bytes: Vec<u8> },
    /// The file has another length.
    Resize { file: FileId, length: u64 },
    /// A sync succeeded, or failed.
    Sync { file: FileId, done: bool },
    /// One of the folder.
    SyncFolder { done: bool },
    /// Committed.
    Commit(Version),
    /// Reported durable.
    Durable(Version),
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Create { name, .. } => write!(f, "create {name}"),
            Self::Unlink { name } => write!(f, "unlink {name}"),
            Self::Rename { from, to } => write!(f, "rename {from} to {to}"),
            Self::Write { file, at, bytes } => {
                write!(f, "write {} bytes to file {file} at {at}", bytes.len())
            }
            Self::Resize { file, length } => write!(f, "resize file {file} to {length}"),
            Self::Sync { file, done } => write!(f, "sync file {file}: {done}"),
            Self::SyncFolder { done } => write!(f, "sync folder: {done}"),
            Self::Commit(version) => write!(f, "commit {version}"),
            Self::Durable(version) => write!(f, "report {version}"),
        }
    }
}

/// How a call touches the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Touch {
    Open,
    Read,
    Write,
    Resize,
    Sync,
    SyncFolder,
    Unlink,
    Lock,
    Other,
}

/// A call that touches the store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Touched<'a> {
    pub(crate) touch: Touch,
    /// The file's name in the store's folder; empty: the folder.
    pub(crate) name: &'a str,
    /// How many such calls came before.
    pub(crate) number: u64,
    /// By a descriptor of the log that is not SQLite's: our store settles it.
    pub(crate) settles: bool,
}

/// Says what is done with a call.
pub(crate) type Decide<'a> = Box<dyn FnMut(&Touched<'_>) -> Action + 'a>;

/// Notes what a child does to the store.
pub(crate) struct Recorder<'a> {
    folder: PathBuf,
    pub(crate) events: Vec<Event>,
    /// How many calls touched the store.
    pub(crate) touches: u64,
    files: HashMap<(u64, u64), FileId>,
    next_file: FileId,
    decide: Decide<'a>,
    now: Option<Now>,
    settler: Option<u64>,
}

/// The call that is under way.
struct Now {
    touch: Touch,
    name: String,
    to: String,
    bytes: Vec<u8>,
    was_there: bool,
    length: u64,
}

/// Files that do not matter after a power loss.
fn is_lost(name: &str) -> bool {
    name.ends_with("-shm")
}

impl<'a> Recorder<'a> {
    pub(crate) fn new(folder: &Path, decide: Decide<'a>) -> Self {
        Self {
            folder: folder.to_owned(),
            events: Vec::new(),
            touches: 0,
            files: HashMap::new(),
            next_file: 0,
            decide,
            now: None,
            settler: None,
        }
    }

    /// Another decision for the next child; the numbers begin anew.
    pub(crate) fn decide_anew(&mut self, decide: Decide<'a>) {
        self.decide = decide;
        self.touches = 0;
    }

    /// The name of a path in the store's folder.
    fn name(&self, path: &Path) -> Option<String> {
        let rest = path.strip_prefix(&self.folder).ok()?;
        let name = rest.to_str()?;
        Some(name.trim_end_matches(" (deleted)").to_owned())
    }

    /// What a call is about; `None`: not about the store.
    fn judge(&self, child: &Child, call: &Call) -> Option<Now> {
        let [first, second, third, ..] = call.args;
        let by_path = |at: u64| self.name(Path::new(&child.text(at)));
        let by_descriptor = |fd: u64| {
            let path = std::fs::read_link(child.file(fd)).ok()?;
            self.name(&path)
        };
        let (touch, name) = match call.number {
            libc::SYS_openat => (Touch::Open, by_path(second)?),
            libc::SYS_open => (Touch::Open, by_path(first)?),
            libc::SYS_unlink => (Touch::Unlink, by_path(first)?),
            libc::SYS_unlinkat => (Touch::Unlink, by_path(second)?),
            libc::SYS_rename => (Touch::Other, by_path(first)?),
            libc::SYS_pwrite64 | libc::SYS_write => (Touch::Write, by_descriptor(first)?),
            libc::SYS_pread64 | libc::SYS_read => (Touch::Read, by_descriptor(first)?),
            libc::SYS_ftruncate | libc::SYS_fallocate => (Touch::Resize, by_descriptor(first)?),
            libc::SYS_fsync | libc::SYS_fdatasync => {
                let name = by_descriptor(first)?;
                let folder = name.is_empty();
                (if folder { Touch::SyncFolder } else { Touch::Sync }, name)
            }
            libc::SYS_fcntl => (Touch::Lock, by_descriptor(first)?),
            libc::SYS_close | libc::SYS_fstat | libc::SYS_mmap => return None,
            _ => return None,
        };
        let bytes = if touch == Touch::Write { child.bytes(second, third) } else { Vec::new() };
        let to = match call.number {
            libc::SYS_rename => by_path(second).unwrap_or_default(),
            _ => String::new(),
        };
        let was_there = self.folder.join(&name).exists();
        let length = std::fs::metadata(child.file(first)).map_or(0, |m| m.len());
        Some(Now { touch, name, to, bytes, was_there, length })
    }

    /// The number of the file behind a descriptor.
    fn file(&mut self, child: &Child, descriptor: u64) -> FileId {
        let Ok(meta) = std::fs::metadata(child.file(descriptor)) else { return usize::MAX };
        let next = &mut self.next_file;
        *self.files.entry((meta.dev(), meta.ino())).or_insert_with(|| {
            *next += 1;
            *next
        })
    }

    fn note_mark(&mut self, child: &Child, call: &Call) {
        let marks = call.number == libc::SYS_write
            && std::fs::read_link(child.file(call.args[0])).is_ok_and(|p| p == Path::new(MARKS));
        if !marks {
            return;
        }
        let text = child.bytes(call.args[1], call.args[2]);
        for line in String::from_utf8_lossy(&text).lines() {
            match Version::read(line) {
                Some((true, version)) => self.events.push(Event::Durable(version)),
                Some((false, version)) => self.events.push(Event::Commit(version)),
                None => {}
            }
        }
    }

    fn note(&mut self, child: &Child, call: &Call, now: Now, result: i64) {
        let first = call.args[0];
        let done = result >= 0;
        let event = match now.touch {
            Touch::Open if done && !now.was_there => {
                let meta_file = self.file(child, result.cast_unsigned());
                // Its number may have been an unlinked file's.
                self.next_file += 1;
                let file = self.next_file;
                self.files.values_mut().filter(|f| **f == meta_file).for_each(|f| *f = file);
                Event::Create { name: now.name, file }
            }
            Touch::Open if done && call.args[2] & libc::O_TRUNC as u64 != 0 => {
                Event::Resize { file: self.file(child, result.cast_unsigned()), length: 0 }
            }
            Touch::Unlink if done => Event::Unlink { name: now.name },
            Touch::Other if done => Event::Rename { from: now.name, to: now.to },
            Touch::Write if result > 0 => {
                let at = match call.number {
                    libc::SYS_pwrite64 => call.args[3],
                    _ => now.length, // appended
                };
                let mut bytes = now.bytes;
                bytes.truncate(result as usize);
                Event::Write { file: self.file(child, first), at, bytes }
            }
            Touch::Resize if done && call.number == libc::SYS_ftruncate => {
                Event::Resize { file: self.file(child, first), length: call.args[1] }
            }
            Touch::Resize if done => {
                let length = now.length.max(call.args[2] + call.args[3]);
                Event::Resize { file: self.file(child, first), length }
            }
            Touch::Sync => Event::Sync { file: self.file(child, first), done },
            Touch::SyncFolder => Event::SyncFolder { done },
            _ => return,
        };
        self.events.push(event);
    }
}

impl Watcher for Recorder<'_> {
    fn before(&mut self, child: &Child, call: &Call) -> Action {
        self.note_mark(child, call);
        self.now = self.judge(child, call);
        let Some(now) = &self.now else { return Action::Go };
        let settles = now.name.ends_with("-wal") && self.settler == Some(call.args[0]);
        let touched = Touched { touch: now.touch, name: &now.name, number: self.touches, settles };
        let action = (self.decide)(&touched);
        self.touches += 1;
        if matches!(action, Action::Kill | Action::Pretend) {
            self.now = None;
        }
        action
    }

    fn behind(&mut self, child: &Child, call: &Call, result: i64) {
        let Some(now) = self.now.take() else { return };
        if now.touch == Touch::Open && now.name.ends_with("-wal") && result >= 0 {
            // SQLite would make it.
            let made = call.args[2] & libc::O_CREAT as u64 != 0;
            self.settler = Some(result.cast_unsigned()).filter(|_| !made);
        }
        if !is_lost(&now.name) {
            self.note(child, call, now, result);
        }
    }
}
