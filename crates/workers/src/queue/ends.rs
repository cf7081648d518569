//! How tasks end: done, failed, given up, begun anew; and how their end is taken.

use std::time::Duration;

use commonhold_os::clock::monotonic_nanos;
use commonhold_runtime::core::schema::Decoder;
use commonhold_runtime::core::wait::Deadline;
use commonhold_runtime::{Bytes, Error, Text};

use super::{Queue, pages};
use crate::error::Reason;
use crate::metrics::count_error;
use crate::records::{INLINE_BYTES, PAYLOAD_BYTES_MAX, Priority, StoredTask, TaskId, TaskState};

/// A task's end, taken.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) kind: String,
    pub(crate) outcome: Result<Vec<u8>, Reason>,
}

/// What was found when a task's end was asked for.
#[derive(Debug)]
pub(crate) enum Taken {
    End(End),
    /// It has not ended.
    NotYet,
    /// It is not there any more.
    Gone,
}

/// The longest part of `text` that fits, with a mark where it was cut.
pub(crate) fn fit<const N: usize>(text: &str) -> Text<N> {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if let Ok(whole) = Text::new(&plain) {
        return whole;
    }
    let end = (0..=N.saturating_sub(4)).rev().find(|end| plain.is_char_boundary(*end)).unwrap_or(0);
    Text::new(&format!("{} …", plain.get(..end).unwrap_or_default())).unwrap_or_default()
}

impl Queue {
    /// The arguments of a task that this worker has; `None` when their pages are not its own.
    pub(crate) fn arguments(&self, task: &StoredTask) -> Result<Option<Vec<u8>>, Error> {
        if task.argument_pages.as_bytes().is_empty() {
            return Ok(Some(task.arguments.as_bytes().to_vec()));
        }
        self.read_pages(task.task_id(), 0, &task.argument_pages, task.arguments_bytes)
    }

    /// Ends a task that runs here: result and state are one commit. Why there is no result, if there is none.
    pub(crate) fn finish(
        &self,
        task: &StoredTask,
        outcome: Result<Vec<u8>, Reason>,
    ) -> Result<Option<Reason>, Error> {
        let (id, attempt) = (task.task_id(), task.attempt.cast_unsigned());
        let outcome = match outcome {
            Ok(result) if result.len() > PAYLOAD_BYTES_MAX => Err(Reason::Result(format!(
                "its result has {} bytes; at most {PAYLOAD_BYTES_MAX} fit",
                result.len()
            ))),
            Ok(result) if result.len() > INLINE_BYTES => {
                match self.write_pages(id, attempt, &result)? {
                    Some(pages) => Ok((result.len(), Bytes::default(), pages::names(&pages))),
                    None => Err(Reason::Result(format!(
                        "there are no pages for its result of {} bytes; take results, or raise the capacity's `pages`",
                        result.len()
                    ))),
                }
            }
            Ok(result) => {
                Ok((result.len(), Bytes::new(&result).unwrap_or_default(), Bytes::default()))
            }
            Err(reason) => Err(reason),
        };
        let same = |now: &StoredTask| {
            now.task_id() == id
                && now.is(TaskState::Running)
                && (now.attempt, now.worker, now.worker_pid)
                    == (task.attempt, task.worker, task.worker_pid)
        };
        match outcome {
            Ok((length, inline, names)) => {
                let ended = self.end(id, same, |now| {
                    now.state = TaskState::Done.code();
                    (now.result_bytes, now.result) = (length as u64, inline);
                    now.result_pages = names;
                })?;
                if !ended {
                    self.free_pages(id, &names)?;
                }
                Ok(None)
            }
            Err(reason) => {
                self.end(id, same, |now| fail(now, &reason))?;
                Ok(Some(reason))
            }
        }
    }

    /// Ends a task as failed, if `same` holds of it; whether it did.
    pub(crate) fn fail_if(
        &self,
        id: TaskId,
        same: impl Fn(&StoredTask) -> bool,
        reason: &Reason,
    ) -> Result<bool, Error> {
        self.end(id, |now| now.task_id() == id && same(now), |now| fail(now, reason))
    }

