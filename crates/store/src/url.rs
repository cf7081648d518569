//! Store urls: `sqlite:PATH[?synchronous=full|normal]`, `postgres://…` and `none`.

pub(crate) mod password;
pub(crate) mod postgres;

use std::path::{Path, PathBuf};

use self::postgres::PostgresUrl;
pub use self::postgres::redact;
use crate::error::StoreError;

/// The longest normal form: what the header of a segment holds.
const BYTES_MAX: usize = 1024;

/// How often SQLite syncs its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Synchronous {
    /// At every commit: what was reported durable survives a power loss.
    Full,
    /// At checkpoints only: a power loss may take the last commits, also acknowledged ones.
    Normal,
}

/// A SQLite file and how to write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SqliteUrl {
    pub(crate) path: PathBuf,
    pub(crate) synchronous: Synchronous,
}

/// A parsed store url.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Url {
    Sqlite(SqliteUrl),
    Postgres(Box<PostgresUrl>),
    None,
}

/// `url` with an absolute path and without parameters that are the default, so that two names of one store
/// compare equal. Looks at the working directory, not at the file. A password is not part of it; this process
/// remembers it for the connections that it makes.
///
/// # Errors
/// [`StoreError::Url`].
pub fn normalise(url: &str) -> Result<String, StoreError> {
    Url::parse(url).map(|url| url.to_string())
}

impl Url {
    pub(crate) fn parse(url: &str) -> Result<Self, StoreError> {
        let parsed = Self::parse_any(url)?;
        if parsed.to_string().len() > BYTES_MAX {
            let why = format!("it is longer than {BYTES_MAX} bytes");
            return Err(StoreError::Url { url: redact(url), why });
        }
        Ok(parsed)
    }

    fn parse_any(url: &str) -> Result<Self, StoreError> {
        if url == "none" {
            return Ok(Self::None);
        }
        let bad = |why: &str| StoreError::Url { url: redact(url), why: why.to_owned() };
        let schemes = ["postgres://", "postgresql://"];
        if let Some(rest) = schemes.iter().find_map(|scheme| url.strip_prefix(scheme)) {
            let target = PostgresUrl::parse(rest).map_err(|why| bad(&why))?;
            return Ok(Self::Postgres(Box::new(target)));
        }
        let rest = url.strip_prefix("sqlite:").ok_or_else(|| bad("unknown scheme"))?;
        let (path, parameter) = match rest.split_once('?') {
            Some((path, parameter)) => (path, Some(parameter)),
            None => (rest, None),
        };
        let synchronous = match parameter {
            None | Some("synchronous=full") => Synchronous::Full,
            Some("synchronous=normal") => Synchronous::Normal,
            Some(_) => return Err(bad("the only parameter is synchronous=full or normal")),
        };
        // `sqlite:///a/b` is `/a/b`, as other programs write it.
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() || path.starts_with(":memory:") || path.contains('\0') {
            return Err(bad("the path of a file is missing"));
        }
        let path = std::path::absolute(Path::new(path)).map_err(|e| bad(&e.to_string()))?;
        if path.to_str().is_none() {
            return Err(bad("the path of the working directory is not UTF-8"));
        }
        Ok(Self::Sqlite(SqliteUrl { path, synchronous }))
    }
}

