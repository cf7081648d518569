//! The roles: what the processes of a test do. Each gets the segment's file and its own arguments.

mod adverse;
mod churn;
mod count;
mod daemon;
mod forks;
mod guarded;
mod jobs;
mod life;
mod names;
mod pools;
mod schedule;
mod stream;
mod waits;

pub use pools::submit_some;

use std::error::Error;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use commonhold::{Config, Runtime};
use nix::sys::signal::Signal;

/// How a role ends.
pub(crate) type Ended = Result<(), Box<dyn Error>>;

/// Plays the role that `args` say: role, process id of the test, segment, then what the role takes.
///
/// # Errors
/// What went wrong; the process then fails.
pub fn play(args: &[String]) -> Result<(), Box<dyn Error>> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let [role, test, segment, rest @ ..] = args.as_slice() else {
        return Err("tests start this, not people".into());
    };
    // Who lost his parent before this line finds out by the second look.
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    if nix::unistd::getppid().to_string() != *test {
        return Err("the test is gone".into());
    }
    match *role {
        "add" => schedule::add(segment, rest),
        "attach" => life::attach(segment, rest),
        "candidate" => life::candidate(segment),
        "churn" => churn::churn(segment, rest),
        "consume" => waits::consume(segment, rest),
        "count" => count::count(segment, rest),
        "count-on" => count::count_on(segment, rest),
        "create" => life::create(segment, rest),
        "fork" => forks::commit(segment, rest),
        "fork-inside" => guarded::fork_inside(segment, rest),
        "few-descriptors" => adverse::few_descriptors(segment),
        "flood" => adverse::flood(segment),
        "found" => guarded::found(segment, rest),
        "herd" => names::herd(segment, rest),
        "hold" => churn::hold(segment, rest),
        "inherited" => adverse::inherited(segment),
        "leave" => pools::leave(segment, rest),
        "jobs" => jobs::run(segment, rest),
        "jobs-and-sigils" => jobs::with_sigils(segment, rest),
        "jobs-again" => jobs::again(segment, rest),
        "jobs-fork" => jobs::forks(segment),
        "look" => guarded::look(segment),
        "orphan" => forks::orphan(segment),
        "plan" => guarded::plan(segment, rest),
        "pong" => waits::pong(segment, rest),
        "reaped" => adverse::reaped(segment),
        "press" => pools::press(segment, rest),
        "relay" => guarded::relay(segment, rest),
        "stand-by" => pools::stand_by(segment, rest),
        "start-stop" => pools::start_stop(segment, rest),
        "reload" => schedule::reload(segment, rest),
        "schedule" => schedule::schedule(segment, rest),
        "stream" => stream::stream(segment, rest),
        "submit" => pools::submit(segment, rest),
        "supervise" => pools::supervise(segment, rest),
        "serve" => daemon::serve(segment, rest),
        "sweep" => life::sweep(segment),
        "take" => names::take(segment, rest),
        "visit" => guarded::visit(segment, rest),
        "wait" => waits::wait(segment, rest),
        other => Err(format!("no role {other}").into()),
    }
}

/// Says a line.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // The test may be gone.
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

/// The next line told; `None` when the test closed the input.
fn told() -> Option<String> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).ok()?;
    (!line.is_empty()).then(|| line.trim_end().to_owned())
}

/// Becomes true when a line comes, or the end.
fn stop_when_told() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let its = Arc::clone(&stop);
    std::thread::spawn(move || {
        told();
        its.store(true, Ordering::Release);
    });
    stop
}

fn attach(segment: &str, candidate: bool) -> Result<Runtime, Box<dyn Error>> {
    let config = Config::named(segment).attach_only().room_wait(crate::stage::LIMIT);
    Ok(Runtime::open(if candidate { config } else { config.without_steward() })?)
}
