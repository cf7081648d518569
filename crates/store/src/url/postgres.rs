//! `postgres://user:password@host:port/database?parameter=value&…`, as libpq writes it, with parameters of ours.
//!
//! The normal form names user, hosts, ports, database and what is not the default, never the password. A password that
//! was given once is remembered by this process ([`super::password`]), so that the normal form suffices to connect.

use std::fmt::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use super::password::{self, Secret};

/// Where a server is when no host is given.
const DEFAULT_HOST: &str = "/var/run/postgresql";
const DEFAULT_PORT: u16 = 5432;
const DEFAULT_SCHEMA: &str = "public";
/// The longest name that PostgreSQL keeps whole.
const NAME_BYTES_MAX: usize = 63;

/// How far the connection is encrypted and the server proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SslMode {
    /// Not.
    Disable,
    /// Encrypted when the server can.
    Prefer,
    /// Encrypted, by whoever answers.
    Require,
    /// Encrypted, by a server whose certificate is valid for the host.
    VerifyFull,
}

impl SslMode {
    const ALL: [(&str, Self); 4] = [
        ("disable", Self::Disable),
        ("prefer", Self::Prefer),
        ("require", Self::Require),
        ("verify-full", Self::VerifyFull),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, mode)| *mode == self).map_or("", |(name, _)| name)
    }
}

/// A database of a PostgreSQL server, and how to use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PostgresUrl {
    pub(crate) user: String,
    /// Names, addresses, or folders with a socket, each with its port; the first that answers is used.
    pub(crate) hosts: Vec<(String, u16)>,
    pub(crate) database: String,
    pub(crate) schema: String,
    pub(crate) ssl_mode: SslMode,
    pub(crate) ssl_root: Option<PathBuf>,
    pub(crate) synchronous_commit: bool,
    pub(crate) notify: Option<String>,
    /// How long a statement of a steward may take.
    pub(crate) statement_timeout: Option<Duration>,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) application_name: Option<String>,
    pub(crate) options: Option<String>,
    pub(crate) password_file: Option<PathBuf>,
}

/// `url`, which may be no url at all, without what may be a password, for messages.
#[must_use]
pub fn redact(url: &str) -> String {
    // Also where the scheme is mistyped.
    let parts = url.split_once("://").map(|(scheme, rest)| (scheme, "://", rest));
    let parts = parts.or_else(|| url.split_once(':').map(|(scheme, rest)| (scheme, ":", rest)));
    let Some((scheme, mark, rest)) = parts else { return url.to_owned() };
    // Without a scheme that was its end, or the user's.
    let (scheme, mark, rest) = match mark {
        ":" if rest.contains('@') && !rest.starts_with('/') => ("", "", url),
        _ => (scheme, mark, rest),
    };
    // Of a password or of a parameter, who knows: nothing is shown from where either may begin.
    if let (Some(query), Some(at)) = (rest.find('?'), rest.rfind('@'))
        && query < at
    {
        let shown = rest.split([':', '?']).next().unwrap_or_default();
        return format!("{scheme}{mark}{shown}…");
    }
    // A password may hold unencoded characters of any kind: everything up to the last @ may be part of it.
    let (login, after) = rest.rsplit_once('@').map_or((None, rest), |(l, after)| (Some(l), after));
    let login = login.map_or_else(String::new, |login| match login.split_once(':') {
        Some((user, _)) => format!("{user}:***@"),
        None => format!("{login}@"),
    });
    // Any parameter may be one, by whatever name.
    let after = after.split_once('?').map_or_else(|| after.to_owned(), |(a, _)| format!("{a}?…"));
    format!("{scheme}{mark}{login}{after}")
}

/// Takes the parts of a url one after the other.
struct Parser {
    url: PostgresUrl,
    password: Option<Secret>,
    port: Option<u16>,
}

