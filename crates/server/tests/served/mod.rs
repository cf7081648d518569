//! A daemon's routes on a port of their own, and what asks them.

#![allow(dead_code, unreachable_pub)]

use std::net::SocketAddr;
use std::sync::Arc;

use commonhold::prelude::*;
use commonhold::systems::sigils::{self, SigilCapacity};
use commonhold::systems::sigils::{SigilIdentity, SigilOptions};
use commonhold::systems::{customers, resonance};
use commonhold_server::{App, AppOptions, Parts, routes};
use serde_json::Value;

/// Routes that are served until it is dropped.
pub struct Served {
    pub app: Arc<App>,
    pub address: SocketAddr,
    agent: ureq::Agent,
    runtime: Option<tokio::runtime::Runtime>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: ureq::http::HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    /// Checks that it is a problem of `status` that names `place`; its detail.
    #[track_caller]
    pub fn problem(&self, status: u16, place: Option<&str>) -> String {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.text);
        let json = self.json();
        assert_eq!(json["status"], status, "{json}");
        assert_eq!(json["field"].as_str(), place, "{json}");
        assert!(json["type"].as_str().unwrap().starts_with("urn:commonhold:problem:"), "{json}");
        assert!(!json["title"].as_str().unwrap().is_empty(), "{json}");
        let detail = json["detail"].as_str().unwrap().to_owned();
        assert!(!detail.is_empty() && !detail.contains('\n'), "{json}");
        detail
    }
}

/// A configuration with a table of every type, and small ones.
pub fn config() -> Config {
    let all = [
        "n:i64",
        "u:u64",
        "f:f64",
        "b:bool",
        "t:text(8)",
        "raw:bytes(4)",
        "j:json(32)",
        "at:timestamp",
    ];
    let tables = Config::ephemeral()
        .table(TableConfig::new("all", &all))
        .table(TableConfig::new("counters", &["n:i64"]))
        .table(TableConfig::new("few", &["n:i64"]).slots(2).history(History::Latest));
    let few = SigilCapacity { sigils: 2000, ..SigilCapacity::default() };
    let tables = sigils::configure(tables, &few);
    resonance::with_resonance(customers::with_customers(tables))
}

impl Served {
    pub fn new() -> Self {
        Self::of(config(), AppOptions::default())
    }

    pub fn of(config: Config, options: AppOptions) -> Self {
        let segment = Arc::new(Runtime::open(config).unwrap());
        let sigils = SigilIdentity::open(&segment, SigilOptions::new()).ok();
        Self::with(Parts { runtime: segment, pool: None, sigils, options })
    }

    pub fn with(parts: Parts) -> Self {
        let app = Arc::new(App::new(parts));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let router = routes::router(Arc::clone(&app));
        let listener =
            runtime.block_on(async { tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap() });
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move { axum::serve(listener, router).await });
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .max_redirects(0)
            // An answer that comes before its request has wholly come ends the connection, without a word here.
            .max_idle_connections(0)
            .build()
            .new_agent();
        Self { app, address, agent, runtime: Some(runtime) }
    }

    /// Asks with headers and a body.
    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let agent = &self.agent;
        let mut answer = if body.is_empty() {
            agent.run(request.body(()).unwrap()).unwrap()
        } else {
            agent.run(request.body(body.to_vec()).unwrap()).unwrap()
        };
        let text = answer.body_mut().read_to_string().unwrap();
        Answer { status: answer.status().as_u16(), headers: answer.headers().clone(), text }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    /// Sends JSON.
    #[track_caller]
    pub fn send(&self, method: &str, path: &str, body: &str) -> Answer {
        self.send_if(method, path, &[], body)
    }

    /// Sends JSON with further headers.
    #[track_caller]
    pub fn send_if(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut all = vec![("content-type", "application/json")];
        all.extend(headers);
        self.ask(method, path, &all, body.as_bytes())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(std::time::Duration::from_secs(10));
        }
    }
}
