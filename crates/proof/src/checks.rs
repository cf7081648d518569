//! Every check, in the order in which they run.

use crate::Check;

/// All checks.
pub(crate) fn all() -> Vec<Check> {
    vec![crate::hostile::flips::CHECK, crate::hostile::truncate::CHECK]
}
