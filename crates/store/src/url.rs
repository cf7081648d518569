//! Store urls: `sqlite:PATH[?synchronous=full|normal]` and `none`.

use std::path::{Path, PathBuf};

use crate::error::StoreError;

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
    None,
}

/// `url` with an absolute path and without parameters that are the default, so that two names of one store
/// compare equal. Looks at the working directory, not at the file.
///
/// # Errors
/// [`StoreError::Url`], [`StoreError::NotYet`].
pub fn normalise(url: &str) -> Result<String, StoreError> {
    Url::parse(url).map(|url| url.to_string())
}

impl Url {
    pub(crate) fn parse(url: &str) -> Result<Self, StoreError> {
        if url == "none" {
            return Ok(Self::None);
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Err(StoreError::NotYet(url.to_owned()));
        }
        let bad = |why: &str| StoreError::Url { url: url.to_owned(), why: why.to_owned() };
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
        let error = normalise("postgres://localhost/x").unwrap_err();
        assert!(error.to_string().contains("comes later"), "{error}");
    }
}
