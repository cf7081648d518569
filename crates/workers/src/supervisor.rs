//! The supervisor: one thread of one process, which starts workers and looks after them and their tasks.
//!
//! **One at a time**: it holds the guard `workers` as long as it runs; the kernel says when a holder is dead. Others may
//! stand by (office.rs) and take the guard then.
//!
//! **Deaths** are learnt from pidfds, so at once. A worker's task is touched only when its death is proved: then the
//! task waits again, or has failed. Workers end with their supervisor (PDEATHSIG, and a look at the parent before the
//! first task); a new supervisor waits until the kernel says that they are all dead before it looks at their tasks.
//!
//! **Looks** at all tasks come when somebody rings, when a worker has died, when something is due, and each second: past
//! its time, cancelled, left by a dead submitter. A submitter rings when his task is due before the next look, which
//! the supervisor has said in the queue's words, or when nobody was idle and there may be more workers.
//!
//! **Crash**: whatever the supervisor has not done the next one does; it keeps nothing that is not in the records, but
//! for how often workers died before they were ready.

mod child;
mod look;
mod office;
mod staff;
mod voice;

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use commonhold_os::fork;
use commonhold_os::process::{Identity, Liveness, Pidfd};
use commonhold_runtime::Error;
use commonhold_runtime::core::queue::Bell;
use commonhold_runtime::core::space::Space;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::error::PoolError;
use crate::queue::Shape;
use look::Warden;
pub(crate) use office::Office;

/// The longest time between two looks at all tasks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a new supervisor waits for the workers of the one before to be dead.
const LEFT_OVER: Duration = Duration::from_secs(10);
/// The first pause after something went wrong; it doubles with each.
const PAUSE: Duration = Duration::from_millis(20);
/// The longest such pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How long a supervisor that is just dying is waited for.
pub(crate) const TAKE_OVER: Duration = Duration::from_secs(2);

/// What the pool and its threads share.
struct Control {
    event: EventFd,
    /// Until when workers may finish; set when they are to stop.
    stop: Mutex<Option<Instant>>,
    ended: AtomicBool,
    /// Whether it has the guard; before that it stands by.
    supervises: AtomicBool,
}

/// How a process comes to supervise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// At once; an error when another one does.
    Start,
    /// When no other does.
    StandBy,
}

/// The threads of a supervisor.
pub(crate) struct Supervisor {
    control: Arc<Control>,
    space: Arc<Space>,
    shape: Shape,
    /// In a forked child its threads do not exist.
    generation: u64,
    thread: Option<JoinHandle<Result<u32, PoolError>>>,
    listener: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Supervisor")
    }
}

impl Control {
    fn until(&self) -> Option<Instant> {
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it listens to.
    fn bell(&self) -> Bell {
        if self.supervises.load(Ordering::SeqCst) { Bell::Supervisor } else { Bell::Succession }
    }

    fn wake(&self) {
        // Fails only when it has been rung 2^64 times already.
        let _ = self.event.write(1);
    }
}

fn system(what: &'static str, error: impl Into<std::io::Error>) -> PoolError {
    PoolError::System { what, error: error.into() }
}

impl Supervisor {
    /// Takes the guard and starts the least workers; returns when that is done. Who stands by returns also when somebody
    /// else has the guard.
    pub(crate) fn start(office: Office, entry: Entry) -> Result<Self, PoolError> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let event = EventFd::from_value_and_flags(0, flags)
            .map_err(|e| system("make an eventfd for the supervisor", e))?;
        let control = Arc::new(Control {
            event,
            stop: Mutex::new(None),
            ended: AtomicBool::new(false),
            supervises: AtomicBool::new(false),
        });
        let (space, shape) = (Arc::clone(&office.space), office.shape.clone());
        let (report, started) = sync_channel(1);
        let thread = {
            let control = Arc::clone(&control);
            let work = move || office.hold(entry, &control, &report);
            let named = std::thread::Builder::new().name("commonhold-pool".to_owned());
            named.spawn(work).map_err(|e| system("start the supervisor's thread", e))?
        };
        let mut supervisor = Self {
            control,
            space,
            shape,
            generation: fork::generation(),
            thread: Some(thread),
            listener: None,
        };
        if started.recv().is_err() {
            // It ended before it was ready, and says why.
            supervisor.join()?;
            return Err(system("start the supervisor's thread", std::io::ErrorKind::Other));
        }
        supervisor.listener = Some(supervisor.listen()?);
        Ok(supervisor)
    }

    pub(crate) fn supervises(&self) -> bool {
        self.generation == fork::generation() && self.control.supervises.load(Ordering::Acquire)
    }

