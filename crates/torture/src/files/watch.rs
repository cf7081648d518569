//! The watcher: reads the file after each change and parses it.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::COMMENT;
use crate::TortureError;

/// What the watcher saw.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    /// Versions read.
    pub(super) read: u64,
    /// Those of them that were not valid, or not there.
    pub(super) invalid: u64,
}

/// A thread that watches.
pub(super) struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Seen, TortureError>>,
}

impl Watch {
    /// Watches the file from now on.
    pub(super) fn start(path: &Path) -> Result<Self, TortureError> {
        let error = |e: nix::Error| TortureError::system("watch a folder", e);
        let inotify =
            Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(error)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let changes =
            AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CREATE;
        inotify.add_watch(folder, changes).map_err(error)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (told, path) = (Arc::clone(&stop), path.to_owned());
        let thread = std::thread::spawn(move || watch(&inotify, &path, &told));
        Ok(Self { stop, thread })
    }

    /// What it saw until now.
    pub(super) fn end(self) -> Result<Seen, TortureError> {
        self.stop.store(true, Ordering::Relaxed);
        let panicked = |_| Err(TortureError::system("watch the file", std::io::ErrorKind::Other));
        self.thread.join().unwrap_or_else(panicked)
    }
}

fn watch(inotify: &Inotify, path: &Path, stop: &AtomicBool) -> Result<Seen, TortureError> {
    let mut seen = Seen::default();
    while !stop.load(Ordering::Relaxed) {
        let mut fds = [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, PollTimeout::from(20_u8));
        let events = inotify.read_events().unwrap_or_default();
        let ours = |name: &std::ffi::OsStr| path.file_name() == Some(name);
        if events.iter().any(|event| event.name.as_deref().is_some_and(ours)) {
            seen.read += 1;
            seen.invalid += u64::from(!is_whole(path));
        }
    }
    Ok(seen)
}

/// Whether there is a valid document in it, read as any program would.
fn is_whole(path: &Path) -> bool {
    let text = std::fs::read_to_string(path).unwrap_or_default().replacen(COMMENT, "", 1);
    serde_json::from_str::<serde_json::Value>(&text).is_ok_and(|all| all.is_object())
}
