//! Maps in files: the human one, which many personas change at once, and the system one, which belongs to one.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use commonhold_file::{
    FileError, LockError, Merge, Patience, Policy, SharedFile, UpdateError, Updated,
};
use serde_json::Value;

use super::concept::{Concept, Learned};
use super::error::{ConceptError, MapError, Stopped};
use super::map::{CONCEPTS, ConceptMap};

/// So often an update is tried again, unless another number is given.
pub const MAX_RETRIES: u32 = 3;
/// So long one try waits for the lock, unless another patience is given.
const TRY: Duration = Duration::from_secs(5);
/// Between the first try and the second; doubled each time.
const PAUSE: Duration = Duration::from_millis(10);

/// The map of concepts that many processes, the personas, change at once: one file `human.jsonc`. An update is one
/// atomic step under the lock beside it; what a program without the lock changes in between is merged by the rules of
/// [`ConceptMap::merge`], so nothing that was learned is lost.
#[derive(Debug, Clone)]
pub struct HumanMap {
    file: SharedFile,
    persona: String,
}

impl HumanMap {
    /// The map in the file `path`, which the first update makes.
    pub fn open(path: impl Into<PathBuf>) -> Self {
        let file = SharedFile::new(path).patience(Patience::new().limit(TRY)).merge(rules());
        Self { file, persona: String::new() }
    }

    /// Who learns, unless [`Learned::by`] says another name.
    #[must_use]
    pub fn persona(mut self, name: impl Into<String>) -> Self {
        self.persona = name.into();
        self
    }

