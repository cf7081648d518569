//! `sigils`: what many processes remember, from the command line.

use std::time::Duration;

use commonhold::Runtime;
use commonhold::systems::sigils::{
    Link, Payload, Sigil, SigilCapacity, SigilId, SigilIdentity, SigilOptions, table_configs,
};
use serde::Serialize;

use crate::connect::{Globals, close, open};
use crate::create::open_or_create;
use crate::failure::Done;
use crate::output::{Output, print_json, print_line, print_table};
use crate::parse::duration;

/// So much of a payload is shown in a list, in characters.
const SHOWN_MAX: usize = 60;

/// Remember payloads that fade unless they are recalled
///
/// Sigils: payloads (any JSON) that many processes remember in common. Equal payloads stay two sigils; each names the
/// one before. A sigil's strength is 1 when it is encoded or recalled, and half of it is left after each half-life.
/// What is recalled often becomes permanent when `crystallize` is run; what is weaker than the threshold is removed
/// when `decay` is run, never what was just touched.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  commonhold sigils encode '{\"tone\": 440, \"of\": \"dawn\"}'
  commonhold sigils recall 66bdf3d0a84e289a-1
  commonhold sigils link 66bdf3d0a84e289a-1 66bdf3d0a84e289a-2 --strength 0.5
  commonhold sigils show
  commonhold sigils decay --threshold 0.1")]
pub(crate) struct Sigils {
    #[command(subcommand)]
    action: Action,
    /// Print one JSON object on stdout, and nothing else there
    #[arg(long, global = true)]
    json: bool,
}

/// What to do.
#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Remember a payload; makes segment and tables if they are not there
    Encode {
        /// The payload, as JSON
        #[arg(value_parser = payload, allow_negative_numbers = true)]
        payload: String,
        /// The resonance node that it belongs to
        #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
        node: Option<u64>,
        /// After how long half of the strength is left
        #[arg(long, value_name = "TIME", value_parser = duration, default_value = "1h")]
        half_life: Duration,
        /// How many sigils there is room for, if their tables are made now
        #[arg(long, value_name = "N", default_value_t = 16_384)]
        #[arg(value_parser = clap::value_parser!(u32).range(1..1 << 24))]
        capacity: u32,
    },
    /// Touch a sigil: its strength is full again
    Recall {
        /// The sigil
        id: SigilId,
    },
    /// Print a sigil, or all sigils, without touching them
    Show {
        /// The sigil [default: all]
        id: Option<SigilId>,
    },
    /// Link a sigil to another one, or change how strongly they are linked
    Link {
        /// The sigil that the link goes out from
        from: SigilId,
        /// The other one
        to: SigilId,
        /// Above 0, at most 1; 0 takes the link away
        #[arg(long, value_name = "S", value_parser = strength, allow_negative_numbers = true)]
        strength: f64,
    },
    /// Make permanent what was recalled often
    Crystallize {
        /// After how many recalls
        #[arg(long, value_name = "N", default_value_t = 5)]
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        recalls: u64,
    },
    /// Write down what strengths have become, and remove what faded
    Decay {
        /// Below which strength a sigil is removed
        #[arg(long, value_name = "S", value_parser = strength, allow_negative_numbers = true)]
        #[arg(default_value = "0.015625")]
        threshold: f64,
    },
}

fn payload(text: &str) -> Result<String, String> {
    Payload::Text(text).canonical().map_err(|e| e.to_string())
}

fn strength(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "write a number".to_owned())?;
    if (0.0..=1.0).contains(&number) { Ok(number) } else { Err("it is 0 to 1".to_owned()) }
}

#[derive(Debug, Serialize)]
struct LinkedJson {
    from: SigilId,
    to: SigilId,
    /// None when there is no link any more.
    strength: Option<f64>,
    /// None when there was none.
    before: Option<f64>,
}

#[derive(Debug, Serialize)]
struct AllJson {
    sigils: Vec<Sigil>,
}

impl Sigils {
    pub(crate) fn run(&self, globals: &Globals) -> Done {
        let config = globals.config()?;
        let mut options = SigilOptions::new();
        let runtime = match self.action {
            Action::Encode { half_life, capacity, .. } => {
                options = options.half_life(half_life);
                let capacity = SigilCapacity { sigils: capacity, ..SigilCapacity::default() };
                open_or_create(config, &table_configs(&capacity))?
            }
            _ => open(config)?,
        };
        match self.action {
            Action::Crystallize { recalls } => options = options.crystallize_after(recalls),
            Action::Decay { threshold } => options = options.threshold(threshold),
            _ => {}
        }
        let done = self.act(&runtime, options);
        let closed = close(runtime);
        done.and(closed)
    }

