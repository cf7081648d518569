//! The daemon: the records of a segment over HTTP, metrics for Prometheus, managed jobs and worker processes.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

pub mod app;
pub mod desk;
pub mod problem;
pub mod routes;

pub use app::{App, AppOptions, Parts};
pub use problem::{Kind, Problem};
