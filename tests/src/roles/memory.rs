//! Roles that encode, recall and sweep sigils.

use std::fs::OpenOptions;
use std::io::Write;
use std::sync::atomic::Ordering;
use std::time::Duration;

use commonhold::systems::sigils::{
    Payload, SIGILS, Sigil, SigilError, SigilId, SigilIdentity, SigilOptions,
};
use commonhold::{DynamicTable, Runtime};

use super::{Ended, attach, say, stop_when_told, told};

/// After this time without a touch a sigil of the roles `tend` and `fade` is weaker than the threshold, in microseconds.
const FADES_US: i64 = 20_000;

/// After so many encodes a paced encoder waits for the store.
const PACE: u64 = 20;

/// The canonical payload number `n`, of many lengths.
#[must_use]
pub fn payload(n: u64) -> String {
    let text = "sigil ".repeat((n % 40) as usize);
    format!(r#"{{"n":{n},"text":"{text}"}}"#)
}

/// Who looks after sigils touches them just before the threshold or just behind it, when a sweep has perhaps seen them.
const TOUCH_BELOW: f64 = 0.27;
/// The counter of what a sweep took that was just touched.
pub const LOST: &str = "lost";

/// Sigils that fade fast.
#[must_use]
pub fn fading() -> SigilOptions {
    let half_life = Duration::from_micros(FADES_US.unsigned_abs() / 2);
    SigilOptions::new().room_wait(crate::stage::LIMIT).half_life(half_life).threshold(0.25)
}

fn memory(runtime: &Runtime) -> Result<SigilIdentity, SigilError> {
    SigilIdentity::open(runtime, SigilOptions::new().room_wait(crate::stage::LIMIT))
}

/// Told a line, encodes so many payloads by each of so many threads; of all numbers the remainders of `distinct`. A
/// `paced` one waits for the store now and then. Each that was acknowledged goes as a line into the thread's file: number and id.
pub(super) fn encode(segment: &str, args: &[&str]) -> Ended {
    let [file, pace, first, count, threads, distinct] = args[..] else {
        return Err("encode: arguments".into());
    };
    let paced = pace == "paced";
    let runtime = attach(segment, false)?;
    let memory = memory(&runtime)?;
    let (first, count): (u64, u64) = (first.parse()?, count.parse()?);
    let (threads, distinct): (u64, u64) = (threads.parse()?, distinct.parse()?);
    say("ready");
    told();
    let work = |thread: u64| -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let name = format!("{file}-{thread}");
        let mut file = OpenOptions::new().create(true).append(true).open(name)?;
        let first = first + thread * count;
        for turn in first..first + count {
            let n = turn % distinct;
            let sigil = memory.encode_sigil_memory(&payload(n))?;
            file.write_all(format!("{n} {}\n", sigil.id).as_bytes())?;
            if paced && (turn + 1).is_multiple_of(PACE) {
                memory.wait_durable(&sigil, crate::stage::LIMIT)?;
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> =
            (0..threads).map(|thread| scope.spawn(move || work(thread))).collect();
        workers.into_iter().try_for_each(|worker| match worker.join() {
            Ok(done) => done.map_err(|e| e.to_string()),
            Err(_) => Err("a thread panicked".to_owned()),
        })
    })?;
    say("done");
    told();
    Ok(())
}

/// Recalls a sigil so many times.
pub(super) fn recall(segment: &str, args: &[&str]) -> Ended {
    let [id, count] = args[..] else { return Err("recall: arguments".into()) };
    let (id, count): (SigilId, u64) = (id.parse()?, count.parse()?);
    let runtime = attach(segment, false)?;
    let memory = memory(&runtime)?;
    say("ready");
    told();
    for _ in 0..count {
        memory.recall(id)?;
    }
    say("done");
    Ok(())
}

/// Makes permanent what was recalled once, and sweeps everything else that is there for a moment, until told.
pub(super) fn crystallize(segment: &str) -> Ended {
    let runtime = attach(segment, false)?;
    let options = fading().crystallize_after(1).half_life(Duration::from_secs(3600));
    let memory = SigilIdentity::open(&runtime, options)?;
    let stop = stop_when_told();
    say("ready");
    while !stop.load(Ordering::Acquire) {
        memory.crystallize_memory_patterns()?;
        memory.process_memory_decay()?;
    }
    Ok(())
}

/// One that is looked after, and when it was touched last.
struct Tended {
    id: SigilId,
    touched_at: i64,
}

impl From<Sigil> for Tended {
    fn from(sigil: Sigil) -> Self {
        Self { id: sigil.id, touched_at: sigil.touched_at }
    }
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap_or_default().as_micros() as i64
}

/// Looks after so many sigils until told: recalls what is about to be swept, and encodes anew what was. One that
/// is gone although it was touched less than its time ago is told at once: no correct sweep removes it.
pub(super) fn tend(segment: &str, args: &[&str]) -> Ended {
    let [first, count] = args[..] else { return Err("tend: arguments".into()) };
    let (first, count): (u64, u64) = (first.parse()?, count.parse()?);
    let runtime = attach(segment, false)?;
    let memory = SigilIdentity::open(&runtime, fading())?;
    let lost = runtime.counter(LOST)?;
    let encode = |n: u64| memory.encode_sigil_memory(&payload(n)).map(Tended::from);
    // Half of them have equals.
    let number = |at: usize| first + at as u64 / 2;
    let mut tended: Vec<Tended> =
        (0..count as usize).map(|at| encode(number(at))).collect::<Result<_, _>>()?;
    let stop = stop_when_told();
    say("ready");
    while !stop.load(Ordering::Acquire) {
        for (at, one) in tended.iter_mut().enumerate() {
            let found = match memory.get(one.id) {
                Ok(sigil) if sigil.strength < TOUCH_BELOW => memory.recall(one.id).map(Some),
                other => other.map(|_| None),
            };
            match found {
                Ok(Some(recalled)) => *one = recalled.into(),
                Ok(None) => {}
                Err(SigilError::Unknown(id)) => {
                    // Whoever swept it looked at the time before this.
                    let age = now() - one.touched_at;
                    if (0..FADES_US).contains(&age) {
                        say(&format!("lost {id}, touched {age} us ago"));
                        lost.add(1)?;
                    }
                    *one = encode(number(at))?;
                }
                Err(e) => return Err(e.into()),
            }
        }
    }
    say("left");
    Ok(())
}

/// Sweeps what has faded until told: as sigils do, or (`naive`) by deleting what was found faded without another look.
pub(super) fn fade(segment: &str, args: &[&str]) -> Ended {
    let runtime = attach(segment, false)?;
    let memory = SigilIdentity::open(&runtime, fading())?;
    let naive = args == ["naive"];
    let table: DynamicTable = runtime.dynamic_table(SIGILS)?;
    let stop = stop_when_told();
    say("ready");
    let mut spared = 0;
    while !stop.load(Ordering::Acquire) {
        if !naive {
            spared += memory.process_memory_decay()?.spared;
            continue;
        }
        let mut faded = Vec::new();
        memory.scan(|sigil| {
            if sigil.strength < 0.25 {
                faded.push(sigil.id.to_string());
            }
        })?;
        for key in faded {
            // Who was first does not matter.
            let _ = table.delete(&key, None);
        }
    }
    say(&format!("spared {spared}"));
    Ok(())
}

/// The payload's canonical form is what was made.
#[must_use]
pub fn is_canonical(text: &str) -> bool {
    Payload::Text(text).canonical().is_ok_and(|canonical| canonical == text)
}
