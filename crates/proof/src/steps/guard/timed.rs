//! Holders that are killed at random while somebody waits: how soon he has the guard, and what he finds.

use std::time::Duration;

use commonhold::catalogue::History;
use commonhold::{Config, Error, Held, Previous, Record, Runtime, Table, TableConfig};
use commonhold_os::clock::monotonic_nanos;

use crate::child::{Child, Post};
use crate::random::Random;
use crate::{Failure, Outcome, Plan, watch};

/// The next holder has the guard so soon after a kill, in 99 of 100 cases in one of three runs; all else is the
/// scheduler's.
const DUE: Duration = Duration::from_millis(10);
/// At the latest.
const LATEST: Duration = Duration::from_secs(1);
/// A round that takes longer hangs.
const LIMIT_S: u32 = 30;
const RUNS: u64 = 3;

/// Words of the post: who attached, who holds, since when, what he was told, and what he found.
const READY: usize = 0;
const HOLDS: usize = 1;
const SINCE: usize = 2;
const TOLD: usize = 3;
const FOUND: usize = 4;
const STEWARD: usize = 5;

/// One of the three records that are changed together.
#[derive(Record, Debug, Clone)]
struct Coin {
    n: i64,
}

const KEYS: [&str; 3] = ["a", "b", "c"];
/// What the three have together.
const SUM: i64 = 300;

pub(super) fn run(plan: &Plan) -> Result<Outcome, Failure> {
    let segment = plan.folder.join("timed").display().to_string();
    let table = TableConfig::of::<Coin>("coins").history(History::Latest).slots(8);
    let config = Config::named(&segment).store("none").participants(16).intents(8);
    let runtime = Runtime::open(config.table(table).without_steward())?;
    let coins: Table<Coin> = runtime.table("coins")?;
    KEYS.iter().try_for_each(|key| coins.insert(key, &Coin { n: SUM / 3 }).map(drop))?;
    let post = Post::new()?;
    let _steward = Child::start(|| {
        let _runtime = Runtime::open(Config::named(&segment).attach_only())?;
        post.tell(STEWARD, 1);
        loop {
            post.doze(Duration::from_secs(1));
        }
    })?;
    post.hear(STEWARD, 1)?;
    let mut outcome = Outcome::default();
    let mut first = 1;
    for run in 1..=RUNS {
        let kills = plan.of(500, 5000);
        let mut delays = chain(plan, (&runtime, &segment), post, (first, kills), &mut outcome)?;
        if judge(&mut outcome, &mut delays, run == RUNS) {
            break;
        }
        first += kills + 1;
    }
    Ok(outcome)
}

/// So many holders, each killed while the next one waits: how soon that one had the guard.
fn chain(
    plan: &Plan,
    (runtime, segment): (&Runtime, &str),
    post: Post,
    (first, kills): (u64, u64),
    outcome: &mut Outcome,
) -> Result<Vec<Duration>, Failure> {
    let mut random = Random::of(plan.seed, first);
    let mut delays = Vec::new();
    let mut holder = start(segment, post, first)?;
    post.hear(HOLDS, first)?;
    for round in first + 1..=first + kills {
        watch::begin(LIMIT_S, &format!("timed kill {round}, seed {}", plan.seed))?;
        let next = start(segment, post, round)?;
        post.hear(READY, round)?;
        while runtime.space().guards()?.first().is_none_or(|guard| guard.waiters == 0) {
            std::thread::yield_now();
        }
        let end = monotonic_nanos() + random.below(2_000_000);
        while monotonic_nanos() < end {
            std::hint::spin_loop();
        }
        let killed_at = monotonic_nanos();
        holder.kill()?;
        post.hear(HOLDS, round)?;
        delays.push(Duration::from_nanos(post.read(SINCE).saturating_sub(killed_at)));
        outcome.faults += 1;
        let (told, found) = (post.read(TOLD), post.read(FOUND).cast_signed());
        if told != Previous::Died as u64 || found != SUM {
            outcome.violation(format!("timed kill {round}: told {told}, the sum is {found}"));
        }
        holder = next;
    }
    watch::end();
    holder.kill()?;
    Ok(delays)
}

/// A process that waits for the guard and, once it has it, makes one change after the other until it is killed.
fn start(segment: &str, post: Post, round: u64) -> Result<Child, Failure> {
    Child::start(|| {
        let runtime = Runtime::open(Config::named(segment).attach_only().without_steward())?;
        let coins: Table<Coin> = runtime.table("coins")?;
        let guard = runtime.guard("coins")?;
        post.tell(READY, round);
        guard.with(|held| {
            let since = monotonic_nanos();
            let found = sum(held, &coins)?;
            post.tell(SINCE, since);
            post.tell(TOLD, held.previous() as u64);
            post.tell(FOUND, found.cast_unsigned());
            post.tell(HOLDS, round);
            loop {
                change(held, &coins)?;
            }
        })?
    })
}

fn sum(held: &Held<'_>, coins: &Table<Coin>) -> Result<i64, Error> {
    KEYS.iter().map(|key| Ok(held.get(coins, key)?.map_or(i64::MIN / 4, |coin| coin.n))).sum()
}

fn change(held: &Held<'_>, coins: &Table<Coin>) -> Result<(), Error> {
    let mut changes = held.changes();
    for (key, more) in KEYS.iter().zip([-2, 1, 1]) {
        changes.update(coins, key, |coin| coin.n += more)?;
    }
    changes.commit()
}

/// Notes the figures; whether they are as promised, which is a violation when they are not and this is the `last` run.
fn judge(outcome: &mut Outcome, delays: &mut [Duration], last: bool) -> bool {
    delays.sort();
    let of = |part: usize| delays.get(delays.len() * part / 100).copied().unwrap_or_default();
    let (half, most) = (of(50), of(99));
    let worst = delays.last().copied().unwrap_or_default();
    let kept = most <= DUE && worst <= LATEST;
    let kills = delays.len();
    outcome.figures = format!(
        "{kills} timed kills: the next holder had the guard in {half:.1?}, {most:.1?} (99 of 100), {worst:.1?} at worst"
    );
    if last && !kept {
        outcome.violation(outcome.figures.clone());
    }
    kept
}
