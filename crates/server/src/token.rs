//! The bearer token: read from a file that nobody else can read, compared in constant time.

use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::ServeError;

/// The shortest token.
const BYTES_MIN: usize = 16;
/// The longest token.
const BYTES_MAX: usize = 4096;

/// A token's digest: the token itself is not kept.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token([u8; 32]);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// Reads a token: a line of 16 to 4096 visible characters, in a file of this user's that nobody else may read.
    pub(crate) fn read(path: &Path) -> Result<Self, ServeError> {
        let error = |why: String| ServeError::Token { path: path.to_owned(), why };
        // A FIFO must not hold the start up until somebody writes into it.
        let mut options = std::fs::OpenOptions::new();
        let opened = options.read(true).custom_flags(nix::libc::O_NONBLOCK).open(path);
        let file = opened.map_err(|e| error(e.to_string()))?;
        let facts = file.metadata().map_err(|e| error(e.to_string()))?;
        if !facts.is_file() {
            return Err(error("it is not a file; name one that holds the token".to_owned()));
        }
        let mode = facts.mode() & 0o7777;
        if mode & 0o077 != 0 {
            let why = format!("its mode is {mode:04o}, others may use it; chmod 600 it");
            return Err(error(why));
        }
        let me = nix::unistd::geteuid().as_raw();
        if facts.uid() != me {
            let why = format!("it belongs to user {}, not to user {me}; chown it", facts.uid());
            return Err(error(why));
        }
        let mut text = String::new();
        let limit = BYTES_MAX as u64 + 2;
        file.take(limit).read_to_string(&mut text).map_err(|e| error(e.to_string()))?;
        let token = text.strip_suffix('\n').unwrap_or(&text);
        let token = token.strip_suffix('\r').unwrap_or(token);
        let whole = (BYTES_MIN..=BYTES_MAX).contains(&token.len());
        if !whole || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            let why = format!(
                "it must hold one line of {BYTES_MIN} to {BYTES_MAX} visible ASCII characters; for instance: \
                 head -c 32 /dev/urandom | base64"
            );
            return Err(error(why));
        }
        Ok(Self::of(token.as_bytes()))
    }

    fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Whether a value of the header `Authorization` shows the token. Takes as long for a wrong one as for the right one.
    pub(crate) fn is_shown(&self, authorization: &[u8]) -> bool {
        let Some((scheme, rest)) = authorization.split_at_checked(7) else { return false };
        if !scheme.eq_ignore_ascii_case(b"bearer ") {
            return false;
        }
        let shown = Self::of(rest.trim_ascii());
        self.0.iter().zip(shown.0).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn read(text: &str, mode: u32) -> Result<Token, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        Token::read(&path).map_err(|e| e.to_string())
    }

    #[test]
    fn a_token_is_shown_or_not() {
        let token = read(&format!("{TOKEN}\n"), 0o400).unwrap();
        assert!(token.is_shown(b"Bearer 0123456789abcdef"));
        assert!(token.is_shown(b"bearer  0123456789abcdef "));
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer 0123456789abcdeF",
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdef0",
            "Basic 0123456789abcdef",
            "0123456789abcdef",
        ] {
            assert!(!token.is_shown(wrong.as_bytes()), "{wrong}");
        }
        assert_eq!(format!("{token:?}"), "Token");
    }

    #[test]
    fn files_that_will_not_do_are_refused() {
        for (text, mode, want) in [
            (TOKEN, 0o644, "its mode is 0644, others may use it; chmod 600 it"),
            (TOKEN, 0o620, "its mode is 0620"),
            ("short", 0o600, "one line of 16 to 4096"),
            ("", 0o600, "one line of 16 to 4096"),
            ("0123456789 abcdef", 0o600, "one line of 16 to 4096"),
            ("0123456789abcdef\n0123456789abcdef\n", 0o600, "one line of 16 to 4096"),
        ] {
            let error = read(text, mode).unwrap_err();
            assert!(error.contains(want) && !error.contains('\n'), "{error}");
            assert!(text.len() < 10 || !error.contains(text.trim()), "{error} shows the token");
        }
        assert!(read(&"x".repeat(BYTES_MAX), 0o600).is_ok());
        assert!(read(&"x".repeat(BYTES_MAX + 1), 0o600).is_err());
        let folder = tempfile::tempdir().unwrap();
        let error = Token::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("it is not a file"), "{error}");
        let error = Token::read(&folder.path().join("none")).unwrap_err().to_string();
        assert!(error.contains("No such file"), "{error}");
    }
}