impl std::fmt::Display for SqliteUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sqlite:{}", self.path.display())?;
        match self.synchronous {
            Synchronous::Full => Ok(()),
            Synchronous::Normal => f.write_str("?synchronous=normal"),
        }
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite(url) => url.fmt(f),
            Self::Postgres(url) => url.fmt(f),
            Self::None => f.write_str("none"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_normalised() {
        let here = std::env::current_dir().unwrap();
        let here = here.to_str().unwrap();
        for (url, want) in [
            ("none", "none".to_owned()),
            ("sqlite:a.db", format!("sqlite:{here}/a.db")),
            ("sqlite:./x/a.db?synchronous=full", format!("sqlite:{here}/x/a.db")),
            ("sqlite:/v/a.db?synchronous=normal", "sqlite:/v/a.db?synchronous=normal".to_owned()),
            ("sqlite:///v//a.db", "sqlite:/v/a.db".to_owned()),
        ] {
            let once = normalise(url).unwrap();
            assert_eq!(once, want);
            assert_eq!(normalise(&once).unwrap(), once, "normalising twice changes nothing");
        }
    }

    #[test]
    fn what_is_no_store_is_refused() {
        for url in ["", "sqlite:", "mysql://x", "a.db", "sqlite:a?mode=ro", "sqlite::memory:"] {
            let error = normalise(url).unwrap_err();
            assert!(matches!(error, StoreError::Url { .. }), "{url}: {error}");
        }
    }

    #[test]
    fn what_no_segment_could_hold_is_refused() {
        for start in ["sqlite:/", "postgres://u@h/d?application_name="] {
            let of = |length: usize| format!("{start}{}", "x".repeat(length - start.len()));
            assert_eq!(normalise(&of(BYTES_MAX)).unwrap().len(), BYTES_MAX);
            let error = normalise(&of(BYTES_MAX + 1)).unwrap_err().to_string();
            assert!(error.contains("longer than 1024 bytes"), "{error}");
        }
    }

    #[test]
    fn urls_of_servers_are_normalised() {
        for (url, want) in [
            ("postgres://u:w%40rd@Host:5432/d", "postgres://u@host/d"),
            ("postgresql://u@h:6000/d?sslmode=prefer&schema=public", "postgres://u@h:6000/d"),
            (
                "postgres://u@a,b:6000/d?notify=ch%20x&synchronous_commit=off",
                "postgres://u@a,b:6000/d?synchronous_commit=off&notify=ch%20x",
            ),
            ("postgres://u@[::1]:1/d?password=x", "postgres://u@[::1]:1/d"),
            ("postgres://u:p@/d?host=/run/x&port=7", "postgres://u@/d?host=/run/x&port=7"),
            (
                "postgres://u@h/%C3%A4?sslmode=verify-full&sslrootcert=/c.pem&connect_timeout=3",
                "postgres://u@h/%C3%A4?sslmode=verify-full&sslrootcert=/c.pem&connect_timeout=3",
            ),
            ("postgres://u@h", "postgres://u@h/u"),
            ("postgres://u@/d", "postgres://u@/d?host=/var/run/postgresql"),
        ] {
            let once = normalise(url).unwrap();
            assert_eq!(once, want);
            assert_eq!(normalise(&once).unwrap(), once, "normalising twice changes nothing");
        }
    }

    #[test]
    fn a_url_that_is_refused_is_shown_without_its_password() {
        for (url, want) in [
            ("postgres://u:secret@h:x/d", "port"),
            ("postgres://u:secret@h/d?sslmode=verify-ca", "verify-full"),
            ("postgres://u:sec/ret@h/d", "port"),
            ("postgres://u:secret?@h/d", "port"),
            ("postgres://u:%zzsecret@h/d", "hexadecimal"),
            ("postgres://u@h/d?password=secret&what=1", "`what`"),
            ("postgres://u@h/d?what=1&password=secret", "`what`"),
            ("postgres://u:secret@h/d?schema=", "schema"),
            ("postgres://u:secret@h/d?sslrootcert=/x", "verify-full"),
            ("postgres://u:secret@h/d?statement_timeout=5", "100 to"),
            ("postgres://u:secret@h/d?passwd=secret", "`passwd`"),
            ("postgres://u@h/d?port=0&passwd=secret", "one number"),
            ("postgre://u:secret@h/d", "unknown scheme"),
            ("POSTGRES://u:secret@h/d", "unknown scheme"),
            ("postgres:u:secret@h/d", "unknown scheme"),
            ("postgres://u:secret@h:0/d", "from 1 to 65535"),
            ("postgres://u:secret@h:+1/d", "from 1 to 65535"),
            ("postgres://u:secret@::1/d", "brackets"),
            ("postgres://u:secret@[::1/d", "without ]"),
            ("postgres://u:secret@[::1]5/d", "a colon"),
            ("postgres://u:%+fsecret@h/d", "hexadecimal"),
            ("postgres://u@h/d?password=sec@ret@x&sslmod=require", "`sslmod`"),
            ("postgres://u@h:5432/d?password=sec/@secret&sslmod=require", "`sslmod`"),
            ("u:secret@h/d", "unknown scheme"),
            ("//u:secret@h/d", "unknown scheme"),
        ] {
            let error = normalise(url).unwrap_err().to_string();
            assert!(error.contains(want), "{url}: {error}");
            let word = ["secret", "sec/", "ret@"].iter().find(|part| error.contains(**part));
            assert_eq!(word, None, "{error}");
            assert_eq!(error.lines().count(), 1);
        }
    }
}
