//! `file`: a JSON or JSONC file that many processes edit, from the command line. No segment is needed.

mod lock;
mod place;

use std::path::{Path, PathBuf};
use std::time::Duration;

use commonhold::file::{Patience, SharedFile};
use serde::Serialize;
use serde_json::Value;

use crate::failure::{Done, Failure};
use crate::output::{print_json, print_line};
use crate::parse::duration;

pub(crate) use lock::{UNBLOCKED, become_command};
use place::{Assigned, Place, added};

/// Edit a JSON or JSONC file as one atomic step, or run a command under its lock
///
/// Any number of processes may edit one file at once: each edit waits for the lock beside the file (PATH.lock), which
/// its holder's death frees at once, and none is lost. Comments, order and form of what is not edited stay. The file
/// is replaced whole: readers need no lock.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  commonhold file edit settings.jsonc --set editor.tabs=4 --set 'name=\"Maria\"'
  commonhold file edit tasks.json --set 'tasks[+]={\"title\": \"water plants\"}' --add revision=1
  commonhold file edit tasks.json --require revision=7 --delete 'tasks[0]'
  commonhold file show tasks.json 'tasks[0].title'
  commonhold file lock settings.jsonc -- jq -f rules.jq settings.jsonc

A path is names with dots between them; a name with other characters stands in double quotes (\"a.b\".c); [0] is an
element of a list, counted from 0, [-1] the last one, and [+] a new one at its end.")]
pub(crate) struct File {
    #[command(subcommand)]
    action: Action,
    /// Print one JSON object on stdout, and nothing else there
    #[arg(long, global = true)]
    json: bool,
}

/// What to do.
#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Change the file; what is given is one step: all of it happens, or nothing
    Edit(Edit),
    /// Print the file's value, or a part of it, without comments
    Show {
        /// The file
        #[arg(value_name = "PATH")]
        file: PathBuf,
        /// Which part [default: all]
        #[arg(value_name = "PLACE")]
        place: Option<Place>,
    },
    /// Run a command while holding the file's lock; its exit code is that of the command
    ///
    /// The lock is held until the command has ended; when `commonhold` itself is killed, until the command and what it
    /// started have ended, for they inherit it. Signals that are sent to `commonhold` are passed on to the command. Within
    /// it, edit the file with other programs: `commonhold file edit` of the same file would wait for this lock.
    Lock {
        /// The file
        #[arg(value_name = "PATH")]
        file: PathBuf,
        /// The longest wait for the lock
        #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10s")]
        timeout: Duration,
        /// The command and its arguments
        #[arg(required = true, last = true, value_name = "COMMAND")]
        command: Vec<std::ffi::OsString>,
    },
}

/// Changes of a file; made in this order: what is required is looked at, then sets, adds and deletes.
#[derive(Debug, clap::Args)]
struct Edit {
    /// The file; made if it is not there
    #[arg(value_name = "PATH")]
    file: PathBuf,
    /// Refuse all of it unless this place has this value
    #[arg(long, value_name = "PLACE=JSON")]
    require: Vec<Assigned>,
    /// Make this place have this value; objects on the way are made
    #[arg(long, value_name = "PLACE=JSON")]
    set: Vec<Assigned>,
    /// Add this number to that place; a place that is not there counts as 0
    #[arg(long, value_name = "PLACE=N", value_parser = added)]
    add: Vec<Assigned>,
    /// Remove this place, which must be there
    #[arg(long, value_name = "PLACE")]
    delete: Vec<Place>,
    /// The longest wait for the lock
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10s")]
    timeout: Duration,
}

#[derive(Debug, Serialize)]
struct EditedJson {
    path: String,
    /// Whether anything was different.
    written: bool,
    waited_ms: f64,
    retries: u32,
    /// Locks of dead processes that were removed.
    stale_locks: u32,
    /// Changes of programs without the lock that were merged.
    merges: u32,
}

#[derive(Debug, Serialize)]
struct ShownJson {
    path: String,
    place: Option<String>,
    value: Value,
}

impl File {
    pub(crate) fn run(&self) -> Done {
        match &self.action {
            Action::Edit(edit) => edit.run(self.json),
            Action::Show { file, place } => show(file, place.as_ref(), self.json),
            Action::Lock { .. } if self.json => {
                Err(Failure::usage("the output of `file lock` is the command's; leave out --json"))
            }
            Action::Lock { file, timeout, command } => lock::run(&shared(file, *timeout), command),
        }
    }
}

/// Milliseconds, as they are printed.
pub(crate) fn time_of(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// The file, whose lock is waited for so long.
fn shared(file: &Path, timeout: Duration) -> SharedFile {
    SharedFile::new(file).patience(Patience::new().limit(timeout))
}

impl Edit {
    fn run(&self, json: bool) -> Done {
        if self.set.is_empty() && self.add.is_empty() && self.delete.is_empty() {
            return Err(Failure::usage("nothing to do: give --set, --add or --delete"));
        }
        let path = self.file.display();
        let done = shared(&self.file, self.timeout).update(|document| self.apply(document));
        let done = done.map_err(|error| match error {
            commonhold::file::UpdateError::Refused(why) => {
                Failure::failed(format!("{path}: {why}"))
            }
            error => Failure::from(error),
        })?;
        if !json {
            let what = if done.written { "changed" } else { "unchanged: it is that way already" };
            return print_line(format_args!("{path}: {what}"));
        }
        print_json(&EditedJson {
            path: path.to_string(),
            written: done.written,
            waited_ms: time_of(done.waited.time),
            retries: done.waited.retries,
            stale_locks: done.waited.stale,
            merges: done.merges,
        })
    }

    fn apply(&self, document: &mut Value) -> Result<(), String> {
        for Assigned { place, value } in &self.require {
            match place.find(document) {
                Some(there) if there == value => {}
                Some(there) => return Err(format!("`{place}` is {}, not {value}", brief(there))),
                None => return Err(format!("there is no `{place}`; {value} is required")),
            }
        }
        for Assigned { place, value } in &self.set {
            *place.make(document)? = value.clone();
        }
        for Assigned { place, value } in &self.add {
            place::add(place, document, value)?;
        }
        // Which elements are meant is what they are before any goes; then the last of a list first, whatever it was called.
        let counted = |place: &Place| {
            place.counted(document).ok_or_else(|| format!("there is no `{place}` to delete"))
        };
        let mut places = self.delete.iter().map(counted).collect::<Result<Vec<_>, String>>()?;
        places.sort_by(|a, b| b.cmp(a));
        places.dedup();
        for place in places {
            place.delete(document)?;
        }
        Ok(())
    }
}

/// A value in an error.
fn brief(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        other => other.to_string().chars().take(60).collect(),
    }
}

fn show(file: &Path, place: Option<&Place>, json: bool) -> Done {
    let path = file.display();
    let document = SharedFile::new(file).read()?;
    let document = document.ok_or_else(|| match file.exists() {
        true => Failure::failed(format!("{path}: it is empty")),
        false => Failure::failed(format!("there is no {path}")),
    })?;
    let value = match place {
        None => document,
        Some(place) => place
            .find(&document)
            .cloned()
            .ok_or_else(|| Failure::failed(format!("{path}: there is no `{place}`")))?,
    };
    if json {
        let place = place.map(ToString::to_string);
        return print_json(&ShownJson { path: path.to_string(), place, value });
    }
    print_line(serde_json::to_string_pretty(&value)?)
}
