//! Why a concept map was not changed.

use std::path::PathBuf;

use commonhold_file::{FileError, UpdateError};

/// What is no concept, or no map of concepts.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConceptError {
    /// The document is not an object.
    #[error("it is {0}, not an object with a list `concepts`")]
    NotAMap(&'static str),
    /// `concepts` is not a list.
    #[error("`concepts` is {0}, not a list; make it a list of objects with a name each")]
    NotAList(&'static str),
    /// A concept without a name.
    #[error("a concept needs a name; give one that is not empty")]
    NoName,
    /// A quantity outside its range.
    #[error("the {what} of {name:?} is {value}; it is a number from 0 to 1")]
    Range {
        /// Which quantity.
        what: &'static str,
        /// The concept.
        name: String,
        /// What was given.
        value: f64,
    },
    /// A field that has a meaning of its own.
    #[error("`{0}` is not a free field of a concept; it is set by learning and merging")]
    Reserved(String),
}

/// Why an update of a map was not made; the file is what it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MapError<E> {
    /// The updater said no.
    #[error("{0}")]
    Refused(E),
    /// The file holds no map of concepts.
    #[error("{}: {error}; it was left as it is", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// What it holds instead.
        error: ConceptError,
    },
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Why an updater's closure ended early.
pub(super) enum Stopped<E> {
    Refused(E),
    Shape(ConceptError),
}

impl<E> MapError<E> {
    pub(super) fn of(error: UpdateError<Stopped<E>>, path: &std::path::Path) -> Self {
        match error {
            UpdateError::Refused(Stopped::Refused(error)) => Self::Refused(error),
            UpdateError::Refused(Stopped::Shape(error)) => {
                Self::Shape { path: path.to_owned(), error }
            }
            UpdateError::File(error) => Self::File(error),
        }
    }
}
