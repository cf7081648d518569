//! The rows of the targets.

mod durable;
mod file;
mod growth;
mod guards;
mod hot;
mod http;
mod lag;
mod pool;
mod scrape;
mod single;
mod stores;
mod torture;
mod waiting;

use crate::report::Report;
use crate::{Effort, Outcome};

/// A row's measurement.
type Row = fn(Effort, &mut Report) -> Outcome;

/// All rows by number; 4 is printed with 3, whose figures it uses.
pub(crate) const ROWS: &[(u32, Row)] = &[
    (1, single::update),
    (2, single::read),
    (3, hot::one_record),
    (4, hot::serial_bound),
    (5, hot::many_records),
    (6, waiting::woken),
    (7, durable::commits),
    (8, durable::latency),
    (9, torture::whole),
    (10, growth::growth),
    (11, growth::attach),
    (12, guards::guards),
    (13, pool::pools),
    (14, lag::coordinator),
    (15, scrape::scrape),
    (16, http::sigils),
    (17, file::alone),
    (18, stores::stores),
];