    /// The commit that ends a task, and what follows it.
    fn end(
        &self,
        id: TaskId,
        same: impl Fn(&StoredTask) -> bool,
        make: impl Fn(&mut StoredTask),
    ) -> Result<bool, Error> {
        let now = monotonic_nanos();
        let (mut arguments, mut result) = (Bytes::default(), Bytes::default());
        let mut detached = false;
        let ended = self.shape.tasks.update(&self.handle, id.slot(), |task| {
            if !same(task) {
                return false;
            }
            arguments = std::mem::take(&mut task.argument_pages);
            (task.arguments, task.arguments_bytes) = (Bytes::default(), 0);
            make(task);
            task.ended = now;
            detached = task.detached;
            if detached {
                result = std::mem::take(&mut task.result_pages);
                free(task);
            }
            true
        })?;
        if !ended {
            return Ok(false);
        }
        self.free_pages(id, &arguments)?;
        if detached {
            self.free_pages(id, &result)?;
            self.announce_free(id.slot())?;
        } else {
            self.ring_done()?;
        }
        Ok(true)
    }

    /// Makes a task whose worker is dead wait again. `counts`: whether the attempt counts.
    pub(crate) fn requeue(&self, task: &StoredTask, counts: bool) -> Result<bool, Error> {
        let id = task.task_id();
        let made = self.shape.tasks.update(&self.handle, id.slot(), |now| {
            let same = now.task_id() == id
                && now.is(TaskState::Running)
                && (now.attempt, now.worker_pid) == (task.attempt, task.worker_pid);
            now.state = TaskState::Pending.code();
            now.attempt -= i64::from(!counts);
            same
        })?;
        if made {
            let limit = Duration::from_nanos(task.due.saturating_sub(monotonic_nanos()));
            self.announce_pending(id, Priority::from_code(task.priority), limit)?;
        }
        Ok(made)
    }

    /// For the supervisor: a task of a segment before this one, whose workers are all gone, is this one's.
    pub(crate) fn renew(&self, task: &StoredTask, now: u64) -> Result<(), Error> {
        let (id, epoch) = (task.task_id(), self.shape.epoch);
        let renewed = self.shape.tasks.update(&self.handle, id.slot(), |at| {
            let same = at.task_id() == id && at.epoch == task.epoch && at.state == task.state;
            at.epoch = epoch;
            (at.submitted, at.due) = (now, now.saturating_add(at.limit) & (u64::MAX >> 1));
            match TaskState::from_code(at.state) {
                Some(TaskState::Running) => at.state = TaskState::Pending.code(),
                Some(TaskState::Reserved) => free(at),
                Some(TaskState::Done | TaskState::Failed) => at.ended = now,
                _ => {}
            }
            same
        })?;
        if renewed {
            self.announce_free(id.slot())?;
            let limit = Duration::from_nanos(task.limit);
            self.announce_pending(id, Priority::from_code(task.priority), limit)?;
        }
        Ok(())
    }

    /// The end of a task, which is nobody else's from then on.
    pub(crate) fn take(&self, id: TaskId) -> Result<Taken, Error> {
        if !self.has_ended(id)? {
            return Ok(Taken::NotYet);
        }
        let Some(task) = self.task(id)? else { return Ok(Taken::Gone) };
        let outcome = match TaskState::from_code(task.state) {
            Some(TaskState::Done) if task.result_pages.as_bytes().is_empty() => {
                Ok(task.result.as_bytes().to_vec())
            }
            Some(TaskState::Done) => {
                let attempt = task.attempt.cast_unsigned();
                match self.read_pages(id, attempt, &task.result_pages, task.result_bytes)? {
                    Some(result) => Ok(result),
                    // Somebody took it meanwhile (then so says the commit below), or the store had an older state of them.
                    None => Err(Reason::Result("the pages of its result are not there".to_owned())),
                }
            }
            Some(TaskState::Failed) => {
                let attempts = task.attempt.cast_unsigned();
                Err(Reason::from_parts(task.reason, task.why.as_str(), attempts))
            }
            Some(_) => return Ok(Taken::NotYet),
            None => return Ok(Taken::Gone),
        };
        let state = task.state;
        if !self.release(id, |now| now.state == state)? {
            return Ok(Taken::Gone);
        }
        Ok(Taken::End(End { kind: task.kind.as_str().to_owned(), outcome }))
    }

