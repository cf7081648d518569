//! `resonance`: the networks of oscillators, from the command line.

use std::time::Duration;

use commonhold::systems::resonance::physics::{self, Oscillator};
use commonhold::systems::resonance::{
    Field, HarmonicPattern, NetworkError, NewNode, Node, ResonanceNetworks, Snapshot, Summary,
    table_configs,
};
use serde::Serialize;

use crate::connect::{Globals, close, open};
use crate::create::open_or_create;
use crate::failure::{Done, Failure};
use crate::output::{Output, print_json, print_line, print_table};
use crate::parse::duration;
use crate::signals::Signals;

/// Create, couple and move oscillators that many processes share
///
/// Networks of oscillators (nodes) and couplings between them (fields), held in common by many processes. A tick
/// moves time on: phases turn and are pulled (Kuramoto model); a resonance exchanges energy between a node and its
/// neighbours (coupled-mode theory); patterns are groups of frequencies in ratios of small whole numbers. What
/// changes several records changes all of them or none, whoever is killed when.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  commonhold resonance create --frequency 440
  commonhold resonance create --frequency 660 --amplitude 0.5
  commonhold resonance connect 1 2 --strength 0.8
  commonhold resonance tick --dt 0.01 --steps 100
  commonhold resonance patterns")]
pub(crate) struct Resonance {
    #[command(subcommand)]
    action: Action,
    /// The longest wait for the guard, which somebody may hold who is stopped
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10s", global = true)]
    timeout: Duration,
    /// Print one JSON object on stdout, and nothing else there
    #[arg(long, global = true)]
    json: bool,
}

/// What to do.
#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Create a node; makes segment and tables if they are not there
    Create {
        /// In Hz
        #[arg(long, value_name = "HZ", value_parser = frequency, allow_negative_numbers = true)]
        frequency: f64,
        /// At least 0; its square is energy
        #[arg(long, value_name = "A", value_parser = amplitude, allow_negative_numbers = true)]
        #[arg(default_value = "1")]
        amplitude: f64,
        /// In rad
        #[arg(long, value_name = "RAD", value_parser = phase, allow_negative_numbers = true)]
        #[arg(default_value = "0")]
        phase: f64,
    },
    /// Remove a node with its fields
    Remove {
        /// The node
        id: u64,
    },
    /// Couple two nodes, or change how strongly they are coupled
    Connect {
        /// One node
        a: u64,
        /// The other
        b: u64,
        /// In 1/s; below 0 they push each other apart
        #[arg(long, value_name = "K", value_parser = strength, allow_negative_numbers = true)]
        strength: f64,
    },
    /// Take the field between two nodes away
    Disconnect {
        /// One node
        a: u64,
        /// The other
        b: u64,
    },
    /// Exchange energy between a node and its neighbours
    Resonate {
        /// The node
        id: u64,
        /// For how long, in seconds
        #[arg(long, value_name = "S", value_parser = time, allow_negative_numbers = true)]
        #[arg(default_value = "0.1")]
        dt: f64,
    },
    /// Move time on for all nodes
    Tick {
        /// By how much each step, in seconds
        #[arg(long, value_name = "S", value_parser = time, allow_negative_numbers = true)]
        #[arg(default_value = "0.01")]
        dt: f64,
        /// How many steps
        #[arg(long, value_name = "N", default_value_t = 1)]
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        steps: u64,
    },
    /// Print a node with its fields, or all nodes and fields
    Show {
        /// The node [default: all]
        id: Option<u64>,
    },
    /// Find the harmonic patterns, and print and keep them
    Patterns {
        /// How far a ratio may be off, relatively
        #[arg(long, value_name = "R", value_parser = tolerance, allow_negative_numbers = true)]
        #[arg(default_value = "0.01")]
        tolerance: f64,
    },
}

fn number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| "write a number".to_owned())
}

/// A number that `check` accepts.
fn checked<T>(
    text: &str,
    check: impl FnOnce(f64) -> Result<T, physics::PhysicsError>,
) -> Result<f64, String> {
    let number = number(text)?;
    check(number).map(|_| number).map_err(|e| e.to_string())
}

fn frequency(text: &str) -> Result<f64, String> {
    checked(text, |frequency| Oscillator::new(frequency, 0.0, 0.0))
}

fn amplitude(text: &str) -> Result<f64, String> {
    checked(text, |amplitude| Oscillator::new(0.0, amplitude, 0.0))
}

fn phase(text: &str) -> Result<f64, String> {
    checked(text, |phase| Oscillator::new(0.0, 0.0, phase))
}

