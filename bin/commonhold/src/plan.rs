//! How large a segment is, region by region: what `create --plan` prints.

use commonhold::Config;
use commonhold::catalogue::Catalogue;
use commonhold::core::space::geometry_of;
use serde::Serialize;

use crate::failure::{Done, Failure};
use crate::output::{Output, bytes_text, print_table};

/// The sizes of a segment.
#[derive(Debug, Serialize)]
pub(crate) struct Plan {
    segment: String,
    store: String,
    participants: u32,
    lanes: u32,
    tables: Vec<TablePlan>,
    /// What the tables share.
    bytes: SharedBytes,
    total_bytes: u64,
}

#[derive(Debug, Serialize)]
struct TablePlan {
    name: String,
    history: String,
    slots: u32,
    cells: u32,
    key_bytes: u32,
    payload_bytes: u32,
    bytes: TableBytes,
}

#[derive(Debug, Serialize)]
struct TableBytes {
    slots: u64,
    cells: u64,
    index: u64,
    control: u64,
    total: u64,
}

#[derive(Debug, Serialize)]
struct SharedBytes {
    header: u64,
    control: u64,
    lanes: u64,
    participants: u64,
    names: u64,
    intents: u64,
}

impl Plan {
    /// The sizes of the segment of `config` with the tables of `catalogue`.
    pub(crate) fn new(config: &Config, catalogue: &Catalogue) -> Result<Self, Failure> {
        let geometry = geometry_of(catalogue);
        let too_large = || Failure::failed("the segment would be larger than the address space");
        let layout = geometry.layout().ok_or_else(too_large)?;
        let bytes = |words: &std::ops::Range<usize>| words.len() as u64 * 8;
        let tables = catalogue.tables.iter().zip(&layout.tables);
        let tables = tables.map(|(spec, at)| {
            let (slots, cells) = (bytes(&at.slots), bytes(&at.cells));
            let index = bytes(&at.buckets) + bytes(&at.index);
            let control = bytes(&at.control) + bytes(&at.dirty);
            let total = slots + cells + index + control;
            TablePlan {
                name: spec.name.clone(),
                history: spec.history.to_string(),
                slots: spec.slots,
                cells: spec.cells,
                key_bytes: spec.key_bytes,
                payload_bytes: at.geometry.payload_bytes,
                bytes: TableBytes { slots, cells, index, control, total },
            }
        });
        Ok(Self {
            segment: config.segment_path().display().to_string(),
            store: commonhold::store::normalise(&config.store_url())?,
            participants: catalogue.participants,
            lanes: catalogue.lanes,
            tables: tables.collect(),
            bytes: SharedBytes {
                header: layout.catalogue.end as u64 * 8,
                control: bytes(&layout.control),
                lanes: bytes(&layout.lanes),
                participants: bytes(&layout.entries) + bytes(&layout.shares),
                names: bytes(&layout.names),
                intents: bytes(&layout.intents),
            },
            total_bytes: layout.total as u64 * 8,
        })
    }
}

/// Prints the sizes for people.
pub(crate) fn print_plan(plan: &Plan) -> Done {
    let mut out = Output::new();
    out.line(format_args!("segment {}", plan.segment))?;
    out.line(format_args!("store {}", plan.store))?;
    let heads = ["table", "history", "slots", "cells", "key", "payload"];
    let bytes = ["slots take", "cells take", "index takes", "total"];
    let mut rows = vec![heads.iter().chain(&bytes).map(|h| (*h).to_owned()).collect::<Vec<_>>()];
    for table in &plan.tables {
        let TableBytes { slots, cells, index, total, .. } = table.bytes;
        let mut row = vec![table.name.clone(), table.history.clone()];
        row.extend([table.slots, table.cells].map(|n| n.to_string()));
        row.extend([table.key_bytes, table.payload_bytes].map(|n| format!("{n} B")));
        row.extend([slots, cells, index, total].map(bytes_text));
        rows.push(row);
    }
    print_table(&mut out, &rows)?;
    let shared = &plan.bytes;
    out.line(format_args!(
        "{} participants take {}, {} lanes {}, names {}, intents {}, header and control {}",
        plan.participants,
        bytes_text(shared.participants),
        plan.lanes,
        bytes_text(shared.lanes),
        bytes_text(shared.names),
        bytes_text(shared.intents),
        bytes_text(shared.header + shared.control),
    ))?;
    out.line(format_args!("total {}; nothing was created", bytes_text(plan.total_bytes)))?;
    out.finish()
}
