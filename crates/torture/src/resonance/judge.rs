//! The judge of the resonance torture: what the workers wrote down against what is in memory and in the database.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use commonhold::Runtime;
use commonhold::core::guard::GuardFigures;
use commonhold::systems::resonance::{FIELDS, GUARD, NODES, PATTERNS, ResonanceNetworks, Snapshot};

use super::log::{Came, Operation, read};
use super::metrics::{self, Due};
use super::report::ResonanceReport;
use super::worker::is_conserved;
use super::{ANCHOR, is_keeper, tag, tag_of, tagged};
use crate::arena::{Arena, Violation};
use crate::coordinator::Ended;
use crate::{Options, TortureError, judge};

const TABLES: [&str; 3] = [NODES, FIELDS, PATTERNS];

/// What the workers wrote down.
#[derive(Default)]
struct Account {
    /// Nodes acknowledged: id → tag.
    created: BTreeMap<u64, u64>,
    /// Ids that were given out twice.
    twice: u64,
    /// Tags of nodes that were being created by the killed.
    perhaps_created: BTreeSet<u64>,
    /// Nodes whose removal was acknowledged.
    removed: BTreeSet<u64>,
    /// Nodes that were being removed by the killed.
    perhaps_removed: BTreeSet<u64>,
    /// The last that is known of each field: there, not there, or either.
    fields: BTreeMap<(u64, u64), Option<bool>>,
    ticks: u64,
    perhaps_ticks: u64,
    resonances: u64,
    perhaps_resonances: u64,
    done: u64,
    refused: u64,
}

impl Account {
    fn read(options: &Options, arena: &Arena) -> Self {
        let mut account = Self::default();
        for index in 0..options.processes {
            for (number, operation, came) in read(arena.log(index)) {
                match came {
                    Came::Done(_) => account.done += 1,
                    Came::Refused => account.refused += 1,
                    Came::Open => {}
                }
                account.note(tag(options, index, number), operation, came);
            }
        }
        account
    }

    fn note(&mut self, tag: u64, operation: Operation, came: Came) {
        let open = came == Came::Open;
        match (operation, came) {
            (_, Came::Refused) => {}
            (Operation::Create, Came::Done(id)) => {
                self.twice += u64::from(self.created.insert(id, tag).is_some());
            }
            (Operation::Create, _) => {
                self.perhaps_created.insert(tag);
            }
            (Operation::Remove { node }, _) => {
                let set = if open { &mut self.perhaps_removed } else { &mut self.removed };
                set.insert(node);
            }
            (Operation::Connect { newer, older }, _) => {
                self.fields.insert((older, newer), (!open).then_some(true));
            }
            (Operation::Disconnect { newer, older }, _) => {
                self.fields.insert((older, newer), (!open).then_some(false));
            }
            (Operation::Tick, Came::Done(_)) => self.ticks += 1,
            (Operation::Tick, _) => self.perhaps_ticks += 1,
            (Operation::Resonate { .. }, Came::Done(_)) => self.resonances += 1,
            (Operation::Resonate { .. }, _) => self.perhaps_resonances += 1,
            (Operation::Detect | Operation::Look, _) => {}
        }
    }

    /// What the metrics may be; the coordinator has created one node itself.
    fn metrics(&self, nodes: u64, contentions: u64) -> [Due; 6] {
        let count = |set: &BTreeSet<u64>| set.len() as u64;
        let created = 1 + self.created.len() as u64;
        [
            Due::counted("nodes_created", created, count(&self.perhaps_created)),
            Due::counted("nodes_removed", count(&self.removed), count(&self.perhaps_removed)),
            Due::counted("resonances", self.resonances, self.perhaps_resonances),
            Due::counted("ticks", self.ticks, self.perhaps_ticks),
            Due::nodes(nodes),
            Due::contentions(contentions),
        ]
    }

    /// Acknowledged nodes that are not there, and were not removed.
    fn missing(&self, seen: &Snapshot) -> u64 {
        let kept = |id: &u64| !self.removed.contains(id) && !self.perhaps_removed.contains(id);
        let gone = |id: &u64| kept(id) && !seen.nodes.contains_key(id);
        self.created.keys().filter(|id| gone(id)).count() as u64
    }