    /// The thread that turns rings of the queue's bells, which processes share, into events of this one.
    fn listen(&self) -> Result<JoinHandle<()>, PoolError> {
        let (control, space) = (Arc::clone(&self.control), Arc::clone(&self.space));
        let queue = self.shape.queue_words().clone();
        let listen = move || {
            let mut bell = control.bell();
            while let Ok(heard) = space.listen_bell(&queue, bell) {
                // Who ends this, or has it listen to the other one, rings after he has said so.
                if control.ended.load(Ordering::Acquire) {
                    break;
                }
                if bell == control.bell() {
                    control.wake();
                    if space.sleep_bell(&queue, bell, heard, LOOK_EVERY).is_err() {
                        break;
                    }
                }
                bell = control.bell();
            }
        };
        let named = std::thread::Builder::new().name("commonhold-bell".to_owned());
        named.spawn(listen).map_err(|e| system("start the thread for the supervisor's bell", e))
    }

    /// Ends the workers, and this.
    pub(crate) fn stop(mut self, limit: Duration) -> Result<(), PoolError> {
        match self.end(limit)? {
            0 => Ok(()),
            killed => {
                let what = format!(
                    "{killed} workers to end; they were killed, and their tasks wait again"
                );
                Err(PoolError::TimedOut { what, limit })
            }
        }
    }

    /// How many workers were killed.
    fn end(&mut self, limit: Duration) -> Result<u32, PoolError> {
        if self.generation != fork::generation() {
            return self.join();
        }
        let now = Instant::now();
        let until = now.checked_add(limit).unwrap_or(now + Duration::from_secs(1 << 30));
        *self.control.stop.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
        self.control.wake();
        let ended = self.join();
        self.control.ended.store(true, Ordering::Release);
        // In a segment that is cut nobody sleeps.
        for bell in [Bell::Supervisor, Bell::Succession] {
            let _ = self.space.ring_bell(self.shape.queue_words(), bell);
        }
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
        ended
    }

    fn join(&mut self) -> Result<u32, PoolError> {
        let Some(thread) = self.thread.take() else { return Ok(0) };
        if self.generation != fork::generation() {
            std::mem::forget((thread, self.listener.take()));
            return Ok(0);
        }
        let panicked =
            |_| Err(system("go on: the supervisor's thread panicked", std::io::ErrorKind::Other));
        thread.join().unwrap_or_else(panicked)
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if self.thread.is_some() {
            let _ = self.end(Duration::ZERO);
        }
    }
}

/// The living process that holds a guard.
pub(crate) fn holder(space: &Space, name: &str) -> Result<Option<u32>, Error> {
    Ok(living_holder(space, name)?.map(|(holder, _)| holder.pid))
}

/// The same, and what its end can be waited for by.
fn living_holder(space: &Space, name: &str) -> Result<Option<(Identity, Option<Pidfd>)>, Error> {
    let guard = space.guards()?.into_iter().find(|guard| guard.name == name);
    let holder = guard.and_then(|g| g.holder).and_then(|entry| space.identity_of(entry));
    Ok(holder.and_then(|holder| match holder.find() {
        (Liveness::Dead, _) => None,
        (_, pidfd) => Some((holder, pidfd)),
    }))
}

/// Runs until it is to stop, or the segment is cut. What goes wrong otherwise (no room for so long, a damaged record, no
/// descriptors) is told, and tried again after a while.
fn keep(warden: &mut Warden<'_>, control: &Control) -> Result<(), PoolError> {
    let mut pause = PAUSE;
    while control.until().is_none() {
        let begin = Instant::now();
        let looked = warden.look();
        let next = looked.as_ref().map_or(begin + pause, |next| *next);
        wait(warden, control, next);
        let buried = warden.bury_dead();
        warden.read_outputs();
        match looked.map(drop).and(buried) {
            Ok(()) => pause = PAUSE,
            Err(e @ PoolError::Runtime(Error::Truncated { .. })) => return Err(e),
            Err(e) => {
                warden.voice.say_once(&e.to_string());
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
    Ok(())
}

/// Sleeps until something happens, at most until `next`.
fn wait(warden: &Warden<'_>, control: &Control, next: Instant) {
    let descriptors: Vec<BorrowedFd<'_>> =
        std::iter::once(control.event.as_fd()).chain(warden.descriptors()).collect();
    sleep(&descriptors, next);
    let _ = control.event.read();
}

/// Sleeps until one of the descriptors can be read, at most until `until`.
fn sleep(descriptors: &[BorrowedFd<'_>], until: Instant) {
    let left = until.saturating_duration_since(Instant::now()).min(LOOK_EVERY);
    // Rounded up, so that what is due then is due when it looks.
    let left = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::ZERO);
    let mut polled: Vec<PollFd<'_>> =
        descriptors.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    let _ = poll(&mut polled, left);
}
