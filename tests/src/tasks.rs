//! Task kinds that tests have done by workers: good ones, and all sorts of bad ones.

use std::io::Write;
use std::time::Duration;

use commonhold::workers::{Context, Kind, Kinds};
use serde::Deserialize;

use crate::door::hold;

/// The arguments of `strict`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Strict {
    name: String,
    n: u32,
}

use crate::nodes;

/// What the workers of tests know.
#[must_use]
pub fn kinds() -> Kinds {
    let none = |_: &[u8]| Ok(());
    let kinds = Kinds::new()
        .with(Kind::new("echo", none, |_, bytes| Ok(bytes.to_vec())))
        .with(Kind::json("double", |_: &u64| Ok(()), |_, n: u64| Ok(n * 2)))
        .with(Kind::new("attempt", none, |task, _| Ok(task.attempt().to_string().into_bytes())))
        .with(Kind::new("error", none, |_, why| Err(String::from_utf8_lossy(why).into_owned())))
        .with(Kind::new("panic", none, |_, why| panic!("{}", String::from_utf8_lossy(why))))
        .with(Kind::json("strict", check, |_, strict: Strict| Ok(strict.name)))
        .with(Kind::new("exit", none, |_, words| {
            eprint!("{}", String::from_utf8_lossy(words));
            std::process::exit(0)
        }))
        .with(Kind::new("say", none, say))
        .with(Kind::new("note", none, note))
        .with(Kind::new("hold", none, hold))
        .with(Kind::new("kill", none, kill))
        .with(Kind::new("loop", none, |_, _| {
            loop {
                std::hint::spin_loop();
            }
        }))
        .with(Kind::new("memory", none, |_, _| Ok(vec![1; 1 << 36])))
        .with(Kind::new("large", none, |_, _| Ok(vec![1; (1 << 20) + 1])))
        .with(Kind::new("flood", none, flood))
        .with(Kind::new("until-cancelled", none, until_cancelled))
        .with(commonhold::systems::cascade::kind());
    nodes::with_ticks(kinds)
}

fn check(strict: &Strict) -> Result<(), String> {
    if strict.n > 0 { Ok(()) } else { Err(format!("`n` of {} is 0", strict.name)) }
}

/// Writes its arguments to both outputs.
fn say(_: &Context<'_>, text: &[u8]) -> Result<Vec<u8>, String> {
    let text = String::from_utf8_lossy(text);
    println!("out: {text}");
    eprintln!("err: {text}");
    Ok(Vec::new())
}

/// Appends the second line of its arguments to the file that the first names.
fn note(_: &Context<'_>, arguments: &[u8]) -> Result<Vec<u8>, String> {
    let text = String::from_utf8_lossy(arguments);
    let (path, text) = text.split_once('\n').ok_or("two lines are due")?;
    let file = std::fs::File::options().append(true).create(true).open(path);
    file.and_then(|mut file| writeln!(file, "{text}")).map_err(|e| e.to_string())?;
    Ok(Vec::new())
}

/// Kills its own worker, the first time only when it is told so.
fn kill(task: &Context<'_>, how: &[u8]) -> Result<Vec<u8>, String> {
    if how != b"once" || task.attempt() == 1 {
        let me = nix::unistd::Pid::this();
        nix::sys::signal::kill(me, nix::sys::signal::Signal::SIGKILL).map_err(|e| e.to_string())?;
    }
    Ok(task.attempt().to_string().into_bytes())
}

/// Writes lines for as long as it lives, shorter ones than can be passed on as fast.
fn flood(_: &Context<'_>, _: &[u8]) -> Result<Vec<u8>, String> {
    let (lines, mut out) = (b"x\n".repeat(1 << 15), std::io::stderr().lock());
    loop {
        std::io::Write::write_all(&mut out, &lines).map_err(|e| e.to_string())?;
    }
}

fn until_cancelled(task: &Context<'_>, _: &[u8]) -> Result<Vec<u8>, String> {
    while !task.is_cancelled() {
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(b"saw it".to_vec())
}
