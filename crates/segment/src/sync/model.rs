//! The modelled machine.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

pub use loom::sync::atomic::Ordering;
use loom::thread::{Thread, ThreadId, current, park};

use super::Fault;

thread_local! {
    // A model runs all its threads on one thread of the system; other tests have theirs.
    static PLANTED: Cell<Option<Fault>> = const { Cell::new(None) };
    static VICTIM: Cell<Option<(ThreadId, u32)>> = const { Cell::new(None) };
    static SLEEPERS: RefCell<Vec<(usize, Thread)>> = const { RefCell::new(Vec::new()) };
    static EVERY_SWITCH: Cell<bool> = const { Cell::new(false) };
    static MEANWHILE: RefCell<Option<(u32, Meanwhile)>> = const { RefCell::new(None) };
}

loom::lazy_static! {
    static ref TURN: loom::sync::atomic::AtomicU64 = loom::sync::atomic::AtomicU64::new(0);
}

/// Before a model: whether a thread may lose its turn before *every* access. Else loom reduces, and its
/// reduction remembers the last access to a word only: who loads a word and then exchanges it hides that
/// another thread loaded it before, and "he loads it after the exchange" may never be tried.
pub fn every_switch(on: bool) {
    EVERY_SWITCH.set(on);
}

/// What others do while somebody is stopped.
type Meanwhile = Box<dyn FnOnce()>;

/// What a victim's stack is unwound with.
struct Killed;

/// Before a model: plants `fault`, or none, and forgets what a failed model left.
pub fn plant(fault: Option<Fault>) {
    PLANTED.set(fault);
    VICTIM.set(None);
    SLEEPERS.with_borrow_mut(Vec::clear);
    MEANWHILE.set(None);
}

/// Whether `fault` is planted.
#[must_use]
pub fn planted(fault: Fault) -> bool {
    PLANTED.get() == Some(fault)
}

/// Runs `work` and kills it before its access number `steps` (from 0) to shared memory; `None` when
/// it was killed. One victim at a time.
pub fn dies_after<T>(steps: u32, work: impl FnOnce() -> T) -> Option<T> {
    VICTIM.set(Some((current().id(), steps)));
    let done = catch_unwind(AssertUnwindSafe(work));
    VICTIM.set(None);
    match done {
        Ok(done) => Some(done),
        Err(cause) if cause.is::<Killed>() => None,
        Err(cause) => resume_unwind(cause),
    }
}

/// Runs `work`, stops it before its access number `steps` (from 0) to shared memory, lets `meanwhile` happen, and
/// goes on; whether it came so far. Nobody else works in the model then.
pub fn stops_after<T>(
    steps: u32,
    work: impl FnOnce() -> T,
    meanwhile: impl FnOnce() + 'static,
) -> (T, bool) {
    MEANWHILE.set(Some((steps, Box::new(meanwhile))));
    let done = work();
    (done, MEANWHILE.take().is_none())
}

/// Before each access: who is to be stopped here is, while others work.
fn stop() {
    let due = MEANWHILE.with_borrow_mut(|stop| match stop.take() {
        Some((0, meanwhile)) => Some(meanwhile),
        Some((left, meanwhile)) => {
            *stop = Some((left - 1, meanwhile));
            None
        }
        None => None,
    });
    due.into_iter().for_each(|meanwhile| meanwhile());
}

/// Before each access: the victim may die here. False while a failed model unwinds: loom is not there
/// any more for those who are then dropped.
fn step() -> bool {
    if std::thread::panicking() {
        return false;
    }
    stop();
    if let Some((victim, left)) = VICTIM.get()
        && victim == current().id()
    {
        if left == 0 {
            VICTIM.set(None);
            resume_unwind(Box::new(Killed));
        }
        VICTIM.set(Some((victim, left - 1)));
    }
    if EVERY_SWITCH.get() {
        // Depends on everybody's last access; orders nothing, because it is relaxed.
        TURN.store(0, Ordering::Relaxed);
    }
    true
}

