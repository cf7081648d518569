//! A client of its own, over connections that are kept: it remembers each id that was acknowledged.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::Outcome;

/// No answer takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection.
struct Connection {
    stream: BufReader<TcpStream>,
    address: String,
}

impl Connection {
    fn open(address: &str) -> Outcome<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream: BufReader::new(stream), address: address.to_owned() })
    }

    /// Sends a request, and reads its status and body.
    fn ask(&mut self, method: &str, path: &str, body: &str) -> Outcome<(u16, Value)> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        let (mut line, mut length) = (String::new(), 0);
        self.stream.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|s| s.parse().ok());
        let status = status.ok_or_else(|| format!("no status in {line:?}"))?;
        loop {
            line.clear();
            if self.stream.read_line(&mut line)? == 0 {
                return Err("the connection ended within an answer".into());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
        }
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes)?;
        Ok((status, serde_json::from_slice(&bytes)?))
    }
}

/// A sigil that was acknowledged.
pub(crate) struct Told {
    id: String,
    number: usize,
}

/// The payload of a number: of all lengths up to some hundred bytes, with all that JSON has.
fn payload(number: usize) -> String {
    let text = "ä\\\"\\n€".repeat(number % 40);
    format!(
        "{{\"number\":{number},\"text\":\"{text}\",\"more\":[{number}.5,null,{}]}}",
        number.is_multiple_of(2)
    )
}

/// Encodes payloads `from` to `from + count`, through so many connections at once.
pub(crate) fn encode(
    address: &str,
    from: usize,
    count: usize,
    connections: usize,
) -> Outcome<Vec<Told>> {
    let one = |at: usize| -> Result<Vec<Told>, String> {
        let work = || -> Outcome<Vec<Told>> {
            let mut connection = Connection::open(address)?;
            let mut told = Vec::new();
            for number in (from..from + count).skip(at).step_by(connections) {
                let body = format!("{{\"payload\":{}}}", payload(number));
                let (status, answer) = connection.ask("POST", "/v1/sigils", &body)?;
                let id = answer.get("id").and_then(Value::as_str).filter(|_| status == 201);
                let id = id.ok_or_else(|| format!("{status} {answer} for {body}"))?.to_owned();
                told.push(Told { id, number });
            }
            Ok(told)
        };
        work().map_err(|e| e.to_string())
    };
    let all: Vec<Result<Vec<Told>, String>> = std::thread::scope(|scope| {
        let start = |at| {
            let thread = std::thread::Builder::new().stack_size(256 << 10);
            thread.spawn_scoped(scope, move || one(at))
        };
        let threads: Vec<_> = (0..connections).map(start).collect();
        let join = |thread: std::io::Result<std::thread::ScopedJoinHandle<'_, _>>| match thread {
            Ok(thread) => thread.join().unwrap_or_else(|_| Err("a client panicked".to_owned())),
            Err(e) => Err(e.to_string()),
        };
        threads.into_iter().map(join).collect()
    });
    let mut told = Vec::with_capacity(count);
    for one in all {
        told.extend(one?);
    }
    Ok(told)
}

/// Whether ids are all different, and each is there with its payload; how many are not.
pub(crate) fn missing(address: &str, told: &[Told]) -> Outcome<usize> {
    let ids: std::collections::HashSet<&str> = told.iter().map(|t| t.id.as_str()).collect();
    let mut wrong = told.len() - ids.len();
    let mut connection = Connection::open(address)?;
    for Told { id, number } in told {
        let (status, sigil) = connection.ask("GET", &format!("/v1/sigils/{id}"), "")?;
        let want: Value = serde_json::from_str(&payload(*number))?;
        wrong += usize::from(status != 200 || sigil.get("payload") != Some(&want));
    }
    Ok(wrong)
}

/// How many are not in the database with their payload; and how many rows it has.
pub(crate) fn not_stored(database: &Path, told: &[Told]) -> Outcome<(usize, u64)> {
    let database = rusqlite::Connection::open(database)?;
    let mut one = database.prepare("SELECT payload FROM sigils WHERE key = ?1")?;
    let mut wrong = 0;
    for Told { id, number } in told {
        let row: Result<String, _> = one.query_row([id], |row| row.get(0));
        let found: Option<Value> = row.ok().and_then(|text| serde_json::from_str(&text).ok());
        let want: Value = serde_json::from_str(&payload(*number))?;
        wrong += usize::from(found != Some(want));
    }
    let rows = database.query_row("SELECT count(*) FROM sigils", [], |row| row.get::<_, i64>(0))?;
    Ok((wrong, rows.cast_unsigned()))
}
