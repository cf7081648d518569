//! Faults of the store: locked, read-only, full, failing, its steward killed at any moment and at each of its steps.

pub(crate) mod judge;
pub(crate) mod random;
pub(crate) mod work;
