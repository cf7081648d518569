//! A worker of the resonance torture: chooses operations, writes them down, makes them, looks for changes half done.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use commonhold::systems::resonance::{NetworkError, ResonanceNetworks, Snapshot};
use commonhold::{Config, Runtime};

use super::log::{Operation, begin, end};
use super::{ANCHOR, TAG_HZ, alive_max, is_keeper, keeper_energy, tag, tag_of, tagged};
use crate::arena::{Arena, Violation, WorkerView};
use crate::worker::{Task, updates};
use crate::{Options, TortureError};

/// Ticks that all workers make together, about: each costs as many commits as there are nodes.
const TICKS: u64 = 300;
/// How long a tick is, in seconds.
const TICK_S: f64 = 0.01;
/// How long a resonance is, in seconds.
const RESONANCE_S: f64 = 0.2;

/// Nodes of neighbouring tags make a pattern, and few more.
const TOLERANCE: f64 = 1.5 * TAG_HZ;

/// A worker.
struct Worker<'a> {
    networks: ResonanceNetworks,
    options: &'a Options,
    index: u32,
    log: &'a [AtomicU64],
    random: u64,
    /// From this operation on it only ticks: its killer is armed.
    fatal_from: u64,
    /// Its nodes: id and tag.
    own: Vec<(u64, u64)>,
    /// Fields that it made: the newer node is its own.
    fields: Vec<(u64, u64)>,
    /// For each node how many ticks the anchor is ahead of it: it never changes.
    ahead: HashMap<u64, i64>,
}

/// The life of a worker, from the attach to its last operation.
pub(crate) fn work(task: &Task, arena: &Arena) -> Result<(), TortureError> {
    let config = Config::named(&task.target).attach_only().without_steward();
    let runtime = Runtime::open(config.room_wait(Duration::from_secs(300)))?;
    let view = arena.worker(task.index);
    let mut worker = Worker {
        networks: ResonanceNetworks::open(&runtime)?,
        options: &task.options,
        index: task.index,
        log: arena.log(task.index),
        random: task.options.seed.rotate_left(17) ^ u64::from(task.index),
        // Every other victim dies ticking: no other change touches as many records.
        fatal_from: if task.victim.0 > 0 && task.index.is_multiple_of(2) {
            task.victim.0
        } else {
            u64::MAX
        },
        own: Vec::new(),
        fields: Vec::new(),
        ahead: HashMap::new(),
    };
    arena.wait_for_start()?;
    updates(task, &view, |number| worker.operate(number, &view))
}

