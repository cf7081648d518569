//! Two worker processes and tasks for them, for as many seconds as the first argument says (5 if none is given).
//! Look at it from another terminal: `commonhold --segment pool-example top`, or `workers`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use commonhold::workers::{Capacity, Context, Kind, Kinds, Pool, PoolOptions, Task};
use commonhold::{Config, Runtime, workers};

/// How many primes there are below `limit`, counted in a way that takes its time.
fn primes(task: &Context<'_>, limit: u64) -> Result<u64, String> {
    let is_prime = |n: &u64| (2..).take_while(|d| d * d <= *n).all(|d| !n.is_multiple_of(d));
    let mut found = 0;
    for n in 2..limit {
        if n.is_multiple_of(1000) && task.is_cancelled() {
            return Err(format!("cancelled at {n}"));
        }
        found += u64::from(is_prime(&n));
    }
    Ok(found)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let check = |limit: &u64| {
        let small = *limit <= 10_000_000;
        if small { Ok(()) } else { Err(format!("{limit} takes too long")) }
    };
    let kinds = Kinds::new().with(Kind::json("primes", check, primes));
    workers::init(&kinds); // in a worker process, this does not return

    let seconds = std::env::args().nth(1).map_or(Ok(5), |text| text.parse())?;
    let config = Config::named("pool-example").store("none");
    let config = workers::configure(config, &Capacity { tasks: 256, pages: 16, workers: 8 });
    let runtime = Runtime::open(config)?;
    let pool = Pool::start(&runtime, kinds, PoolOptions::new().workers(2..=2))?;
    let until = Instant::now() + Duration::from_secs(seconds);
    let (mut waiting, mut done) = (VecDeque::new(), 0);
    while Instant::now() < until {
        let limit = (1000 + done % 20_000).to_string();
        waiting.push_back(pool.submit(Task::new("primes", &limit))?);
        if waiting.len() > 100
            && let Some(task) = waiting.pop_front()
        {
            task.wait(Duration::from_secs(60))?;
            done += 1;
        }
    }
    for task in waiting {
        task.wait(Duration::from_secs(60))?;
        done += 1;
    }
    println!("{done} tasks in {seconds} s");
    pool.stop(Duration::from_secs(10))?;
    drop(runtime);
    commonhold::admin::destroy(&Config::named("pool-example"), Duration::from_secs(10), false)?;
    Ok(())
}