    /// How long one try waits for the lock; 5 s if never set.
    #[must_use]
    pub fn patience(mut self, patience: Patience) -> Self {
        self.file = self.file.patience(patience);
        self
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The map as it is now, without the lock: a whole version always.
    ///
    /// # Errors
    /// [`MapError::Shape`], [`MapError::File`].
    pub fn read(&self) -> Result<ConceptMap, MapError<Infallible>> {
        read(&self.file, &self.persona)
    }

    /// Loads the map, lets `updater` change it, and saves it, as one atomic step. A try that fails for a reason that
    /// passes (the lock was not to be had, or was removed; others changed the file each time) is made again, with
    /// growing random pauses, at most `max_retries` times ([`MAX_RETRIES`] is what most want); `updater` then sees the
    /// map as it is by then.
    ///
    /// # Errors
    /// [`MapError`]; the file is what it was then.
    pub fn update_human_concept_map<R, E>(
        &self,
        mut updater: impl FnMut(&mut ConceptMap) -> Result<R, E>,
        max_retries: u32,
    ) -> Result<Updated<R>, MapError<E>> {
        let mut retries = 0;
        loop {
            let step = |document: &mut Value| change(document, &self.persona, &mut updater);
            let error = match self.file.update(step) {
                Ok(updated) => return Ok(updated),
                Err(error) => error,
            };
            if retries >= max_retries || !passes(&error) {
                return Err(MapError::of(error, self.path()));
            }
            if let UpdateError::File(error) = &error {
                tracing::debug!(file = %self.path().display(), retries, %error, "concepts: again");
            }
            std::thread::sleep(pause(retries));
            retries += 1;
        }
    }

    /// Learns one concept, with [`MAX_RETRIES`]; the concept as it is then.
    ///
    /// # Errors
    /// As [`HumanMap::update_human_concept_map`].
    pub fn learn(&self, learned: &Learned) -> Result<Updated<Concept>, MapError<ConceptError>> {
        self.update_human_concept_map(|map| map.learn(learned), MAX_RETRIES)
    }
}

/// The map of concepts that belongs to one persona: no lock, and otherwise the same. Its file is replaced whole by each
/// update; two that update it at once would lose one's change.
#[derive(Debug, Clone)]
pub struct SystemMap {
    file: SharedFile,
    persona: String,
}

impl SystemMap {
    /// The map of `persona` in the file `path`, which the first update makes.
    pub fn open(path: impl Into<PathBuf>, persona: impl Into<String>) -> Self {
        Self { file: SharedFile::new(path).merge(rules()), persona: persona.into() }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The map as it is now.
    ///
    /// # Errors
    /// [`MapError::Shape`], [`MapError::File`].
    pub fn read(&self) -> Result<ConceptMap, MapError<Infallible>> {
        read(&self.file, &self.persona)
    }

    /// Loads the map, lets `updater` change it, and saves it.
    ///
    /// # Errors
    /// [`MapError`]; the file is what it was then.
    pub fn update_system_concept_map<R, E>(
        &mut self,
        updater: impl FnOnce(&mut ConceptMap) -> Result<R, E>,
    ) -> Result<Updated<R>, MapError<E>> {
        let step = |document: &mut Value| change(document, &self.persona, updater);
        self.file.update_alone(step).map_err(|error| MapError::of(error, self.file.path()))
    }

    /// Learns one concept; the concept as it is then.
    ///
    /// # Errors
    /// As [`SystemMap::update_system_concept_map`].
    pub fn learn(&mut self, learned: &Learned) -> Result<Updated<Concept>, MapError<ConceptError>> {
        self.update_system_concept_map(|map| map.learn(learned))
    }
}

fn read(file: &SharedFile, persona: &str) -> Result<ConceptMap, MapError<Infallible>> {
    let document = file.read()?.unwrap_or(Value::Null);
    match ConceptMap::from_value(document) {
        Ok(map) => Ok(map.persona(persona)),
        Err(error) => Err(MapError::Shape { path: file.path().to_owned(), error }),
    }
}

fn change<R, E>(
    document: &mut Value,
    persona: &str,
    updater: impl FnOnce(&mut ConceptMap) -> Result<R, E>,
) -> Result<R, Stopped<E>> {
    let map = ConceptMap::from_value(document.take()).map_err(Stopped::Shape)?;
    let mut map = map.persona(persona);
    let result = updater(&mut map).map_err(Stopped::Refused)?;
    *document = map.into_value();
    Ok(result)
}

/// Whether it is worth another try.
fn passes<E>(error: &UpdateError<Stopped<E>>) -> bool {
    use LockError::{Held, Lost};
    match error {
        UpdateError::File(FileError::Lock(error)) => matches!(error, Held { .. } | Lost { .. }),
        UpdateError::File(error) => matches!(error, FileError::Contended { .. }),
        UpdateError::Refused(_) => false,
    }
}

/// Doubled each time, and a random part of it between half and all.
fn pause(retries: u32) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new().hash_one(retries) as f64 / u64::MAX as f64;
    (PAUSE * (1 << retries.min(8))).mul_f64(0.5 + random / 2.0)
}

/// How a change that was made without the lock is merged with ours.
fn rules() -> Merge {
    let merge = |base: Option<&Value>, theirs: Option<&Value>, ours: Option<&Value>| {
        three_way(base, theirs, ours)
    };
    Merge::new().at(CONCEPTS, Policy::Custom(Arc::new(merge)))
}

/// The list on the version that they made, with ours merged in.
pub(super) fn three_way(
    base: Option<&Value>,
    theirs: Option<&Value>,
    ours: Option<&Value>,
) -> Option<Value> {
    fn list(value: Option<&Value>) -> Option<&[Value]> {
        value?.as_array().map(Vec::as_slice)
    }
    let (Some(theirs), Some(ours)) = (list(theirs), list(ours)) else {
        // Nothing that can be merged; a list is never lost.
        return if list(theirs).is_some() { theirs.cloned() } else { ours.or(theirs).cloned() };
    };
    let mut both = ConceptMap::of_list(theirs);
    let base = ConceptMap::of_list(list(base).unwrap_or_default());
    let done = both.merge_since(&ConceptMap::of_list(ours), &base);
    tracing::debug!(added = done.added, changed = done.changed, "concepts: merged");
    Some(both.into_list().into())
}
