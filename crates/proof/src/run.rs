//! Runs checks, each in a process of its own, in a folder of its own, in a process group of its own.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use commonhold_segment::sync::Fault;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::{Args, Bite, Check, Failure, Outcome, Plan, check, checks, table};

/// Where segments and stores of the checks stand.
const FOLDER: &str = "/dev/shm";

/// Makes the one check that is asked for, here.
pub(crate) fn inside(args: &Args) -> Result<bool, Failure> {
    let wanted = args.checks.first().map_or("", String::as_str);
    let known = checks::all();
    let check = known.iter().find(|c| c.name == wanted).ok_or("no such check; see --list")?;
    let bite = args.plant.as_deref().map(|name| find(check, name)).transpose()?;
    if bite.is_some() {
        check::one_is_enough();
    }
    if let Some(Bite::Fault(fault)) = bite {
        plant(fault)?;
    }
    let plan = Plan {
        seed: args.seed.unwrap_or_default(),
        long: args.long,
        only: args.only,
        sabotage: args.plant.clone().filter(|_| matches!(bite, Some(Bite::Sabotage(_)))),
        planted: bite.is_some(),
        folder: std::env::current_dir()?,
    };
    let outcome = (check.run)(&plan)?;
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(outcome.violations.is_empty())
}

fn find(check: &Check, name: &str) -> Result<Bite, Failure> {
    if let Some(bite) = check.bites.iter().find(|b| b.name() == name) {
        return Ok(*bite);
    }
    let fault = Fault::ALL.iter().find(|f| format!("{f:?}") == name);
    Ok(Bite::Fault(*fault.ok_or_else(|| format!("nothing to plant is named {name}"))?))
}

#[cfg(feature = "faults")]
fn plant(fault: Fault) -> Result<(), Failure> {
    commonhold_segment::sync::plant(Some(fault));
    Ok(())
}

#[cfg(not(feature = "faults"))]
fn plant(fault: Fault) -> Result<(), Failure> {
    Err(format!("{fault:?} can be planted in a build with the feature `faults` alone").into())
}

/// Makes the checks that are asked for; whether all hold, or with `--bite` whether all found what they must.
pub(crate) fn all(args: &Args) -> Result<bool, Failure> {
    let known = checks::all();
    let unknown = args.checks.iter().find(|name| known.iter().all(|c| c.name != **name));
    if let Some(name) = unknown {
        return Err(format!("no check `{name}`; --list says which there are").into());
    }
    let wanted = |c: &&Check| args.checks.is_empty() || args.checks.iter().any(|n| n == c.name);
    let fresh =
        || u64::from_le_bytes(*commonhold_os::random::uuid().first_chunk().unwrap_or(&[0; 8]));
    let seed = args.seed.unwrap_or_else(fresh);
    println!("seed {seed}");
    if !args.bite {
        table::head();
    }
    let mut good = true;
    for check in known.iter().filter(wanted) {
        if args.bite {
            good &= bite(args, check, seed)?;
        } else {
            let (outcome, took) = apart(args, check, seed, args.plant.as_deref())?;
            good &= outcome.violations.is_empty();
            tell(args, check, &outcome, took)?;
        }
    }
    Ok(good)
}

fn tell(args: &Args, check: &Check, outcome: &Outcome, took: Duration) -> Result<(), Failure> {
    if args.json {
        let seconds = took.as_secs_f64();
        let line = serde_json::json!({"check": check.name, "outcome": outcome, "seconds": seconds});
        println!("{}", serde_json::to_string(&line)?);
    } else {
        table::row(check.name, outcome, took);
    }
    Ok(())
}

fn bite(args: &Args, check: &Check, seed: u64) -> Result<bool, Failure> {
    let mut good = true;
    for bite in check.bites {
        if matches!(bite, Bite::Fault(_)) && !cfg!(feature = "faults") {
            continue;
        }
        let (outcome, took) = apart(args, check, seed, Some(&bite.name()))?;
        good &= !outcome.violations.is_empty();
        table::bite(check.name, &bite.name(), &outcome, took);
    }
    Ok(good)
}

/// Makes a check in a process of its own.
fn apart(
    args: &Args,
    check: &Check,
    seed: u64,
    plant: Option<&str>,
) -> Result<(Outcome, Duration), Failure> {
    let mut place = tempfile::Builder::new();
    let folder = place.prefix("commonhold-prove-").tempdir_in(FOLDER)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--inside", check.name, "--seed", &seed.to_string()]);
    command.args(args.long.then_some("--long"));
    command.args(args.only.map(|n| format!("--only={n}")));
    command.args(plant.map(|name| format!("--plant={name}")));
    command.current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::piped());
    let bound = || Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?);
    // SAFETY: one system call between fork and exec.
    unsafe { command.pre_exec(bound) };
    let start = Instant::now();
    let mut child = command.process_group(0).spawn()?;
    let limit = Duration::from_secs(check.limit_s * if args.long { 10 } else { 1 });
    let outcome = listen(&mut child, limit);
    // What a check left behind goes, also when it failed.
    let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
    let status = child.wait()?;
    let outcome = outcome.unwrap_or_else(|why| {
        let text = format!("{}: {why} ({status}); seed {seed}", check.name);
        Outcome { violations: vec![text], ..Outcome::default() }
    });
    Ok((outcome, start.elapsed()))
}

/// What the process says, if it says it in time.
fn listen(child: &mut Child, limit: Duration) -> Result<Outcome, String> {
    let mut out = child.stdout.take().ok_or("no output")?;
    let (teller, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let read = out.read_to_string(&mut text);
        let _ = teller.send(read.map(|_| text));
    });
    // Its descendants may hold the pipe open: then the group is killed, and what was said is lost with the check.
    match told.recv_timeout(limit) {
        Ok(Ok(text)) => {
            let last = text.lines().last().unwrap_or_default();
            serde_json::from_str(last).map_err(|_| "it ended without an outcome".to_owned())
        }
        Ok(Err(e)) => Err(e.to_string()),
        Err(_) => Err(format!("it took longer than {} s", limit.as_secs())),
    }
}
