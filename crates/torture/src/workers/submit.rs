//! Submitters: each keeps a window of tasks under way, and looks at what comes of each of them.

use std::collections::{BTreeSet, VecDeque};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use commonhold::workers::{Pool, Reason, TaskError, TaskHandle, TaskId};

use super::gate::Gate;
use super::job::{arguments, attempts, result, task};
use super::{LIMIT, SUBMITTERS, TASKS};
use crate::{Options, TortureError};

/// For every so many tasks a rival asks for the end too.
const RIVAL: u64 = 8;

/// What came of the tasks of one submitter, or of all.
#[derive(Debug, Default)]
pub(super) struct Ends {
    /// Tasks with their result.
    pub(super) done: u64,
    /// Tasks that failed because their worker died in each of their attempts.
    pub(super) failed: u64,
    /// Results that are not what the arguments make.
    pub(super) wrong: u64,
    /// Tasks whose end nobody got.
    pub(super) lost: u64,
    /// Tasks whose end two got, or one got twice.
    pub(super) twice: u64,
    /// Ids that two tasks got.
    pub(super) ids_twice: u64,
    /// Submissions that found the queue full, and came later.
    pub(super) pushed_back: u64,
    /// Ends that no task of the torture can have.
    pub(super) others: Vec<String>,
    ids: BTreeSet<u64>,
}

/// What one who asked for an end got.
#[derive(Debug)]
pub(super) enum Got {
    Result(Vec<u8>),
    Failed(Reason),
    /// Somebody else has it.
    Nothing,
}

impl Ends {
    pub(super) fn add(&mut self, other: Self) {
        self.done += other.done;
        self.failed += other.failed;
        self.wrong += other.wrong;
        self.lost += other.lost;
        self.twice += other.twice;
        self.pushed_back += other.pushed_back;
        self.others.extend(other.others);
        self.ids_twice += other.ids_twice;
        for id in other.ids {
            self.note_id(id);
        }
    }

    fn note_id(&mut self, id: u64) {
        self.ids_twice += u64::from(!self.ids.insert(id));
    }

    /// Judges the end of a task that was asked for twice.
    fn judge(&mut self, number: u64, arguments: &[u8], got: [Got; 2]) {
        let mut ends = got.into_iter().filter(|got| !matches!(got, Got::Nothing));
        match ends.next() {
            None | Some(Got::Nothing) => self.lost += 1,
            Some(Got::Result(bytes)) => {
                self.done += 1;
                self.wrong += u64::from(bytes != result(arguments));
            }
            Some(Got::Failed(Reason::WorkerDied { attempts: begun, how })) => {
                self.failed += 1;
                if begun != attempts(number) || !how.contains("signal 9") {
                    self.others
                        .push(format!("task {number}: {begun} attempts, the last one {how}"));
                }
            }
            Some(Got::Failed(reason)) => self.others.push(format!("task {number}: {reason}")),
        }
        self.twice += u64::from(ends.next().is_some());
    }
}

/// A task under way.
struct Sent {
    number: u64,
    arguments: Vec<u8>,
    handle: TaskHandle,
    rivalled: bool,
}

/// Submits the tasks `first`, `first` + [`SUBMITTERS`] … and takes their ends.
pub(super) fn submit(
    options: &Options,
    pool: &Pool,
    gate: &Gate,
    first: u64,
) -> Result<Ends, TortureError> {
    let (asks, asked) = channel();
    let (answers, answered) = channel();
    std::thread::scope(|scope| {
        scope.spawn(move || rival(pool, &asked, &answers));
        let window = (options.processes as usize * 2).clamp(4, TASKS as usize / 3);
        let mut submitter =
            Submitter { pool, gate, asks, answered, sent: VecDeque::new(), ends: Ends::default() };
        for number in (first..options.updates).step_by(SUBMITTERS as usize) {
            while submitter.sent.len() >= window
                || (!gate.is_open(number) && !submitter.sent.is_empty())
            {
                submitter.take_oldest()?;
            }
            if !gate.pass(number)? {
                break;
            }
            submitter.send(options.seed, number)?;
        }
        while !submitter.sent.is_empty() {
            submitter.take_oldest()?;
        }
        Ok(submitter.ends)
    })
}

