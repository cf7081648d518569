//! Every check, in the order in which they run.

use crate::{Check, power, steps, store};

/// All checks.
pub(crate) fn all() -> Vec<Check> {
    vec![
        steps::KILLED,
        steps::FROZEN,
        steps::STOPPED,
        steps::LONG,
        store::CHECK,
        power::CHECK,
    ]
}
