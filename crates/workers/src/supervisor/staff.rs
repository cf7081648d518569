//! Starting, retiring and burying workers.

use std::collections::BTreeSet;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use commonhold_os::clock::wall_micros;
use commonhold_runtime::{Error, Timestamp};

use super::child::Worker;
use super::look::{Buried, Warden};
use super::sleep;
use crate::error::{PoolError, Reason};
use crate::queue::ends::fit;
use crate::records::{TaskId, WorkerState};
use crate::worker::Order;

/// The first wait after a worker died before it was ready; it doubles with each.
const BACK_OFF: Duration = Duration::from_millis(20);
/// The longest such wait.
const BACK_OFF_MAX: Duration = Duration::from_secs(5);
/// How long a worker may take until it is ready.
const READY: Duration = Duration::from_secs(30);
/// A worker that fails sooner has not done much.
const SOON: Duration = Duration::from_secs(1);
/// How long a killed worker is waited for.
const KILLED: Duration = Duration::from_secs(5);

impl Warden<'_> {
    /// The first workers, of which the first must start.
    pub(super) fn grow(&mut self) -> Result<(), PoolError> {
        while (self.workers.len() as u32) < self.options.min {
            self.start_worker()?;
        }
        Ok(())
    }

    /// Starts workers, so that there is one for each of `tasks`, as far as the options allow.
    pub(super) fn start_workers(&mut self, tasks: u32) -> Result<(), PoolError> {
        let wanted = tasks.clamp(self.options.min, self.options.max);
        while (self.workers.iter().filter(|w| !w.stops).count() as u32) < wanted
            && (self.workers.len() as u32) < self.options.max
            && Instant::now() >= self.start_after
        {
            match self.start_worker() {
                Ok(()) => {}
                Err(PoolError::Runtime(e)) => return Err(e.into()),
                // It may be possible later: too many processes, too few descriptors.
                Err(e) => self.back_off(e.to_string()),
            }
        }
        Ok(())
    }

    /// Takes a record that no worker of this supervisor has: which one, and which turn of it this is. One that cannot be
    /// read is left alone.
    fn take_record(&self) -> Result<(u32, u64), Error> {
        let (workers, mut turn) = (&self.queue.shape.workers, 0);
        let taken: BTreeSet<u32> = self.workers.iter().map(|w| w.slot).collect();
        let found = workers.count();
        let mut failed =
            Error::Corrupt { what: "the table of workers", offset: 0, found: found.into() };
        for slot in (0..workers.count()).filter(|slot| !taken.contains(slot)) {
            let made = workers.update(&self.queue.handle, slot, |worker| {
                worker.turn = (worker.turn + 1) & (u64::MAX >> 1);
                turn = worker.turn;
                worker.state = WorkerState::Starting.code();
                worker.stop = false;
                worker.set_process(Default::default());
                worker.started_at = Timestamp(wall_micros());
                true
            });
            match made {
                Ok(_) => return Ok((slot, turn)),
                Err(e) if e.is_damage() => failed = e,
                Err(e) => return Err(e),
            }
        }
        Err(failed)
    }

    fn start_worker(&mut self) -> Result<(), PoolError> {
        let (queue, (slot, turn)) = (self.queue, self.take_record()?);
        let order = Order {
            segment: self.segment.to_owned(),
            uuid: queue.space().segment().header().uuid,
            slot,
            turn,
            supervisor: std::process::id(),
            memory: self.options.memory,
        };
        match Worker::start(self.options, &order) {
            Ok(worker) => {
                self.workers.push(worker);
                Ok(())
            }
            Err(e) => {
                self.record_end(slot, "could not be started")?;
                Err(e)
            }
        }
    }

    fn back_off(&mut self, why: String) {
        let wait = BACK_OFF.saturating_mul(1 << self.stillborn.min(16)).min(BACK_OFF_MAX);
        self.start_after = Instant::now() + wait;
        self.stillborn = self.stillborn.saturating_add(1);
        self.no_workers = why;
    }

    /// Tells workers to stop that have had nothing to do for a while; `busy` are those that have.
    pub(super) fn retire(&mut self, busy: &BTreeSet<u32>) -> Result<(), PoolError> {
        let staying = self.workers.iter().filter(|w| !w.stops).count() as u32;
        let kept = (busy.len() as u32).saturating_add(self.options.idle).max(self.options.min);
        let surplus = staying.saturating_sub(kept);
        if surplus == 0 {
            self.spare_since = None;
            return Ok(());
        }
        if self.spare_since.get_or_insert_with(Instant::now).elapsed() < self.options.idle_time {
            return Ok(());
        }
        let idle = self.workers.iter().filter(|w| !w.stops && !busy.contains(&w.slot));
        let mut slots: Vec<u32> = idle.map(|w| w.slot).collect();
        slots.sort_unstable();
        for slot in slots.into_iter().rev().take(surplus as usize) {
            self.tell_to_stop(slot)?;
        }
        self.spare_since = None;
        Ok(self.queue.space().ring_ready_all(self.queue.queue_words())?)
    }

    fn tell_to_stop(&mut self, slot: u32) -> Result<(), Error> {
        let queue = self.queue;
        self.workers.iter_mut().filter(|w| w.slot == slot).for_each(|w| w.stops = true);
        queue.shape.workers.update(&queue.handle, slot, |worker| {
            worker.stop = true;
            true
        })?;
        Ok(())
    }

    pub(super) fn read_outputs(&mut self) {
        for worker in &mut self.workers {
            worker.read_output(&mut self.voice);
        }
    }

    /// Kills workers that do not become ready: their program does not call `init`, or hangs before.
    pub(super) fn give_up_unready(&mut self) -> Result<(), Error> {
        let queue = self.queue;
        for worker in self.workers.iter_mut().filter(|w| !w.stops && w.since.elapsed() > READY) {
            let state = match queue.shape.workers.get(&queue.handle, worker.slot) {
                Ok(record) => record.state(),
                // A worker whose record cannot be read ends by itself.
                Err(e) if e.is_damage() => continue,
                Err(e) => return Err(e),
            };
            if state == WorkerState::Starting && worker.killed_for.is_none() {
                let why = format!(
                    "was not ready within {} s; does its `main` call `workers::init` first thing?",
                    READY.as_secs()
                );
                worker.killed_for = Some((TaskId::default(), Reason::Error(why)));
                worker.kill();
            }
        }
        Ok(())
    }

    /// Takes leave of workers that have ended. Their tasks are the next look's.
    pub(super) fn bury_dead(&mut self) -> Result<(), PoolError> {
        let (mut at, mut done) = (0, Ok(()));
        while let Some(worker) = self.workers.get_mut(at) {
            let Some(status) = worker.ended() else {
                at += 1;
                continue;
            };
            let mut worker = self.workers.swap_remove(at);
            worker.read_output(&mut self.voice);
            worker.end_line(&mut self.voice);
            done = done.and(self.bury(worker, status));
        }
        done
    }

    fn bury(&mut self, mut worker: Worker, status: Option<ExitStatus>) -> Result<(), PoolError> {
        let (slot, key) = (worker.slot, (worker.slot.into(), worker.pid().into()));
        let how = match worker.killed_for.as_ref() {
            Some((task, Reason::Error(why))) if *task == TaskId::default() => why.clone(),
            _ => worker.how(status),
        };
        let (killed_for, told) = (worker.killed_for.take(), worker.stops);
        let ended = self.record_end(slot, &how);
        if !told {
            let _ = self.pool.died.inc();
        }
        // One that gives up by itself as soon as it is there will do so again.
        let gave_up = status.is_some_and(|s| s.code().is_some_and(|code| code != 0))
            && worker.since.elapsed() < SOON;
        if *ended.as_ref().unwrap_or(&true) && !gave_up {
            (self.stillborn, self.no_workers) = (0, String::new());
        } else if !told {
            self.back_off(format!("the last one {how}"));
        }
        self.buried.insert(key, Buried { how, killed_for });
        ended.map(drop).map_err(PoolError::from)
    }

    /// Writes down that the process of a worker's record has ended; whether it had been ready.
    fn record_end(&self, slot: u32, how: &str) -> Result<bool, Error> {
        let (queue, mut was_ready) = (self.queue, false);
        queue.shape.workers.update(&queue.handle, slot, |worker| {
            was_ready = worker.state() == WorkerState::Ready;
            worker.state = WorkerState::Gone.code();
            worker.stop = false;
            worker.last_end = fit(how);
            true
        })?;
        Ok(was_ready)
    }

    /// Ends all workers: those that have not ended by `until`, if it is given, are killed; how many that were. Whatever
    /// goes wrong, none is left.
    pub(super) fn end(&mut self, until: Option<Instant>) -> Result<u32, PoolError> {
        let slots: Vec<u32> = self.workers.iter().map(|w| w.slot).collect();
        let mut done: Result<(), PoolError> = Ok(());
        for slot in slots {
            done = done.and(self.tell_to_stop(slot).map_err(PoolError::from));
        }
        let rung = self.queue.space().ring_ready_all(self.queue.queue_words());
        done = done.and(rung.map_err(PoolError::from));
        if let Some(until) = until.filter(|_| done.is_ok()) {
            done = done.and(self.wait_for_ends(until));
        }
        let killed = self.workers.len() as u32;
        for worker in &mut self.workers {
            // Their tasks have done nothing wrong.
            worker.killed_for.get_or_insert((TaskId::default(), Reason::Cancelled));
            worker.kill();
        }
        done = done.and(self.wait_for_ends(Instant::now() + KILLED));
        self.workers.clear();
        let seen = self.scan();
        let queued = seen.as_ref().map_or(0, |seen| seen.pending);
        done = done.and(seen.map(drop));
        let words = self.queue.queue_words();
        done = done.and(self.queue.space().end_looks(words).map_err(PoolError::from));
        self.show(0, 0, queued);
        done.map(|()| killed)
    }

    /// Goes on looking after tasks until all workers have ended, at most until `until`.
    fn wait_for_ends(&mut self, until: Instant) -> Result<(), PoolError> {
        loop {
            let buried = self.bury_dead();
            self.read_outputs();
            if self.workers.is_empty() || Instant::now() >= until {
                return buried;
            }
            let seen = self.scan();
            buried.and(seen.map(drop))?;
            let descriptors: Vec<_> = self.descriptors().collect();
            // Deadlines and cancellations are not rung for here.
            sleep(&descriptors, until.min(Instant::now() + Duration::from_millis(100)));
        }
    }
}
