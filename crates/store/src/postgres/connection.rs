//! One connection: made, prepared, and waited for with a limit.
//!
//! The driver is asynchronous, so that statements can be sent one after the other without waiting for each answer, and
//! so that no wait is endless: a server that neither answers nor closes would hold the steward for ever. Each connection
//! has a runtime of its own on the thread that waits; with it the socket goes.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::timeout;
use tokio_postgres::config::{SslMode as DriverSslMode, TargetSessionAttrs};
use tokio_postgres::{AsyncMessage, Client, Config, Error, Row, Statement};

use super::error::{denies_writes, of, of_connecting};
use super::tls;
use crate::error::StoreError;
use crate::url::password;
use crate::url::postgres::{PostgresUrl, SslMode};

/// How long making a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a statement of a steward may take.
const STATEMENT: Duration = Duration::from_secs(30);
/// How much longer the answer may be under way.
const ANSWER: Duration = Duration::from_secs(5);
/// How long a statement waits for a lock that another program holds.
const LOCK: Duration = Duration::from_secs(10);
/// How long a steward waits: he tries again anyhow, and what he waits for can be told only when he has given up.
const STEWARD_LOCK: Duration = Duration::from_secs(1);
/// How long a session may stop in the middle of a transaction before the server ends it.
const IDLE: Duration = Duration::from_secs(10);
/// How long sent bytes may stay without an answer of the peer's kernel.
const UNACKNOWLEDGED: Duration = Duration::from_secs(15);
/// The oldest server whose statements are known to be these.
const OLDEST: u32 = 12;
/// What the sessions of this runtime are called; only such are ended by a take-over.
pub(super) const APPLICATION: &str = "commonhold";

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Reading, for as long as it takes.
    Read,
    /// Also writing.
    Write,
}

/// A runtime that is dropped without waiting: also where that is forbidden, within another runtime, and while a name is
/// being looked up.
#[derive(Debug)]
struct Driver(Option<Runtime>);

impl Drop for Driver {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    driver: Driver,
    client: Client,
    path: String,
    limit: Option<Duration>,
    statements: Mutex<HashMap<String, Statement>>,
    unconfirmed: Arc<AtomicBool>,
    /// The server's process.
    pub(super) pid: i32,
}