/// Loom's atomic, with [`step`] before each access.
#[derive(Debug)]
pub struct AtomicU64(loom::sync::atomic::AtomicU64);

#[allow(missing_docs, clippy::missing_errors_doc)]
impl AtomicU64 {
    #[must_use]
    pub fn new(value: u64) -> Self {
        Self(loom::sync::atomic::AtomicU64::new(value))
    }

    pub fn load(&self, order: Ordering) -> u64 {
        if step() { self.0.load(order) } else { 0 }
    }

    pub fn store(&self, value: u64, order: Ordering) {
        if step() {
            self.0.store(value, order);
        }
    }

    pub fn swap(&self, value: u64, order: Ordering) -> u64 {
        if step() { self.0.swap(value, order) } else { 0 }
    }

    pub fn fetch_or(&self, value: u64, order: Ordering) -> u64 {
        if step() { self.0.fetch_or(value, order) } else { 0 }
    }

    pub fn fetch_and(&self, value: u64, order: Ordering) -> u64 {
        if step() { self.0.fetch_and(value, order) } else { 0 }
    }

    pub fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        if step() { self.0.fetch_add(value, order) } else { 0 }
    }

    pub fn fetch_min(&self, value: u64, order: Ordering) -> u64 {
        if step() { self.0.fetch_min(value, order) } else { 0 }
    }

    pub fn fetch_max(&self, value: u64, order: Ordering) -> u64 {
        if step() { self.0.fetch_max(value, order) } else { 0 }
    }

    pub fn compare_exchange(
        &self,
        from: u64,
        to: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        if step() { self.0.compare_exchange(from, to, success, failure) } else { Ok(from) }
    }
}

/// A fence.
pub fn fence(order: Ordering) {
    if !std::thread::panicking() {
        loom::sync::atomic::fence(order);
    }
}

/// The fence that loom needs at a store/load crossing.
pub fn crossing() {
    fence(Ordering::SeqCst);
}

fn address(word: &AtomicU64) -> usize {
    std::ptr::from_ref(word).addr()
}

/// Sleeps while the low half of `word` is `expected`; never times out. As in the kernel, no wake can
/// come between the comparison (with the newest value) and the sleep: loom switches threads before
/// accesses only.
pub fn futex_wait(word: &AtomicU64, expected: u32, _timeout: Duration) {
    if !step() {
        return;
    }
    let me = current();
    if word.0.fetch_or(0, Ordering::Relaxed) as u32 == expected {
        SLEEPERS.with_borrow_mut(|all| all.push((address(word), me.clone())));
        park();
        SLEEPERS.with_borrow_mut(|all| all.retain(|(_, sleeper)| sleeper.id() != me.id()));
    }
}

/// Time stands still in a model: no limit passes, and no execution depends on the machine's load.
#[must_use]
pub fn monotonic_nanos() -> u64 {
    0
}

/// The longest piece of a sleep passes for everybody who sleeps: they look again.
pub fn time_passes() {
    let woken = SLEEPERS.with_borrow_mut(std::mem::take);
    woken.into_iter().for_each(|(_, sleeper)| sleeper.unpark());
}

/// Wakes the sleeper of `word` who sleeps longest; whether there was one.
pub fn futex_wake_one(word: &AtomicU64) -> bool {
    if !step() {
        return false;
    }
    let woken = SLEEPERS.with_borrow_mut(|all| {
        let first = all.iter().position(|(at, _)| *at == address(word))?;
        Some(all.remove(first).1)
    });
    woken.map(|sleeper| sleeper.unpark()).is_some()
}

/// Wakes every sleeper of `word`.
pub fn futex_wake_all(word: &AtomicU64) {
    if !step() {
        return;
    }
    let woken = SLEEPERS.with_borrow_mut(|all| {
        let (woken, rest) = all.drain(..).partition::<Vec<_>, _>(|(at, _)| *at == address(word));
        *all = rest;
        woken
    });
    woken.into_iter().for_each(|(_, sleeper)| sleeper.unpark());
}
