//! A batch: histories on one segment, with kills and stops, the last one ended by the death of all.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use commonhold_core::Space;
use commonhold_core::catalogue::History;
use commonhold_os::clock::monotonic_nanos;
use nix::sys::signal::Signal;

use crate::child::Child;
use crate::linear::board::{Board, CALLS_MAX, LANES, Shape};
use crate::linear::search::{Operation, Verdict, search};
use crate::linear::spec::{Answer, Call, State};
use crate::linear::stage::{Stage, TABLE, key};
use crate::linear::worker::{Wrong, live};
use crate::linear::{Figures, HISTORIES, heal};
use crate::random::Random;
use crate::{Failure, Outcome, Plan};

/// A history takes milliseconds; who takes so long hangs.
const LIMIT: Duration = Duration::from_secs(20);
/// Keys of a history at most.
const KEYS_MAX: u64 = 3;

struct Process {
    child: Child,
    lane: usize,
}

struct Batch<'a> {
    stage: Stage,
    board: Board,
    random: Random,
    wrong: Wrong,
    shape: Shape,
    one_core: bool,
    workers: Vec<Process>,
    keeper: Option<Child>,
    lanes: usize,
    /// About how long a history takes.
    span: Duration,
    states: BTreeMap<usize, State>,
    figures: &'a mut Figures,
    outcome: &'a mut Outcome,
    name: String,
}

/// Makes batch `number`.
pub(crate) fn run(
    plan: &Plan,
    number: u64,
    figures: &mut Figures,
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    let mut random = Random::of(plan.seed, number);
    let history = if random.once_in(2) { History::Full } else { History::Latest };
    // Long copies are torn more easily, short ones make more histories.
    let words = *[3, 120, 1000].get(random.below(3) as usize).unwrap_or(&3);
    let path = plan.folder.join(format!("linear-{number}"));
    let stage = Stage::new(path.clone(), history, words)?;
    let workers = 2 + random.below(5);
    let shape = Shape {
        calls: (96 / workers).min(CALLS_MAX as u64),
        keys: 1 + random.below(KEYS_MAX),
        idles: *[0, 20, 200].get(random.below(3) as usize).unwrap_or(&0),
    };
    let one_core = random.once_in(4);
    let name = format!(
        "seed {}, batch {number} ({history} history, {workers} processes, {} keys, {words} words{})",
        plan.seed,
        shape.keys,
        if one_core { ", one core" } else { "" }
    );
    // Short sleeps shall be as short as they say.
    // SAFETY: `prctl(PR_SET_TIMERSLACK, nanoseconds)` takes numbers.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_u64) };
    let mut batch = Batch {
        stage,
        board: Board::new()?,
        random,
        wrong: Wrong::of(plan),
        shape,
        one_core,
        workers: Vec::new(),
        keeper: None,
        lanes: 0,
        span: Duration::from_micros(500),
        states: BTreeMap::new(),
        figures,
        outcome,
        name,
    };
    batch.play(workers, number)?;
    drop(batch);
    std::fs::remove_file(path)?;
    Ok(())
}