    fn act(&self, runtime: &Runtime, options: SigilOptions) -> Done {
        let memory = SigilIdentity::open(runtime, options)?;
        match &self.action {
            Action::Encode { payload, node, .. } => {
                let sigil = match node {
                    Some(node) => memory.encode_for_node(payload, *node),
                    None => memory.encode_sigil_memory(payload),
                }?;
                self.tell(format_args!("encoded sigil {}", sigil.id), &sigil)
            }
            Action::Recall { id } => {
                let sigil = memory.recall(*id)?;
                let text = format_args!(
                    "recalled sigil {id} ({} so far): {}",
                    times(sigil.recalls),
                    sigil.payload
                );
                self.tell(text, &sigil)
            }
            Action::Show { id: Some(id) } => self.show(&memory.get(*id)?),
            Action::Show { id: None } => self.show_all(&memory),
            Action::Link { from, to, strength } => {
                let before = memory.link(*from, *to, *strength)?;
                let (from, to) = (*from, *to);
                let left = Some(*strength).filter(|strength| *strength > 0.0);
                let json = LinkedJson { from, to, strength: left, before };
                let was = before.map_or_else(String::new, |s| format!(" (it was {s})"));
                match left {
                    Some(s) => self
                        .tell(format_args!("linked {from} to {to} with strength {s}{was}"), &json),
                    None => self.tell(format_args!("{from} is not linked to {to}{was}"), &json),
                }
            }
            Action::Crystallize { .. } => {
                let done = memory.crystallize_memory_patterns()?;
                let (seen, crystallized) = (done.seen, done.crystallized);
                let text = format_args!("of {seen} sigils {crystallized} became permanent");
                self.tell(text, &done)
            }
            Action::Decay { .. } => {
                let done = memory.process_memory_decay()?;
                let text = format_args!(
                    "of {} sigils {} were removed; {} are permanent",
                    done.seen, done.swept, done.permanent
                );
                self.tell(text, &done)
            }
        }
    }

    /// Prints a line, or a JSON object.
    fn tell(&self, line: std::fmt::Arguments<'_>, json: &impl Serialize) -> Done {
        if self.json { print_json(json) } else { print_line(line) }
    }

    fn show(&self, sigil: &Sigil) -> Done {
        if self.json {
            return print_json(sigil);
        }
        let mut out = Output::new();
        print_sigils(&mut out, std::slice::from_ref(sigil), usize::MAX)?;
        let text = |id: &SigilId| id.to_string();
        if let Some(twin) = &sigil.twin {
            out.line(format_args!("equal to {}, which was before", text(twin)))?;
        }
        if let Some(node) = sigil.node {
            out.line(format_args!("belongs to resonance node {node}"))?;
        }
        for Link { to, strength } in &sigil.links {
            out.line(format_args!("linked to {} with strength {strength}", text(to)))?;
        }
        out.finish()
    }

    fn show_all(&self, memory: &SigilIdentity) -> Done {
        let mut sigils = Vec::new();
        memory.scan(|sigil| sigils.push(sigil))?;
        sigils.sort_by_key(|sigil| sigil.id.number);
        if self.json {
            return print_json(&AllJson { sigils });
        }
        let mut out = Output::new();
        print_sigils(&mut out, &sigils, SHOWN_MAX)?;
        out.finish()
    }
}

fn times(count: u64) -> String {
    format!("{count} time{}", if count == 1 { "" } else { "s" })
}

/// Prints a row for each sigil, of its payload at most `shown` characters; without sigils nothing.
fn print_sigils(out: &mut Output, sigils: &[Sigil], shown: usize) -> Done {
    if sigils.is_empty() {
        return Ok(());
    }
    let mut rows = vec![["sigil", "strength", "recalls", "payload"].map(str::to_owned).to_vec()];
    for sigil in sigils {
        let strength =
            if sigil.permanent { "permanent".to_owned() } else { format!("{:.4}", sigil.strength) };
        let mut payload: String = sigil.payload.chars().take(shown).collect();
        if payload.len() < sigil.payload.len() {
            payload.push('…');
        }
        rows.push(vec![sigil.id.to_string(), strength, sigil.recalls.to_string(), payload]);
    }
    print_table(out, &rows)
}