    /// Makes a task's record free, if `same` holds of it; whether it did.
    pub(crate) fn release(
        &self,
        id: TaskId,
        same: impl Fn(&StoredTask) -> bool,
    ) -> Result<bool, Error> {
        let mut pages = Default::default();
        let freed = self.shape.tasks.update(&self.handle, id.slot(), |now| {
            if now.task_id() != id || !same(now) {
                return false;
            }
            pages = (now.argument_pages, now.result_pages);
            free(now);
            true
        })?;
        if freed {
            let (arguments, result): (Bytes<128>, Bytes<128>) = pages;
            self.free_pages(id, &arguments)?;
            self.free_pages(id, &result)?;
            self.announce_free(id.slot())?;
        }
        Ok(freed)
    }

    /// Nobody waits for this task any more: its end is given up, now or when it comes.
    pub(crate) fn detach(&self, id: TaskId) -> Result<(), Error> {
        let ended = |now: &StoredTask| now.is(TaskState::Done) || now.is(TaskState::Failed);
        if self.release(id, ended)? {
            return Ok(());
        }
        let mut late = false;
        self.shape.tasks.update(&self.handle, id.slot(), |now| {
            late = now.task_id() == id && ended(now);
            now.detached = true;
            now.task_id() == id && !ended(now) && !now.is(TaskState::Free)
        })?;
        if late {
            self.release(id, ended)?;
        }
        Ok(())
    }

    /// Gives a task up: one that waits ends at once, one that runs is told, and its worker is killed if it goes on.
    /// False when it has ended already.
    pub(crate) fn cancel(&self, id: TaskId) -> Result<bool, Error> {
        if self.cancel_pending(id)? {
            return Ok(true);
        }
        let told = self.shape.tasks.update(&self.handle, id.slot(), |now| {
            now.cancelled = true;
            now.task_id() == id && (now.is(TaskState::Running) || now.is(TaskState::Pending))
        })?;
        if told {
            self.ring_supervisor()?;
        }
        Ok(told)
    }

    /// Whether a task has ended, or is not there any more. Reads no more of it than that takes.
    pub(crate) fn has_ended(&self, id: TaskId) -> Result<bool, Error> {
        let tasks = &self.shape.tasks;
        if id.slot() >= tasks.count() {
            return Ok(true);
        }
        tasks.look_front(&self.handle, id.slot(), END_BYTES, |payload| is_over(payload, id))
    }

    /// Gives a task up if no worker has it.
    pub(crate) fn cancel_pending(&self, id: TaskId) -> Result<bool, Error> {
        let ended = self.fail_if(id, |now| now.is(TaskState::Pending), &Reason::Cancelled)?;
        if ended {
            // It has ended, also if there is no room to count it.
            let _ = count_error(&self.handle, &Reason::Cancelled);
        }
        Ok(ended)
    }

    /// Waits until a task has ended, or is not there any more; false when `deadline` passed first.
    pub(crate) fn wait_ended(&self, id: TaskId, deadline: &Deadline) -> Result<bool, Error> {
        self.shape.tasks.wait(&self.handle, id.slot(), deadline, |payload| is_over(payload, id))
    }
}

/// Bytes of a task's state, priority and id, with which its record begins.
const END_BYTES: usize = 24;

/// Whether a record, which begins so, has the end of this task, or another one.
fn is_over(payload: &[u8], id: TaskId) -> bool {
    let mut fields = Decoder::new(payload);
    let (state, _, now) = (fields.i64(), fields.i64(), fields.u64());
    let runs = [TaskState::Reserved, TaskState::Pending, TaskState::Running];
    now != Ok(id.get()) || !runs.iter().any(|s| state == Ok(s.code()))
}

fn fail(task: &mut StoredTask, reason: &Reason) {
    task.state = TaskState::Failed.code();
    task.reason = reason.code();
    task.why = fit(reason.words());
}

/// The record keeps nothing but the number of its turn.
fn free(task: &mut StoredTask) {
    let id = task.id;
    *task = StoredTask { id, state: TaskState::Free.code(), ..StoredTask::default() };
}
