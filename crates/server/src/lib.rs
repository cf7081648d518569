//! The daemon: the records of a segment over HTTP, metrics for Prometheus, managed jobs and worker processes.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]