impl PostgresUrl {
    /// Reads what stands after `postgres://`, and remembers the password.
    pub(crate) fn parse(rest: &str) -> Result<Self, String> {
        let (rest, query) = rest.split_once('?').map_or((rest, ""), |(rest, query)| (rest, query));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, word) = login.split_once(':').map_or((login, None), |(u, w)| (u, Some(w)));
        let url = Self {
            user: decode(user)?,
            hosts: hosts_of(hosts)?,
            database: decode(database)?,
            schema: DEFAULT_SCHEMA.to_owned(),
            ssl_mode: SslMode::Prefer,
            ssl_root: None,
            synchronous_commit: true,
            notify: None,
            statement_timeout: None,
            connect_timeout: None,
            application_name: None,
            options: None,
            password_file: None,
        };
        let password = word.map(decode).transpose()?.map(Secret::new);
        let mut parser = Parser { url, password, port: None };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or("a parameter without a value")?;
            parser.parameter(name, decode(value)?)?;
        }
        parser.finish()
    }

    /// Who is asked for what, without parameters: what messages name.
    pub(crate) fn place(&self) -> String {
        let plain = Self { schema: DEFAULT_SCHEMA.to_owned(), ..self.clone() };
        plain.base()
    }

    /// What a password belongs to.
    pub(crate) fn account(&self) -> String {
        self.base()
    }

    fn base(&self) -> String {
        let folders = self.hosts.iter().all(|(host, _)| host.starts_with('/'));
        let user = encode(&self.user);
        let database = encode(&self.database);
        let list = |each: fn(&(String, u16)) -> String| {
            self.hosts.iter().map(each).collect::<Vec<_>>().join(",")
        };
        if folders {
            let hosts = list(|(host, _)| encode(host));
            let ports = list(|(_, port)| port.to_string());
            let port = if self.hosts.iter().all(|(_, port)| *port == DEFAULT_PORT) {
                String::new()
            } else {
                format!("&port={ports}")
            };
            return format!("postgres://{user}@/{database}?host={hosts}{port}");
        }
        let hosts = list(|(host, port)| {
            let host = if host.contains(':') { format!("[{host}]") } else { encode(host) };
            if *port == DEFAULT_PORT { host } else { format!("{host}:{port}") }
        });
        format!("postgres://{user}@{hosts}/{database}")
    }
}

impl Parser {
    fn parameter(&mut self, name: &str, value: String) -> Result<(), String> {
        let url = &mut self.url;
        let wrong = |what: &str| Err(format!("{name} must be {what}"));
        match name {
            "host" => url.hosts = hosts_of(&value)?,
            "port" => match value.split(',').next().and_then(port_of) {
                Some(port) if !value.contains(',') || one_port(&value) => self.port = Some(port),
                _ => return wrong("one number for all hosts"),
            },
            "user" => url.user = value,
            "dbname" => url.database = value,
            "password" => self.password = Some(Secret::new(value)),
            "password_file" | "passfile" => url.password_file = Some(absolute(&value)?),
            "schema" if is_name(&value) => url.schema = value,
            "schema" => return wrong("a name of at most 63 bytes"),
            "notify" if is_name(&value) => url.notify = Some(value),
            "notify" => return wrong("a channel's name of at most 63 bytes"),
            "sslmode" => match SslMode::ALL.iter().find(|(name, _)| *name == value) {
                Some((_, mode)) => url.ssl_mode = *mode,
                None => return wrong("disable, prefer, require or verify-full"),
            },
            "sslrootcert" if value == "system" => url.ssl_root = None,
            "sslrootcert" => url.ssl_root = Some(absolute(&value)?),
            "synchronous_commit" => match value.as_str() {
                "on" => url.synchronous_commit = true,
                "off" => url.synchronous_commit = false,
                _ => return wrong("on or off"),
            },
            "connect_timeout" => match value.parse() {
                Ok(seconds @ 1..=3600) => url.connect_timeout = Some(Duration::from_secs(seconds)),
                _ => return wrong("1 to 3600 seconds"),
            },
            "statement_timeout" => match value.strip_suffix("ms").unwrap_or(&value).parse() {
                Ok(ms @ 100..=3_600_000) => {
                    url.statement_timeout = Some(Duration::from_millis(ms));
                }
                _ => return wrong("100 to 3600000 milliseconds"),
            },
            "application_name" => url.application_name = Some(value),
            "options" => url.options = Some(value),
            _ => return Err(format!("unknown parameter `{name}`")),
        }
        Ok(())
    }

