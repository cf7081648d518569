//! Dealing a log: who gets which of its lines, written down once for all workers and their successors.

use std::collections::HashMap;
use std::fmt::Write;
use std::path::PathBuf;

use tempfile::TempDir;

use super::signals::Signals;
use super::{Options, ReplayError};
use crate::access_log::AccessLog;

/// So many lines that do not parse are named.
const NAMED_MAX: usize = 10;
/// So often, in lines, it is looked whether to stop.
const CHECK_EVERY: u64 = 4096;

/// What one client has in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Asked {
    /// Lines.
    pub(crate) lines: i64,
    /// The sum of their sizes; `None` when it does not fit in 63 bits.
    pub(crate) bytes: Option<i64>,
}

/// A log, dealt.
#[derive(Debug)]
pub(crate) struct Shares {
    folder: TempDir,
    /// How many lines each share has.
    pub(crate) lengths: Vec<u64>,
    /// Lines of the log.
    pub(crate) lines: u64,
    /// Those of them that parse.
    pub(crate) parsed: u64,
    /// The numbers of the first that do not.
    pub(crate) unparsed_first: Vec<u64>,
    /// What each client has in the log.
    pub(crate) clients: HashMap<String, Asked>,
}

impl Shares {
    /// Reads the log of `options` and deals its lines.
    pub(crate) fn deal(
        options: &Options,
        signals: &Signals,
        notice: &mut dyn FnMut(&str),
    ) -> Result<Self, ReplayError> {
        let mut log = AccessLog::open(&options.log)?;
        let mut texts = vec![String::new(); options.workers as usize];
        let mut shares = Self {
            folder: tempfile::Builder::new()
                .prefix("commonhold-replay-")
                .tempdir()
                .map_err(|e| ReplayError::system("make a temporary folder", e))?,
            lengths: vec![0; texts.len()],
            lines: 0,
            parsed: 0,
            unparsed_first: Vec::new(),
            clients: HashMap::new(),
        };
        while let Some((number, line)) = log.next_line()? {
            shares.lines += 1;
            match line {
                Ok(request) => {
                    let turn = (shares.parsed % u64::from(options.workers)) as usize;
                    if let (Some(text), Some(length)) =
                        (texts.get_mut(turn), shares.lengths.get_mut(turn))
                    {
                        // Writing to a string does not fail.
                        let _ = writeln!(text, "{} {}", request.size, request.client);
                        *length += 1;
                    }
                    shares.count(request.client, request.size);
                }
                Err(why) if shares.unparsed_first.len() < NAMED_MAX => {
                    notice(&format!("{}:{number}: {why}", options.log.display()));
                    shares.unparsed_first.push(number);
                }
                Err(_) => {}
            }
            if shares.lines.is_multiple_of(CHECK_EVERY) {
                signals.check()?;
            }
        }
        for (index, text) in texts.iter().enumerate() {
            let path = shares.path(index);
            std::fs::write(&path, text)
                .map_err(|e| ReplayError::system(format!("write {}", path.display()), e))?;
        }
        Ok(shares)
    }

    fn count(&mut self, client: &str, size: i64) {
        self.parsed += 1;
        if !self.clients.contains_key(client) {
            self.clients.insert(client.to_owned(), Asked { lines: 0, bytes: Some(0) });
        }
        if let Some(asked) = self.clients.get_mut(client) {
            asked.lines += 1;
            asked.bytes = asked.bytes.and_then(|bytes| bytes.checked_add(size));
        }
    }

    /// The file of the share `index`: a line each, size, a space, client.
    pub(crate) fn path(&self, index: usize) -> PathBuf {
        self.folder.path().join(format!("share-{index}"))
    }

    /// The URL of a store that goes with the shares.
    pub(crate) fn store_url(&self) -> String {
        format!("sqlite:{}", self.folder.path().join("replay.db").display())
    }

    /// The longest client in bytes.
    pub(crate) fn longest_client(&self) -> usize {
        self.clients.keys().map(String::len).max().unwrap_or(0)
    }
}

/// The requests of a share's text from the line `position` on; `None` for a line that is not one.
pub(crate) fn requests(
    text: &str,
    position: u64,
) -> impl Iterator<Item = Option<(&str, i64)>> + '_ {
    let skip = usize::try_from(position).unwrap_or(usize::MAX);
    text.split_terminator('\n').skip(skip).map(|line| {
        let (size, client) = line.split_once(' ')?;
        Some((client, size.parse().ok()?))
    })
}
