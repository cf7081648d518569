//! The daemon as a program holds it: started, asked where it listens, stopped.
//!
//! Starting: options and token are checked, the address is bound, the segment is opened, workers are started, and then
//! connections are served. Stopping goes the other way round: no new connections, requests under way end, jobs and workers end, and
//! everything committed is flushed to the store. Each step has a limit of its own, and [`Server::hurry`] cuts the waits short.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use commonhold::admin;
use commonhold::core::Space;
use nix::sys::resource::{Resource, getrlimit};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;

use crate::app::{App, AppOptions, Parts};
use crate::conn::Limits;
use crate::error::ServeError;
use crate::hall::{Hall, Stop};
use crate::layers::Rules;
use crate::layers::host::Hosts;
use crate::options::ServerOptions;
use crate::token::Token;
use crate::{lag, notify, parts, routes};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;
/// Descriptors that are kept for other things than connections: the store's files, workers, threads.
const OTHER_DESCRIPTORS: u32 = 256;
/// How long a stop in a hurry still waits for each thing.
const HURRIED: Duration = Duration::from_secs(1);
/// How long threads that wait for others are waited for.
const THREADS: Duration = Duration::from_secs(1);

/// A daemon that runs. When it is dropped it is stopped as with [`Server::hurry`].
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: watch::Sender<Stop>,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    threads: tokio::runtime::Runtime,
    app: Arc<App>,
    served: mpsc::Receiver<()>,
    grace: Duration,
    drain_time: Duration,
}

