//! The master loop: one thread, which sleeps until the next tick is due or the next one has ended.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::pin::Pin;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use super::entry::{Entry, EntryFigures, Node, Phase};
use super::metrics::TickMetrics;
use super::source::Loaded;
use super::tick::Tick;
use crate::error::{Reason, TaskError};
use crate::pool::Pool;
use crate::task::TaskHandle;

/// What the scheduler's handle tells the thread.
pub(super) enum Order {
    Add(Box<Entry>),
    /// What is told when nothing of the entry is committed any more.
    Remove(String, SyncSender<()>),
}

/// What has come for the thread.
#[derive(Default)]
struct Inbox {
    /// Ticks whose tasks have ended, by ticket.
    ended: Vec<u64>,
    orders: Vec<Order>,
    /// Until when ticks may end; set when it is to stop.
    stop: Option<Instant>,
    /// The thread takes nothing any more.
    over: bool,
}

/// What the thread shares with the handle, and with the wakers of tasks.
#[derive(Default)]
pub(super) struct Desk {
    inbox: Mutex<Inbox>,
    bell: Condvar,
    figures: Mutex<BTreeMap<String, EntryFigures>>,
}

/// Rings when a task has ended.
struct Ring {
    ticket: u64,
    desk: Arc<Desk>,
}

/// A tick that is under way.
struct Flight {
    entry: u64,
    node: Arc<str>,
    loaded: Loaded,
    /// Up to when it ticks the node.
    at: Instant,
    retries: u32,
    task: TaskHandle,
    /// The end of its task, if it was there at once.
    end: Option<Result<Vec<u8>, TaskError>>,
}

/// The thread's state.
pub(super) struct Master<'a> {
    desk: Arc<Desk>,
    pool: Pool,
    metrics: TickMetrics<'a>,
    entries: HashMap<u64, Entry>,
    due: BinaryHeap<Reverse<(Instant, u64)>>,
    /// Nodes whose time has come, for which there was no room.
    waiting: VecDeque<(u64, Arc<str>)>,
    under_way: HashMap<u64, Flight>,
    /// The most ticks that are under way: others submit tasks too.
    room: usize,
    /// The pool took no more, in this pass of the loop.
    full: bool,
    stops: bool,
    last_entry: u64,
    last_ticket: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Wake for Ring {
    fn wake(self: Arc<Self>) {
        lock(&self.desk.inbox).ended.push(self.ticket);
        self.desk.bell.notify_one();
    }
}

impl Desk {
    /// Gives the thread an order; false when it takes none any more.
    pub(super) fn order(&self, order: Order) -> bool {
        let mut inbox = lock(&self.inbox);
        if !inbox.over {
            inbox.orders.push(order);
            self.bell.notify_one();
        }
        !inbox.over
    }

    /// Tells the thread to stop; ticks that are under way may end until then.
    pub(super) fn stop(&self, until: Instant) {
        lock(&self.inbox).stop = Some(until);
        self.bell.notify_one();
    }

    /// The thread takes no more orders; who waits for an answer gets none.
    pub(super) fn close(&self) {
        let orders = {
            let mut inbox = lock(&self.inbox);
            inbox.over = true;
            std::mem::take(&mut inbox.orders)
        };
        drop(orders);
    }

