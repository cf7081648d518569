//! Who supervises, and who stands by to be next.
//!
//! **Succession**: whoever holds the guard supervises. Who stands by watches the holder's process, so that its death is
//! learnt at once, and listens to a bell that each holder rings when he has taken the guard and when he has left it. A
//! holder that was killed between leaving and ringing is dead; one that was only stopped there, or that cannot be watched
//! (another pid namespace), is noticed at the next look.
//!
//! **Failure**: who takes over and cannot go on (no room for a participant, no worker can be started) leaves the guard,
//! so that another may try, and tries again after a while.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use commonhold_runtime::core::queue::Bell;
use commonhold_runtime::core::space::Space;
use commonhold_runtime::{Error, Guard, GuardOptions, Handle};

use super::look::Warden;
use super::voice::Voice;
use super::{
    Control, Entry, LEFT_OVER, LOOK_EVERY, PAUSE, PAUSE_MAX, TAKE_OVER, holder, keep,
    living_holder, sleep,
};
use crate::error::PoolError;
use crate::pool::{PoolOptions, SUPERVISOR};
use crate::queue::{Queue, Shape};

/// How soon it is looked again at a holder that cannot be watched.
const UNWATCHED: Duration = Duration::from_millis(20);

/// What the supervisor's thread works with.
pub(crate) struct Office {
    pub(crate) space: Arc<Space>,
    pub(crate) shape: Shape,
    pub(crate) options: PoolOptions,
    pub(crate) segment: String,
}

impl Office {
    /// The supervisor's thread; how many workers were killed in the end.
    pub(super) fn hold(
        &self,
        entry: Entry,
        control: &Control,
        report: &SyncSender<()>,
    ) -> Result<u32, PoolError> {
        let handle = Handle::open(&self.space)?;
        let guard = Guard::new(&handle, SUPERVISOR, &GuardOptions::new())?;
        match entry {
            Entry::Start => self.start(&guard, control, report),
            Entry::StandBy => self.stand_by(&guard, control, report),
        }
    }

    fn start(
        &self,
        guard: &Guard<&Handle>,
        control: &Control,
        report: &SyncSender<()>,
    ) -> Result<u32, PoolError> {
        // A holder that is just dying is waited for, one that lives is not.
        let limit = match holder(&self.space, SUPERVISOR)? {
            Some(_) => Duration::ZERO,
            None => TAKE_OVER,
        };
        let served = guard.with_within(limit, |_| self.serve(control, report));
        self.announce(control, false)?;
        match served {
            Ok(done) => done,
            Err(Error::Timeout { .. }) => {
                let pid = holder(&self.space, SUPERVISOR)?.unwrap_or_default();
                Err(PoolError::Supervised { pid })
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Takes the guard when nobody has it, again and again until it is to stop.
    fn stand_by(
        &self,
        guard: &Guard<&Handle>,
        control: &Control,
        report: &SyncSender<()>,
    ) -> Result<u32, PoolError> {
        let (mut stands, mut pause, mut voice) = (false, PAUSE, Voice::default());
        while control.until().is_none() {
            let served = match guard.try_with(|_| self.serve(control, report)) {
                Ok(None) => {
                    stands = true;
                    let _ = report.try_send(());
                    match self.watch(control) {
                        Ok(()) => continue,
                        Err(e) => Err(e.into()),
                    }
                }
                Ok(Some(served)) => served,
                Err(e) => Err(e.into()),
            };
            self.announce(control, false)?;
            match served {
                Ok(killed) => return Ok(killed),
                // Nobody has been told yet that it stands by; or nothing of the segment can be trusted.
                Err(e) if !stands => return Err(e),
                Err(e @ PoolError::Runtime(Error::Truncated { .. })) => return Err(e),
                Err(e) => voice.say_once(&format!("cannot take the workers over: {e}")),
            }
            self.pause(control, pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
        Ok(0)
    }

    /// With the guard: starts workers and looks after them until it is to stop.
    fn serve(&self, control: &Control, report: &SyncSender<()>) -> Result<u32, PoolError> {
        self.announce(control, true)?;
        let queue = Queue::new(Handle::open(&self.space)?, self.shape.clone());
        let mut warden = Warden::new(&queue, &self.options, &self.segment)?;
        warden.take_over(LEFT_OVER)?;
        warden.grow()?;
        let _ = report.try_send(());
        let kept = keep(&mut warden, control);
        if let Err(error) = &kept {
            warden.voice.say_once(&format!("workers are not looked after any more: {error}"));
        }
        let killed = warden.end(control.until().filter(|_| kept.is_ok()));
        kept?;
        killed
    }

    /// Says that it supervises or no longer does: to its own listener, and to those who stand by.
    fn announce(&self, control: &Control, supervises: bool) -> Result<(), Error> {
        control.supervises.store(supervises, Ordering::SeqCst);
        self.space.ring_bell(self.shape.queue_words(), Bell::Succession)
    }

    /// Sleeps until the holder is dead, or somebody rings.
    fn watch(&self, control: &Control) -> Result<(), Error> {
        let pidfd = living_holder(&self.space, SUPERVISOR)?.and_then(|(_, pidfd)| pidfd);
        let every = if pidfd.is_some() { LOOK_EVERY } else { UNWATCHED };
        let own = std::iter::once(control.event.as_fd());
        let descriptors: Vec<BorrowedFd<'_>> = own.chain(pidfd.iter().map(AsFd::as_fd)).collect();
        sleep(&descriptors, Instant::now() + every);
        let _ = control.event.read();
        self.space.check_whole()
    }

    /// Sleeps so long, unless it is to stop; whatever else rings.
    fn pause(&self, control: &Control, time: Duration) {
        let end = Instant::now() + time;
        while control.until().is_none() && Instant::now() < end {
            sleep(&[control.event.as_fd()], end);
            let _ = control.event.read();
        }
    }
}
