//! The records of a queue, and how large it is.

use commonhold_os::process::Identity;
use commonhold_runtime::core::catalogue::History;
use commonhold_runtime::{Bytes, Config, Record, TableConfig, Text, Timestamp};

/// The table of tasks.
pub const TASKS: &str = "tasks";
/// The table of pages, which hold what does not fit into a task's record.
pub const PAGES: &str = "task_pages";
/// The table of worker processes.
pub const WORKERS: &str = "workers";

/// Bytes of arguments or of a result that fit into the task's record.
pub const INLINE_BYTES: usize = 256;
/// Bytes of one page.
pub(crate) const PAGE_BYTES: usize = 16 * 1024;
/// Pages of one payload.
pub(crate) const PAYLOAD_PAGES_MAX: usize = 64;
/// The most bytes of arguments, and of a result: 1 MiB.
pub const PAYLOAD_BYTES_MAX: usize = PAGE_BYTES * PAYLOAD_PAGES_MAX;
/// The longest name of a task kind, in bytes.
pub const KIND_BYTES_MAX: usize = 48;
/// The most workers of a pool.
pub const WORKERS_MAX: u32 = 1000;
/// The most tasks that a queue holds.
pub const TASKS_MAX: u32 = 1 << SLOT_BITS;
/// The most pages of a queue.
pub const PAGES_MAX: u32 = 1 << 16;

/// Bits of a task's id that say where its record is.
const SLOT_BITS: u32 = 20;

/// How much a queue holds. What is over it is refused, not lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Tasks that wait, run, or have a result that was not taken.
    pub tasks: u32,
    /// Pages of 16 KiB for arguments and results over 256 bytes.
    pub pages: u32,
    /// Worker processes.
    pub workers: u32,
}

impl Default for Capacity {
    fn default() -> Self {
        Self { tasks: 1024, pages: 1024, workers: 64 }
    }
}

/// Adds the tables of a queue to a configuration.
#[must_use]
pub fn configure(config: Config, capacity: &Capacity) -> Config {
    table_configs(capacity).into_iter().fold(config, Config::table)
}

/// The tables of a queue.
#[must_use]
pub fn table_configs(capacity: &Capacity) -> [TableConfig; 3] {
    [
        TableConfig::of::<StoredTask>(TASKS).slots(capacity.tasks.clamp(1, TASKS_MAX)),
        TableConfig::of::<StoredPage>(PAGES).slots(capacity.pages.clamp(1, PAGES_MAX)),
        TableConfig::of::<StoredWorker>(WORKERS).slots(capacity.workers.clamp(1, WORKERS_MAX)),
    ]
    .map(|table| table.history(History::Latest).key_bytes(8))
}

/// A task's id: which turn of which record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TaskId(pub(crate) u64);

impl TaskId {
    /// The id as a number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }

    /// The id with this number.
    #[must_use]
    pub fn from_number(number: u64) -> Self {
        Self(number)
    }

    pub(crate) fn slot(self) -> u32 {
        (self.0 & ((1 << SLOT_BITS) - 1)) as u32
    }

    /// The next task of the same record.
    pub(crate) fn next(before: u64, slot: u32) -> Self {
        // 43 bits: at a million tasks a second in one record they last 100 days, and then begin anew.
        let turn = (before >> SLOT_BITS).wrapping_add(1) & ((1 << (63 - SLOT_BITS)) - 1);
        Self(turn << SLOT_BITS | u64::from(slot))
    }
}

impl std::fmt::Display for TaskId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskState {
    /// Nobody's record.
    Free,
    /// A submitter is writing it.
    Reserved,
    /// It waits for a worker.
    Pending,
    /// A worker has it.
    Running,
    /// It has a result.
    Done,
    /// It has a reason why it has no result.
    Failed,
}

impl TaskState {
    const ALL: [Self; 6] =
        [Self::Free, Self::Reserved, Self::Pending, Self::Running, Self::Done, Self::Failed];

    pub(crate) fn code(self) -> i64 {
        self as i64
    }

    pub(crate) fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.code() == code)
    }
}

/// How soon a task is begun, among those that wait. Within one priority it is about the order of submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Priority {
    /// After all others.
    Low,
    /// What most tasks have.
    #[default]
    Normal,
    /// Before all others.
    High,
}

impl Priority {
    /// From the first to be begun to the last.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// The class of its hints.
    pub(crate) fn class(self) -> usize {
        match self {
            Self::High => 0,
            Self::Normal => 1,
            Self::Low => 2,
        }
    }

    pub(crate) fn code(self) -> i64 {
        self.class() as i64
    }

    pub(crate) fn from_code(code: i64) -> Self {
        Self::ALL.into_iter().find(|p| p.code() == code).unwrap_or_default()
    }
}

/// A process, as it stands in a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Process {
    pub(crate) pid: u64,
    pub(crate) start: u64,
    pub(crate) inode: u64,
    pub(crate) namespace: u64,
}

impl From<Identity> for Process {
    fn from(i: Identity) -> Self {
        let (start, inode, namespace) = (i.start_ticks, i.pidfd_inode, i.pid_namespace);
        Self { pid: i.pid.into(), start, inode, namespace }
    }
}

impl From<Process> for Identity {
    fn from(p: Process) -> Self {
        let pid = u32::try_from(p.pid).unwrap_or(0);
        let (start_ticks, pidfd_inode, pid_namespace) = (p.start, p.inode, p.namespace);
        Self { pid, start_ticks, pidfd_inode, pid_namespace }
    }
}

