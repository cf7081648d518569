//! `verify`: audits a store from its rows alone.

use std::io::IsTerminal;
use std::time::Duration;

use commonhold::store::{Audit, Importing, StoreError, TableAudit};
use indicatif::ProgressBar;
use serde::Serialize;

use crate::connect::Globals;
use crate::failure::{Done, Failure};
use crate::output::{Format, Output, print_json};

/// Audit a store from its rows alone
///
/// Audits a store from its rows alone: versions without gap, clocks that rise, hashes, links and the sequences
/// of the writers; names each row that is wrong. Needs no segment: the store is the one named, else
/// the one that the segment names, else the default. Reads only. Fails when something is found.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  commonhold verify
  commonhold verify --store sqlite:/var/backups/shop.db --json")]
pub(crate) struct Verify {
    #[command(flatten)]
    format: Format,
}

/// The audit as JSON.
#[derive(Debug, Serialize)]
struct Verdict<'a> {
    ok: bool,
    findings_total: u64,
    #[serde(flatten)]
    audit: &'a Audit,
}

impl Verify {
    pub(crate) fn run(&self, globals: &Globals) -> Done {
        let url = globals.store_of_segment()?;
        if url == "none" {
            return Err(Failure::failed("the store is none: it has no rows to audit"));
        }
        let spinner = spinner(&url);
        let looked = look(&url);
        spinner.finish_and_clear();
        let (audit, importing) = looked?;
        if self.format.json {
            let ok = audit.ok() && importing.is_none();
            print_json(&Verdict { ok, findings_total: audit.total(), audit: &audit })?;
        } else {
            print_audit(&audit)?;
        }
        if let Some(Importing { source, .. }) = importing {
            return Err(StoreError::Incomplete { path: url, source_url: source }.into());
        }
        if audit.ok() {
            return Ok(());
        }
        let total = audit.total();
        Err(Failure::failed(format!("{total} findings: {url} does not hold what was committed")))
    }
}

fn look(url: &str) -> Result<(Audit, Option<Importing>), StoreError> {
    let mut store = commonhold::store::open_read_only(url)?;
    Ok((store.audit()?, store.importing()?))
}

fn spinner(url: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let spinner = ProgressBar::new_spinner().with_message(format!("auditing {url}"));
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}

fn print_audit(audit: &Audit) -> Done {
    let mut out = Output::new();
    out.line(format_args!("{} (epoch {})", audit.store, audit.epoch))?;
    for table in &audit.tables {
        print_table(&mut out, table)?;
    }
    out.finish()
}

fn print_table(out: &mut Output, table: &TableAudit) -> Done {
    let TableAudit { rows, history_rows, writers, .. } = table;
    let verdict = if table.ok() { "ok".to_owned() } else { format!("{} findings", table.total()) };
    let versions = match table.history {
        "full" => format!(", {history_rows} versions by {writers} writers"),
        _ => String::new(),
    };
    out.line(format_args!("{}: {rows} records{versions}: {verdict}", table.table))?;
    for finding in &table.findings {
        out.line(format_args!("  {}", crate::failure::one_line(&finding.text)))?;
    }
    let listed = table.findings.len() as u64;
    if table.total() > listed {
        out.line(format_args!("  and {} more", table.total() - listed))?;
    }
    Ok(())
}
