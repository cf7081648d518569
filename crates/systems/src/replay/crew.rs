//! The coordinator's part while workers work: start them, hear them, kill some, replace the dead.

use std::collections::VecDeque;
use std::io::{PipeReader, PipeWriter, Read, pipe};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;

use super::message::{Message, Report};
use super::pace::{Leave, WINDOW_LINES};
use super::place::Place;
use super::plan::deal_kills;
use super::seat::Seat;
use super::shares::Shares;
use super::signals::Signals;
use super::worker::Order;
use super::{Options, ReplayError};

/// So often, in milliseconds, it is looked whether a worker has died without a word.
const LOOK_EVERY_MS: u16 = 50;

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Workers killed on purpose, each with a commit acknowledged and a line left.
    pub(crate) kills: u32,
    /// Workers started in the place of dead ones.
    pub(crate) replacements: u32,
    /// From the start line until the last share was done.
    pub(crate) elapsed: Duration,
    /// Exchanges lost meanwhile.
    pub(crate) lost_exchanges: u64,
}

/// The workers of a replay; dropping it ends them.
pub(crate) struct Crew<'a> {
    options: &'a Options,
    place: &'a Place,
    shares: &'a Shares,
    signals: &'a Signals,
    seats: Vec<Seat>,
    started: Option<Instant>,
    /// So many lines of each share may be done.
    window: u64,
    reports: (PipeReader, PipeWriter),
    /// A report of which the rest is still in the pipe.
    partial: Vec<u8>,
    heard: VecDeque<Report>,
    tally: Tally,
}

impl<'a> Crew<'a> {
    pub(crate) fn new(
        options: &'a Options,
        place: &'a Place,
        shares: &'a Shares,
        signals: &'a Signals,
    ) -> Result<Self, ReplayError> {
        let kills = deal_kills(&shares.lengths, options.kills, options.seed);
        let seat = |(length, kills): (&u64, _)| Seat::new(*length, kills);
        Ok(Self {
            seats: shares.lengths.iter().zip(kills).map(seat).collect(),
            options,
            place,
            shares,
            signals,
            started: None,
            window: 0,
            reports: pipe().map_err(|e| ReplayError::system("make a pipe", e))?,
            partial: Vec::new(),
            heard: VecDeque::new(),
            tally: Tally::default(),
        })
    }

    /// Works the whole log off.
    pub(crate) fn run(mut self) -> Result<Tally, ReplayError> {
        allow_descriptors();
        for index in 0..self.seats.len() {
            self.signals.check()?;
            self.spawn(index)?;
        }
        let lost_before = self.place.totals().lost_exchanges;
        while self.seats.iter().any(|seat| !seat.done) {
            if !self.hear(LOOK_EVERY_MS)? {
                self.look_for_dead()?;
            }
            while let Some(report) = self.heard.pop_front() {
                self.handle(report)?;
            }
            if self.seats.iter().all(|seat| seat.waiting || seat.done) {
                self.open_window();
            }
        }
        self.tally.elapsed = self.started.map_or(Duration::ZERO, |at| at.elapsed());
        for seat in &mut self.seats {
            if let Some(mut child) = seat.child.take() {
                child.wait().map_err(|e| ReplayError::system("wait for a worker", e))?;
            }
        }
        let lost = self.place.totals().lost_exchanges;
        self.tally.lost_exchanges = lost.saturating_sub(lost_before);
        Ok(std::mem::take(&mut self.tally))
    }

    /// Starts a worker for the share `index`, where it stands.
    fn spawn(&mut self, index: usize) -> Result<(), ReplayError> {
        let error = |e| ReplayError::system(format!("start worker {index}"), e);
        let Some(seat) = self.seats.get_mut(index) else { return Ok(()) };
        let order = Order {
            segment: self.place.segment(),
            share: self.shares.path(index),
            index,
            position: seat.position,
            parent: std::process::id().cast_signed(),
            caps: self.options.caps,
            victim: seat.kills.next(seat.position),
        };
        let mut command = Command::new(std::env::current_exe().map_err(error)?);
        order.write(&mut command);
        command.stdin(Stdio::piped());
        command.stdout(self.reports.1.try_clone().map_err(error)?);
        seat.child = Some(command.spawn().map_err(error)?);
        Ok(())
    }

    /// Lets all go on, together.
    fn open_window(&mut self) {
        self.started.get_or_insert_with(Instant::now);
        // One alone has nobody to keep pace with.
        let alone = self.seats.len() == 1;
        self.window = if alone { u64::MAX } else { self.window.saturating_add(WINDOW_LINES) };
        let leave = Leave::together(self.window, self.seats.len());
        self.seats.iter_mut().filter(|seat| seat.waiting).for_each(|seat| seat.let_go(leave));
    }

