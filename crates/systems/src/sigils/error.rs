//! Why a sigil was not made, found or changed.

use commonhold_runtime::Error;
use commonhold_workers::jobs::JobsError;

use super::id::SigilId;
use super::payload::DEPTH_MAX;
use super::records::SIGILS;

/// So much of a wrong id is shown.
const SHOWN_MAX: usize = 48;

/// An operation on sigils that did not happen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SigilError {
    /// The payload is no JSON.
    #[error("the payload is not valid JSON: {0}")]
    NotJson(String),
    /// The payload is too large.
    #[error(
        "the payload has {bytes} bytes in its canonical form; a sigil holds {limit}: shorten it, or create the \
         segment anew with larger payloads"
    )]
    TooLarge {
        /// What it has.
        bytes: usize,
        /// What fits.
        limit: u32,
    },
    /// The payload is nested too deeply.
    #[error("the payload is nested more than {DEPTH_MAX} levels deep; flatten it")]
    TooDeep,
    /// What was given as an id is none.
    #[error(
        "`{text}` is no sigil's id; one looks like 85944171f73967e8-1f: sixteen hexadecimal digits, a hyphen, a number"
    )]
    BadId {
        /// What was given, or its beginning.
        text: String,
    },
    /// There is no such sigil.
    #[error("no sigil {0}; it was never encoded here, or it faded and was swept")]
    Unknown(SigilId),
    /// A strength that is none.
    #[error(
        "{0} is no strength of a link; it is above 0 and at most 1, or 0 to take the link away"
    )]
    LinkStrength(f64),
    /// A sigil has no link to itself.
    #[error("sigil {0} cannot be linked to itself; name two sigils")]
    SelfLink(SigilId),
    /// A sigil has all the links that it can have.
    #[error(
        "sigil {id} has {links} links, and no more fit; take one away by giving it the strength 0"
    )]
    LinksFull {
        /// The sigil.
        id: SigilId,
        /// How many it has.
        links: usize,
    },
    /// An option is out of its range.
    #[error("sigils: the {what} is {found}; it must be {must}")]
    Option {
        /// Which.
        what: &'static str,
        /// What it is.
        found: String,
        /// What it may be.
        must: &'static str,
    },
    /// The segment has no tables of sigils.
    #[error("the segment has no table `{0}`; create it anew with the tables of sigils")]
    NoTable(&'static str),
    /// A table of that name is not one of sigils.
    #[error("table `{0}` is not one of sigils; it has other fields: use another segment")]
    OtherTable(&'static str),
    /// A record is damaged, or somebody wrote it who does not know what sigils are.
    #[error("table `{SIGILS}`, record `{key}`: {what} is not what a sigil has; delete the record")]
    Damaged {
        /// The record.
        key: String,
        /// Which of its fields.
        what: &'static str,
    },
    /// The jobs.
    #[error(transparent)]
    Jobs(#[from] JobsError),
    /// The runtime.
    #[error(transparent)]
    Runtime(#[from] Error),
}

impl SigilError {
    pub(super) fn bad_id(text: &str) -> Self {
        let shown = text.chars().take(SHOWN_MAX).flat_map(char::escape_debug).collect();
        Self::BadId { text: shown }
    }

    /// Whether there was no room or no answer in time, so that the same may succeed a little later.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        let busy = |e: &Error| {
            matches!(e, Error::Full { .. } | Error::Timeout { .. } | Error::Participants { .. })
        };
        matches!(self, Self::Runtime(e) if busy(e))
    }
}
