//! The daemon: the records of a segment over HTTP, metrics for Prometheus, managed jobs and worker processes.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

pub mod app;
pub mod body;
pub mod conditions;
mod conn;
pub mod desk;
pub mod error;
mod hall;
mod lag;
mod layers;
pub mod logging;
mod notify;
pub mod openapi;
pub mod options;
mod parts;
pub mod problem;
pub mod routes;
pub mod server;
mod token;
pub mod values;

pub use app::{App, AppOptions, Parts};
pub use error::ServeError;
pub use logging::Log;
pub use options::ServerOptions;
pub use problem::{Kind, Problem};
pub use server::Server;

/// The example of the page about the daemon.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/serve.md")]
pub struct ServePage;
