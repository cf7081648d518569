//! A process that adds concepts to the file in one of the three ways.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use commonhold_file::{Patience, SharedFile};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{LIMIT, Way};

/// What tells a worker of this torture from those of the others.
pub(crate) const FILES_WORKER: &str = "files";
/// From this age on a lock file is taken for stale by those who go by its age.
const STALE: Duration = Duration::from_secs(1);

/// What the name of a worker's own concept begins with, in which it counts its updates.
pub(super) const COUNTER: &str = "worker-";

type Failure = Box<dyn std::error::Error>;

/// The life of a worker: way, folder, index, life, updates, parent. The exit code.
pub(crate) fn life(args: &[String]) -> u8 {
    match work(args) {
        Ok(()) => 0,
        Err(e) => {
            eprintln!("commonhold: worker {args:?}: {e}");
            1
        }
    }
}

fn work(args: &[String]) -> Result<(), Failure> {
    let [way, folder, numbers @ ..] = args else {
        return Err("started by torture, not by hand".into());
    };
    let numbers = numbers.iter().map(|number| number.parse()).collect::<Result<Vec<u64>, _>>()?;
    let [index, life, updates, parent] = numbers[..] else { return Err("four numbers".into()) };
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    if nix::unistd::getppid().as_raw().cast_unsigned() != u32::try_from(parent)? {
        return Err("the torture is gone".into());
    }
    let way = Way::ALL.into_iter().find(|known| known.name() == way).ok_or("no such way")?;
    let folder = PathBuf::from(folder);
    let path = folder.join("human.jsonc");
    let mut notes =
        OpenOptions::new().create(true).append(true).open(folder.join(format!("noted-{index}")))?;
    let done =
        std::fs::read_to_string(folder.join(format!("noted-{index}")))?.lines().count() as u64;
    for update in done..updates {
        let name = format!("{index}-{update}-{life}");
        match way {
            Way::Plain => plain(&path, &name)?,
            Way::LockFile => under_lock_file(&path, &name)?,
            Way::Shared => shared(&path, &name)?,
        }
        notes.write_all(format!("{name}\n").as_bytes())?;
    }
    Ok(())
}

/// One update: a concept, which is the same however often it is added, and a count, which is not.
fn learn(all: &mut Value, name: &str) {
    let concept = json!({"level": 0.5, "learned_by": std::process::id()});
    let index = name.split('-').next().unwrap_or_default();
    let counter = format!("{COUNTER}{index}");
    if !all.get("concepts").is_some_and(Value::is_object) {
        *all = json!({"concepts": {}});
    }
    let Some(concepts) = all.get_mut("concepts").and_then(Value::as_object_mut) else { return };
    let count = concepts.get(&counter).and_then(|of| of.get("count")).and_then(Value::as_u64);
    concepts.insert(name.to_owned(), concept);
    concepts.insert(counter, json!({"count": count.unwrap_or(0) + 1}));
}

/// As most programs do it: a file that cannot be read as JSON is begun anew.
fn plain(path: &Path, name: &str) -> Result<(), Failure> {
    let text = std::fs::read(path)?;
    let mut all = serde_json::from_slice(&text).unwrap_or_else(|_| json!({}));
    learn(&mut all, name);
    Ok(std::fs::write(path, serde_json::to_vec(&all)?)?)
}

fn under_lock_file(path: &Path, name: &str) -> Result<(), Failure> {
    let lock = path.with_extension("lock");
    loop {
        match File::create_new(&lock) {
            Ok(_) => break,
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e.into()),
        }
        let made = std::fs::metadata(&lock).and_then(|meta| meta.modified()).ok();
        let age = made.and_then(|made| SystemTime::now().duration_since(made).ok());
        if age.is_some_and(|age| age > STALE) {
            let _ = std::fs::remove_file(&lock);
        } else {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    plain(path, name)?;
    // Somebody may have taken it for stale.
    let _ = std::fs::remove_file(&lock);
    Ok(())
}

fn shared(path: &Path, name: &str) -> Result<(), Failure> {
    let file = SharedFile::new(path).patience(Patience::new().limit(LIMIT));
    file.update(|all| {
        learn(all, name);
        Ok::<_, std::convert::Infallible>(())
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_that_is_made_twice_is_counted_twice() {
        let mut all = json!([]);
        for name in ["3-0-1", "3-1-1", "12-0-2", "3-1-1"] {
            learn(&mut all, name);
        }
        let concepts = all["concepts"].as_object().unwrap();
        assert_eq!(concepts.len(), 5);
        assert_eq!(
            (&concepts["worker-3"]["count"], &concepts["worker-12"]["count"]),
            (&json!(3), &json!(1))
        );
    }
}
