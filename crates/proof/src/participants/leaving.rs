//! Stewards that go: the role moves across pid namespaces at once, and the last one out leaves nothing behind.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use commonhold::{Config, Record, Runtime, Table, TableConfig};
use nix::sys::signal::{Signal, kill};

use crate::child::{Child, Post};
use crate::participants::deaths::pause;
use crate::participants::namespaces::pid_of_child;
use crate::participants::namespaces_permitted;
use crate::random::Random;
use crate::{Failure, Outcome, Plan};

/// So long is waited for what must come.
const LIMIT: Duration = Duration::from_secs(5);
/// Processes that leave at once.
const LEAVERS: usize = 4;
const TABLE: &str = "left";

#[derive(Record, Debug, Clone, Default, PartialEq, Eq)]
struct Item {
    n: i64,
}

struct Site {
    segment: PathBuf,
    database: PathBuf,
}

impl Site {
    fn new(plan: &Plan, name: &str) -> Self {
        Self {
            segment: plan.folder.join(format!("{name}-segment")),
            database: plan.folder.join(format!("{name}.db")),
        }
    }

    fn open(&self) -> Result<Runtime, Failure> {
        let store = format!("sqlite:{}", self.database.display());
        let config = Config::named(&text(&self.segment)).store(&store).participants(32);
        Ok(Runtime::open(config.table(TableConfig::of::<Item>(TABLE).slots(32)))?)
    }

    /// What the store says of `key`.
    fn stored(&self, key: &str) -> Result<i64, Failure> {
        let database = rusqlite::Connection::open(&self.database)?;
        let sql = format!("SELECT n FROM \"{TABLE}\" WHERE key = ?1");
        Ok(database.query_row(&sql, [key], |row| row.get(0)).unwrap_or(0))
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// The part.
pub(super) fn leaving(plan: &Plan) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    let all = leave(plan, &mut outcome)?;
    outcome.faults = all;
    outcome.figures =
        format!("{all} times {LEAVERS} last ones left at once, every second time one killed");
    let mut roles = Outcome::default();
    if namespaces_permitted(&mut roles, "the steward's role across namespaces")? {
        let (moves, worst) = hand_over(plan)?;
        roles.faults = moves;
        roles.figures = format!("{moves} stewards killed across namespaces, worst {worst} ms");
    }
    outcome.add(roles);
    Ok(outcome)
}

/// Several leave at once, the last ones; what they committed is stored. One that is killed instead leaves its commits
/// to the next who comes.
fn leave(plan: &Plan, outcome: &mut Outcome) -> Result<u64, Failure> {
    let site = Site::new(plan, "leaving");
    let mut random = Random::of(plan.seed, 99);
    let rounds = plan.of(20, 200);
    let mut due = [0_u64; LEAVERS];
    for round in 0..rounds {
        let post = Post::new()?;
        let start = |at| Child::start(|| leaver(&site, post, at));
        let mut all = (0..LEAVERS).map(start).collect::<Result<Vec<_>, _>>()?;
        (0..LEAVERS).try_for_each(|at| post.hear(8 + at, 1))?;
        post.tell(0, 1);
        let killed = (round % 2 == 1).then(|| random.below(LEAVERS as u64) as usize);
        if let Some(victim) = killed.and_then(|at| all.get(at)) {
            let turns = random.below(300_000);
            (0..turns).for_each(|_| std::hint::spin_loop());
            victim.signal(Signal::SIGKILL)?;
        }
        for (at, child) in all.iter_mut().enumerate() {
            let end = child.wait()?;
            let fine = end == Some(0) || Some(at) == killed;
            outcome.demand(fine, || format!("leaving, round {round}: {at} ended with {end:?}"));
        }
        if killed.is_some() {
            // Somebody comes and goes; as the last one out it stores what was left.
            let mut next = Child::start(|| site.open().map(drop))?;
            outcome.demand(next.wait()? == Some(0), || "leaving: nobody can come".to_owned());
        }
        for (at, due) in due.iter_mut().enumerate() {
            let acknowledged = *due + post.read(16 + at);
            let stored = site.stored(&format!("key-{at}"))?.cast_unsigned();
            let more = u64::from(Some(at) == killed);
            outcome.demand((acknowledged..=acknowledged + more).contains(&stored), || {
                format!("leaving, round {round}: {acknowledged} acknowledged, {stored} stored")
            });
            *due = stored;
        }
    }
    Ok(rounds)
}

/// Commits to its key, and leaves when it is told to.
fn leaver(site: &Site, post: Post, at: usize) -> Result<(), Failure> {
    let runtime = site.open()?;
    let table: Table<Item> = runtime.table(TABLE)?;
    post.tell(8 + at, 1);
    post.hear(0, 1)?;
    for n in 1..=20 {
        table.update_or_insert(&format!("key-{at}"), Item::default, |item| item.n += 1)?;
        post.tell(16 + at, n);
    }
    drop(table);
    drop(runtime);
    Ok(())
}

/// Every steward is killed; the next one, in another pid namespace, serves at once.
fn hand_over(plan: &Plan) -> Result<(u64, u128), Failure> {
    let site = Site::new(plan, "roles");
    let (rounds, mut worst) = (plan.of(6, 60), 0);
    let mut last: Option<Child> = None;
    for round in 0..rounds {
        let post = Post::new()?;
        let serve = || candidate(&site, post);
        let inner = round % 2 == 1;
        let next = if inner { Child::start_apart(true, serve)? } else { Child::start(serve)? };
        post.hear(0, 1)?;
        let killed = Instant::now();
        if let Some(mut steward) = last.take() {
            // The supervisor of a namespace stays outside; its only child is the steward.
            if inner {
                steward.signal(Signal::SIGKILL)?
            } else {
                kill_inner(&steward)?
            }
            steward.wait()?;
        }
        post.tell(1, 1);
        post.hear(0, 2)?;
        worst = worst.max(killed.elapsed().as_millis());
        last = Some(next);
    }
    Ok((rounds - 1, worst))
}

fn kill_inner(supervisor: &Child) -> Result<(), Failure> {
    Ok(kill(pid_of_child(supervisor.pid())?, Signal::SIGKILL)?)
}

/// Stands for the role; when the one before is dead it commits, and the store has it.
fn candidate(site: &Site, post: Post) -> Result<(), Failure> {
    let runtime = site.open()?;
    let table: Table<Item> = runtime.table(TABLE)?;
    post.tell(0, 1);
    post.hear(1, 1)?;
    let done = table.update_or_insert("role", Item::default, |item| item.n += 1)?;
    done.durable(LIMIT)?;
    post.tell(0, 2);
    pause()
}
