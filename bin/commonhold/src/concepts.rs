//! `concepts`: what personas have learned, in a file that many of them change.

use std::path::{Path, PathBuf};
use std::time::Duration;

use commonhold::file::{Patience, Updated};
use commonhold::systems::concepts::{
    Concept, ConceptMap, HumanMap, Learned, MAX_RETRIES, MapError, Merged,
};
use serde::Serialize;

use crate::failure::{Done, Failure, one_line};
use crate::file::time_of;
use crate::output::{Output, print_json, print_line, print_table};
use crate::parse::duration;

/// So much of a description is shown in a list, in characters.
const SHOWN_MAX: usize = 60;

/// Learn, show and merge concepts in a JSON file that many personas change
///
/// A map of concepts is a file of the form { "concepts": [{ "name", "description", "level", "confidence", "updated_at",
/// "learned_by" }] }, with comments and other fields as you like: they stay. Many processes may learn at once: each
/// update is one atomic step. A concept's level is the average of what was learned, weighted by confidence and recency;
/// of its other fields the latest update's stays. docs/concepts.md defines all of it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  commonhold concepts learn tides --level 0.7 --confidence 0.9 --description 'twice a day' --by maria
  commonhold concepts show
  commonhold concepts show tides --file shared/human.jsonc --json
  commonhold concepts merge maria.jsonc otto.jsonc --file human.jsonc")]
pub(crate) struct Concepts {
    #[command(subcommand)]
    action: Action,
    /// The map
    #[arg(long, value_name = "FILE", default_value = "human.jsonc", global = true)]
    file: PathBuf,
    /// The longest wait of one try for the file's lock
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5s", global = true)]
    timeout: Duration,
    /// Print one JSON object on stdout, and nothing else there
    #[arg(long, global = true)]
    json: bool,
}

/// What to do.
#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Learn a concept; makes the file if it is not there
    Learn {
        /// Its name
        name: String,
        /// How well it is known, 0 to 1
        #[arg(long, value_parser = unit, allow_negative_numbers = true)]
        level: Option<f64>,
        /// How sure that is, 0 to 1
        #[arg(long, value_parser = unit, allow_negative_numbers = true)]
        confidence: Option<f64>,
        /// What it means
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        /// Who learned it
        #[arg(long, value_name = "PERSONA", env = "USER", hide_env_values = true)]
        by: Option<String>,
    },
    /// Print a concept, or all
    Show {
        /// Its name [default: all]
        name: Option<String>,
    },
    /// Merge other maps into this one: nothing leaves it, and doing it again changes nothing
    Merge {
        /// The other maps
        #[arg(required = true, value_name = "FILE")]
        maps: Vec<PathBuf>,
    },
}

fn unit(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok();
    number.filter(|n| (0.0..=1.0).contains(n)).ok_or_else(|| "give a number from 0 to 1".to_owned())
}

#[derive(Debug, Serialize)]
struct LearnedJson<'a> {
    concept: &'a Concept,
    #[serde(flatten)]
    done: DoneJson,
}

#[derive(Debug, Serialize)]
struct MergedJson {
    #[serde(flatten)]
    merged: Merged,
    #[serde(flatten)]
    done: DoneJson,
}

/// How it went.
#[derive(Debug, Serialize)]
struct DoneJson {
    path: String,
    written: bool,
    waited_ms: f64,
}

#[derive(Debug, Serialize)]
struct AllJson {
    path: String,
    concepts: Vec<Concept>,
}

impl Concepts {
    pub(crate) fn run(&self) -> Done {
        let patience = Patience::new().limit(self.timeout);
        let map = HumanMap::open(&self.file).patience(patience);
        match &self.action {
            Action::Learn { name, level, confidence, description, by } => {
                let mut learned = Learned::new(name);
                if let Some(level) = level {
                    learned = learned.level(*level);
                }
                if let Some(confidence) = confidence {
                    learned = learned.confidence(*confidence);
                }
                if let Some(description) = description {
                    learned = learned.description(description);
                }
                self.learn(&map.persona(by.as_deref().unwrap_or_default()), &learned)
            }
            Action::Show { name: Some(name) } => self.show_one(&read(&map)?, name),
            Action::Show { name: None } => self.show_all(&read(&map)?),
            Action::Merge { maps } => self.merge(&map, maps),
        }
    }

