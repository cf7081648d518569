//! A worker: one process, one share of the log, one commit a line.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::getppid;

use commonhold_runtime::{Config, Runtime};

use super::ReplayError;
use super::message::{Message, Report};
use super::pace::{Leave, stay_on_processor};
use super::plan::Victim;
use super::shares::requests;
use crate::clients::{Caps, Clients};

/// The first argument of an executable that is to be a worker: the others go to [`worker`].
pub const WORKER_ARGUMENT: &str = "__replay-worker";

/// What a worker is to do, as it stands in its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    /// The segment's file.
    pub(crate) segment: PathBuf,
    /// The share's file.
    pub(crate) share: PathBuf,
    /// Which share.
    pub(crate) index: usize,
    /// How many lines of it are done already.
    pub(crate) position: u64,
    /// Its coordinator.
    pub(crate) parent: i32,
    /// What each client may have.
    pub(crate) caps: Caps,
    /// When it is to be killed, if it is.
    pub(crate) victim: Option<Victim>,
}

impl Order {
    /// Adds the arguments to `command`.
    pub(crate) fn write(&self, command: &mut Command) {
        let [mark, hold] = self.victim.map_or([0, 0], |v| [v.mark, v.hold]);
        command.arg(WORKER_ARGUMENT).arg(&self.segment).arg(&self.share);
        command.arg(self.index.to_string()).arg(self.position.to_string());
        command.arg(self.parent.to_string());
        command.arg(self.caps.requests.to_string()).arg(self.caps.bytes.to_string());
        command.arg(mark.to_string()).arg(hold.to_string());
    }

    /// Reads the arguments behind [`WORKER_ARGUMENT`].
    fn read(mut arguments: impl Iterator<Item = OsString>) -> Option<Self> {
        let (segment, share) = (arguments.next()?.into(), arguments.next()?.into());
        let mut next = || arguments.next().and_then(|a| a.into_string().ok());
        let index = next()?.parse().ok()?;
        let position = next()?.parse().ok()?;
        let parent = next()?.parse().ok()?;
        let caps = Caps { requests: next()?.parse().ok()?, bytes: next()?.parse().ok()? };
        let victim = Victim { mark: next()?.parse().ok()?, hold: next()?.parse().ok()? };
        let victim = Some(victim).filter(|v| v.mark > 0);
        Some(Self { segment, share, index, position, parent, caps, victim })
    }
}

/// Lives as a worker, to the end of its share: for an executable whose first argument is [`WORKER_ARGUMENT`], with
/// the others. Its coordinator is told how it went.
#[must_use]
pub fn worker(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(order) = Order::read(arguments) else {
        eprintln!("{WORKER_ARGUMENT} is for the workers of `replay`; run `replay` instead");
        return ExitCode::from(2);
    };
    match work(&order) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If the coordinator is gone, nobody is left to tell.
            let message = Message::Failed(error.to_string());
            let _ = Line::open().and_then(|line| line.say(&order, message));
            ExitCode::FAILURE
        }
    }
}

fn work(order: &Order) -> Result<(), ReplayError> {
    prctl::set_pdeathsig(Signal::SIGKILL)
        .map_err(|e| ReplayError::system("tie the worker to its coordinator", e))?;
    if getppid().as_raw() != order.parent {
        return Ok(()); // it ended before that
    }
    stay_on_processor(order.index);
    let line = Line::open()?;
    let text = std::fs::read_to_string(&order.share)
        .map_err(|e| ReplayError::system(format!("read {}", order.share.display()), e))?;
    let runtime = attach(&order.segment)?;
    let clients = Clients::open(&runtime)?;
    line.say(order, Message::Ready(clients.table().handle().writer()))?;
    let mut position = order.position;
    let Some(mut until) = line.wait_for_leave()? else { return Ok(()) };
    for request in requests(&text, position) {
        if order.victim.is_some_and(|v| position >= v.hold) {
            // Nothing more until the kill, which is on its way.
            loop {
                std::thread::park();
            }
        }
        if position >= until {
            line.say(order, Message::Waiting)?;
            let Some(next) = line.wait_for_leave()? else { return Ok(()) };
            until = next;
        }
        let Some((client, size)) = request else {
            let broken = std::io::Error::from(std::io::ErrorKind::InvalidData);
            return Err(ReplayError::system(format!("read {}", order.share.display()), broken));
        };
        clients.count(client, size, &order.caps)?;
        position += 1;
        match order.victim {
            Some(victim) if position == victim.mark => line.say(order, Message::Mark)?,
            Some(victim) if position > victim.mark => line.say(order, Message::Acknowledged)?,
            _ => {}
        }
    }
    line.say(order, Message::Done)
}

/// The segment, of which the coordinator is the steward.
fn attach(segment: &Path) -> Result<Runtime, ReplayError> {
    let Some(name) = segment.to_str() else {
        let error = std::io::Error::from(std::io::ErrorKind::InvalidFilename);
        return Err(ReplayError::system(format!("attach to {}", segment.display()), error));
    };
    Ok(Runtime::open(Config::named(name).attach_only().without_steward())?)
}

/// The two pipes to the coordinator, standard input and output, without the buffers of `std`: a message is one call.
struct Line {
    leave: File,
    reports: File,
}

impl Line {
    fn open() -> Result<Self, ReplayError> {
        let error = |e| ReplayError::system("use the pipes to the coordinator", e);
        let leave = std::io::stdin().as_fd().try_clone_to_owned().map_err(error)?;
        let reports = std::io::stdout().as_fd().try_clone_to_owned().map_err(error)?;
        Ok(Self { leave: leave.into(), reports: reports.into() })
    }

    fn say(&self, order: &Order, message: Message) -> Result<(), ReplayError> {
        let line = Report { index: order.index, message }.line();
        let written = (&self.reports).write_all(line.as_bytes());
        written.map_err(|e| ReplayError::system("report to the coordinator", e))
    }

    /// Waits for leave to go on: until which line of the share; `None` when the coordinator is gone.
    fn wait_for_leave(&self) -> Result<Option<u64>, ReplayError> {
        let mut bytes = [0; Leave::BYTES];
        match (&self.leave).read_exact(&mut bytes) {
            Ok(()) => {
                let leave = Leave::from_bytes(&bytes);
                leave.wait();
                Ok(Some(leave.until))
            }
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
            Err(e) => Err(ReplayError::system("wait for the coordinator", e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_survives_its_way_through_arguments() {
        let order = Order {
            segment: "/dev/shm/x".into(),
            share: "/tmp/share 1".into(),
            index: 3,
            position: 4,
            parent: 5,
            caps: Caps { requests: 6, ..Caps::default() },
            victim: Some(Victim { mark: 7, hold: 8 }),
        };
        for order in [Order { victim: None, ..order.clone() }, order] {
            let mut command = Command::new("x");
            order.write(&mut command);
            let arguments = || command.get_args().map(OsString::from).skip(1);
            assert_eq!(Order::read(arguments()), Some(order));
            assert_eq!(Order::read(arguments().take(8)), None);
        }
    }
}
