//! Every check, in the order in which they run.

use crate::{Check, linear, participants};

/// All checks.
pub(crate) fn all() -> Vec<Check> {
    vec![linear::CHECK, participants::CHECK]
}