impl Connection {
    /// Connects, and prepares the session.
    pub(super) fn open(url: &PostgresUrl, purpose: Purpose) -> Result<Self, StoreError> {
        let path = url.place();
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| StoreError::Database { path: path.clone(), why: e.to_string() })?;
        let driver = Driver(Some(runtime));
        let limit = Some(url.connect_timeout.unwrap_or(CONNECT));
        let Connected { client, unconfirmed } = driver.run(&path, connect_to(url, &path))?;
        let statements = Mutex::default();
        let mut connection = Self { driver, client, path, limit, statements, unconfirmed, pid: 0 };
        connection.prepare(url, purpose)?;
        Ok(connection)
    }

    /// A statement, prepared once a connection.
    pub(super) fn statement(&self, sql: &str) -> Result<Statement, StoreError> {
        let kept = self.statements.lock().unwrap_or_else(PoisonError::into_inner).get(sql).cloned();
        if let Some(statement) = kept {
            return Ok(statement);
        }
        let statement = self.wait(self.client.prepare(sql))?;
        let mut statements = self.statements.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(statements.entry(sql.to_owned()).or_insert(statement).clone())
    }

    /// What statements are given to.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// What messages name.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    fn prepare(&mut self, url: &PostgresUrl, purpose: Purpose) -> Result<(), StoreError> {
        let schema = quoted(&url.schema);
        let commit = if url.synchronous_commit { "on" } else { "off" };
        // Rows that the user may not see are an error: left out unseen, they would be taken for removed ones.
        // Claims, loading and audits plan each statement for the arrays and the tables as they are: a plan that was made
        // while a table was small would read all of it for ever. A steward does otherwise, see [`Connection::serve`].
        let settings = format!(
            "SET search_path = {schema}; SET synchronous_commit = {commit}; SET row_security = off;
             SET client_min_messages = warning; SET lock_timeout = {};
             SET idle_in_transaction_session_timeout = {}; SET statement_timeout = 0;
             SET cursor_tuple_fraction = 1; SET standard_conforming_strings = on;
             SET plan_cache_mode = force_custom_plan",
            LOCK.as_millis(),
            if purpose == Purpose::Read { 0 } else { IDLE.as_millis() },
        );
        let about = "SELECT pg_is_in_recovery(),
                        current_setting('default_transaction_read_only') = 'on',
                        pg_backend_pid(), current_setting('server_encoding')";
        self.wait(self.client.batch_execute(&settings))?;
        let row = self.one(about, &[])?;
        let path = self.path.clone();
        let fail = |e: Error| of(&path, &e);
        let why = match (row.try_get(0).map_err(fail)?, row.try_get(1).map_err(fail)?) {
            (true, _) => "it is a replica",
            (_, true) => "default_transaction_read_only is on",
            (false, false) => "",
        };
        if !why.is_empty() && purpose != Purpose::Read {
            return Err(StoreError::Replica { path, why: why.to_owned() });
        }
        self.pid = row.try_get(2).map_err(fail)?;
        let encoding: String = row.try_get(3).map_err(fail)?;
        if encoding != "UTF8" {
            return Err(StoreError::Encoding { path, encoding });
        }
        if purpose == Purpose::Read {
            self.execute("SET default_transaction_read_only = on")?;
        }
        Ok(())
    }

    /// Takes the limit of making the connection away.
    pub(super) fn unlimited(&mut self) {
        self.limit = None;
    }

    /// Makes it a steward's: every statement has a limit.
    pub(super) fn serve(&mut self, url: &PostgresUrl) -> Result<(), StoreError> {
        let limit = url.statement_timeout.unwrap_or(STATEMENT);
        let (statement, lock) = (limit.as_millis(), STEWARD_LOCK.as_millis());
        self.limit = Some(limit + ANSWER);
        // What a steward does is small beside its tables and uses their keys: one plan serves for ever, and making it anew
        // would take longer than what it is for.
        self.execute(&format!(
            "SET statement_timeout = {statement}; SET lock_timeout = {lock};
             SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off;
             SET enable_hashjoin = off; SET enable_mergejoin = off"
        ))
    }

    /// Waits for what the driver does, no longer than this connection's purpose allows.
    pub(super) fn wait<T: Send>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send,
    ) -> Result<T, StoreError> {
        let limited = async {
            match self.limit {
                None => work.await.map_err(|e| of(&self.path, &e)),
                Some(limit) => match timeout(limit, work).await {
                    Ok(result) => result.map_err(|e| of(&self.path, &e)),
                    Err(_) => {
                        let why = format!("nothing came for {} s", limit.as_secs());
                        Err(StoreError::Slow { path: self.path.clone(), why })
                    }
                },
            }
        };
        self.block(limited)
    }

    /// Runs a future on this connection's runtime.
    pub(super) fn block<T: Send>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.driver.run(&self.path, work)
    }

    /// Fails when the commit that was just answered is on this server alone and was to be on a replica too. It is
    /// committed here: whoever sends it again finds it, and waits for the replica with what he commits then.
    pub(super) fn confirmed(&self) -> Result<(), StoreError> {
        if !self.unconfirmed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let why = "the wait for a replica was cancelled; what was written is on the primary alone";
        Err(StoreError::Slow { path: self.path.clone(), why: why.to_owned() })
    }

    /// The rows of a query.
    pub(super) fn rows(&self, sql: &str, with: Parameters<'_>) -> Result<Vec<Row>, StoreError> {
        self.wait(self.client.query(sql, with))
    }

    /// The only row of a query.
    pub(super) fn one(&self, sql: &str, with: Parameters<'_>) -> Result<Row, StoreError> {
        self.wait(self.client.query_one(sql, with))
    }

    /// Runs statements that give nothing.
    pub(super) fn execute(&self, sql: &str) -> Result<(), StoreError> {
        self.wait(self.client.batch_execute(sql))
    }
}