    /// Nodes that are there and should not be: removed, made by nobody, under another id, changed, or there twice.
    fn too_many(&self, seen: &Snapshot) -> u64 {
        let mut tags = BTreeSet::new();
        let is_due = |id: &u64, tag: u64| match self.created.get(id) {
            Some(known) => *known == tag && !self.removed.contains(id),
            None => tag == ANCHOR || self.perhaps_created.contains(&tag),
        };
        let wrong = seen.nodes.iter().filter(|(id, node)| {
            let tag = tag_of(node.frequency);
            !is_due(id, tag) || !tags.insert(tag) || node.frequency != tagged(tag).frequency
        });
        wrong.count() as u64
    }

    /// Fields that are not as their maker left them: there without both nodes, too many, or lost.
    fn wrong_fields(&self, seen: &Snapshot) -> u64 {
        let there: BTreeSet<(u64, u64)> =
            seen.fields.iter().map(|f| (f.node_a, f.node_b)).collect();
        let whole = |(a, b): &(u64, u64)| seen.nodes.contains_key(a) && seen.nodes.contains_key(b);
        let due = |field: &(u64, u64)| self.fields.get(field).copied();
        let mixed = |(a, b): &(u64, u64)| {
            let keeper = |id: &u64| seen.nodes.get(id).map(|n| is_keeper(tag_of(n.frequency)));
            keeper(a) != keeper(b)
        };
        let surplus = there
            .iter()
            .filter(|f| !whole(f) || mixed(f) || due(f).is_none() || due(f) == Some(Some(false)));
        let known = self.fields.iter().filter(|(_, due)| **due == Some(true));
        let lost = known.filter(|(f, _)| whole(f) && !there.contains(f));
        (surplus.count() + lost.count()) as u64
    }
}

/// Judges a run that is drained and swept and used by nobody else.
pub(super) fn judge(
    options: &Options,
    runtime: &Runtime,
    arena: &Arena,
    ended: &Ended,
) -> Result<ResonanceReport, TortureError> {
    let account = Account::read(options, arena);
    let networks = ResonanceNetworks::open(runtime)?;
    let seen = networks.snapshot()?;
    drop(networks);
    let ticks = anchor_ticks(&seen);
    let half_done = |index| {
        let violations = arena.worker(index).violations.load(Ordering::Acquire);
        violations & Violation::HalfDone as u64 != 0
    };
    let taken_over = |index| arena.worker(index).taken_over.load(Ordering::Acquire);
    let space = runtime.space();
    let guard = space.guards()?.into_iter().find(|g| g.name == GUARD);
    let contentions = guard.as_ref().map_or(0, |g| g.contentions);
    let due = account.metrics(seen.nodes.len() as u64, contentions);
    let elapsed_ms = ended.elapsed_ms.max(1);
    let mut report = ResonanceReport {
        system: "resonance",
        processes: options.processes,
        updates_attempted: u64::from(options.processes) * options.updates,
        updates_acknowledged: account.done + account.refused,
        refused: account.refused,
        nodes_created: account.created.len() as u64,
        nodes_removed: account.removed.len() as u64,
        nodes: seen.nodes.len() as u64 - 1,
        fields: seen.fields.len() as u64,
        patterns: seen.patterns.len() as u64,
        ticks,
        ids_given_twice: account.twice,
        nodes_missing: account.missing(&seen),
        nodes_too_many: account.too_many(&seen),
        fields_wrong: account.wrong_fields(&seen),
        energy_conserved: is_conserved(&seen),
        ticks_exact: (account.ticks..=account.ticks + account.perhaps_ticks).contains(&ticks),
        half_done_seen: (0..options.processes).filter(|index| half_done(*index)).count() as u32,
        guard_free: guard.as_ref().is_some_and(|g| g.holder.is_none()),
        guard_contentions: contentions,
        guard_wait_ms: guard.as_ref().map_or(0, wait_ms),
        guard_taken_over: (0..options.processes).map(taken_over).sum(),
        metrics_wrong: metrics::wrong(&due, &runtime.samples()?),
        kills: ended.kills,
        participants_dead: judge::dead(runtime),
        cells_leaked: space.intents_in_use()? + judge::leaked(runtime, &TABLES)?,
        store: space.segment().header().store_url.clone(),
        store_rows: 0,
        store_lag: commonhold::admin::unstored(space)?,
        store_differs: 0,
        store_sound: false,
        elapsed_ms: ended.elapsed_ms,
        total_ms: 0,
        updates_per_s: (account.done + account.refused) * 1000 / elapsed_ms,
        latency_ns: judge::claims(arena, options).latency,
        ok: false,
    };
    let stored = judge::stored(runtime, &TABLES)?;
    (report.store_rows, report.store_differs) = (stored.rows, stored.differ);
    report.store_sound = stored.sound;
    report.ok = report.holds();
    Ok(report)
}