struct Submitter<'a> {
    pool: &'a Pool,
    gate: &'a Gate,
    asks: Sender<TaskId>,
    answered: Receiver<Result<Got, TaskError>>,
    sent: VecDeque<Sent>,
    ends: Ends,
}

impl Submitter<'_> {
    fn send(&mut self, seed: u64, number: u64) -> Result<(), TortureError> {
        let arguments = arguments(seed, number);
        let handle = loop {
            match self.pool.submit(task(number, &arguments)) {
                Err(TaskError::Full { .. }) if !self.sent.is_empty() => {
                    self.ends.pushed_back += 1;
                    self.take_oldest()?;
                }
                submitted => break submitted?,
            }
        };
        self.ends.note_id(handle.id().get());
        let rivalled = number.is_multiple_of(RIVAL) && self.asks.send(handle.id()).is_ok();
        self.sent.push_back(Sent { number, arguments, handle, rivalled });
        Ok(())
    }

    fn take_oldest(&mut self) -> Result<(), TortureError> {
        let Some(sent) = self.sent.pop_front() else { return Ok(()) };
        let mine = got(sent.handle.wait(LIMIT))?;
        let other = if sent.rivalled {
            let ended = |_| TortureError::system("hear the rival", std::io::ErrorKind::BrokenPipe);
            self.answered.recv().map_err(ended)??
        } else {
            got(sent.handle.wait(Duration::ZERO))?
        };
        self.ends.judge(sent.number, &sent.arguments, [mine, other]);
        self.gate.ended();
        Ok(())
    }
}

fn got(ended: Result<Vec<u8>, TaskError>) -> Result<Got, TaskError> {
    match ended {
        Ok(bytes) => Ok(Got::Result(bytes)),
        Err(TaskError::Failed { reason, .. }) => Ok(Got::Failed(reason)),
        Err(TaskError::Gone { .. }) => Ok(Got::Nothing),
        Err(e) => Err(e),
    }
}

/// Asks for ends that a submitter asks for too, in the order of their submission.
fn rival(pool: &Pool, asked: &Receiver<TaskId>, answers: &Sender<Result<Got, TaskError>>) {
    for id in asked {
        let got = pool.task(id).and_then(|handle| handle.wait(LIMIT));
        if answers.send(self::got(got)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn died(attempts: u64) -> Got {
        Got::Failed(Reason::WorkerDied { attempts, how: "was killed by signal 9".to_owned() })
    }

    /// done, failed, wrong, lost, twice, others
    fn judged(number: u64, got: [Got; 2]) -> [u64; 6] {
        let mut ends = Ends::default();
        ends.judge(number, &arguments(1, number), got);
        let others = ends.others.len() as u64;
        [ends.done, ends.failed, ends.wrong, ends.lost, ends.twice, others]
    }

    #[test]
    fn each_fault_is_found() {
        let number = (0..).find(|n| n % 16 == 1 && result(&arguments(1, *n)).len() > 8).unwrap();
        let right = || Got::Result(result(&arguments(1, number)));
        assert_eq!(judged(number, [right(), Got::Nothing]), [1, 0, 0, 0, 0, 0]);
        assert_eq!(judged(number, [Got::Nothing, right()]), [1, 0, 0, 0, 0, 0]);
        assert_eq!(judged(number, [died(2), Got::Nothing]), [0, 1, 0, 0, 0, 0]);
        let wrong = Got::Result(result(&arguments(1, number + 1)));
        assert_eq!(judged(number, [wrong, Got::Nothing]), [1, 0, 1, 0, 0, 0], "another's result");
        assert_eq!(judged(number, [Got::Nothing, Got::Nothing]), [0, 0, 0, 1, 0, 0], "lost");
        assert_eq!(judged(number, [right(), right()]), [1, 0, 0, 0, 1, 0], "twice");
        assert_eq!(judged(number, [died(1), Got::Nothing]), [0, 1, 0, 0, 0, 1], "too soon");
        let panicked = Got::Failed(Reason::Panic(String::new()));
        assert_eq!(judged(number, [panicked, Got::Nothing]), [0, 0, 0, 0, 0, 1], "no such fault");
        let mut ends = Ends::default();
        ends.note_id(5);
        let mut others = Ends::default();
        others.note_id(5);
        ends.add(others);
        assert_eq!(ends.ids_twice, 1);
    }
}
