//! What must hold when every line was replayed.

use std::collections::HashMap;

use super::place::Place;
use super::report::Report;
use super::shares::Shares;
use super::{Options, ReplayError};
use crate::clients::{Caps, Client};

/// So many things that do not hold are named.
const FINDINGS_MAX: usize = 10;

/// The table at one time.
#[derive(Debug, Default)]
pub(crate) struct State {
    clients: HashMap<String, Client>,
    history_rows: Option<u64>,
}

impl State {
    /// The table now, in memory and in the store.
    pub(crate) fn of(place: &Place) -> Result<Self, ReplayError> {
        let mut clients = HashMap::new();
        place.clients.table().scan(|key, client| {
            clients.insert(key.to_owned(), client);
        })?;
        Ok(Self { clients, history_rows: place.history_rows()? })
    }

    fn get(&self, client: &str) -> Client {
        self.clients.get(client).copied().unwrap_or_default()
    }
}

/// Completes `report` with what the table, grown from `before`, and its store say.
pub(crate) fn check(
    report: &mut Report,
    options: &Options,
    place: &Place,
    shares: &Shares,
    before: &State,
) -> Result<(), ReplayError> {
    let after = State::of(place)?;
    let mut findings = compare(shares, &options.caps, before, &after);
    for (key, now) in &after.clients {
        let was = before.get(key);
        report.requests = report.requests.saturating_add(now.requests.saturating_sub(was.requests));
        report.bytes = report.bytes.saturating_add(now.bytes.saturating_sub(was.bytes));
        report.denied = report.denied.saturating_add(now.denied.saturating_sub(was.denied));
    }
    report.clients = after.clients.len() as u64;
    if let (Some(rows), Some(rows_before)) = (after.history_rows, before.history_rows) {
        let added = rows.saturating_sub(rows_before);
        report.store_rows = Some(added);
        if added != report.parsed {
            findings.push(format!("{} lines made {added} rows of history", report.parsed));
        }
        let audit = place.store()?.audit()?;
        report.verify_ok = Some(audit.ok());
        findings.extend(audit.findings().map(|finding| finding.text.clone()));
    }
    if report.kills < report.kills_asked {
        let (asked, kills) = (report.kills_asked, report.kills);
        findings
            .push(format!("{asked} kills asked for, and {kills} done: the shares are too short"));
    }
    report.ok = findings.is_empty() && report.verify_ok != Some(false);
    findings.truncate(FINDINGS_MAX);
    report.findings = findings;
    Ok(())
}

/// What is wrong with the table, client by client.
fn compare(shares: &Shares, caps: &Caps, before: &State, after: &State) -> Vec<String> {
    let mut findings = Vec::new();
    for (key, now) in &after.clients {
        let was = before.get(key);
        let asked = shares.clients.get(key).copied().unwrap_or_default();
        let served = now.requests.saturating_sub(was.requests);
        let denied = now.denied.saturating_sub(was.denied);
        if served < 0 || denied < 0 || served.saturating_add(denied) != asked.lines {
            let lines = asked.lines;
            findings.push(format!(
                "client {key}: {lines} lines counted as {served} requests and {denied} denied"
            ));
        }
        let bytes = now.bytes.saturating_sub(was.bytes);
        if *caps == Caps::default() && denied == 0 && asked.bytes.is_some_and(|b| b != bytes) {
            let want = asked.bytes.unwrap_or_default();
            findings.push(format!("client {key}: {bytes} bytes counted, {want} in the log"));
        }
        if now.requests > caps.requests.max(was.requests) || now.bytes > caps.bytes.max(was.bytes) {
            let Client { requests, bytes, .. } = now;
            findings
                .push(format!("client {key}: over a cap with {requests} requests, {bytes} bytes"));
        }
    }
    let missing = shares.clients.keys().filter(|key| !after.clients.contains_key(*key));
    findings.extend(missing.map(|key| format!("client {key}: in the log and not in the table")));
    findings
}