fn strength(text: &str) -> Result<f64, String> {
    checked(text, physics::check_strength)
}

fn time(text: &str) -> Result<f64, String> {
    checked(text, physics::check_time)
}

fn tolerance(text: &str) -> Result<f64, String> {
    checked(text, physics::check_tolerance)
}

#[derive(Debug, Serialize)]
struct NodeJson {
    id: u64,
    #[serde(flatten)]
    node: Node,
}

#[derive(Debug, Serialize)]
struct RemovedJson {
    id: u64,
    fields: usize,
}

#[derive(Debug, Serialize)]
struct FieldJson {
    node_a: u64,
    node_b: u64,
    /// None when there is no field any more.
    strength: Option<f64>,
    /// None when there was none.
    before: Option<f64>,
}

#[derive(Debug, Serialize)]
struct ResonatedJson {
    id: u64,
    dt: f64,
    neighbours: usize,
    energy_before: f64,
    energy_after: f64,
}

#[derive(Debug, Serialize)]
struct TickedJson {
    dt: f64,
    steps: u64,
    nodes: usize,
    fields: usize,
    order: f64,
}

#[derive(Debug, Serialize)]
struct ShownNode {
    id: u64,
    #[serde(flatten)]
    node: Node,
    fields: Vec<Field>,
}

#[derive(Debug, Serialize)]
struct ShownAll {
    summary: Summary,
    nodes: Vec<NodeJson>,
    fields: Vec<Field>,
    patterns: Vec<HarmonicPattern>,
}

#[derive(Debug, Serialize)]
struct PatternsJson {
    tolerance: f64,
    patterns: Vec<HarmonicPattern>,
}

impl Resonance {
    pub(crate) fn run(&self, globals: &Globals) -> Done {
        if let Action::Connect { a, b, .. } | Action::Disconnect { a, b } = self.action
            && a == b
        {
            return Err(Failure::usage(NetworkError::SelfConnection(a).to_string()));
        }
        // Many ticks end between two of them; everything else is short, and safe wherever it is ended.
        let ticks = matches!(self.action, Action::Tick { .. });
        let signals = if ticks { Some(Signals::catch()?) } else { None };
        let config = globals.config()?;
        let runtime = match self.action {
            Action::Create { .. } => open_or_create(config, &table_configs())?,
            _ => open(config)?,
        };
        let networks = ResonanceNetworks::open(&runtime)?.with_guard_wait(self.timeout);
        let done = self.act(&networks, signals.as_ref());
        drop(networks);
        let closed = close(runtime);
        done.and(closed)
    }

    fn act(&self, networks: &ResonanceNetworks, signals: Option<&Signals>) -> Done {
        match self.action {
            Action::Create { frequency, amplitude, phase } => {
                let new = NewNode { frequency, amplitude, phase };
                let id = networks.create_node(new)?;
                let node = networks.node(id);
                self.tell(format_args!("created node {id}"), || Ok(NodeJson { id, node: node? }))
            }
            Action::Remove { id } => {
                let fields = networks.remove_node(id)?;
                let text = format_args!("removed node {id} and {}", counted(fields, "field"));
                self.tell(text, || Ok(RemovedJson { id, fields }))
            }
            Action::Connect { a, b, strength } => {
                let before = networks.connect(a, b, strength)?;
                let was = before.map_or_else(String::new, |s| format!(" (it was {s})"));
                let text = format_args!("connected {a} and {b} with strength {strength} 1/s{was}");
                self.tell(text, || Ok(field(a, b, Some(strength), before)))
            }
            Action::Disconnect { a, b } => {
                let before = networks.disconnect(a, b)?;
                let text =
                    format_args!("disconnected {a} and {b}, whose strength was {before} 1/s");
                self.tell(text, || Ok(field(a, b, None, Some(before))))
            }
            Action::Resonate { id, dt } => self.resonate(networks, id, dt),
            Action::Tick { dt, steps } => self.tick(networks, signals, dt, steps),
            Action::Show { id: Some(id) } => self.show(networks, id),
            Action::Show { id: None } => self.show_all(&networks.snapshot()?),
            Action::Patterns { tolerance } => {
                let patterns = networks.detect_patterns(tolerance)?;
                if self.json {
                    return print_json(&PatternsJson { tolerance, patterns });
                }
                let mut out = Output::new();
                print_patterns(&mut out, &patterns)?;
                out.finish()
            }
        }
    }