impl Batch<'_> {
    fn play(&mut self, workers: u64, number: u64) -> Result<(), Failure> {
        let space = self.stage.attach()?;
        self.renew_keeper()?;
        for _ in 0..workers {
            let process = self.start_worker(self.board.round())?;
            self.workers.push(process);
        }
        for at in 0..self.shape.keys as usize {
            self.states.insert(at, State::found(None, 0));
        }
        for history in 0..HISTORIES {
            let last = history + 1 == HISTORIES;
            self.history(&space, number * HISTORIES + history, last)?;
            if !self.outcome.violations.is_empty() {
                return Ok(());
            }
        }
        self.keeper = None; // killed with all others
        heal::heal(&self.stage, &space, self.shape.keys, &self.name, self.outcome)
    }

    fn start_worker(&mut self, last: u64) -> Result<Process, Failure> {
        let (lane, seed, wrong, board) = (self.lanes, self.random.next(), self.wrong, self.board);
        self.lanes += 1;
        let (stage, one_core) = (&self.stage, self.one_core);
        let child = Child::start(|| {
            stay(one_core);
            live(stage, board, lane, last, seed, wrong)
        })?;
        Ok(Process { child, lane })
    }

    fn renew_keeper(&mut self) -> Result<(), Failure> {
        self.keeper = None; // killed, if it lives
        let (stage, seed, one_core) = (&self.stage, self.random.next(), self.one_core);
        self.keeper = Some(Child::start(|| {
            stay(one_core);
            stage.keep(seed)
        })?);
        Ok(())
    }

    /// One history; the `last` one ends with the death of all.
    fn history(&mut self, space: &Space, number: u64, last: bool) -> Result<(), Failure> {
        // A lane for each living process; those of the dead are used again.
        self.workers.sort_by_key(|p| p.lane);
        if self.lanes + 4 > LANES {
            self.renew_workers()?;
        }
        let begun = Instant::now();
        let round = self.board.begin(self.shape);
        self.disturb(round)?;
        if last {
            self.doze(round);
            self.kill_all()?;
        } else {
            self.await_all(round, begun)?;
            self.span = (self.span * 7 + begun.elapsed()) / 8;
        }
        self.judge(space, number)
    }

    fn renew_workers(&mut self) -> Result<(), Failure> {
        let count = self.workers.len();
        self.workers.clear();
        self.lanes = 0;
        for _ in 0..count {
            let process = self.start_worker(self.board.round())?;
            self.workers.push(process);
        }
        Ok(())
    }

    /// Sleeps for a random part of a history, or until all are done.
    fn doze(&mut self, round: u64) {
        let time = Duration::from_nanos(self.random.below(self.span.as_nanos() as u64 / 2));
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now())
            && !self.all_finished(round)
        {
            self.board.doze(left);
        }
    }

    fn all_finished(&self, round: u64) -> bool {
        self.workers.iter().all(|p| self.board.lane(p.lane).finished() >= round)
    }

    /// The faults of one history.
    fn disturb(&mut self, round: u64) -> Result<(), Failure> {
        let stopped = if self.random.once_in(2) { self.stop_one(round)? } else { None };
        for _ in 0..self.random.below(3) {
            self.doze(round);
            self.kill_one(round, stopped)?;
        }
        if let Some(index) = stopped {
            self.doze(round);
            self.victim(index).map(|c| c.signal(Signal::SIGCONT)).transpose()?;
        }
        Ok(())
    }

    /// The process `index`; behind the workers comes the keeper.
    fn victim(&self, index: usize) -> Option<&Child> {
        self.workers.get(index).map(|p| &p.child).or(self.keeper.as_ref())
    }

    /// One that is still at work, or the keeper; none when all are done.
    fn choose(&mut self, round: u64) -> Option<usize> {
        let board = self.board;
        let busy = |(_, p): &(usize, &Process)| board.lane(p.lane).finished() < round;
        let busy: Vec<usize> =
            self.workers.iter().enumerate().filter(busy).map(|(i, _)| i).collect();
        if busy.is_empty() {
            return None;
        }
        let keeper = self.workers.len();
        Some(*busy.get(self.random.below(busy.len() as u64 + 1) as usize).unwrap_or(&keeper))
    }

    fn stop_one(&mut self, round: u64) -> Result<Option<usize>, Failure> {
        self.doze(round);
        let Some(index) = self.choose(round) else { return Ok(None) };
        self.victim(index).map(Child::stop).transpose()?;
        self.figures.stops += 1;
        Ok(Some(index))
    }

    fn kill_one(&mut self, round: u64, stopped: Option<usize>) -> Result<(), Failure> {
        let Some(index) = self.choose(round).filter(|i| Some(*i) != stopped) else {
            return Ok(());
        };
        self.figures.kills += 1;
        if index == self.workers.len() {
            return self.renew_keeper();
        }
        let new = self.start_worker(round.wrapping_sub(1))?;
        if let Some(process) = self.workers.get_mut(index) {
            // The new one works already.
            let mut old = std::mem::replace(process, new);
            old.child.kill()?;
        }
        Ok(())
    }

    fn kill_all(&mut self) -> Result<(), Failure> {
        let all = self.workers.iter().map(|p| &p.child).chain(&self.keeper);
        all.clone().try_for_each(|c| c.signal(Signal::SIGKILL))?;
        self.figures.kills += all.count() as u64;
        self.workers.clear();
        self.keeper = None;
        Ok(())
    }

    fn await_all(&mut self, round: u64, begun: Instant) -> Result<(), Failure> {
        while !self.all_finished(round) {
            self.board.doze(Duration::from_millis(5));
            if begun.elapsed() > Duration::from_millis(50) {
                self.look_for_deaths()?;
            }
            if begun.elapsed() > LIMIT || !self.outcome.violations.is_empty() {
                self.outcome.violation(format!("{}: a process hangs or has died", self.name));
                return Ok(());
            }
        }
        Ok(())
    }

    fn look_for_deaths(&mut self) -> Result<(), Failure> {
        let all = self.workers.iter_mut().map(|p| &mut p.child).chain(&mut self.keeper);
        for child in all {
            if child.has_ended()? {
                self.outcome.violation(format!("{}: a process has died by itself", self.name));
            }
        }
        Ok(())
    }

    /// Whether the history, with a read of each key behind it, is linearizable.
    fn judge(&mut self, space: &Space, number: u64) -> Result<(), Failure> {
        let mut keys: BTreeMap<usize, Vec<Operation>> = BTreeMap::new();
        for who in 0..self.lanes {
            let lane = self.board.lane(who);
            if let Some(text) = lane.complaint() {
                self.outcome
                    .violation(format!("{}, history {number}: process {who}: {text}", self.name));
            }
            for (at, operation) in lane.operations() {
                self.figures.calls += 1;
                self.figures.lost += u64::from(operation.answer.is_none());
                keys.entry(at).or_default().push(operation);
            }
        }
        self.figures.histories += 1;
        let states: Vec<(usize, State)> = self.states.iter().map(|(k, v)| (*k, *v)).collect();
        for (at, start) in states {
            let mut operations = keys.remove(&at).unwrap_or_default();
            let last = match self.last_read(space, at) {
                Ok(last) => last,
                Err(text) => {
                    let name = &self.name;
                    self.outcome.violation(format!("{name}, history {number}: {text}"));
                    continue;
                }
            };
            operations.push(last);
            operations.sort_by_key(|o| o.called);
            self.figures.overlapping += overlapping(&operations);
            self.judge_key(number, at, start, &operations);
            self.states.insert(at, after(start, &operations));
        }
        Ok(())
    }

    fn last_read(&self, space: &Space, at: usize) -> Result<Operation, String> {
        let called = monotonic_nanos();
        let seen = space.peek(TABLE, key(at)).map_err(|e| e.to_string())?;
        let answer = match seen {
            None => Answer::Absent,
            Some(seen) => Answer::Seen(self.stage.decode(at, &seen)?, seen.version),
        };
        let returned = monotonic_nanos();
        Ok(Operation { called, returned, call: Call::Read, answer: Some(answer) })
    }

    fn judge_key(&mut self, number: u64, at: usize, start: State, operations: &[Operation]) {
        let what = match search(start, operations) {
            Verdict::Linearizable => return,
            Verdict::Undecided => "the search gave up".to_owned(),
            Verdict::Not(depth, urgent) => {
                let stuck = operations.get(urgent);
                format!(
                    "not linearizable: {depth} of {} in order, then {stuck:?}",
                    operations.len()
                )
            }
        };
        eprintln!("{}, history {number}, key {at}, from {start:?}:", self.name);
        operations.iter().for_each(|o| eprintln!("  {o:?}"));
        self.outcome.violation(format!("{}, history {number}, key {at}: {what}", self.name));
    }
}

/// How many operations overlap another one.
fn overlapping(operations: &[Operation]) -> u64 {
    let (mut count, mut latest) = (0, 0);
    let mut all = operations.iter().peekable();
    while let Some(operation) = all.next() {
        let next = all.peek().map_or(u64::MAX, |o| o.called);
        count += u64::from(operation.called <= latest || next <= operation.returned);
        latest = latest.max(operation.returned);
    }
    count
}

/// What is known behind a history: what its last read saw; of an absent key the highest version that was answered.
fn after(start: State, operations: &[Operation]) -> State {
    let mut state = State::found(None, start.version);
    for operation in operations {
        if let Some(Answer::Done(_, version) | Answer::Seen(_, version)) = operation.answer {
            state.version = state.version.max(version);
        }
    }
    if let Some(Answer::Seen(value, version)) = operations.last().and_then(|o| o.answer) {
        state = State::found(Some(value), version);
    }
    state
}

/// Keeps a process on one core, so that its turns end in the midst of things.
fn stay(one_core: bool) {
    if one_core {
        // SAFETY: `cpu_set_t` is plain bits, all-zero is valid; the call reads it.
        unsafe {
            let mut cores: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(0, &mut cores);
            libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const cores);
        }
    }
}