    pub(super) fn figures(&self) -> MutexGuard<'_, BTreeMap<String, EntryFigures>> {
        lock(&self.figures)
    }

    /// What has come, once something has, or at `until`; when it is to stop, only ends of ticks are waited for.
    fn wait(&self, until: Option<Instant>, stops: bool) -> Inbox {
        let mut inbox = lock(&self.inbox);
        loop {
            let told = !stops && (inbox.stop.is_some() || !inbox.orders.is_empty());
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if told || !inbox.ended.is_empty() || left.is_some_and(|left| left.is_zero()) {
                let ended = std::mem::take(&mut inbox.ended);
                let orders = std::mem::take(&mut inbox.orders);
                return Inbox { ended, orders, stop: inbox.stop, over: false };
            }
            inbox = match left {
                Some(left) => {
                    let waited = self.bell.wait_timeout(inbox, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.bell.wait(inbox).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

impl<'a> Master<'a> {
    pub(super) fn new(desk: Arc<Desk>, pool: Pool, metrics: TickMetrics<'a>) -> Self {
        let room = (pool.room() / 2).max(1);
        Self {
            desk,
            pool,
            metrics,
            entries: HashMap::new(),
            due: BinaryHeap::new(),
            waiting: VecDeque::new(),
            under_way: HashMap::new(),
            room,
            full: false,
            stops: false,
            last_entry: 0,
            last_ticket: 0,
        }
    }

    /// Runs until it is to stop; how many ticks were given up then.
    pub(super) fn run(&mut self) -> usize {
        loop {
            let next = self.due.peek().map(|Reverse((at, _))| *at);
            let inbox = self.desk.wait(next, false);
            self.full = false;
            for ticket in inbox.ended {
                self.ended(ticket);
            }
            if let Some(until) = inbox.stop {
                return self.wind_up(until);
            }
            for order in inbox.orders {
                self.obey(order);
            }
            let now = Instant::now();
            while let Some(Reverse((at, id))) = self.due.peek().copied().filter(|d| d.0.0 <= now) {
                self.due.pop();
                self.tick_entry(id, at, now);
            }
            self.send_waiting();
            self.publish();
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Add(entry) => {
                self.last_entry += 1;
                self.due.push(Reverse((Instant::now() + entry.every.period, self.last_entry)));
                self.entries.insert(self.last_entry, *entry);
            }
            Order::Remove(name, done) => {
                self.publish();
                let id = self.entries.iter().find(|(_, e)| e.every.name == name).map(|(id, _)| *id);
                self.entries.retain(|at, _| Some(*at) != id);
                // What becomes of their tasks is of no interest any more; those that wait need not begin.
                let left = self.under_way.extract_if(|_, flight| Some(flight.entry) == id);
                left.for_each(|(_, flight)| drop(flight.task.cancel_pending()));
                self.desk.figures().remove(&name);
                let _ = done.send(());
            }
        }
    }

    /// Sends the nodes of an entry, whose time came `at`.
    fn tick_entry(&mut self, id: u64, at: Instant, now: Instant) {
        let Some(mut entry) = self.entries.remove(&id) else { return };
        let period = entry.every.period;
        // Times that were missed are not made up for.
        let missed = now.saturating_duration_since(at).as_nanos() / period.as_nanos().max(1);
        let missed = u32::try_from(missed).unwrap_or(u32::MAX - 1);
        self.due.push(Reverse((at + period * (missed + 1), id)));
        entry.figures.late += u64::from(missed) * entry.nodes.len() as u64;
        entry.changed = true;
        entry.listings += 1;
        for (name, loaded) in entry.load().unwrap_or_default() {
            let listed = entry.listings;
            let name: Arc<str> = name.into();
            let new = || Node { phase: Phase::Idle, last: None, listed };
            let node = entry.nodes.entry(Arc::clone(&name)).or_insert_with(new);
            node.listed = listed;
            if node.phase != Phase::Idle {
                entry.figures.late += 1;
            } else if self.has_room() && self.waiting.is_empty() {
                self.send(id, &mut entry, name, loaded, 0, now);
            } else {
                node.phase = Phase::Waiting;
                self.waiting.push_back((id, name));
            }
        }
        let listed = entry.listings;
        entry.nodes.retain(|_, node| node.listed == listed || node.phase != Phase::Idle);
        self.entries.insert(id, entry);
    }

    fn has_room(&self) -> bool {
        !self.full && self.under_way.len() < self.room
    }

    fn send_waiting(&mut self) {
        while self.has_room()
            && let Some((id, name)) = self.waiting.pop_front()
        {
            let Some(mut entry) = self.entries.remove(&id) else { continue };
            self.send_again(id, &mut entry, name, 0);
            self.entries.insert(id, entry);
        }
    }

    /// Sends a node with the state that it has now.
    fn send_again(&mut self, id: u64, entry: &mut Entry, name: Arc<str>, retries: u32) {
        match entry.reload(&name) {
            Some(loaded) => self.send(id, entry, name, loaded, retries, Instant::now()),
            None => drop(entry.nodes.remove(&name)),
        }
    }

    /// Sends a node, up to `at`.
    fn send(
        &mut self,
        id: u64,
        entry: &mut Entry,
        name: Arc<str>,
        loaded: Loaded,
        retries: u32,
        at: Instant,
    ) {
        let Some(node) = entry.nodes.get_mut(&name) else { return };
        entry.changed = true;
        let since = node.last.map(|last| at.saturating_duration_since(last));
        let step = since.unwrap_or(entry.every.period);
        let arguments = Tick { node: &name, step, state: &loaded.state }.encode();
        match self.pool.submit(entry.every.task(&arguments)) {
            Ok(mut task) => {
                node.phase = Phase::Sent;
                self.last_ticket += 1;
                let ticket = self.last_ticket;
                let end = poll(&mut task, ticket, &self.desk);
                if end.is_some() {
                    Arc::new(Ring { ticket, desk: Arc::clone(&self.desk) }).wake();
                }
                let flight = Flight { entry: id, node: name, loaded, at, retries, task, end };
                self.under_way.insert(ticket, flight);
            }
            Err(TaskError::Full { .. }) => {
                self.full = true;
                node.phase = Phase::Waiting;
                self.waiting.push_front((id, name));
            }
            Err(e) => {
                (node.phase, node.last) = (Phase::Idle, Some(at));
                entry.fail_task(&name, &e);
            }
        }
    }

    /// A task has ended, or seems to have.
    fn ended(&mut self, ticket: u64) {
        let Some(mut flight) = self.under_way.remove(&ticket) else { return };
        let end = flight.end.take().or_else(|| poll(&mut flight.task, ticket, &self.desk));
        let Some(end) = end else {
            self.under_way.insert(ticket, flight);
            return;
        };
        let id = flight.entry;
        let Some(mut entry) = self.entries.remove(&id) else { return };
        self.settle(&mut entry, flight, end);
        self.entries.insert(id, entry);
    }

    /// Commits what a tick gave.
    fn settle(&mut self, entry: &mut Entry, flight: Flight, end: Result<Vec<u8>, TaskError>) {
        let Flight { entry: id, node: name, loaded, at, retries, .. } = flight;
        entry.changed = true;
        let Some(node) = entry.nodes.get_mut(&name) else { return };
        node.phase = Phase::Idle;
        let next = match end {
            Ok(next) => next,
            Err(TaskError::Failed { reason: Reason::Cancelled, .. }) if self.stops => return,
            Err(e) => {
                // The node stood still: a step that grew with each failure might never succeed again.
                node.last = Some(at);
                return entry.fail_task(&name, &e);
            }
        };
        match entry.commit(&name, &loaded, &next) {
            Some(true) => {
                if let Some(node) = entry.nodes.get_mut(&name) {
                    node.last = Some(at);
                }
                entry.figures.ticks += 1;
                self.metrics.took(at.elapsed());
            }
            Some(false) if retries < entry.every.retries && !self.stops => {
                entry.figures.retried += 1;
                self.send_again(id, entry, name, retries + 1);
            }
            Some(false) => entry.figures.beaten += 1,
            None => {}
        }
    }

    /// Waits for what is under way, at most until `until`; how many ticks were given up.
    fn wind_up(&mut self, until: Instant) -> usize {
        self.stops = true;
        self.waiting.clear();
        // If that fails, it is waited for.
        self.under_way.retain(|_, flight| !flight.task.cancel_pending().unwrap_or(false));
        while !self.under_way.is_empty() && Instant::now() < until {
            for ticket in self.desk.wait(Some(until), true).ended {
                self.ended(ticket);
            }
        }
        self.publish();
        for flight in self.under_way.values() {
            let _ = flight.task.cancel();
        }
        // Their ends are given up with their handles.
        std::mem::take(&mut self.under_way).len()
    }

    /// Tells what changed.
    fn publish(&mut self) {
        let mut under_way: HashMap<u64, usize> = HashMap::new();
        self.under_way.values().for_each(|f| *under_way.entry(f.entry).or_default() += 1);
        let mut figures = self.desk.figures();
        for (id, entry) in self.entries.iter_mut().filter(|(_, entry)| entry.changed) {
            entry.changed = false;
            entry.figures.nodes = entry.nodes.len();
            entry.figures.under_way = under_way.get(id).copied().unwrap_or(0);
            if let Some(told) = figures.get_mut(&entry.every.name) {
                self.metrics.count(told, &entry.figures);
                told.clone_from(&entry.figures);
            }
        }
    }
}

/// The end of a task, if it has ended; else the thread is rung when it does.
fn poll(
    task: &mut TaskHandle,
    ticket: u64,
    desk: &Arc<Desk>,
) -> Option<Result<Vec<u8>, TaskError>> {
    let waker = Waker::from(Arc::new(Ring { ticket, desk: Arc::clone(desk) }));
    match Pin::new(task).poll(&mut Context::from_waker(&waker)) {
        Poll::Ready(end) => Some(end),
        Poll::Pending => None,
    }
}
