//! What workers tell their coordinator: one line each, over one pipe for all. A line is written by one call and is
//! shorter than what a pipe takes in one piece, so lines do not mix and a killed worker wrote all of one or nothing.

use std::fmt;

use commonhold_runtime::WriterId;

/// The longest line: what POSIX promises a pipe takes in one piece (`_POSIX_PIPE_BUF`).
const LINE_BYTES_MAX: usize = 512;

/// What a worker tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    /// It is ready to begin, and will commit as this writer.
    Ready(WriterId),
    /// It is through with the window.
    Waiting,
    /// A victim: it may be killed from here on.
    Mark,
    /// A victim, after its mark: another commit was acknowledged.
    Acknowledged,
    /// Its share is done.
    Done,
    /// It cannot go on.
    Failed(String),
}

/// A message and whose share the worker has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) index: usize,
    pub(crate) message: Message,
}

impl Report {
    /// Reads a line, without its end.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let (index, rest) = line.split_once(' ')?;
        let (word, argument) = rest.split_once(' ').unwrap_or((rest, ""));
        let message = match word {
            "ready" => Message::Ready(argument.parse().ok()?),
            "waiting" => Message::Waiting,
            "mark" => Message::Mark,
            "ack" => Message::Acknowledged,
            "done" => Message::Done,
            "failed" => Message::Failed(argument.to_owned()),
            _ => return None,
        };
        Some(Self { index: index.parse().ok()?, message })
    }

    /// The line, with its end.
    pub(crate) fn line(&self) -> String {
        let mut line = self.to_string().replace('\n', " ");
        while line.len() >= LINE_BYTES_MAX {
            line.pop();
        }
        line.push('\n');
        line
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let index = self.index;
        match &self.message {
            Message::Ready(writer) => write!(f, "{index} ready {writer}"),
            Message::Waiting => write!(f, "{index} waiting"),
            Message::Mark => write!(f, "{index} mark"),
            Message::Acknowledged => write!(f, "{index} ack"),
            Message::Done => write!(f, "{index} done"),
            Message::Failed(why) => write!(f, "{index} failed {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let messages = [
            Message::Ready(WriterId::new(3, 17, 4)),
            Message::Waiting,
            Message::Mark,
            Message::Acknowledged,
            Message::Done,
            Message::Failed("table `clients` is full".to_owned()),
        ];
        for (index, message) in messages.into_iter().enumerate() {
            let report = Report { index, message };
            assert_eq!(Report::parse(report.line().trim_end_matches('\n')), Some(report));
        }
        let long = Report { index: 7, message: Message::Failed("é\n".repeat(9999)) }.line();
        assert!(long.len() <= LINE_BYTES_MAX && long.ends_with('\n'));
        assert!(matches!(Report::parse(long.trim_end()), Some(Report { index: 7, .. })));
        for not in ["", "x ready 1-2-3", "1", "1 ready", "1 ready 1-2", "1 readily 1-2-3"] {
            assert_eq!(Report::parse(not), None, "{not}");
        }
    }
}
