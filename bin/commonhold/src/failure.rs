//! Why a command ends without having done its work, and the exit code of each reason.
//!
//! What can be judged from the command line alone is wrong usage (2); what takes the segment, the store or a
//! file to judge is a failed operation (1).

use std::any::Any;
use std::error::Error;
use std::io::ErrorKind;

use nix::sys::signal::Signal;

/// Why a command ended early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The operation failed: exit code 1.
    Failed(String),
    /// The command line asks for what cannot be: exit code 2.
    Usage(String),
    /// A signal ended a foreground run: exit code 128 plus its number.
    Signal(Signal),
    /// A command that was run for the user ended with this code; what there is to tell was told.
    Exit(u8),
    /// Nobody reads the output any more: the work ends quietly, exit code 0.
    Closed,
}

/// What a command gives.
pub(crate) type Done = Result<(), Failure>;

impl Failure {
    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Signal(signal) => 128 + *signal as u8,
            Self::Exit(code) => *code,
            Self::Closed => 0,
        }
    }

    /// The line for stderr, if there is one.
    pub(crate) fn line(&self) -> Option<String> {
        match self {
            // Without a text it was told already.
            Self::Failed(text) | Self::Usage(text) => {
                Some(one_line(text)).filter(|t| !t.is_empty())
            }
            Self::Signal(_) | Self::Exit(_) | Self::Closed => None,
        }
    }

    /// A failed operation.
    pub(crate) fn failed(text: impl Into<String>) -> Self {
        Self::Failed(text.into())
    }

    /// Wrong usage.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::Usage(text.into())
    }
}

impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let io = (&error as &dyn Any).downcast_ref::<std::io::Error>();
        // The only files that commands write by themselves are stdout and stderr.
        match io.map(std::io::Error::kind) {
            Some(ErrorKind::BrokenPipe) => Self::Closed,
            Some(_) => Self::Failed(format!("cannot write the output: {error}")),
            None => Self::Failed(error.to_string()),
        }
    }
}

/// `text` without line breaks and other control characters.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        for c in word.chars() {
            if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_whatever_it_quotes() {
        assert_eq!(one_line("a\n  b\t\u{1b}[31m c "), "a b \\u{1b}[31m c");
    }

    #[test]
    fn exit_codes_are_those_of_the_contract() {
        assert_eq!(Failure::failed("x").code(), 1);
        assert_eq!(Failure::usage("x").code(), 2);
        assert_eq!(Failure::Signal(Signal::SIGINT).code(), 130);
        assert_eq!(Failure::Signal(Signal::SIGTERM).code(), 143);
        let closed = std::io::Error::from(ErrorKind::BrokenPipe);
        assert_eq!(Failure::from(closed).code(), 0);
    }
}
