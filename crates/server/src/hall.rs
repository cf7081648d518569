//! The hall: all connections of the daemon, how many there may be, and who goes when it is full.
//!
//! There is a place for each connection. When none is left, those that have been unused for longest are closed, so that a
//! newcomer is served however many sit there idle; and then those whose requests' bodies do not come. Where all are at work,
//! newcomers wait: one here, the others in the kernel's queue.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::CONNECTION;
use axum::response::Response;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};
use tower::ServiceExt;

use crate::conn::{Arriving, Busy, Conn, Leaving, Limits, Wire};

/// The longest pause between two looks at all connections.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The pause after an accept that failed for want of descriptors or memory.
const NO_MEANS: Duration = Duration::from_millis(50);
/// How long somebody who is told to make room may take before others are.
const PRESSED: Duration = Duration::from_millis(100);
/// What has been sent when the daemon begins to stop is read for so long.
const LAST_READ: Duration = Duration::from_millis(100);
/// How long ended connections are waited for.
const CUT: Duration = Duration::from_secs(1);
/// The largest head of a request, and the buffer for bodies.
const HEAD_BYTES: usize = 64 * 1024;

/// How far the daemon's stop has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stop {
    /// It runs.
    Not,
    /// Requests under way end, no new ones begin.
    Gently,
    /// Everything that waits ends now.
    Now,
}

/// All connections.
#[derive(Debug)]
pub(crate) struct Hall {
    places: Arc<Semaphore>,
    size: u32,
    limits: Limits,
    conns: Mutex<HashMap<u64, Arc<Conn>>>,
}

impl Hall {
    pub(crate) fn new(size: u32, limits: Limits) -> Self {
        let places = Arc::new(Semaphore::new(size as usize));
        Self { places, size, limits, conns: Mutex::default() }
    }

    fn conns(&self) -> MutexGuard<'_, HashMap<u64, Arc<Conn>>> {
        self.conns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts until the stop begins; then waits until the requests under way have ended, at most for `grace`.
    pub(crate) async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        router: Router,
        mut stop: watch::Receiver<Stop>,
        grace: Duration,
    ) {
        let janitor = tokio::spawn(Arc::clone(&self).clean());
        let (tell, told) = watch::channel(Stop::Not);
        let mut begins = stop.clone();
        tokio::select! {
            () = self.accept(&listener, &router, &told) => {}
            () = reached(&mut begins, Stop::Gently) => {}
        }
        drop(listener);
        tell.send_replace(Stop::Gently);
        tokio::select! {
            () = self.empty() => {}
            () = sleep(grace) => tracing::warn!("requests under way are cut off: the grace is over"),
            () = reached(&mut stop, Stop::Now) => {}
        }
        tell.send_replace(Stop::Now);
        let _ = timeout(CUT, self.empty()).await;
        janitor.abort();
    }

    async fn accept(
        self: &Arc<Self>,
        listener: &TcpListener,
        router: &Router,
        stop: &watch::Receiver<Stop>,
    ) {
        for number in 0.. {
            let stream = loop {
                match listener.accept().await {
                    Ok((stream, _)) => break stream,
                    Err(error) => self.failed(&error).await,
                }
            };
            let place = self.place().await;
            let _ = stream.set_nodelay(true);
            let conn = Arc::new(Conn::new());
            self.conns().insert(number, Arc::clone(&conn));
            let seat = Seat { hall: Arc::clone(self), number, _place: place };
            tokio::spawn(converse(seat, stream, conn, router.clone(), stop.clone()));
        }
    }

    /// A connection that was given up before it was accepted is nobody's loss; without descriptors somebody must go.
    async fn failed(&self, error: &std::io::Error) {
        use std::io::ErrorKind as Kind;
        if matches!(
            error.kind(),
            Kind::ConnectionAborted | Kind::ConnectionReset | Kind::Interrupted
        ) {
            return;
        }
        tracing::warn!(%error, "cannot accept a connection; the one that is idle longest is closed");
        self.press();
        sleep(NO_MEANS).await;
    }

    /// A place for the next connection, as soon as there is one.
    async fn place(&self) -> OwnedSemaphorePermit {
        loop {
            if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
                return place;
            }
            self.press();
            if let Ok(Ok(place)) = timeout(PRESSED, Arc::clone(&self.places).acquire_owned()).await
            {
                return place;
            }
        }
    }

    /// Asks those to go that could be spared for longest: some at once, so that a flood does not look at all of them for
    /// each newcomer.
    fn press(&self) {
        let spare = |conn: &Arc<Conn>| Some((conn.spare()?, Arc::clone(conn)));
        let mut spares: Vec<_> = self.conns().values().filter_map(spare).collect();
        if spares.is_empty() {
            self.give_up();
            return;
        }
        spares.sort_unstable_by_key(|(time, _)| std::cmp::Reverse(*time));
        spares.iter().take(self.some()).for_each(|(_, conn)| conn.press());
    }

    /// Asks those to go whose requests' bodies have been coming for longest, and for longer than others that need the
    /// place have to wait; whether there were any.
    pub(crate) fn give_up(&self) -> bool {
        let slow = |conn: &Arc<Conn>| {
            let time = conn.arriving().filter(|time| *time >= self.limits.body)?;
            Some((time, Arc::clone(conn)))
        };
        let mut slow: Vec<_> = self.conns().values().filter_map(slow).collect();
        slow.sort_unstable_by_key(|(time, _)| std::cmp::Reverse(*time));
        slow.iter().take(self.some()).for_each(|(_, conn)| conn.give_up());
        !slow.is_empty()
    }

    /// So many go at once, so that a flood does not look at all of them for each newcomer.
    fn some(&self) -> usize {
        1 + self.size as usize / 64
    }

    /// Looks after the time limits, for ever.
    async fn clean(self: Arc<Self>) {
        let every = (self.limits.least() / 4).clamp(Duration::from_millis(5), LOOK_EVERY);
        loop {
            sleep(every).await;
            let conns = self.conns();
            let over = conns.values().filter(|conn| conn.is_over(&self.limits));
            over.for_each(|conn| conn.look.notify_one());
        }
    }

    /// Waits until nobody is there.
    async fn empty(&self) {
        let _ = self.places.acquire_many(self.size).await;
    }
}

