//! The watcher: reads the file after each change and parses it.
//!
//! inotify tells it each rename of the file, and each write into it that is not told yet; none is left out as long as its
//! queue (`fs.inotify.max_queued_events`, 16384) does not overflow. It reads once for each, and after the last one once
//! more. What it reads is the version that is there by then: when two changes come faster than it reads, that is the
//! later one, twice; the earlier one was seen by nobody here. So it shows that after no change a broken version stayed
//! for longer than it takes to read one.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::COMMENT;
use crate::TortureError;

/// What the watcher saw.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    /// Renames of a file to this name that the kernel told.
    pub(super) renames: u64,
    /// Versions read, one after each change.
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
    let look = |seen: &mut Seen| {
        seen.read += 1;
        seen.invalid += u64::from(!is_whole(path));
    };
    loop {
        // Looked at first: what was changed before the end is in the queue by then.
        let last = stop.load(Ordering::Relaxed);
        let mut fds = [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, if last { PollTimeout::ZERO } else { PollTimeout::from(20_u8) });
        let events = match inotify.read_events() {
            Ok(events) => events,
            Err(Errno::EAGAIN) => Vec::new(),
            Err(Errno::EINTR) => continue,
            Err(e) => return Err(TortureError::system("read what happened in a folder", e)),
        };
        if events.is_empty() && last {
            look(&mut seen);
            return Ok(seen);
        }
        for event in &events {
            if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                let why = std::io::Error::other("too many changes at once; lower --processes");
                return Err(TortureError::system("watch each change", why));
            }
            if event.name.as_deref() == path.file_name() {
                seen.renames += u64::from(event.mask.contains(AddWatchFlags::IN_MOVED_TO));
                look(&mut seen);
            }
        }
    }
}

/// Whether there is a valid document in it, read as any program would.
fn is_whole(path: &Path) -> bool {
    let text = std::fs::read_to_string(path).unwrap_or_default().replacen(COMMENT, "", 1);
    serde_json::from_str::<serde_json::Value>(&text).is_ok_and(|all| all.is_object())
}