/// The parameters of a statement.
pub(super) type Parameters<'a> = &'a [&'a (dyn tokio_postgres::types::ToSql + Sync)];

impl Driver {
    /// Runs a future to its end, on another thread where this one belongs to a runtime already.
    fn run<T: Send>(
        &self,
        path: &str,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let Some(runtime) = &self.0 else { return Err(StoreError::NotAttached(path.to_owned())) };
        if Handle::try_current().is_err() {
            return runtime.block_on(work);
        }
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| runtime.block_on(work));
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

/// A client, whose connection the runtime of this task serves.
pub(super) struct Connected {
    pub(super) client: Client,
    /// Set when a commit was answered before the replicas have it.
    unconfirmed: Arc<AtomicBool>,
}

pub(super) async fn connect_to(url: &PostgresUrl, path: &str) -> Result<Connected, StoreError> {
    let mut failed: Option<StoreError> = None;
    // Each for itself: one that accepts and says nothing must not keep the next from being asked.
    for host in &url.hosts {
        match connect_to_host(url, host, path).await {
            Ok(connected) => return Ok(connected),
            // What a host that answers says tells more than that another one does not.
            Err(StoreError::Unreachable { .. }) if failed.is_some() => {}
            Err(error) => failed = Some(error),
        }
    }
    let none = || StoreError::Unreachable { path: path.to_owned(), why: "no host".to_owned() };
    Err(failed.unwrap_or_else(none))
}

async fn connect_to_host(
    url: &PostgresUrl,
    host: &(String, u16),
    path: &str,
) -> Result<Connected, StoreError> {
    let (config, limit) = (config(url, host, path)?, url.connect_timeout.unwrap_or(CONNECT));
    let tls = tls::connector(url).map_err(|why| StoreError::Tls { path: path.to_owned(), why })?;
    match timeout(limit, config.connect(tls)).await {
        Ok(Ok((client, connection))) => {
            check_version(path, connection.parameter("server_version").unwrap_or_default())?;
            let unconfirmed = Arc::new(AtomicBool::new(false));
            tokio::spawn(serve(connection, Arc::clone(&unconfirmed)));
            Ok(Connected { client, unconfirmed })
        }
        Ok(Err(e)) if denies_writes(&e) => {
            let why = format!("{}:{} is a replica, or set to read only", host.0, host.1);
            Err(StoreError::Replica { path: path.to_owned(), why })
        }
        Ok(Err(e)) => Err(of_connecting(path, &e)),
        Err(_) => {
            let why = format!("no answer for {} s", limit.as_secs());
            Err(StoreError::Unreachable { path: path.to_owned(), why })
        }
    }
}

/// Before anything is asked that an old server does not know.
fn check_version(path: &str, version: &str) -> Result<(), StoreError> {
    let major = version.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    match major.parse() {
        Ok(OLDEST..) => Ok(()),
        _ => Err(StoreError::TooOld { path: path.to_owned(), version: version.to_owned() }),
    }
}

/// Moves what goes to and comes from the server until one of them ends. Errors reach whoever waits for an answer.
async fn serve<S, T>(mut connection: tokio_postgres::Connection<S, T>, unconfirmed: Arc<AtomicBool>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
        // Somebody cancelled the wait for a replica: the server says so in words of his language, and then that the
        // transaction is committed.
        if let AsyncMessage::Notice(notice) = message
            && notice.routine() == Some("SyncRepWaitForLSN")
        {
            unconfirmed.store(true, Ordering::Relaxed);
        }
    }
}

fn config(
    url: &PostgresUrl,
    (host, port): &(String, u16),
    path: &str,
) -> Result<Config, StoreError> {
    let mut config = Config::new();
    config.user(&url.user).dbname(&url.database).host(host).port(*port);
    let login = |why| StoreError::Login { path: path.to_owned(), why };
    if let Some(password) = password::find(url).map_err(login)? {
        config.password(password.reveal());
    }
    let sockets = url.hosts.iter().all(|(host, _)| host.starts_with('/'));
    config.ssl_mode(match url.ssl_mode {
        // As libpq does: nobody is between the ends of a socket.
        _ if sockets => DriverSslMode::Disable,
        SslMode::Disable => DriverSslMode::Disable,
        SslMode::Prefer => DriverSslMode::Prefer,
        SslMode::Require | SslMode::VerifyFull => DriverSslMode::Require,
    });
    // Of several the one that takes rows: a replica that was promoted, say.
    if url.hosts.len() > 1 {
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    let application = url.application_name.as_deref();
    config.application_name(
        application.map_or_else(|| APPLICATION.to_owned(), |name| format!("{APPLICATION} {name}")),
    );
    if let Some(options) = &url.options {
        config.options(options);
    }
    config.connect_timeout(url.connect_timeout.unwrap_or(CONNECT));
    config.keepalives_idle(UNACKNOWLEDGED).tcp_user_timeout(UNACKNOWLEDGED);
    Ok(config)
}

/// Does one after the other, each sent before the one before it has its answer; gives each its result.
pub(super) async fn in_order<T>(
    work: impl IntoIterator<Item = impl Future<Output = Result<T, Error>>>,
) -> Vec<Result<T, Error>> {
    let mut pending: Vec<_> = work.into_iter().map(Box::pin).collect();
    let mut done: Vec<Option<Result<T, Error>>> = pending.iter().map(|_| None).collect();
    poll_fn(|context| {
        // In their order: the first round sends them.
        for (work, done) in pending.iter_mut().zip(&mut done) {
            if done.is_none()
                && let Poll::Ready(result) = work.as_mut().poll(context)
            {
                *done = Some(result);
            }
        }
        if done.iter().any(Option::is_none) { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    done.into_iter().flatten().collect()
}

/// A name as SQL writes it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