/// Waits until the stop has come so far.
pub(crate) async fn reached(stop: &mut watch::Receiver<Stop>, phase: Stop) {
    // Who could tell is gone: nothing will run any more.
    let _ = stop.wait_for(|now| *now >= phase).await;
}

/// A connection's place; given back when its task ends, however it does.
struct Seat {
    hall: Arc<Hall>,
    number: u64,
    _place: OwnedSemaphorePermit,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.hall.conns().remove(&self.number);
    }
}

/// Serves a connection until it ends or is ended.
async fn converse(
    seat: Seat,
    stream: TcpStream,
    conn: Arc<Conn>,
    router: Router,
    mut stop: watch::Receiver<Stop>,
) {
    let mut http = http1::Builder::new();
    // Its own limit would hold for idle connections too; the hall has both.
    // Who has sent all that he wants to send may still wait for the answer.
    http.header_read_timeout(None).max_buf_size(HEAD_BYTES).half_close(true);
    let of = Arc::clone(&conn);
    let hall = Arc::clone(&seat.hall);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Arc::clone(&hall));
        answer(request, Arc::clone(&of), router.clone())
    });
    let talk = http.serve_connection(Wire::new(stream, Arc::clone(&conn)), service);
    let mut talk = std::pin::pin!(talk);
    let mut hurry = stop.clone();
    let gently = async {
        reached(&mut stop, Stop::Gently).await;
    };
    let mut gently = std::pin::pin!(gently);
    let mut is_last = false;
    let mut last_read = std::pin::pin!(sleep(Duration::MAX));
    loop {
        tokio::select! {
            biased;
            () = reached(&mut hurry, Stop::Now) => return,
            _ = &mut talk => return,
            () = conn.look.notified() => {
                if conn.is_over(&seat.hall.limits) {
                    return;
                }
            }
            () = &mut gently, if !is_last => {
                is_last = true;
                talk.as_mut().graceful_shutdown();
                last_read.as_mut().reset(tokio::time::Instant::now() + LAST_READ);
            }
            () = &mut last_read, if is_last => {
                if conn.unused().is_some() {
                    return;
                }
                // A request is under way: the connection is closed behind its answer.
                last_read.as_mut().reset(tokio::time::Instant::now() + LAST_READ);
            }
        }
    }
}

/// Answers a request.
async fn answer(
    request: hyper::Request<Incoming>,
    conn: Arc<Conn>,
    router: Router,
) -> Result<Response, Infallible> {
    let busy: Busy = conn.begin(!request.body().is_end_stream());
    let mut request: Request = request.map(|body| Body::new(Arriving::new(body, &conn)));
    request.extensions_mut().insert(Arc::clone(&conn));
    let mut response = router.oneshot(request).await?;
    if conn.has_open_body() {
        // The connection ends behind this answer, and a client that was not told might send its next request on it.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response.map(|body| Body::new(Leaving::new(body, busy))))
}