    /// Waits so long for reports, and takes those that are there; false when there was none.
    fn hear(&mut self, wait_ms: u16) -> Result<bool, ReplayError> {
        self.signals.check()?;
        let mut fds = [
            PollFd::new(self.reports.0.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
        ];
        // Interrupted is like nothing heard.
        let _ = poll(&mut fds, PollTimeout::from(wait_ms));
        let [reports, signals] = fds.map(|fd| fd.any().unwrap_or(false));
        if signals {
            self.signals.check()?;
        }
        if !reports {
            return Ok(false);
        }
        let mut buffer = [0; 1 << 12];
        let error = |e| ReplayError::system("hear the workers", e);
        let read = self.reports.0.read(&mut buffer).map_err(error)?;
        self.partial.extend(buffer.iter().take(read));
        while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            let text = String::from_utf8_lossy(&line);
            let report = Report::parse(text.trim_end_matches('\n'));
            self.heard.extend(report);
        }
        Ok(true)
    }

    fn handle(&mut self, report: Report) -> Result<(), ReplayError> {
        let index = report.index;
        let Some(seat) = self.seats.get_mut(index) else { return Ok(()) };
        match report.message {
            Message::Ready(writer) => {
                (seat.writer, seat.waiting) = (Some(writer), true);
                // The window is open: the others are at it, or wait for this one.
                if seat.position < self.window {
                    seat.let_go(Leave::at_once(self.window));
                }
            }
            Message::Waiting => seat.waiting = true,
            Message::Acknowledged => seat.acknowledged += 1,
            Message::Done => seat.done = true,
            Message::Failed(why) => return Err(ReplayError::worker(index, why)),
            Message::Mark => {
                let mark = seat.kills.next(seat.position).map_or(seat.position, |v| v.mark);
                seat.acknowledged += mark - seat.position;
                self.kill(index)?;
            }
        }
        Ok(())
    }

    /// Kills the worker of the share `index`, wherever it is, and lets another take over.
    fn kill(&mut self, index: usize) -> Result<(), ReplayError> {
        let Some(child) = self.seats.get_mut(index).and_then(|seat| seat.child.as_mut()) else {
            return Ok(());
        };
        // Fails only if it has been waited for.
        let _ = child.kill();
        let status = child.wait().map_err(|e| ReplayError::worker(index, e))?;
        self.hear_the_dead(index)?;
        let Some(seat) = self.seats.get_mut(index) else { return Ok(()) };
        if status.signal() == Some(Signal::SIGKILL as i32) && seat.counts() {
            self.tally.kills += 1;
            seat.kills.count();
        }
        self.take_over(index, status)
    }

    /// Finds workers that died without being asked to.
    fn look_for_dead(&mut self) -> Result<(), ReplayError> {
        for index in 0..self.seats.len() {
            let Some(seat) = self.seats.get_mut(index).filter(|seat| !seat.done) else { continue };
            let Some(child) = &mut seat.child else { continue };
            let status = child.try_wait().map_err(|e| ReplayError::worker(index, e))?;
            if let Some(status) = status {
                self.hear_the_dead(index)?;
                self.take_over(index, status)?;
            }
        }
        Ok(())
    }

    /// Takes what is in the pipe, and handles what the dead worker of the share `index` had said last.
    fn hear_the_dead(&mut self, index: usize) -> Result<(), ReplayError> {
        while self.hear(0)? {}
        let (its, others): (VecDeque<_>, _) =
            std::mem::take(&mut self.heard).into_iter().partition(|report| report.index == index);
        self.heard = others;
        // It is dead already: its mark asks for nothing any more.
        its.into_iter().filter(|r| r.message != Message::Mark).try_for_each(|r| self.handle(r))
    }

    /// Lets another worker go on where the dead one of the share `index` stopped.
    fn take_over(&mut self, index: usize, status: ExitStatus) -> Result<(), ReplayError> {
        let Some(seat) = self.seats.get_mut(index) else { return Ok(()) };
        let pid = seat.child.take().map_or(0, |child| child.id());
        if seat.done {
            return Ok(());
        }
        if status.signal().is_none() {
            return Err(ReplayError::worker(index, format!("process {pid} ended early: {status}")));
        }
        let committed = match seat.writer {
            None => 0, // it never came to the start line
            Some(_) if !self.place.has_store() => {
                let why =
                    "it was killed, and without a store nobody knows how far it came; name one";
                return Err(ReplayError::worker(index, why));
            }
            Some(writer) => self.place.committed_by(writer, pid, self.signals)?,
        };
        seat.advance(committed).map_err(|why| ReplayError::worker(index, why))?;
        if !seat.done {
            self.tally.replacements += 1;
            self.spawn(index)?;
        }
        Ok(())
    }
}

impl Drop for Crew<'_> {
    fn drop(&mut self) {
        let mut children: Vec<_> =
            self.seats.iter_mut().filter_map(|seat| seat.child.take()).collect();
        // First all are told, then each is waited for.
        children.iter_mut().for_each(|child| drop(child.kill()));
        children.iter_mut().for_each(|child| drop(child.wait()));
    }
}

/// A pipe a worker: as many descriptors as this process may have. If they do not suffice, starting a worker tells.
fn allow_descriptors() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
