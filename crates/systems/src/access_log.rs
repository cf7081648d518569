//! Access logs: the Common and the Combined Log Format, plain or gzip, line by line.
//!
//! ```text
//! CLIENT IDENT USER [TIME] "REQUEST" STATUS SIZE …
//! ```
//! Client, request, status and size are needed, in this order; whatever follows the size is not looked at, so
//! that a missing closing quote in it does no harm. In the request a backslash escapes the next byte, and its end
//! is the first quote that status and size stand behind, so that a stray quote within it does no harm either.
//! A size of `-` is 0. Bytes that are not UTF-8 may stand anywhere but in the client, which becomes a key.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use commonhold_runtime::core::catalogue::KEY_BYTES_MAX;

/// The longest line that is looked at, so that a file without line ends does not fill the memory.
const LINE_BYTES_MAX: usize = 1 << 20;
/// What a gzip file begins with (RFC 1952, section 2.3.1).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// What is needed of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// Who asked: an address or a host's name.
    pub client: &'a str,
    /// The request between its quotes, as it stands there.
    pub request: &'a [u8],
    /// The status: three digits.
    pub status: u16,
    /// The bytes sent; 0 for `-`.
    pub size: i64,
}

/// Why a line is not one of an access log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unparsed {
    /// It has no client.
    #[error("no client before the first space")]
    NoClient,
    /// The client cannot be a key.
    #[error("the client is not 1 to {KEY_BYTES_MAX} bytes of UTF-8 without NUL")]
    BadClient,
    /// It has no time.
    #[error("no time in brackets before the request")]
    NoTime,
    /// It has no request with status and size behind it.
    #[error("no request in quotes with status and size behind it")]
    NoRequest,
    /// The size is too large.
    #[error("the size does not fit in 63 bits")]
    HugeSize,
    /// The line is too long.
    #[error("longer than {LINE_BYTES_MAX} bytes")]
    TooLong,
}

/// A line's number, and what it says.
pub type Line<'a> = (u64, Result<Request<'a>, Unparsed>);

/// A log that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the log {}: {error}", path.display())]
pub struct LogError {
    path: PathBuf,
    error: io::Error,
}

/// A log being read.
pub struct AccessLog {
    reader: Box<dyn BufRead>,
    path: PathBuf,
    line: Vec<u8>,
    number: u64,
}

impl std::fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AccessLog({}:{})", self.path.display(), self.number)
    }
}

impl AccessLog {
    /// Opens the log at `path`; whether it is gzip, its first bytes say.
    ///
    /// # Errors
    /// [`LogError`] naming the file.
    pub fn open(path: &Path) -> Result<Self, LogError> {
        let error = |error| LogError { path: path.to_owned(), error };
        let mut file = BufReader::with_capacity(1 << 16, File::open(path).map_err(error)?);
        let zipped = file.fill_buf().map_err(error)?.starts_with(&GZIP_MAGIC);
        let reader: Box<dyn BufRead> = if zipped {
            Box::new(BufReader::new(MultiGzDecoder::new(file)))
        } else {
            Box::new(file)
        };
        Ok(Self { reader, path: path.to_owned(), line: Vec::new(), number: 0 })
    }

    /// The next line, parsed, with its number; `None` at the end.
    ///
    /// # Errors
    /// [`LogError`] naming the file, for one that is cut off or damaged, say.
    pub fn next_line(&mut self) -> Result<Option<Line<'_>>, LogError> {
        self.line.clear();
        let limit = LINE_BYTES_MAX as u64 + 1;
        let read = self.reader.by_ref().take(limit).read_until(b'\n', &mut self.line);
        if read.map_err(|e| self.error(e))? == 0 {
            return Ok(None);
        }
        self.number += 1;
        let whole = self.line.strip_suffix(b"\n");
        if whole.is_none() && self.line.len() > LINE_BYTES_MAX {
            self.reader.skip_until(b'\n').map_err(|e| self.error(e))?;
            return Ok(Some((self.number, Err(Unparsed::TooLong))));
        }
        let line = whole.unwrap_or(&self.line);
        Ok(Some((self.number, parse(line.strip_suffix(b"\r").unwrap_or(line)))))
    }

    fn error(&self, error: io::Error) -> LogError {
        LogError { path: self.path.clone(), error }
    }
}

/// Parses a line, without its end.
///
/// # Errors
/// [`Unparsed`] says what is missing.
///
/// # Examples
/// ```
/// # use commonhold_systems::access_log::parse;
/// let line = br#"::1 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 512 "-" "curl"#;
/// let request = parse(line)?;
/// assert_eq!((request.client, request.status, request.size), ("::1", 200, 512));
/// # Ok::<(), commonhold_systems::access_log::Unparsed>(())
/// ```
pub fn parse(line: &[u8]) -> Result<Request<'_>, Unparsed> {
    let (client, rest) = cut(line, b" ").ok_or(Unparsed::NoClient)?;
    if client.is_empty() {
        return Err(Unparsed::NoClient);
    }
    let client = std::str::from_utf8(client).map_err(|_| Unparsed::BadClient)?;
    if client.len() > KEY_BYTES_MAX as usize || client.contains('\0') {
        return Err(Unparsed::BadClient);
    }
    let (_, rest) = cut(rest, b" [").ok_or(Unparsed::NoTime)?;
    let (_, rest) = cut(rest, b"] \"").ok_or(Unparsed::NoTime)?;
    let mut escaped = false;
    for (at, byte) in rest.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => {
                let (request, behind) = rest.split_at_checked(at).unwrap_or_default();
                if let Some((status, size)) = status_and_size(behind) {
                    let size = size.ok_or(Unparsed::HugeSize)?;
                    return Ok(Request { client, request, status, size });
                }
            }
            _ => {}
        }
    }
    Err(Unparsed::NoRequest)
}

/// What stands before and behind the first `separator`.
fn cut<'a>(bytes: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(separator.len()).position(|window| window == separator)?;
    Some((bytes.get(..at)?, bytes.get(at + separator.len()..)?))
}

/// `" STATUS SIZE`, then a space or the end; the size is `None` when it does not fit.
fn status_and_size(behind: &[u8]) -> Option<(u16, Option<i64>)> {
    let mut fields = behind.strip_prefix(b"\" ")?.split(|byte| *byte == b' ');
    let (status, size) = (digits(fields.next()?)?, fields.next()?);
    if status.len() != 3 {
        return None;
    }
    let size = if size == b"-" { Some(0) } else { digits(size)?.parse().ok() };
    Some((status.parse().ok()?, size))
}

fn digits(bytes: &[u8]) -> Option<&str> {
    let all = !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(bytes).ok().filter(|_| all)
}

#[cfg(test)]
mod tests;
