//! Every check, in the order in which they run.

use crate::{Check, file, hostile, linear, participants, power, steps, store};

/// All checks.
pub(crate) fn all() -> Vec<Check> {
    vec![
        steps::KILLED,
        steps::FROZEN,
        steps::STOPPED,
        steps::LONG,
        steps::GUARD,
        linear::CHECK,
        participants::CHECK,
        hostile::flips::CHECK,
        hostile::truncate::CHECK,
        store::CHECK,
        power::CHECK,
        file::CHECK,
    ]
}
