//! A thousand processes meet at one stale lock, and a thousand at one that its maker did not come to fill in. Each takes it once, and looks whether it is alone: in shared memory, and
//! by a token that it writes into a file under the lock.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use commonhold_file::{Patience, SharedFile};

use super::{OLD, left, path, scene};
use crate::child::{Child, Post, shared_words};
use crate::{Failure, Outcome, Plan};

const CONTENDERS: u64 = 1000;
/// So long one waits at most: all others come first.
const LIMIT: Duration = Duration::from_secs(120);
/// Words that are shared, behind the one that says who is inside: how often two were, removed locks, and how many have
/// had it.
const TWO: usize = 1;
const REMOVED: usize = 2;
const DONE: usize = 3;
/// In the post: the start.
const START: usize = 2;

/// Makes this part.
pub(super) fn run(plan: &Plan) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    let mut worst = Duration::ZERO;
    for round in 0..plan.of(2, 20) {
        let blank = round % 2 == 1;
        let folder = plan.folder.join(format!("contenders{round}"));
        std::fs::create_dir_all(&folder)?;
        let path = path(&folder);
        std::fs::write(&path, OLD)?;
        if blank {
            scene::plant_blank(&path)?;
        } else {
            scene::abandon(&path)?;
        }
        let words = shared_words(4)?;
        let post = Post::new()?;
        let there = shared_words(1)?;
        let robs = plan.sabotaged("two-owners");
        let mut all = Vec::new();
        for _ in 0..CONTENDERS {
            all.push(Child::start(|| {
                if let Some(word) = there.first() {
                    word.fetch_add(1, Ordering::SeqCst);
                }
                while post.read(START) == 0 {
                    post.doze(Duration::from_millis(5));
                }
                contend(&path, words, robs)
            })?);
        }
        while there.first().is_some_and(|word| word.load(Ordering::SeqCst) < CONTENDERS) {
            post.doze(Duration::from_millis(1));
        }
        let start = Instant::now();
        post.tell(START, 1);
        let mut failed = 0;
        for child in &mut all {
            failed += u64::from(child.wait()? != Some(0));
        }
        worst = worst.max(start.elapsed());
        let read = |at: usize| words.get(at).map_or(0, |word| word.load(Ordering::SeqCst));
        outcome.faults += CONTENDERS;
        outcome.demand(read(TWO) == 0, || format!("{} times two owners at once", read(TWO)));
        // A blank one is not removed: one of them fills it in.
        outcome.demand(read(REMOVED) == u64::from(!blank), || {
            format!("a stale lock was removed {} times, blank {blank}", read(REMOVED))
        });
        outcome.demand(failed == 0 && read(DONE) == CONTENDERS, || {
            format!("{} of {CONTENDERS} had the lock, {failed} failed", read(DONE))
        });
        let others: Vec<String> = left(&path).into_iter().filter(|name| name != "token").collect();
        outcome.demand(others.is_empty(), || format!("left by contenders: {others:?}"));
        std::fs::remove_dir_all(&folder)?;
    }
    outcome.figures =
        format!("1000 at a stale or blank lock: all had it in {:.1} s", worst.as_secs_f64());
    Ok(outcome)
}

/// One contender.
fn contend(path: &Path, words: &[std::sync::atomic::AtomicU64], robs: bool) -> Result<(), Failure> {
    let [inside, two, removed, done] = words else { return Err("four words".into()) };
    let me = u64::from(std::process::id());
    let lock = if robs {
        // What scripts do: see that the owner is dead, and remove his file.
        let name = path.with_file_name("human.jsonc.lock");
        let _ = std::fs::remove_file(&name);
        removed.fetch_add(1, Ordering::SeqCst);
        SharedFile::new(path).patience(Patience::new().limit(Duration::from_secs(5))).lock()?
    } else {
        SharedFile::new(path).patience(Patience::new().limit(LIMIT)).lock()?
    };
    if inside.compare_exchange(0, me, Ordering::SeqCst, Ordering::SeqCst).is_err() {
        two.fetch_add(1, Ordering::SeqCst);
    }
    let token = path.with_file_name("token");
    std::fs::write(&token, me.to_string())?;
    std::thread::yield_now();
    if std::fs::read_to_string(&token)? != me.to_string() {
        two.fetch_add(1, Ordering::SeqCst);
    }
    let _ = inside.compare_exchange(me, 0, Ordering::SeqCst, Ordering::SeqCst);
    removed.fetch_add(u64::from(lock.waited().stale), Ordering::SeqCst);
    done.fetch_add(1, Ordering::SeqCst);
    Ok(())
}
