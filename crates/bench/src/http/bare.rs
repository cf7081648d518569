//! A bare axum route: the same request is read, a number is given out, and nothing is kept.

use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Outcome;

/// The hidden first argument that makes the benchmark this server.
pub(crate) const SERVER: &str = "__bench-bare-http";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Encode {
    payload: Value,
}

#[derive(Serialize)]
struct Encoded {
    id: String,
}

static LAST: AtomicU64 = AtomicU64::new(0);

async fn encode(Json(encode): Json<Encode>) -> (StatusCode, Json<Encoded>) {
    let text = encode.payload.to_string();
    // FNV-1a, 64 bits.
    let state = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |state, byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let number = LAST.fetch_add(1, Ordering::Relaxed);
    (StatusCode::CREATED, Json(Encoded { id: format!("{state:016x}-{number:x}") }))
}

/// The life of the server; `args` are those behind [`SERVER`].
pub(crate) fn life(args: &[String]) -> ExitCode {
    match serve(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench: bare route: {e}");
            ExitCode::FAILURE
        }
    }
}

fn serve(args: &[String]) -> Outcome {
    let [parent] = args else { return Err("started by hand".into()) };
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    if nix::unistd::getppid().as_raw() != parent.parse::<i32>()? {
        return Err("the benchmark is gone".into());
    }
    let threads = std::thread::available_parallelism()?.get();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        println!("{}", listener.local_addr()?);
        std::io::stdout().flush()?;
        let routes = Router::new().route("/v1/sigils", post(encode));
        Ok(axum::serve(listener, routes).await?)
    })
}

/// The server's process; killed with the value.
pub(crate) struct Bare {
    child: Child,
    pub(crate) address: String,
}

impl Bare {
    pub(crate) fn start() -> Outcome<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([SERVER, &std::process::id().to_string()]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let out = child.stdout.take().ok_or("no pipe to the server")?;
        let mut bare = Self { child, address: String::new() };
        BufReader::new(out).read_line(&mut bare.address)?;
        bare.address.truncate(bare.address.trim_end().len());
        if bare.address.is_empty() { Err("the bare route did not start".into()) } else { Ok(bare) }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
