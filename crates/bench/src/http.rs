//! What row 16 works with: the daemon, a bare route beside it, the load tool, and a client that remembers what it was
//! told.

pub(crate) mod bare;
pub(crate) mod client;
pub(crate) mod daemon;

use std::path::Path;
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::Outcome;

/// What the load tool's script prints.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Load {
    requests: u64,
    seconds: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// Answers that were no success.
    pub(crate) refused: u64,
    /// Connections that failed, and requests without an answer.
    pub(crate) broken: u64,
}

impl Load {
    /// Requests a second.
    pub(crate) fn rate(&self) -> f64 {
        self.requests as f64 / self.seconds
    }

    /// Has wrk encode for so many seconds through so many connections.
    pub(crate) fn put(address: &str, connections: u32, seconds: u32) -> Outcome<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/wrk/encode.lua");
        let (connections, time) = (format!("-c{connections}"), format!("-d{seconds}s"));
        let mut wrk = Command::new("wrk");
        wrk.args(["-t1", &connections, &time, "--timeout", "10s", "-s"]).arg(script);
        let wrk = wrk.arg(format!("http://{address}")).stdin(Stdio::null()).output();
        let output = wrk.map_err(|e| format!("wrk (apt-get install wrk): {e}"))?;
        let text = String::from_utf8(output.stdout)?;
        let line = text.lines().rfind(|line| line.starts_with('{'));
        let line = line.ok_or_else(|| format!("wrk: {}, {text}", output.status))?;
        Ok(serde_json::from_str(line)?)
    }
}