    fn finish(self) -> Result<PostgresUrl, String> {
        let Self { mut url, password, port } = self;
        if let Some(port) = port {
            url.hosts.iter_mut().for_each(|(_, of)| *of = port);
        }
        if url.user.is_empty() {
            let variables = ["PGUSER", "USER", "LOGNAME"];
            let user =
                variables.iter().find_map(|v| std::env::var(v).ok().filter(|u| !u.is_empty()));
            url.user = user.ok_or("the user is missing")?;
        }
        if url.database.is_empty() {
            url.database.clone_from(&url.user);
        }
        let texts = [&url.user, &url.database];
        if texts.iter().any(|t| t.contains('\0')) || url.hosts.iter().any(|(h, _)| h.contains('\0'))
        {
            return Err("a NUL character".to_owned());
        }
        if url.ssl_root.is_some() && url.ssl_mode != SslMode::VerifyFull {
            return Err("sslrootcert needs sslmode=verify-full".to_owned());
        }
        if let Some(password) = password {
            password::remember(&url.account(), password);
        }
        Ok(url)
    }
}

fn one_port(list: &str) -> bool {
    let mut ports = list.split(',');
    let first = ports.next();
    ports.all(|port| Some(port) == first)
}

fn port_of(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().ok().filter(|port| *port > 0) } else { None }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && !text.contains('\0')
}

fn absolute(path: &str) -> Result<PathBuf, String> {
    let path = std::path::absolute(path).map_err(|e| e.to_string())?;
    if path.to_str().is_none() {
        return Err("the path of the working directory is not UTF-8".to_owned());
    }
    Ok(path)
}

/// `a:1,b,[::1]:2`.
fn hosts_of(list: &str) -> Result<Vec<(String, u16)>, String> {
    let mut hosts = Vec::new();
    for each in list.split(',') {
        let each = decode(each)?;
        let (host, port) = if each.starts_with('/') {
            (each.as_str(), None)
        } else if let Some(rest) = each.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or("[ without ]")?;
            let port = rest.strip_prefix(':');
            if port.is_none() && !rest.is_empty() {
                return Err("between ] and the port there must be a colon".to_owned());
            }
            (host, port)
        } else {
            each.rsplit_once(':').map_or((each.as_str(), None), |(host, port)| (host, Some(port)))
        };
        if host.contains(':') && !each.starts_with(['[', '/']) {
            return Err("an IPv6 address needs brackets, as in [::1]:5432".to_owned());
        }
        let port = match port {
            None | Some("") => DEFAULT_PORT,
            Some(port) => port_of(port).ok_or("the port is not a number from 1 to 65535")?,
        };
        let host = if host.is_empty() { DEFAULT_HOST } else { host };
        let host = if host.starts_with('/') { host.to_owned() } else { host.to_lowercase() };
        hosts.push((host, port));
    }
    if hosts.iter().any(|(h, _)| h.starts_with('/'))
        && hosts.iter().any(|(h, _)| !h.starts_with('/'))
    {
        return Err("hosts and folders of sockets cannot be mixed".to_owned());
    }
    Ok(hosts)
}

/// Percent-decodes.
fn decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = after.get(..2).filter(|d| d.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.and_then(|d| std::str::from_utf8(d).ok());
        let byte = digits.and_then(|d| u8::from_str_radix(d, 16).ok());
        bytes.push(byte.ok_or("% without two hexadecimal digits")?);
        rest = after.get(2..).unwrap_or_default();
    }
    String::from_utf8(bytes).map_err(|_| "not UTF-8 after decoding".to_owned())
}

/// Percent-encodes everything that could mean something else.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base = self.base();
        f.write_str(&base)?;
        let mut mark = if base.contains('?') { '&' } else { '?' };
        let mut put = |name: &str, value: Option<String>| match value {
            None => Ok(()),
            Some(value) => {
                write!(f, "{}{name}={}", std::mem::replace(&mut mark, '&'), encode(&value))
            }
        };
        let path = |path: &Option<PathBuf>| path.as_ref().map(|p| p.display().to_string());
        put("schema", Some(self.schema.clone()).filter(|s| s != DEFAULT_SCHEMA))?;
        let mode = Some(self.ssl_mode).filter(|mode| *mode != SslMode::Prefer);
        put("sslmode", mode.map(|mode| mode.name().to_owned()))?;
        put("sslrootcert", path(&self.ssl_root))?;
        put("synchronous_commit", (!self.synchronous_commit).then(|| "off".to_owned()))?;
        put("notify", self.notify.clone())?;
        put("statement_timeout", self.statement_timeout.map(|t| t.as_millis().to_string()))?;
        put("connect_timeout", self.connect_timeout.map(|t| t.as_secs().to_string()))?;
        put("application_name", self.application_name.clone())?;
        put("options", self.options.clone())?;
        put("password_file", path(&self.password_file))
    }
}
