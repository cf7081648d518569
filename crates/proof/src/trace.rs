//! A child under our eyes: run to a mark, by one instruction, to a place, on, or killed where it stands.
//!
//! Everything is ptrace(2) on x86-64. A child *marks* by stopping itself; between two marks it is deterministic
//! enough that a breakpoint at the address of an instruction leads to where single steps would, so that the n-th
//! instruction is reached in a few system calls instead of n. Where it is not, single steps go all the way.

use std::collections::{BTreeSet, HashMap};

use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::{Failure, fork};

/// Why a child stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// A trap: one step was made, or a breakpoint was met.
    Trap,
    /// It marked.
    Mark,
    /// It ended.
    Ended(i32),
    /// A signal killed it.
    Died(Signal),
}

/// What matters of an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Call,
    /// A string instruction with a repeat prefix, of so many bytes. It works on a process's own memory: the segment is
    /// written by single words alone.
    Repeated(u64),
}

/// A child that stops where we want it to; killed when dropped.
#[derive(Debug)]
pub(crate) struct Traced {
    pid: Pid,
    alive: bool,
}

/// In the child: stops here until the tracer lets it go on.
pub(crate) fn mark() {
    let _ = raise(Signal::SIGSTOP);
}

impl Traced {
    /// Starts `life` in a child that is traced from its first mark on.
    pub(crate) fn start(life: impl FnOnce()) -> Result<Self, Failure> {
        let pid = fork::child(|| {
            ptrace::traceme()?;
            life();
            Ok(())
        })?;
        Ok(Self { pid, alive: true })
    }

    fn wait(&mut self) -> Result<Stop, Failure> {
        loop {
            return Ok(match waitpid(self.pid, None) {
                Ok(WaitStatus::Stopped(_, Signal::SIGSTOP)) => Stop::Mark,
                Ok(WaitStatus::Stopped(_, Signal::SIGTRAP)) => Stop::Trap,
                Ok(WaitStatus::Stopped(_, other)) => {
                    self.alive = false;
                    fork::end(self.pid);
                    Stop::Died(other)
                }
                Ok(WaitStatus::Exited(_, code)) => {
                    self.alive = false;
                    Stop::Ended(code)
                }
                Ok(WaitStatus::Signaled(_, signal, _)) => {
                    self.alive = false;
                    Stop::Died(signal)
                }
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(e) => return Err(e.into()),
            });
        }
    }

    /// Waits until it marks for the first time.
    pub(crate) fn first_mark(&mut self) -> Result<(), Failure> {
        match self.wait()? {
            Stop::Mark => Ok(()),
            other => Err(format!("a child came to no mark: {other:?}").into()),
        }
    }

    /// Runs until something stops it.
    pub(crate) fn run(&mut self) -> Result<Stop, Failure> {
        ptrace::cont(self.pid, None)?;
        self.wait()
    }

    /// One instruction.
    pub(crate) fn step(&mut self) -> Result<Stop, Failure> {
        ptrace::step(self.pid, None)?;
        self.wait()
    }

    /// The address of its next instruction.
    pub(crate) fn place(&self) -> Result<u64, Failure> {
        let offset = std::mem::offset_of!(libc::user, regs.rip);
        Ok(ptrace::read_user(self.pid, offset as ptrace::AddressType)?.cast_unsigned())
    }

    /// The eight bytes at an address rounded down to eight.
    fn word(&self, place: u64) -> nix::Result<u64> {
        let at = (place & !7) as ptrace::AddressType;
        ptrace::read(self.pid, at).map(i64::cast_unsigned)
    }

    /// What kind of instruction stands at `place`.
    fn kind(&self, place: u64) -> Kind {
        let byte = |at: u64| self.word(at).map_or(0, |word| (word >> (at % 8 * 8)) as u8);
        match [byte(place), byte(place + 1), byte(place + 2)] {
            [0x0f, 0x05, _] => Kind::Call,
            [0xf3, 0xa4 | 0xa5 | 0xaa | 0xab, _] => Kind::Repeated(2),
            [0xf3, 0x48, 0xa5 | 0xab] => Kind::Repeated(3),
            _ => Kind::Plain,
        }
    }

    /// Makes the one instruction of this kind at `place`.
    fn make(&mut self, place: u64, kind: Kind) -> Result<Stop, Failure> {
        match kind {
            // A single step would be one round of it, of which there may be a million.
            Kind::Repeated(length) => match self.run_to(place + length) {
                Ok(None) => Ok(Stop::Trap),
                Ok(Some(other)) => Ok(other),
                Err(_) => self.step(),
            },
            Kind::Plain | Kind::Call => self.step(),
        }
    }

    /// Runs until its next instruction is that at `place`; what stopped it before, if something did.
    pub(crate) fn run_to(&mut self, place: u64) -> Result<Option<Stop>, Failure> {
        let at = (place & !7) as ptrace::AddressType;
        let shift = place % 8 * 8;
        let old = self.word(place)?;
        let trap = old & !(0xff << shift) | 0xcc << shift;
        ptrace::write(self.pid, at, trap.cast_signed())?;
        let stop = self.run()?;
        if self.alive {
            ptrace::write(self.pid, at, old.cast_signed())?;
        }
        if stop != Stop::Trap {
            return Ok(Some(stop));
        }
        let mut registers = ptrace::getregs(self.pid)?;
        if registers.rip != place + 1 {
            return Ok(Some(Stop::Trap));
        }
        registers.rip = place;
        ptrace::setregs(self.pid, registers)?;
        Ok(None)
    }

