//! The killer: kills workers, and looks at the records how long it takes until a dead one's task goes on.
//!
//! A kill goes to a process by its pidfd, so never to one that has its number by chance. The time begins when `kill(2)`
//! has returned and ends with the first look that finds no task running on the dead one: what it had waits again, or
//! has failed, or is somebody else's already. A task that the victim still ended by itself does not count.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use commonhold::workers::{StoredTask, StoredWorker, TASKS, TaskState, WORKERS, WorkerState};
use commonhold::{RecordRef, Runtime, Table};
use commonhold_os::process::{Identity, Liveness, Pidfd};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::LIMIT;
use super::gate::Gate;
use super::job::Random;
use crate::{Options, TortureError, signals};

/// One kill of so many goes to any worker; the others to one that has a task.
const ANY: u64 = 10;
/// How long a worker with a task is looked for.
const SEEK: Duration = Duration::from_millis(20);
/// Between two looks: who looks without a pause takes the processor from those who are looked at.
const PAUSE: Duration = Duration::from_micros(10);
/// The longest wait before a kill, so that it hits anything that a worker does.
const DAWDLE_NANOS: u64 = 1_000_000;

/// What the killer did and saw.
#[derive(Debug, Default)]
pub(super) struct Killed {
    pub(super) kills: u32,
    /// For each kill that took a task: nanoseconds from `kill(2)` until the task went on.
    pub(super) redispatch: Vec<u64>,
    /// For the same kills: nanoseconds from `kill(2)` until the kernel said that the worker is dead.
    pub(super) death: Vec<u64>,
    /// Processes that workers' records had in all.
    pub(super) started: u64,
    /// Those of them that were seen.
    pub(super) seen: u64,
    /// Those that are alive at the end.
    pub(super) alive: u64,
}

pub(super) struct Killer {
    kills: u32,
    workers_due: usize,
    tasks: Table<StoredTask>,
    task_records: Vec<RecordRef>,
    workers: Table<StoredWorker>,
    worker_records: Vec<RecordRef>,
    random: Random,
    seen: Vec<Identity>,
    victims: Vec<Identity>,
    /// Processes that workers' records had in an earlier run with the same store.
    before: u64,
    killed: Killed,
}

/// Which attempt of which task a worker has.
#[derive(Debug, Clone, Copy)]
struct Held {
    record: RecordRef,
    id: u64,
    attempt: i64,
}

fn records<T: commonhold::Record>(table: &Table<T>) -> Result<Vec<RecordRef>, TortureError> {
    let mut keys = Vec::new();
    table.scan(|key, _| keys.push(key.to_owned()))?;
    let found = keys.iter().map(|key| table.find(key)).collect::<Result<Vec<_>, _>>()?;
    Ok(found.into_iter().flatten().collect())
}

/// How many processes workers' records have had.
pub(super) fn processes(runtime: &Runtime) -> Result<u64, TortureError> {
    turns(&runtime.table(WORKERS)?)
}

fn turns(workers: &Table<StoredWorker>) -> Result<u64, TortureError> {
    let mut turns = 0;
    workers.scan(|_, worker| turns += worker.turn)?;
    Ok(turns)
}

fn is_on(task: &StoredTask, pid: u64) -> bool {
    task.state == TaskState::Running as i64 && task.worker_pid == pid
}

fn identity(worker: &StoredWorker) -> Identity {
    Identity {
        pid: u32::try_from(worker.pid).unwrap_or(0),
        start_ticks: worker.start,
        pidfd_inode: worker.inode,
        pid_namespace: worker.namespace,
    }
}

impl Killer {
    /// `before`: [`processes`] before the pool was started.
    pub(super) fn new(
        options: &Options,
        runtime: &Runtime,
        before: u64,
    ) -> Result<Self, TortureError> {
        let (tasks, workers) = (runtime.table(TASKS)?, runtime.table(WORKERS)?);
        Ok(Self {
            kills: options.kill,
            workers_due: options.processes as usize,
            task_records: records(&tasks)?,
            tasks,
            worker_records: records(&workers)?,
            workers,
            random: Random(options.seed ^ 0x6b69_6c6c),
            seen: Vec::new(),
            victims: Vec::new(),
            before,
            killed: Killed::default(),
        })
    }

    /// Makes all kills, each when its part of the tasks has ended.
    pub(super) fn kill_all(&mut self, gate: &Gate) -> Result<(), TortureError> {
        for number in 1..=u64::from(self.kills) {
            if !gate.await_kill(number)? {
                break;
            }
            self.kill()?;
            gate.killed();
        }
        Ok(())
    }

    fn task(&self, record: RecordRef) -> Result<StoredTask, TortureError> {
        Ok(self.tasks.get_at(record)?.unwrap_or_default())
    }

