//! How much of the machine others used while something was measured.
//!
//! Processes that contend must run at the same moment. If something else takes the processors, they meet
//! seldom, and a contended figure is silently an uncontended one: measured here, one line under raw
//! compare-exchange gives 310 M/s to one process and 40 M/s to two that overlap, and on a busy machine any
//! number of processes seemed to reach 250 M/s. Taking turns does not help: so a disturbed figure is repeated,
//! and if it stays disturbed, no verdict is given on it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;

use crate::Outcome;

/// More than this share of the machine used by others: disturbed.
pub(crate) const DISTURBED: f64 = 0.05;
/// The kernel counts processor time in hundredths of a second.
const TICKS: f64 = 100.0;

/// The worst share since [`forget`], in millionths.
static WORST: AtomicU64 = AtomicU64::new(0);

/// The beginning of a measurement.
pub(crate) struct Watch {
    start: Instant,
    busy: f64,
    ours: f64,
}

/// Seconds that all processors were busy, stolen time included, and how many there are.
fn machine() -> Outcome<(f64, f64)> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let processors = stat.lines().filter(|l| l.starts_with("cpu")).count().saturating_sub(1);
    let all = stat.lines().next().ok_or("/proc/stat is empty")?;
    let fields: Vec<f64> = all.split_whitespace().skip(1).filter_map(|f| f.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; guest time is in user.
    let idle: f64 = fields.iter().skip(3).take(2).sum();
    Ok(((fields.iter().take(8).sum::<f64>() - idle) / TICKS, processors as f64))
}

/// Seconds that this process and `children` ran.
fn ours(children: &[Pid]) -> Outcome<f64> {
    let seconds = |clock: ClockId| Ok(std::time::Duration::from(clock.now()?).as_secs_f64());
    let own: Outcome<f64> = seconds(ClockId::CLOCK_PROCESS_CPUTIME_ID);
    children.iter().try_fold(own?, |sum, pid| Ok(sum + seconds(clock_getcpuclockid(*pid)?)?))
}

impl Watch {
    pub(crate) fn start(children: &[Pid]) -> Outcome<Self> {
        Ok(Self { start: Instant::now(), busy: machine()?.0, ours: ours(children)? })
    }

    /// The share of the machine that others used since the start.
    pub(crate) fn share(&self, children: &[Pid]) -> Outcome<f64> {
        self.beside(ours(children)? - self.ours)
    }

    /// The same, with a child that began and ended since the start and ran for `seconds`.
    pub(crate) fn share_with(&self, seconds: f64) -> Outcome<f64> {
        self.beside(ours(&[])? - self.ours + seconds)
    }

    fn beside(&self, ours: f64) -> Outcome<f64> {
        let (busy, processors) = machine()?;
        let others = (busy - self.busy) - ours;
        Ok((others / (processors * self.start.elapsed().as_secs_f64())).clamp(0.0, 1.0))
    }
}

/// Counts a share against the lines to come.
pub(crate) fn note(share: f64) {
    WORST.fetch_max((share * 1e6) as u64, Ordering::Relaxed);
}

/// Another measurement begins.
pub(crate) fn forget() {
    WORST.store(0, Ordering::Relaxed);
}

/// The worst share noted since [`forget`].
pub(crate) fn worst() -> f64 {
    WORST.load(Ordering::Relaxed) as f64 / 1e6
}
