//! Taking ids and adding to counters.

use std::fs::OpenOptions;
use std::io::Write;
use std::process::{Command, Stdio};

use commonhold::{Counter, Ids};

use super::{Ended, attach, say, told};

/// Starts so many takers, each with its own file, and waits for their end. They share the input: when the test closes
/// that, they begin.
pub(super) fn herd(segment: &str, args: &[&str]) -> Ended {
    let [folder, first, many, count] = args[..] else { return Err("herd: arguments".into()) };
    let (first, many): (usize, usize) = (first.parse()?, many.parse()?);
    let (program, own) = (std::env::current_exe()?, std::process::id().to_string());
    let start = |number: usize| {
        let file = format!("{folder}/taken-{number}");
        let mut taker = Command::new(&program);
        taker.args(["take", &own, segment, &file, "worker", count]);
        taker.stdin(Stdio::inherit()).stdout(Stdio::null()).spawn()
    };
    let takers: Vec<_> = (first..first + many).map(start).collect::<Result<_, _>>()?;
    for mut taker in takers {
        let status = taker.wait()?;
        if !status.success() {
            return Err(format!("a taker: {status}").into());
        }
    }
    Ok(())
}

/// Told a line, or at the end of the input, takes so many ids of `nodes`. Each goes as one line into the file, before
/// the counter `taken` gets one more and after that, as a dot.
pub(super) fn take(segment: &str, args: &[&str]) -> Ended {
    let [file, stands, count] = args[..] else { return Err("take: arguments".into()) };
    let count: u64 = count.parse()?;
    let runtime = attach(segment, stands == "candidate")?;
    let handle = runtime.handle()?;
    let (ids, taken) = (Ids::new(&handle, "nodes")?, Counter::new(&handle, "taken")?);
    let mut file = OpenOptions::new().create(true).append(true).open(file)?;
    Counter::new(&handle, "ready")?.add(1)?;
    say("ready");
    told();
    for _ in 0..count {
        let id = ids.next()?;
        file.write_all(format!("{id}\n").as_bytes())?;
        taken.add(1)?;
        file.write_all(b".\n")?;
    }
    drop((ids, taken));
    drop(handle);
    drop(runtime);
    say("left");
    Ok(())
}