    /// Kills it where it stands, and waits for its end.
    pub(crate) fn kill(mut self) {
        self.die();
    }

    fn die(&mut self) {
        if self.alive {
            self.alive = false;
            fork::end(self.pid);
        }
    }

    /// Lets it go untraced but stopped, as by SIGSTOP; it has stopped when this returns.
    pub(crate) fn leave_stopped(mut self) -> Result<Stopped, Failure> {
        ptrace::detach(self.pid, Some(Signal::SIGSTOP))?;
        self.alive = false;
        let stopped = Stopped { pid: self.pid };
        match waitpid(self.pid, Some(WaitPidFlag::WUNTRACED))? {
            WaitStatus::Stopped(_, Signal::SIGSTOP) => Ok(stopped),
            other => Err(format!("a child that should have stopped: {other:?}").into()),
        }
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        self.die();
    }
}

/// A child stopped by SIGSTOP, not traced any more; killed when dropped.
#[derive(Debug)]
pub(crate) struct Stopped {
    pid: Pid,
}

impl Stopped {
    /// Lets it go on, also past its marks, and waits for its end: its exit code.
    pub(crate) fn go_on(self) -> Result<i32, Failure> {
        loop {
            kill(self.pid, Signal::SIGCONT)?;
            match waitpid(self.pid, Some(WaitPidFlag::WUNTRACED)) {
                Ok(WaitStatus::Exited(_, code)) => {
                    std::mem::forget(self);
                    return Ok(code);
                }
                Ok(WaitStatus::Signaled(_, signal, _)) => {
                    std::mem::forget(self);
                    return Err(format!("it died of {signal}").into());
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        fork::end(self.pid);
    }
}

/// The way of a child from one mark to the next, instruction by instruction.
#[derive(Debug, Default)]
pub(crate) struct Path {
    /// The address of the n-th instruction.
    places: Vec<u64>,
    /// For each n, the last instruction up to it that is met for the first time.
    anchors: Vec<u32>,
    /// After which instructions the shared memory had changed.
    pub(crate) changes: Vec<u64>,
    /// Which instructions are system calls.
    pub(crate) calls: Vec<u64>,
    /// Of each address, the first n and the kind.
    met: HashMap<u64, (u64, Kind)>,
}

impl Path {
    /// Steps `child`, which stands at a mark, to its next one. `changed` says whether shared memory changed since it
    /// was last asked.
    pub(crate) fn record(
        child: &mut Traced,
        mut changed: impl FnMut() -> bool,
    ) -> Result<Self, Failure> {
        let mut path = Self::default();
        loop {
            let (n, place) = (path.places.len() as u64, child.place()?);
            let last = path.anchors.last().copied().unwrap_or(0);
            let (first, kind) = *path.met.entry(place).or_insert_with(|| (n, child.kind(place)));
            path.anchors.push(if first == n { n as u32 } else { last });
            path.places.push(place);
            path.calls.extend((kind == Kind::Call).then_some(n));
            match child.make(place, kind)? {
                Stop::Trap => {}
                Stop::Mark => return Ok(path),
                other => return Err(format!("it ended on its way: {other:?}").into()),
            }
            path.changes.extend(changed().then_some(n + 1));
        }
    }

    /// Where it is worth to look when not everywhere: one before and one after each change of shared memory, before and
    /// after each system call, at its two ends, and where `random` says.
    pub(crate) fn points(&self, random: impl Iterator<Item = u64>) -> BTreeSet<u64> {
        let changes = self.changes.iter().flat_map(|n| [n.saturating_sub(1), *n, n + 1]);
        let calls = self.calls.iter().flat_map(|n| [*n, n + 1]);
        let ends = [0, self.len()];
        let random = random.map(|n| n % self.len().max(1));
        let all = changes.chain(calls).chain(ends).chain(random);
        all.filter(|n| *n <= self.len()).collect()
    }

    /// How many instructions it has.
    pub(crate) fn len(&self) -> u64 {
        self.places.len() as u64
    }

    /// The last instruction up to `n` that is met for the first time; behind the last one, of all.
    fn anchor(&self, n: u64) -> u64 {
        self.anchors.get(n as usize).or(self.anchors.last()).copied().unwrap_or(0).into()
    }

    /// Brings `child`, which stands at the first mark, to where `n` instructions are behind it; false when it came
    /// to its next mark before. With `stepwise` no breakpoint shortens the way.
    pub(crate) fn reach(
        &self,
        child: &mut Traced,
        n: u64,
        stepwise: bool,
    ) -> Result<bool, Failure> {
        let mut left = n;
        let mut anchor = if stepwise { 0 } else { self.anchor(n) };
        while anchor > 0 {
            let place = self.places.get(anchor as usize).copied().unwrap_or(0);
            match child.run_to(place) {
                Ok(None) => {
                    left = n - anchor;
                    break;
                }
                Ok(Some(Stop::Mark)) => return Ok(false),
                Ok(Some(other)) => return Err(format!("it ended on its way: {other:?}").into()),
                // Pages of the kernel (vdso) take no breakpoint: one before them then.
                Err(_) => anchor = self.anchor(anchor - 1),
            }
        }
        for at in n - left..n {
            let place = self.places.get(at as usize).copied().unwrap_or(0);
            let kind = self.met.get(&place).map_or(Kind::Plain, |(_, kind)| *kind);
            match child.make(place, kind)? {
                Stop::Trap => {}
                Stop::Mark => return Ok(false),
                other => return Err(format!("it ended on its way: {other:?}").into()),
            }
        }
        Ok(true)
    }
}
