//! What only tests use: the rules of the tree ([`tidy`]), those of the text of metrics ([`exposition`]), a private
//! PostgreSQL ([`postgres`]), a proxy that disturbs connections ([`proxy`]), and what the kernel says of a process
//! ([`process`]). No crate but those for developers depends
//! on this one, except for its own tests.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

pub mod exposition;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod tidy;
