//! Task kinds that tests have done by workers: good ones, and all sorts of bad ones.

use std::time::Duration;

use commonhold::workers::{Context, Kind, Kinds};

/// What the workers of tests know.
#[must_use]
pub fn kinds() -> Kinds {
    let none = |_: &[u8]| Ok(());
    Kinds::new()
        .with(Kind::new("echo", none, |_, bytes| Ok(bytes.to_vec())))
        .with(Kind::json("double", |_: &u64| Ok(()), |_, n: u64| Ok(n * 2)))
        .with(Kind::new("attempt", none, |task, _| Ok(task.attempt().to_string().into_bytes())))
        .with(Kind::new("error", none, |_, why| Err(String::from_utf8_lossy(why).into_owned())))
        .with(Kind::new("panic", none, |_, why| panic!("{}", String::from_utf8_lossy(why))))
        .with(Kind::new("exit", none, |_, _| std::process::exit(0)))
        .with(Kind::new("kill", none, kill))
        .with(Kind::new("loop", none, |_, _| {
            loop {
                std::hint::spin_loop();
            }
        }))
        .with(Kind::new("memory", none, |_, _| Ok(vec![1; 1 << 36])))
        .with(Kind::new("large", none, |_, _| Ok(vec![1; (1 << 20) + 1])))
        .with(Kind::new("until-cancelled", none, until_cancelled))
}

/// Kills its own worker, the first time only when it is told so.
fn kill(task: &Context<'_>, how: &[u8]) -> Result<Vec<u8>, String> {
    if how != b"once" || task.attempt() == 1 {
        let me = nix::unistd::Pid::this();
        nix::sys::signal::kill(me, nix::sys::signal::Signal::SIGKILL).map_err(|e| e.to_string())?;
    }
    Ok(task.attempt().to_string().into_bytes())
}

fn until_cancelled(task: &Context<'_>, _: &[u8]) -> Result<Vec<u8>, String> {
    while !task.is_cancelled() {
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(b"saw it".to_vec())
}
