//! Tasks that wait until the test lets them go on: they come to a door, and say which attempt they are.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use commonhold::workers::Context;

use crate::stage::eventually;

/// Where tasks `hold` wait whose arguments are its name.
#[derive(Debug)]
pub struct Door {
    path: PathBuf,
    listener: UnixListener,
}

/// A task that waits. When this is dropped it goes on, with nothing.
#[derive(Debug)]
pub struct Visitor {
    stream: UnixStream,
    /// Which attempt it is.
    pub attempt: u64,
}

impl Door {
    pub(crate) fn new(path: PathBuf) -> Self {
        let listener = UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self { path, listener }
    }

    /// The arguments of a task that comes to this door.
    #[must_use]
    pub fn arguments(&self) -> Vec<u8> {
        self.path().into_bytes()
    }

    /// The next task that comes; it is waited for.
    #[must_use]
    pub fn next(&self) -> Visitor {
        let mut stream = None;
        eventually("a task comes to the door", || match self.listener.accept() {
            Ok((came, _)) => stream.replace(came).is_none(),
            Err(e) if e.kind() == ErrorKind::WouldBlock => false,
            Err(e) => panic!("{e}"),
        });
        let stream = stream.unwrap();
        stream.set_nonblocking(false).unwrap();
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).unwrap();
        Visitor { stream, attempt: line.trim().parse().unwrap() }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> String {
        self.path.display().to_string()
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn nobody_waits(&self) -> bool {
        matches!(self.listener.accept(), Err(e) if e.kind() == ErrorKind::WouldBlock)
    }
}

impl Visitor {
    /// Lets it go on; `result` is its result.
    pub fn go(mut self, result: &[u8]) {
        self.stream.write_all(result).unwrap();
    }
}

/// The task kind `hold`.
pub(crate) fn hold(task: &Context<'_>, path: &[u8]) -> Result<Vec<u8>, String> {
    let path = String::from_utf8_lossy(path).into_owned();
    visit(Path::new(&path), task.attempt()).map_err(|e| format!("{path}: {e}"))
}

/// Comes to the door at `path` as number `attempt`, and waits to go on; with what.
pub(crate) fn visit(path: &Path, attempt: u64) -> std::io::Result<Vec<u8>> {
    let mut result = Vec::new();
    let mut stream = UnixStream::connect(path)?;
    writeln!(stream, "{attempt}")?;
    stream.read_to_end(&mut result)?;
    Ok(result)
}