    fn resonate(&self, networks: &ResonanceNetworks, id: u64, dt: f64) -> Done {
        let done = networks.resonate(id, dt)?;
        let (neighbours, energy_before, energy_after) = (done.neighbours, done.before, done.after);
        let text = format_args!(
            "node {id} had the energy {energy_before}, has {energy_after}; the difference is with {}",
            counted(neighbours, "neighbour")
        );
        self.tell(text, || Ok(ResonatedJson { id, dt, neighbours, energy_before, energy_after }))
    }

    fn tick(
        &self,
        networks: &ResonanceNetworks,
        signals: Option<&Signals>,
        dt: f64,
        steps: u64,
    ) -> Done {
        let mut last = None;
        for _ in 0..steps {
            signals.map_or(Ok(()), Signals::check)?;
            last = Some(networks.system_tick(dt)?);
        }
        let Some(last) = last else { return Ok(()) };
        let (nodes, fields, order) = (last.nodes, last.fields, last.order);
        let text = format_args!(
            "moved {} with {} on by {steps} × {dt} s; order {order:.6}",
            counted(nodes, "node"),
            counted(fields, "field")
        );
        self.tell(text, || Ok(TickedJson { dt, steps, nodes, fields, order }))
    }

    fn show(&self, networks: &ResonanceNetworks, id: u64) -> Done {
        let (node, fields) = networks.node_and_fields(id)?;
        if self.json {
            return print_json(&ShownNode { id, node, fields });
        }
        let mut out = Output::new();
        print_nodes(&mut out, [(&id, &node)].into_iter())?;
        print_fields(&mut out, &fields)?;
        out.finish()
    }

    fn show_all(&self, all: &Snapshot) -> Done {
        let summary = all.summary()?;
        if self.json {
            let nodes = all.nodes.iter().map(|(id, node)| NodeJson { id: *id, node: *node });
            let (fields, patterns) = (all.fields.clone(), all.patterns.clone());
            return print_json(&ShownAll { summary, nodes: nodes.collect(), fields, patterns });
        }
        let mut out = Output::new();
        out.line(format_args!(
            "{}, {}, {}; energy {}, order {:.6}, mean coherence {:.6}",
            counted(summary.nodes, "node"),
            counted(summary.fields, "field"),
            counted(summary.patterns, "pattern"),
            summary.energy,
            summary.order,
            summary.coherence
        ))?;
        print_nodes(&mut out, all.nodes.iter())?;
        print_fields(&mut out, &all.fields)?;
        print_patterns(&mut out, &all.patterns)?;
        out.finish()
    }

    /// Prints a line, or the JSON object that `json` makes.
    fn tell<T: Serialize>(
        &self,
        line: std::fmt::Arguments<'_>,
        json: impl FnOnce() -> Result<T, NetworkError>,
    ) -> Done {
        if self.json { print_json(&json()?) } else { print_line(line) }
    }
}

fn field(a: u64, b: u64, strength: Option<f64>, before: Option<f64>) -> FieldJson {
    FieldJson { node_a: a.min(b), node_b: a.max(b), strength, before }
}

/// Such as `1 node`, `2 nodes`.
fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Prints `rows` under `heads`; without rows nothing.
fn print_rows(out: &mut Output, heads: &[&str], rows: Vec<Vec<String>>) -> Done {
    if rows.is_empty() {
        return Ok(());
    }
    let mut all = vec![heads.iter().map(|head| (*head).to_owned()).collect()];
    all.extend(rows);
    print_table(out, &all)
}

fn print_nodes<'a>(out: &mut Output, nodes: impl Iterator<Item = (&'a u64, &'a Node)>) -> Done {
    let row = |(id, n): (&u64, &Node)| {
        let mut row = vec![id.to_string(), n.frequency.to_string(), n.amplitude.to_string()];
        row.extend([format!("{:.6}", n.phase), format!("{:.6}", n.coherence), n.ticks.to_string()]);
        row
    };
    let heads = ["node", "frequency", "amplitude", "phase", "coherence", "ticks"];
    print_rows(out, &heads, nodes.map(row).collect())
}

fn print_fields(out: &mut Output, fields: &[Field]) -> Done {
    let row = |f: &Field| vec![format!("{}–{}", f.node_a, f.node_b), f.strength.to_string()];
    print_rows(out, &["field", "strength"], fields.iter().map(row).collect())
}

fn print_patterns(out: &mut Output, patterns: &[HarmonicPattern]) -> Done {
    let row = |p: &HarmonicPattern| {
        let members: Vec<String> = p.members.iter().map(u64::to_string).collect();
        vec![p.ratio.clone(), format!("{:.6}", p.strength), members.join(" ")]
    };
    print_rows(out, &["pattern", "strength", "members"], patterns.iter().map(row).collect())
}
