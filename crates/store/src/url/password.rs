//! Passwords: never shown, never in the normal form of a url, found again when a connection is made.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::postgres::PostgresUrl;

/// What this process was told, by account.
static TOLD: Mutex<BTreeMap<String, Secret>> = Mutex::new(BTreeMap::new());

/// A password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    /// For the server alone.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Keeps the password of an account for as long as this process lives.
pub(crate) fn remember(account: &str, secret: Secret) {
    TOLD.lock().unwrap_or_else(PoisonError::into_inner).insert(account.to_owned(), secret);
}

/// The password for `url`, from the first that has one: the file that the url names, what this process was told,
/// `PGPASSWORD`, and the line of `PGPASSFILE` or `~/.pgpass` that fits.
///
/// # Errors
/// Why a file that is named cannot be read, or one that fits must not be used.
pub(crate) fn find(url: &PostgresUrl) -> Result<Option<Secret>, String> {
    if let Some(file) = &url.password_file {
        let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
        return Ok(Some(Secret(text.trim_end_matches(['\r', '\n']).to_owned())));
    }
    let told = TOLD.lock().unwrap_or_else(PoisonError::into_inner).get(&url.account()).cloned();
    if told.is_some() {
        return Ok(told);
    }
    if let Some(word) = std::env::var("PGPASSWORD").ok().filter(|word| !word.is_empty()) {
        return Ok(Some(Secret(word)));
    }
    let file = std::env::var_os("PGPASSFILE")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".pgpass")));
    file.map_or(Ok(None), |file| from_file(&file, url))
}

fn from_file(file: &Path, url: &PostgresUrl) -> Result<Option<Secret>, String> {
    // Most people have none.
    let Ok(text) = std::fs::read_to_string(file) else { return Ok(None) };
    let found = url
        .hosts
        .iter()
        .find_map(|(host, port)| text.lines().find_map(|line| matching(line, url, host, *port)));
    let shared = std::fs::metadata(file).is_ok_and(|m| m.mode() & 0o077 != 0);
    if found.is_some() && shared {
        return Err(format!("{}: others may read it; run chmod 600 on it", file.display()));
    }
    Ok(found.map(Secret))
}

/// The password of a line `host:port:database:user:password` that fits.
fn matching(line: &str, url: &PostgresUrl, host: &str, port: u16) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let mut parts = parts(line).into_iter();
    let port = port.to_string();
    let host_fits = |part: &str| part == host || (host.starts_with('/') && part == "localhost");
    let mut fits = |test: &dyn Fn(&str) -> bool| parts.next().is_some_and(|p| p == "*" || test(&p));
    let all = fits(&host_fits)
        && fits(&|part| part == port)
        && fits(&|part| part == url.database)
        && fits(&|part| part == url.user);
    if all { parts.next() } else { None }
}

/// Splits at colons; a backslash takes the meaning from what follows it.
fn parts(line: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == ':' {
            parts.push(String::new());
            continue;
        }
        let c = if c == '\\' { chars.next().unwrap_or(c) } else { c };
        if let Some(last) = parts.last_mut() {
            last.push(c);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn url(text: &str) -> PostgresUrl {
        PostgresUrl::parse(text).unwrap()
    }

    #[test]
    fn the_line_that_fits_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pgpass");
        let lines = "# a:5432:*:*:no\na:5433:*:*:other port\na:5432:d:u:pa\\:ss\\\\\n*:*:*:u:any\n";
        std::fs::write(&file, lines).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        for (text, want) in [
            ("u@a/d", Some("pa:ss\\")),
            ("u@a:5433/d", Some("other port")),
            ("u@b/x", Some("any")),
            ("v@b/x", None),
        ] {
            let found = from_file(&file, &url(text)).unwrap();
            assert_eq!(found.as_ref().map(Secret::reveal), want, "{text}");
        }
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).unwrap();
        assert!(from_file(&file, &url("u@b/x")).unwrap_err().contains("chmod 600"));
        assert_eq!(from_file(&file, &url("v@b/x")), Ok(None), "what does not fit is no matter");
    }

    #[test]
    fn what_was_told_is_known() {
        url("told:s%40cret@h/d?notify=x");
        assert_eq!(find(&url("told@h/d")).unwrap().unwrap().reveal(), "s@cret");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("word");
        std::fs::write(&file, " of the file\n").unwrap();
        let named = url(&format!("told@h/d?password_file={}", file.display()));
        assert_eq!(find(&named).unwrap().unwrap().reveal(), " of the file");
        assert_eq!(format!("{:?}", Secret::new("x".to_owned())), "***");
    }
}