    /// The task that process `pid` has.
    fn held(&self, pid: u32) -> Result<Option<Held>, TortureError> {
        for record in &self.task_records {
            let task = self.task(*record)?;
            if is_on(&task, pid.into()) {
                return Ok(Some(Held { record: *record, id: task.id, attempt: task.attempt }));
            }
        }
        Ok(None)
    }

    /// The workers that take tasks and were not killed, from anywhere on.
    fn ready(&mut self) -> Result<Vec<Identity>, TortureError> {
        let mut ready = Vec::new();
        for record in &self.worker_records {
            let worker = self.workers.get_at(*record)?.unwrap_or_default();
            if worker.state == WorkerState::Ready as i64 && !worker.stop {
                ready.push(identity(&worker));
            }
        }
        for process in &ready {
            if !self.seen.contains(process) {
                self.seen.push(*process);
            }
        }
        // A dead one's record says that it is ready until it is buried.
        ready.retain(|process| !self.victims.contains(process));
        let first = self.random.below(ready.len() as u64) as usize;
        ready.rotate_left(first);
        Ok(ready)
    }

    /// Whom to kill, by a descriptor that is his alone.
    fn victim(&mut self) -> Result<(Identity, Pidfd), TortureError> {
        let (start, any) = (Instant::now(), self.random.below(ANY) == 0);
        loop {
            let all = self.ready()?;
            for process in all {
                if !any && start.elapsed() < SEEK && self.held(process.pid)?.is_none() {
                    continue;
                }
                if let (Liveness::Alive, Some(pidfd)) = process.find() {
                    return Ok((process, pidfd));
                }
            }
            late(start, "find a worker that is ready")?;
        }
    }

    fn kill(&mut self) -> Result<(), TortureError> {
        loop {
            let (process, pidfd) = self.victim()?;
            let until = Instant::now() + Duration::from_nanos(self.random.below(DAWDLE_NANOS));
            while Instant::now() < until {
                std::hint::spin_loop();
            }
            let before = self.held(process.pid)?;
            if !pidfd.kill().map_err(|e| TortureError::system("kill a worker", e))? {
                continue;
            }
            let start = Instant::now();
            self.killed.kills += 1;
            self.victims.push(process);
            let mut dead = None;
            let mut looks = || {
                if dead.is_none() && has_ended(&pidfd) {
                    dead = Some(nanos_since(start));
                }
            };
            if self.goes_on(process, before, start, &mut looks)? {
                let took = nanos_since(start);
                self.killed.redispatch.push(took);
                self.killed.death.push(dead.unwrap_or(took));
            }
            return Ok(());
        }
    }

    /// Looks until no task runs on the killed one; whether one was taken from it.
    fn goes_on(
        &self,
        process: Identity,
        before: Option<Held>,
        start: Instant,
        looks: &mut impl FnMut(),
    ) -> Result<bool, TortureError> {
        let pid = u64::from(process.pid);
        let mut last = before;
        loop {
            // First where it was seen last: the look at all takes longer.
            while let Some(held) = last
                && is_on(&self.task(held.record)?, pid)
            {
                looks();
                late(start, "see the task of a killed worker go on")?;
            }
            let Some(held) = self.held(process.pid)? else { break };
            last = Some(held);
        }
        let Some(held) = last else { return Ok(false) };
        let now = self.task(held.record)?;
        let is = |state: TaskState| now.state == state as i64;
        let waits_or_failed = is(TaskState::Pending) || is(TaskState::Failed);
        let is_others = now.attempt > held.attempt && !is(TaskState::Free);
        Ok(now.id == held.id && (waits_or_failed || is_others))
    }

    /// Waits until every worker that is due is ready, so that it has seen every process that there was.
    pub(super) fn see_all_ready(&mut self) -> Result<(), TortureError> {
        let start = Instant::now();
        while self.ready()?.len() < self.workers_due {
            late(start, "see all workers ready")?;
        }
        Ok(())
    }

    /// When all workers were ended: what there was.
    pub(super) fn end(mut self) -> Result<Killed, TortureError> {
        self.killed.started = turns(&self.workers)?.saturating_sub(self.before);
        self.killed.seen = self.seen.len() as u64;
        let alive = self.seen.iter().filter(|process| process.find().0 != Liveness::Dead);
        self.killed.alive = alive.count() as u64;
        Ok(self.killed)
    }
}

fn nanos_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

fn has_ended(process: &Pidfd) -> bool {
    let mut polled = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Lets others work for an instant; an error when it takes too long.
fn late(start: Instant, what: &str) -> Result<(), TortureError> {
    signals::check()?;
    if start.elapsed() > LIMIT {
        let within = format!("not within {} s", LIMIT.as_secs());
        return Err(TortureError::system(what, std::io::Error::other(within)));
    }
    std::thread::sleep(PAUSE);
    Ok(())
}