/// A task's record. Times in nanoseconds are of the monotonic clock, which begins anew with each boot.
#[derive(Debug, Record, Clone, Default)]
#[record(crate = "commonhold_runtime::core")]
pub struct StoredTask {
    /// [`TaskState`].
    pub state: i64,
    /// [`Priority`], 0 the highest.
    pub priority: i64,
    /// [`TaskId`].
    pub id: u64,
    /// The name of its kind.
    pub kind: Text<48>,
    /// How often it is begun at most.
    pub attempts: i64,
    /// How often it was begun.
    pub attempt: i64,
    /// The process that submitted it.
    pub submitter: u64,
    /// When that process started, in clock ticks since boot.
    pub submitter_start: u64,
    /// The inode of that process's pidfd.
    pub submitter_inode: u64,
    /// The inode of that process's pid namespace.
    pub submitter_namespace: u64,
    /// The making of the segment in which its times were written.
    pub epoch: u64,
    /// When it was submitted, by the clock on the wall.
    pub submitted_at: Timestamp,
    /// When it was submitted, in nanoseconds.
    pub submitted: u64,
    /// When it is given up, in nanoseconds.
    pub due: u64,
    /// How long it was given, in nanoseconds.
    pub limit: u64,
    /// When it was begun last, in nanoseconds.
    pub started: u64,
    /// When it ended, in nanoseconds.
    pub ended: u64,
    /// The record of the worker that has it, or had it last.
    pub worker: u64,
    /// That worker's process id.
    pub worker_pid: u64,
    /// Whether it is to be given up.
    pub cancelled: bool,
    /// Whether nobody waits for its result.
    pub detached: bool,
    /// Whether it is given up when its submitter dies.
    pub bound: bool,
    /// Bytes of its arguments.
    pub arguments_bytes: u64,
    /// Its arguments, when they fit here.
    pub arguments: Bytes<256>,
    /// The pages of its arguments, two bytes each, little-endian.
    pub argument_pages: Bytes<128>,
    /// Bytes of its result.
    pub result_bytes: u64,
    /// Its result, when it fits here.
    pub result: Bytes<256>,
    /// The pages of its result.
    pub result_pages: Bytes<128>,
    /// Why it failed, as a number ([`crate::Reason`]).
    pub reason: i64,
    /// Why it failed, in words.
    pub why: Text<256>,
}

impl StoredTask {
    pub(crate) fn submitter(&self) -> Identity {
        let (pid, start) = (self.submitter, self.submitter_start);
        let (inode, namespace) = (self.submitter_inode, self.submitter_namespace);
        Process { pid, start, inode, namespace }.into()
    }

    pub(crate) fn set_submitter(&mut self, process: Process) {
        self.submitter = process.pid;
        self.submitter_start = process.start;
        self.submitter_inode = process.inode;
        self.submitter_namespace = process.namespace;
    }

    /// Where it stands; a state that there is not is taken for Free by nobody.
    pub(crate) fn is(&self, state: TaskState) -> bool {
        self.state == state.code()
    }

    pub(crate) fn task_id(&self) -> TaskId {
        TaskId(self.id)
    }
}

/// A page's record.
#[derive(Debug, Record, Clone, Default)]
#[record(crate = "commonhold_runtime::core")]
pub struct StoredPage {
    /// The id of the task that it belongs to; 0: free.
    pub task: u64,
    /// 0: of its arguments; else of the result of that attempt.
    pub attempt: u64,
    /// What it holds.
    pub bytes: Bytes<16384>,
}

/// What a worker process is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerState {
    /// There is no process.
    Gone,
    /// It was started and is not ready yet.
    Starting,
    /// It takes tasks.
    Ready,
}

impl WorkerState {
    pub(crate) fn code(self) -> i64 {
        self as i64
    }

    pub(crate) fn from_code(code: i64) -> Self {
        let all = [Self::Starting, Self::Ready];
        all.into_iter().find(|state| state.code() == code).unwrap_or(Self::Gone)
    }
}

/// A worker's record.
#[derive(Debug, Record, Clone, Default)]
#[record(crate = "commonhold_runtime::core")]
pub struct StoredWorker {
    /// [`WorkerState`].
    pub state: i64,
    /// Processes that this record has had, with this one.
    pub turn: u64,
    /// Whether it is to end after the task that it has.
    pub stop: bool,
    /// Its process id.
    pub pid: u64,
    /// When its process started, in clock ticks since boot.
    pub start: u64,
    /// The inode of its pidfd.
    pub inode: u64,
    /// The inode of its pid namespace.
    pub namespace: u64,
    /// When it was started, by the clock on the wall.
    pub started_at: Timestamp,
    /// How the process before this one ended.
    pub last_end: Text<200>,
}

impl StoredWorker {
    pub(crate) fn process(&self) -> Identity {
        let (pid, start, inode, namespace) = (self.pid, self.start, self.inode, self.namespace);
        Process { pid, start, inode, namespace }.into()
    }

    pub(crate) fn set_process(&mut self, process: Process) {
        (self.pid, self.start) = (process.pid, process.start);
        (self.inode, self.namespace) = (process.inode, process.namespace);
    }

    pub(crate) fn state(&self) -> WorkerState {
        WorkerState::from_code(self.state)
    }
}
