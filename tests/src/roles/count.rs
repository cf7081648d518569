//! Counting in metrics, with threads, as forked children, and until killed.

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::process::exit;
use std::rc::Rc;

use commonhold::{Gauge, Handle, Histogram, MetricCounter, Metrics, Runtime};
use nix::sys::wait::{WaitStatus, waitpid};

use super::{Ended, attach, say};
use crate::fork::fork;

/// What each round of counting changes.
struct Counting {
    things: MetricCounter,
    level: Gauge,
    sizes: Histogram,
}

impl Counting {
    fn new(metrics: &Metrics<Rc<Handle>>) -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            things: metrics.counter("things_total", "Things that were done.")?,
            level: metrics.gauge("level", "Up by a half each time.")?,
            sizes: metrics.histogram("size_bytes", "Sizes.")?,
        })
    }

    fn round(&self, number: u64) -> Ended {
        self.things.inc()?;
        self.level.add(0.5)?;
        self.sizes.observe(number)?;
        Ok(())
    }

    fn rounds(&self, count: u64) -> Ended {
        (0..count).try_for_each(|number| self.round(number))
    }
}

/// So many threads and one forked child count so many rounds each, one after the other; the child with what it
/// inherited, while its parent counts too.
pub(super) fn count(segment: &str, args: &[&str]) -> Ended {
    let [threads, rounds] = args[..] else { return Err("count: arguments".into()) };
    let (threads, rounds): (u64, u64) = (threads.parse()?, rounds.parse()?);
    let runtime = attach(segment, false)?;
    let work = |runtime: &Runtime| {
        let counting = Counting::new(&runtime.metrics()?)?;
        counting.rounds(rounds)
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| work(&runtime).map_err(|e| e.to_string())))
            .collect();
        all.into_iter()
            .try_for_each(|one| one.join().map_err(|_| "a thread panicked".to_owned())?)
    })?;
    let counting = Counting::new(&runtime.metrics()?)?;
    counting.round(0)?;
    let Some(child) = fork()? else {
        let done = counting.rounds(rounds);
        if let Err(e) = &done {
            eprintln!("child: {e}");
        }
        exit(i32::from(done.is_err()))
    };
    counting.rounds(rounds)?;
    match waitpid(child, None)? {
        WaitStatus::Exited(_, 0) => Ok(()),
        other => Err(format!("the child ended with {other:?}").into()),
    }
}

/// Counts until it is killed; a byte in a file for each round that is done.
pub(super) fn count_on(segment: &str, args: &[&str]) -> Ended {
    let [acks] = args[..] else { return Err("count-on: arguments".into()) };
    let mut acks: File = OpenOptions::new().create(true).append(true).open(acks)?;
    let runtime = attach(segment, false)?;
    let counting = Counting::new(&runtime.metrics()?)?;
    for number in 0.. {
        counting.round(number)?;
        acks.write_all(b"x")?;
        if number == 10 {
            say("going");
        }
    }
    Ok(())
}
