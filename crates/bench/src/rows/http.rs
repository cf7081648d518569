//! Row 16: sigils over HTTP, beside a bare route; and whether everything that was acknowledged is there.

use std::time::Instant;

use crate::http::Load;
use crate::http::bare::Bare;
use crate::http::client::{encode, missing, not_stored};
use crate::http::daemon::Daemon;
use crate::report::{Line, Report, rate, time};
use crate::{Effort, Outcome};

/// Connections of the load tool.
const CONNECTIONS: [u32; 2] = [32, 1000];

/// Row 16.
pub(crate) fn sigils(effort: Effort, report: &mut Report) -> Outcome {
    for connections in CONNECTIONS {
        load(effort, connections, report)?;
    }
    for (count, connections) in [(1000, 1000), (effort.of(100_000, 10_000), 64)] {
        exact(count, connections, report)?;
    }
    Ok(())
}

/// The load that gave the median rate.
fn middle(mut loads: Vec<Load>) -> Outcome<Load> {
    loads.sort_by(|a, b| a.rate().total_cmp(&b.rate()));
    Ok(loads.get(loads.len() / 2).ok_or("no load")?.clone())
}

fn load(effort: Effort, connections: u32, report: &mut Report) -> Outcome {
    let (turns, seconds) = (effort.of(5, 1), effort.of(4, 2));
    let [mut bare, mut stored, mut plain] = [const { Vec::new() }; 3];
    for _ in 0..turns {
        let server = Bare::start()?;
        bare.push(Load::put(&server.address, connections, seconds)?);
        drop(server);
        for (has_store, loads) in [(true, &mut stored), (false, &mut plain)] {
            // A fresh one each time: it remembers them all.
            let mut daemon = Daemon::start(has_store)?;
            loads.push(Load::put(&daemon.address, connections, seconds)?);
            daemon.stop()?;
        }
    }
    let bare = middle(bare)?;
    for (what, loads) in [("a SQLite store", stored), ("no store", plain)] {
        let lost: u64 = loads.iter().map(|load| load.refused + load.broken).sum();
        let ours = middle(loads)?;
        let line = Line::new(
            16,
            format!("POST /v1/sigils, {connections} connections, {what}"),
            figures(&ours),
        )
        .limit(format!("a bare axum route {}", figures(&bare)))
        .ratio(format!("{:.2} × the bare route's rate; {lost} refused", ours.rate() / bare.rate()));
        report.add(&line.target("none refused", lost == 0));
    }
    Ok(())
}

fn figures(load: &Load) -> String {
    let [middle, last] = [load.p50_us, load.p99_us].map(|us| time(us * 1e3));
    format!("{}, p50 {middle}, p99 {last}", rate(load.rate()))
}

/// Encodes through so many connections at once, then looks for each.
fn exact(count: usize, connections: usize, report: &mut Report) -> Outcome {
    let mut daemon = Daemon::start(true)?;
    let start = Instant::now();
    let told = encode(&daemon.address, 0, count, connections)?;
    let took = start.elapsed();
    let missing = missing(&daemon.address, &told)?;
    daemon.stop()?;
    let (not_stored, rows) = not_stored(&daemon.database(), &told)?;
    let what = format!("{count} encodes through {connections} connections, each looked for");
    let ours = format!(
        "{} acknowledged, {missing} missing or corrupt, {not_stored} not in the store, which has {rows} rows",
        told.len()
    );
    let line = Line::new(16, what, ours)
        .ratio(format!("{} from this client", rate(count as f64 / took.as_secs_f64())));
    let right = told.len() == count && missing + not_stored == 0 && rows == count as u64;
    report.add(&line.target("none missing", right));
    Ok(())
}