    fn learn(&self, map: &HumanMap, learned: &Learned) -> Done {
        let done = map.learn(learned).map_err(|error| match error {
            MapError::Refused(why) => Failure::usage(why.to_string()),
            error => Failure::from(error),
        })?;
        if self.json {
            let concept = &done.result;
            return print_json(&LearnedJson { concept, done: self.done(&done) });
        }
        let name = one_line(&done.result.name);
        let Concept { level, .. } = &done.result;
        match level {
            Some(level) => print_line(format_args!("{}: {name} {level}", self.file.display())),
            None => print_line(format_args!("{}: {name}", self.file.display())),
        }
    }

    fn merge(&self, map: &HumanMap, files: &[PathBuf]) -> Done {
        let maps = files.iter().map(|file| match file.exists() {
            true => read(&HumanMap::open(file)),
            false => Err(Failure::failed(format!("there is no {}", file.display()))),
        });
        let maps = maps.collect::<Result<Vec<ConceptMap>, Failure>>()?;
        let updater = |ours: &mut ConceptMap| {
            let merged = maps.iter().map(|theirs| ours.merge(theirs));
            let all = merged.fold(Merged::default(), |all, one| Merged {
                added: all.added + one.added,
                changed: all.changed + one.changed,
            });
            Ok::<_, std::convert::Infallible>(all)
        };
        let done = map.update_human_concept_map(updater, MAX_RETRIES)?;
        if self.json {
            return print_json(&MergedJson { merged: done.result, done: self.done(&done) });
        }
        let Merged { added, changed } = done.result;
        print_line(format_args!("{}: {added} added, {changed} changed", self.file.display()))
    }

    fn done<R>(&self, done: &Updated<R>) -> DoneJson {
        let waited_ms = time_of(done.waited.time);
        DoneJson { path: self.file.display().to_string(), written: done.written, waited_ms }
    }

    fn show_one(&self, map: &ConceptMap, name: &str) -> Done {
        let why = || Failure::failed(format!("{}: there is no {name:?}", self.file.display()));
        let concept = map.get(name).ok_or_else(why)?;
        if self.json {
            print_json(&concept)
        } else {
            print_line(serde_json::to_string_pretty(&concept)?)
        }
    }

    fn show_all(&self, map: &ConceptMap) -> Done {
        let concepts = map.concepts();
        if self.json {
            return print_json(&AllJson { path: self.file.display().to_string(), concepts });
        }
        let head = ["name", "level", "confidence", "by", "updated", "description"];
        let number =
            |number: Option<f64>| number.map_or_else(|| "-".to_owned(), |n| format!("{n:.3}"));
        let text = |text: Option<&String>| {
            let shown = text.map(|text| text.chars().take(SHOWN_MAX).collect::<String>());
            shown.map_or_else(|| "-".to_owned(), |text| one_line(&text))
        };
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(concepts.iter().map(|concept| {
            vec![
                one_line(&concept.name),
                number(concept.level),
                number(concept.confidence),
                text(concept.learned_by.as_ref()),
                text(concept.updated_at_text().as_ref()),
                text(concept.description.as_ref()),
            ]
        }));
        let mut out = Output::new();
        print_table(&mut out, &rows)?;
        out.finish()
    }
}

/// A map that is there.
fn read(map: &HumanMap) -> Result<ConceptMap, Failure> {
    let path: &Path = map.path();
    if !path.exists() {
        return Err(Failure::failed(format!("there is no {}", path.display())));
    }
    Ok(map.read()?)
}
