//! The chain pass: `T_history` in the order of writing.
//!
//! A row's link is judged against the link stored in the row before it. If that one's own link was the thing
//! changed, the link it should have had is accepted too, so that one changed row gives one finding.

use std::collections::HashMap;

use commonhold_core::row::WriterId;

use crate::audit::ranges::Ranges;
use crate::audit::{Check, Stored, TableAudit};
use crate::chain::{FIRST, Link};

/// What the meta table says of the chain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    /// Rows ever written.
    pub(crate) count: u64,
    /// The link of the last.
    pub(crate) link: Link,
}

/// The links that a row may follow: the stored one of its predecessor, and the one it should have had.
type Before = Option<(Link, Link)>;

/// The state of the pass between two rows.
pub(crate) struct ChainPass<'a> {
    audit: &'a mut TableAudit,
    expected: Option<Expected>,
    /// The position of the last row, 0 before the first.
    position: u64,
    /// What the rows at `position` follow; unknown after a gap.
    before: Before,
    /// What the row after `position` follows.
    after: Before,
    /// Whether a row at `position` had the right link.
    fits: bool,
    /// The last row, for messages.
    last: String,
    writers: HashMap<WriterId, Ranges>,
}

/// The row in words.
fn name(stored: &Stored) -> String {
    let deletion = if stored.row.deleted { " (a deletion)" } else { "" };
    format!("key {:?} version {}{deletion}", stored.row.key, stored.row.version)
}

fn span(first: u64, last: u64) -> String {
    if first == last { format!("{first} is") } else { format!("{first} to {last} are") }
}

impl<'a> ChainPass<'a> {
    /// A pass that adds its findings to `audit`; `expected` is what the meta table says, if anything.
    pub(crate) fn new(audit: &'a mut TableAudit, expected: Option<Expected>) -> Self {
        Self {
            audit,
            expected,
            position: 0,
            before: None,
            after: Some((FIRST, FIRST)),
            fits: true,
            last: String::new(),
            writers: HashMap::new(),
        }
    }

    /// The next row, in the order of positions.
    pub(crate) fn row(&mut self, stored: &Stored) {
        self.audit.history_rows += 1;
        for fault in &stored.faults {
            self.find(Check::Values, stored, fault);
        }
        self.place(stored);
        self.link(stored);
        self.sequence(stored);
        self.last.clear();
        self.last.push_str(&name(stored));
    }

    fn find(&mut self, check: Check, stored: &Stored, what: &str) {
        let at = stored.position;
        let text =
            format!("{}_history: {} at position {at}: {what}", self.audit.table, name(stored));
        self.audit.find(check, text);
    }

    /// Moves to the row's position.
    fn place(&mut self, stored: &Stored) {
        let at = stored.position;
        if at == 0 {
            return self.find(Check::Positions, stored, "positions begin with 1");
        }
        if at <= self.position {
            let what = format!("the position stands twice, first at {}", self.last);
            return self.find(Check::Positions, stored, &what);
        }
        let next = self.position + 1;
        if at == next {
            self.before = self.after.take();
        } else {
            self.before = None;
            let after = if self.position == 0 { "at the start" } else { &self.last };
            let text = format!(
                "{}_history: position {} missing, between {after} and {}",
                self.audit.table,
                span(next, at - 1),
                name(stored)
            );
            self.audit.find(Check::Positions, text);
        }
        (self.position, self.after, self.fits) = (at, None, false);
        if let Some(expected) = self.expected
            && at > expected.count
        {
            let what = format!("the meta table counts {} rows only", expected.count);
            self.find(Check::Positions, stored, &what);
        }
    }

    /// Judges the row's link, and notes what the next row follows.
    fn link(&mut self, stored: &Stored) {
        let Some(link) = stored.link else { return };
        let Some((as_stored, as_due)) = self.before else {
            self.after.get_or_insert((link, link));
            return;
        };
        let due = stored.columns.link(&as_stored);
        let fits = due == link || stored.columns.link(&as_due) == link;
        if !fits {
            self.find(Check::Links, stored, "its link is not the one of its columns");
        }
        // Of two rows at one position the one that fits is the true one.
        if self.after.is_none() || (fits && !self.fits) {
            self.after = Some((link, due));
            self.fits = fits;
        }
    }

    fn sequence(&mut self, stored: &Stored) {
        let (writer, sequence) = (stored.row.writer, stored.row.sequence);
        // A row taken over from latest history has no sequence; the key pass sees that it is its key's first.
        if sequence > 0 && !self.writers.entry(writer).or_default().insert(sequence) {
            let what = format!("writer {writer} has sequence {sequence} already");
            self.find(Check::Writers, stored, &what);
        }
    }

    /// The end of the table.
    pub(crate) fn finish(mut self) {
        self.tail();
        let mut writers: Vec<_> = self.writers.iter().collect();
        writers.sort_unstable_by_key(|(writer, _)| **writer);
        for (writer, sequences) in writers {
            for (first, last) in sequences.gaps() {
                let (table, span) = (&self.audit.table, span(first, last));
                let text = format!("{table}_history: writer {writer}: sequence {span} missing");
                self.audit.find(Check::Writers, text);
            }
        }
        self.audit.writers = self.writers.len() as u64;
    }

    /// Compares the end of the chain with the meta table.
    fn tail(&mut self) {
        let table = self.audit.table.clone();
        let Some(expected) = self.expected else {
            let text =
                format!("{table}_history: the meta table has no count and link of the chain");
            return self.audit.find(Check::Layout, text);
        };
        if self.position < expected.count {
            let span = span(self.position + 1, expected.count);
            let text = format!("{table}_history: position {span} missing: the tail is cut");
            return self.audit.find(Check::Positions, text);
        }
        let Some((link, due)) = self.after else { return };
        if self.position == expected.count && expected.link != link && expected.link != due {
            let last = if self.last.is_empty() { "the empty chain" } else { &self.last };
            let text =
                format!("{table}_history: the link of {last} is not the head in the meta table");
            self.audit.find(Check::Links, text);
        }
    }
}
