//! Nodes that tests have ticked by a scheduler, and the ticks that workers do to them.

use commonhold::catalogue::History;
use commonhold::workers::{Context, Kind, Kinds, Tick};
use commonhold::{Config, Record, Runtime, Table, TableConfig};

/// The table of nodes.
pub const NODES: &str = "nodes";

/// A node whose state after so many ticks is known.
#[derive(Record, Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// How many ticks it got.
    pub ticks: i64,
    /// `3 v + 1` of itself with each tick, below 2^32.
    pub value: i64,
    /// The sum of all steps, in nanoseconds.
    pub elapsed: i64,
    /// What others count here meanwhile.
    pub added: i64,
}

impl Node {
    /// The value after so many ticks.
    #[must_use]
    pub fn value_after(ticks: i64) -> i64 {
        (0..ticks).fold(0, |value, _| (3 * value + 1) % (1 << 32))
    }

    fn advance(&mut self, tick: &Tick<'_>) {
        self.ticks += 1;
        self.value = (3 * self.value + 1) % (1 << 32);
        self.elapsed += i64::try_from(tick.step.as_nanos()).unwrap();
    }
}

/// Adds the table.
#[must_use]
pub fn with_nodes(config: Config, slots: u32) -> Config {
    config.table(TableConfig::of::<Node>(NODES).slots(slots).history(History::Latest))
}

/// The table with so many nodes, all at their beginning.
#[must_use]
pub fn fresh(runtime: &Runtime, count: u32) -> Table<Node> {
    let nodes = runtime.table::<Node>(NODES).unwrap();
    for n in 0..count {
        nodes.insert(&format!("n{n}"), &Node::default()).unwrap();
    }
    nodes
}

fn advance(_: &Context<'_>, tick: &Tick<'_>, node: &mut Node) -> Result<(), String> {
    node.advance(tick);
    Ok(())
}

/// Adds the kinds of ticks.
#[must_use]
pub fn with_ticks(kinds: Kinds) -> Kinds {
    kinds
        .with(Kind::tick_of("advance", advance))
        .with(Kind::tick_of("advance-or-die", |task, tick, node: &mut Node| {
            if node.ticks % 3 == 1 && task.attempt() == 1 {
                nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL)
                    .map_err(|e| e.to_string())?;
            }
            advance(task, tick, node)
        }))
        .with(Kind::tick_of("advance-or-fail", |task, tick, node: &mut Node| {
            if tick.node == "n1" {
                return Err("it will not".to_owned());
            }
            advance(task, tick, node)
        }))
        .with(Kind::tick_of("hang", |task, _, _: &mut Node| {
            while !task.is_cancelled() {
                std::thread::yield_now();
            }
            Err("it was told to end".to_owned())
        }))
        .with(commonhold::systems::resonance::tick_kind())
}
