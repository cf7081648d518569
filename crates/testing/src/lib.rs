//! What only tests use: the rules of the tree ([`tidy`]), and fixtures. No crate but `commonhold-bench` depends
//! on this one, except for its own tests.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

pub mod tidy;
