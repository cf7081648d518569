//! Task kinds: what workers can do, by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::TaskError;
use crate::records::{KIND_BYTES_MAX, PAYLOAD_BYTES_MAX, TaskId};

type Check = dyn Fn(&[u8]) -> Result<(), String> + Send + Sync;
type Run = dyn Fn(&Context<'_>, &[u8]) -> Result<Vec<u8>, String> + Send + Sync;

/// What workers can do under one name: how arguments are checked before they are dispatched, and what is done.
#[derive(Clone)]
pub struct Kind {
    name: String,
    check: Arc<Check>,
    run: Arc<Run>,
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kind({})", self.name)
    }
}

impl Kind {
    /// A kind that takes and gives bytes. `check` is asked in the submitting process, before anything is dispatched.
    #[must_use]
    pub fn new(
        name: &str,
        check: impl Fn(&[u8]) -> Result<(), String> + Send + Sync + 'static,
        run: impl Fn(&Context<'_>, &[u8]) -> Result<Vec<u8>, String> + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.to_owned(), check: Arc::new(check), run: Arc::new(run) }
    }

    /// A kind whose arguments and result are JSON. The schema is the type `A`: what it does not read is refused before
    /// dispatch, as is what `check` refuses.
    #[must_use]
    pub fn json<A: DeserializeOwned, R: Serialize>(
        name: &str,
        check: impl Fn(&A) -> Result<(), String> + Send + Sync + 'static,
        run: impl Fn(&Context<'_>, A) -> Result<R, String> + Send + Sync + 'static,
    ) -> Self {
        let read = |bytes: &[u8]| serde_json::from_slice::<A>(bytes).map_err(|e| e.to_string());
        let run = move |context: &Context<'_>, bytes: &[u8]| {
            let result = run(context, read(bytes)?)?;
            serde_json::to_vec(&result).map_err(|e| format!("the result is no JSON: {e}"))
        };
        Self::new(name, move |bytes| check(&read(bytes)?), run)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn run(&self, context: &Context<'_>, arguments: &[u8]) -> Result<Vec<u8>, String> {
        (self.run)(context, arguments)
    }

    /// Whether a worker takes these arguments.
    ///
    /// # Errors
    /// [`TaskError::TooLarge`], [`TaskError::Arguments`].
    pub fn check(&self, arguments: &[u8]) -> Result<(), TaskError> {
        let (bytes, limit) = (arguments.len(), PAYLOAD_BYTES_MAX);
        let kind = || self.name.clone();
        if bytes > limit {
            return Err(TaskError::TooLarge { kind: kind(), bytes, limit });
        }
        (self.check)(arguments).map_err(|why| TaskError::Arguments { kind: kind(), why })
    }
}

/// The kinds that a program's workers know.
#[derive(Debug, Clone, Default)]
pub struct Kinds(BTreeMap<String, Kind>);

impl Kinds {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers `kind`; one that had its name is no longer.
    #[must_use]
    pub fn with(mut self, kind: Kind) -> Self {
        self.add(kind);
        self
    }

    /// Registers `kind`; one that had its name is no longer.
    pub fn add(&mut self, kind: Kind) {
        self.0.insert(kind.name.clone(), kind);
    }

    /// The names of all.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The kind `name`.
    ///
    /// # Errors
    /// [`TaskError::UnknownKind`]; [`TaskError::Option`] for one whose name is too long.
    pub fn get(&self, name: &str) -> Result<&Kind, TaskError> {
        if self.0.contains_key(name) && name.len() > KIND_BYTES_MAX {
            let (found, must) = (name.to_owned(), format!("at most {KIND_BYTES_MAX} bytes long"));
            return Err(TaskError::Option { what: "kind's name", found, must });
        }
        self.0.get(name).ok_or_else(|| {
            let known: Vec<String> = self.names().map(|name| format!("`{name}`")).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            TaskError::UnknownKind { kind: name.to_owned(), known }
        })
    }
}

/// What a task knows of itself while it runs.
pub struct Context<'a> {
    pub(crate) id: TaskId,
    pub(crate) attempt: u64,
    pub(crate) is_cancelled: &'a dyn Fn() -> bool,
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("id", &self.id).field("attempt", &self.attempt).finish()
    }
}

impl Context<'_> {
    /// The task's id.
    #[must_use]
    pub fn task_id(&self) -> TaskId {
        self.id
    }

    /// How often the task was begun, with this time.
    #[must_use]
    pub fn attempt(&self) -> u64 {
        self.attempt
    }

    /// Whether it is to be given up: who sees it can clean up and return, before the worker is killed.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        (self.is_cancelled)()
    }
}