fn wait_ms(guard: &GuardFigures) -> u64 {
    u64::try_from(guard.waited.as_millis()).unwrap_or(u64::MAX)
}

fn anchor_ticks(seen: &Snapshot) -> u64 {
    let anchor = seen.nodes.values().find(|n| tag_of(n.frequency) == ANCHOR);
    anchor.map_or(0, |n| u64::try_from(n.ticks).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use commonhold::systems::resonance::{Field, Node};

    use super::*;

    fn node(tag: u64) -> Node {
        let new = tagged(tag);
        Node { frequency: new.frequency, amplitude: new.amplitude, ..Node::default() }
    }

    /// Nodes 1 to 4 with the tags 0 to 3, a field between the keepers 1 and 3; all of it acknowledged.
    fn sound() -> (Account, Snapshot) {
        let mut account = Account::default();
        for tag in 1..4 {
            account.note(tag, Operation::Create, Came::Done(tag + 1));
        }
        account.note(9, Operation::Connect { newer: 3, older: 1 }, Came::Done(0));
        let nodes = (0..4).map(|tag| (tag + 1, node(tag))).collect();
        let fields = vec![Field { node_a: 1, node_b: 3, strength: 0.5 }];
        (account, Snapshot { nodes, fields, patterns: Vec::new() })
    }

    fn findings(account: &Account, seen: &Snapshot) -> [u64; 4] {
        [account.twice, account.missing(seen), account.too_many(seen), account.wrong_fields(seen)]
    }

    #[test]
    fn what_is_sound_passes() {
        let (mut account, mut seen) = sound();
        assert_eq!(findings(&account, &seen), [0; 4]);
        account.note(20, Operation::Remove { node: 4 }, Came::Done(0));
        account.note(21, Operation::Disconnect { newer: 3, older: 1 }, Came::Done(0));
        seen.nodes.remove(&4);
        seen.fields.clear();
        assert_eq!(findings(&account, &seen), [0; 4]);
    }

    #[test]
    fn what_the_killed_began_is_there_or_not() {
        let (mut account, mut seen) = sound();
        account.note(30, Operation::Create, Came::Open);
        account.note(31, Operation::Remove { node: 4 }, Came::Open);
        account.note(32, Operation::Disconnect { newer: 3, older: 1 }, Came::Open);
        assert_eq!(findings(&account, &seen), [0; 4]);
        seen.nodes.remove(&4);
        seen.fields.clear();
        seen.nodes.insert(77, node(30));
        assert_eq!(findings(&account, &seen), [0; 4]);
    }

    #[test]
    fn each_fault_is_found() {
        let (mut account, seen) = sound();
        account.note(5, Operation::Create, Came::Done(2));
        assert_eq!(findings(&account, &seen)[0], 1, "an id given out twice");
        let (account, mut seen) = sound();
        seen.nodes.remove(&2);
        assert_eq!(findings(&account, &seen), [0, 1, 0, 0], "a node lost");
        let (account, mut seen) = sound();
        seen.nodes.insert(9, node(50));
        assert_eq!(findings(&account, &seen), [0, 0, 1, 0], "a node of nobody's");
        let (account, mut seen) = sound();
        seen.nodes.insert(2, node(2));
        assert_eq!(findings(&account, &seen), [0, 0, 1, 0], "one node under another's id");
        let (account, mut seen) = sound();
        seen.fields.clear();
        assert_eq!(findings(&account, &seen), [0, 0, 0, 1], "a field lost");
        let (account, mut seen) = sound();
        seen.fields.push(Field { node_a: 2, node_b: 4, strength: 0.5 });
        assert_eq!(findings(&account, &seen), [0, 0, 0, 1], "a field of nobody's");
        let (mut account, mut seen) = sound();
        account.note(6, Operation::Remove { node: 3 }, Came::Done(0));
        seen.nodes.remove(&3);
        assert_eq!(findings(&account, &seen), [0, 0, 0, 1], "a field without its node");
        let (_, mut seen) = sound();
        assert!(is_conserved(&seen));
        if let Some(n) = seen.nodes.get_mut(&3) {
            n.amplitude += 1e-6;
        }
        assert!(!is_conserved(&seen), "energy from nowhere");
    }
}