impl Server {
    /// Starts a daemon; it serves when this returns. To be called, like [`Server::stop`], from a thread that may block.
    ///
    /// # Errors
    /// [`ServeError`]; nothing is left then.
    pub fn start(options: ServerOptions) -> Result<Self, ServeError> {
        options.check()?;
        let token = options.token_file.as_deref().map(Token::read).transpose()?;
        if token.is_none() && !options.listen.ip().to_canonical().is_loopback() {
            return Err(ServeError::TokenNeeded { address: options.listen });
        }
        let threads = threads(&options)?;
        let listener = {
            let _inside = threads.enter();
            listen(options.listen)?
        };
        let address = listener.local_addr().map_err(system("ask for the address"))?;
        let started = parts::start(&options)?;
        let mut limits = AppOptions { needs_token: token.is_some(), ..AppOptions::default() };
        limits.human_map.clone_from(&options.human_map);
        limits.task_wait = limits.task_wait.min(options.request_time);
        let wait = options.request_time.max(Duration::from_secs(1));
        limits.durable_wait_max = limits.durable_wait_max.min(wait);
        limits.body_bytes = usize::try_from(options.body_bytes).unwrap_or(usize::MAX);
        let parts::Started { runtime, pool, sigils } = started;
        let parts = Parts { runtime, pool, sigils, options: limits };
        let app = Arc::new(App::new(parts));
        if let Some(sigils) = app.sigils() {
            parts::start_jobs(app.runtime(), sigils)?;
        }
        let rules = Rules::new(&options, token, Hosts::new(address));
        let router = rules.guard(routes::router(Arc::clone(&app)));
        let (stop, stops) = watch::channel(Stop::Not);
        let (tell, served) = mpsc::channel();
        let limits = Limits {
            header: options.header_time,
            idle: options.idle_time,
            body: options.body_time,
            stall: options.stall_time,
        };
        let hall = Arc::new(Hall::new(connections(options.connections), limits));
        let grace = options.grace;
        threads.spawn(async move {
            hall.serve(listener, router, stops, grace).await;
            let _ = tell.send(());
        });
        threads.spawn(notify::keep_watchdog());
        threads.spawn(lag::tell(Arc::clone(app.runtime().space())));
        app.set_ready(true);
        let segment = app.runtime().path().map(|path| path.display().to_string());
        tracing::info!(%address, segment = segment.unwrap_or_default(), "serving");
        notify::ready(&format!("serving at http://{address}"));
        let drain_time = options.drain_time;
        let running = Running { threads, app, served, grace, drain_time };
        Ok(Self { address, stop, running: Mutex::new(Some(running)) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops: no new connections; requests under way end; jobs end; workers end after the tasks that they have; what is committed
    /// is flushed to the store. A second call waits for the first one.
    ///
    /// # Errors
    /// [`ServeError::NotStored`] when the store does not take everything in time: the segment still has it.
    pub fn stop(&self) -> Result<(), ServeError> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(running) = running.take() else { return Ok(()) };
        running.app.set_ready(false);
        tracing::info!("stopping");
        notify::stopping();
        self.stop
            .send_if_modified(|now| std::mem::replace(now, Stop::Gently.max(*now)) < Stop::Gently);
        running.end(&self.stop)?;
        tracing::info!("stopped; everything is in the store");
        Ok(())
    }

    /// Cuts the waits of a stop short, also of one that has not begun: requests under way are cut off, workers are
    /// killed, and what is committed is flushed for a second.
    pub fn hurry(&self) {
        self.stop.send_if_modified(|now| std::mem::replace(now, Stop::Now) < Stop::Now);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.hurry();
        if let Err(error) = self.stop() {
            tracing::error!(%error, "the daemon was dropped");
        }
    }
}

impl Running {
    fn end(self, stop: &watch::Sender<Stop>) -> Result<(), ServeError> {
        let Self { threads, app, served, grace, drain_time } = self;
        // It ends by itself: after the grace, or sooner.
        let _ = served.recv();
        threads.shutdown_timeout(THREADS);
        if let Some(sigils) = app.sigils().cloned()
            && let Some(Err(error)) = bounded(stop, "stop-jobs", move || sigils.stop(grace))
        {
            tracing::warn!(%error, "jobs were stopped");
        }
        if let Some(pool) = app.take_pool() {
            let limit = if *stop.borrow() == Stop::Now { Duration::ZERO } else { grace };
            if let Some(Err(error)) = bounded(stop, "stop-workers", move || pool.stop(limit)) {
                tracing::warn!(%error, "workers were stopped");
            }
        }
        let runtime = Arc::clone(app.runtime());
        let space = Arc::clone(runtime.space());
        app.close();
        drop(app);
        let drained = bounded(stop, "drain", move || {
            let drained = runtime.drain(drain_time);
            // The last one out hands the steward's role over, or drains what came meanwhile.
            drop(runtime);
            drained
        });
        match drained {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => not_stored(&space, error.to_string()),
            None => not_stored(&space, "it was told to hurry".to_owned()),
        }
    }
}

fn not_stored(space: &Space, why: String) -> Result<(), ServeError> {
    let versions = admin::unstored(space)?;
    if versions == 0 {
        return Ok(());
    }
    let segment = space.segment().path().map(|path| path.display().to_string()).unwrap_or_default();
    Err(ServeError::NotStored { segment, versions, why })
}

/// Does what may take long, and waits for it; once the stop is in a hurry, for a second at most: then it is left to end
/// by itself.
fn bounded<R: Send + 'static>(
    stop: &watch::Sender<Stop>,
    name: &str,
    work: impl FnOnce() -> R + Send + 'static,
) -> Option<R> {
    let (tell, done) = mpsc::channel();
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _ = tell.send(work());
    });
    let Ok(thread) = thread else { return None };
    let mut hurried: Option<Instant> = None;
    loop {
        match done.recv_timeout(Duration::from_millis(20)) {
            Ok(result) => {
                let _ = thread.join();
                return Some(result);
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => return None,
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        if *stop.borrow() == Stop::Now {
            let since = *hurried.get_or_insert_with(Instant::now);
            if since.elapsed() >= HURRIED {
                return None;
            }
        }
    }
}

fn system(what: &'static str) -> impl Fn(std::io::Error) -> ServeError {
    move |error| ServeError::System { what, error }
}

/// As many connections as there are descriptors for, beside those for other things.
fn connections(asked: u32) -> u32 {
    let Ok((descriptors, _)) = getrlimit(Resource::RLIMIT_NOFILE) else { return asked };
    let room =
        u32::try_from(descriptors).unwrap_or(u32::MAX).saturating_sub(OTHER_DESCRIPTORS).max(1);
    if room < asked {
        tracing::warn!(
            descriptors,
            connections = room,
            "fewer connections than asked for: raise the limit of open files"
        );
    }
    asked.min(room)
}

fn threads(options: &ServerOptions) -> Result<tokio::runtime::Runtime, ServeError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(options.threads as usize)
        .thread_name("serve")
        .enable_all()
        .build()
        .map_err(system("start threads"))
}

fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let bound = socket.and_then(|socket| {
        // Connections of a daemon before this one may linger in the kernel.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    });
    bound.map_err(|error| {
        let why = if error.kind() == std::io::ErrorKind::AddrInUse {
            "somebody listens there already; stop him, or choose another address (--listen)"
                .to_owned()
        } else {
            error.to_string()
        };
        ServeError::Listen { address, why }
    })
}