impl Worker<'_> {
    /// A number below `below` (splitmix64; Steele, Lea, Flood 2014).
    fn below(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.random ^ self.random >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % below.max(1)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let at = self.below(from.len() as u64) as usize;
        from.get(at).copied()
    }

    fn operate(&mut self, number: u64, view: &WorkerView<'_>) -> Result<(), TortureError> {
        let operation = self.choose(number)?;
        begin(self.log, number, operation);
        let made = match self.act(operation, number, view) {
            Ok(made) => Some(made),
            // Somebody else removed the other node.
            Err(NetworkError::UnknownNode(_) | NetworkError::NotConnected { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        end(self.log, number, made);
        view.taken_over.store(self.networks.taken_over(), Ordering::Release);
        match (made, operation) {
            (Some(made), _) => self.remember(operation, number, made),
            // The other node was removed, and the field with it.
            (None, Operation::Disconnect { .. }) => self.remember(operation, number, 0),
            (None, _) => {}
        }
        Ok(())
    }

    /// The first operation creates a node; the others are drawn.
    fn choose(&mut self, number: u64) -> Result<Operation, TortureError> {
        let all = u64::from(self.options.processes) * self.options.updates;
        let tick = number > 0 && self.below(all.max(10 * TICKS)) < TICKS;
        if tick || number >= self.fatal_from {
            return Ok(Operation::Tick);
        }
        let drawn = if number == 0 { 0 } else { self.below(100) };
        let operation = match drawn {
            0..30 => self.create(number),
            30..60 => self.connect()?,
            60..64 => self
                .pick(&self.fields.clone())
                .map(|(newer, older)| Operation::Disconnect { newer, older }),
            64..84 => self.pick(&self.own.clone()).map(|(node, _)| Operation::Resonate { node }),
            84..92 => self.remove(),
            92..94 => Some(Operation::Detect),
            _ => Some(Operation::Look),
        };
        Ok(operation.unwrap_or(Operation::Look))
    }

    fn create(&self, number: u64) -> Option<Operation> {
        let keeper = is_keeper(tag(self.options, self.index, number));
        let keepers = self.own.iter().filter(|(_, tag)| is_keeper(*tag)).count();
        let most = alive_max(self.options);
        // Keepers stay, so they get half of the places.
        let room = self.own.len() < most && !(keeper && keepers >= most.div_ceil(2));
        room.then_some(Operation::Create)
    }

    fn remove(&mut self) -> Option<Operation> {
        let passers: Vec<u64> =
            self.own.iter().filter(|(_, tag)| !is_keeper(*tag)).map(|(id, _)| *id).collect();
        self.pick(&passers).map(|node| Operation::Remove { node })
    }

    /// One of its own nodes with an older one of the same kind.
    fn connect(&mut self) -> Result<Option<Operation>, TortureError> {
        let Some((newer, tag)) = self.pick(&self.own.clone()) else { return Ok(None) };
        let older = 1 + self.below(newer - 1);
        match self.networks.node(older) {
            Ok(other) if older != newer && is_keeper(tag_of(other.frequency)) == is_keeper(tag) => {
                Ok(Some(Operation::Connect { newer, older }))
            }
            Ok(_) | Err(NetworkError::UnknownNode(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What it made, if anything.
    fn act(
        &mut self,
        operation: Operation,
        number: u64,
        view: &WorkerView<'_>,
    ) -> Result<u64, NetworkError> {
        let networks = &self.networks;
        match operation {
            Operation::Create => {
                return networks.create_node(tagged(tag(self.options, self.index, number)));
            }
            Operation::Remove { node } => drop(networks.remove_node(node)?),
            Operation::Connect { newer, older } => drop(networks.connect(newer, older, 0.5)?),
            Operation::Disconnect { newer, older } => drop(networks.disconnect(newer, older)?),
            Operation::Resonate { node } => drop(networks.resonate(node, RESONANCE_S)?),
            Operation::Tick => drop(networks.system_tick(TICK_S)?),
            Operation::Detect => drop(networks.detect_patterns(TOLERANCE)?),
            Operation::Look => {
                let seen = networks.snapshot()?;
                if !self.is_whole(&seen) {
                    view.violations.fetch_or(Violation::HalfDone as u64, Ordering::Relaxed);
                }
            }
        }
        Ok(0)
    }

    fn remember(&mut self, operation: Operation, number: u64, made: u64) {
        match operation {
            Operation::Create => self.own.push((made, tag(self.options, self.index, number))),
            Operation::Remove { node } => {
                self.own.retain(|(id, _)| *id != node);
                self.fields.retain(|(newer, _)| *newer != node);
            }
            Operation::Connect { newer, older } if !self.fields.contains(&(newer, older)) => {
                self.fields.push((newer, older));
            }
            Operation::Disconnect { newer, older } => {
                self.fields.retain(|field| *field != (newer, older));
            }
            _ => {}
        }
    }

    /// Whether no part of a change is seen.
    fn is_whole(&mut self, seen: &Snapshot) -> bool {
        let Some(anchor) = seen.nodes.values().find(|n| tag_of(n.frequency) == ANCHOR) else {
            return false;
        };
        let in_step = seen.nodes.iter().all(|(id, node)| {
            let ahead = anchor.ticks - node.ticks;
            *self.ahead.entry(*id).or_insert(ahead) == ahead
        });
        in_step && seen.network().is_ok() && is_conserved(seen)
    }
}

/// Whether the keepers have the energy that they were created with.
pub(super) fn is_conserved(seen: &Snapshot) -> bool {
    let keepers = seen.nodes.values().filter(|n| is_keeper(tag_of(n.frequency)));
    let (mut found, mut want) = (0.0, 0.0);
    for keeper in keepers {
        found += keeper.energy();
        want += keeper_energy(tag_of(keeper.frequency));
    }
    (found - want).abs() <= 1e-9 * want
}
