//! One connection: what it is at, how long already, and when it is over.
//!
//! A connection rests between two requests, receives the head of one, works on it, or lingers: after an answer that came
//! before the body was read, the rest is read and thrown away for a moment, so that the client gets to read the answer.
//! Each has its own time limit, which the hall looks after (see `hall.rs`); a client that does not take its answer is told
//! by a write that does not go on. A connection is ended by its own task alone, between two looks at it: what was answered is
//! never cut off by the idle limit.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// For how long the rest of a body is thrown away.
const LINGER: Duration = Duration::from_secs(2);

/// What a connection is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing has come since the last answer.
    Rests = 0,
    /// A part of a head has come.
    Head = 1,
    /// A request is under way.
    Busy = 2,
    /// The rest of a body is thrown away.
    Lingers = 3,
}

/// How long a connection may be at something.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) header: Duration,
    pub(crate) idle: Duration,
    pub(crate) stall: Duration,
}

impl Limits {
    /// The shortest of them.
    pub(crate) fn least(&self) -> Duration {
        self.header.min(self.idle).min(self.stall)
    }
}

/// What is known of a connection.
#[derive(Debug)]
pub(crate) struct Conn {
    born: Instant,
    /// The state, and since when: microseconds after `born`, times 4.
    state: AtomicU64,
    /// Since when a write has not gone on, in microseconds after `born` plus 1; 0: it goes on.
    stalled: AtomicU64,
    /// A request's body has not come wholly.
    open_body: AtomicBool,
    /// Somebody else needs the place.
    pressed: AtomicBool,
    /// Wakes the connection's task to look at itself.
    pub(crate) look: Notify,
}

impl Conn {
    pub(crate) fn new() -> Self {
        Self {
            born: Instant::now(),
            state: AtomicU64::new(State::Rests as u64),
            stalled: AtomicU64::new(0),
            open_body: AtomicBool::new(false),
            pressed: AtomicBool::new(false),
            look: Notify::new(),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_micros()).unwrap_or(0)
    }

    fn set(&self, state: State) {
        self.state.store((self.now() << 2) | state as u64, Ordering::Release);
    }

    fn state(&self) -> (State, Duration) {
        let word = self.state.load(Ordering::Acquire);
        let state = match word & 3 {
            0 => State::Rests,
            1 => State::Head,
            2 => State::Busy,
            _ => State::Lingers,
        };
        (state, Duration::from_micros(self.now().saturating_sub(word >> 2)))
    }

    fn stalled_for(&self) -> Option<Duration> {
        let since = self.stalled.load(Ordering::Acquire).checked_sub(1)?;
        Some(Duration::from_micros(self.now().saturating_sub(since)))
    }

    /// For how long nothing of a request has been under way; none while something is.
    pub(crate) fn unused(&self) -> Option<Duration> {
        let (state, time) = self.state();
        (state != State::Busy && self.stalled_for().is_none()).then_some(time)
    }

    /// For how long nobody would miss it much: it is unused, or the client does not take its answer.
    pub(crate) fn spare(&self) -> Option<Duration> {
        self.stalled_for().or_else(|| self.unused())
    }

    /// Whether its time is over.
    pub(crate) fn is_over(&self, limits: &Limits) -> bool {
        let pressed = self.pressed.load(Ordering::Acquire);
        if let Some(time) = self.stalled_for() {
            return time >= limits.stall || pressed;
        }
        let (state, time) = self.state();
        let limit = match state {
            State::Busy => return false,
            State::Rests => limits.idle,
            State::Head => limits.header,
            State::Lingers => LINGER,
        };
        time >= limit || pressed
    }

    /// Asks it to make room, if it can still be spared when it looks.
    pub(crate) fn press(&self) {
        self.pressed.store(true, Ordering::Release);
        self.look.notify_one();
    }

    /// Whether a request's body has not come wholly.
    pub(crate) fn has_open_body(&self) -> bool {
        self.open_body.load(Ordering::Acquire)
    }

    /// A request begins.
    pub(crate) fn begin(self: &Arc<Self>, has_body: bool) -> Busy {
        self.open_body.store(has_body, Ordering::Release);
        self.pressed.store(false, Ordering::Release);
        self.set(State::Busy);
        Busy(Arc::clone(self))
    }
}

/// A request is under way as long as this is there.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Conn>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.set(State::Rests);
    }
}

/// The socket, watched.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TokioIo<TcpStream>,
    conn: Arc<Conn>,
    is_shut: bool,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream, conn: Arc<Conn>) -> Self {
        Self { stream: TokioIo::new(stream), conn, is_shut: false }
    }

    fn went_on<T>(&self, poll: Poll<T>) -> Poll<T> {
        let stalled = &self.conn.stalled;
        if poll.is_ready() {
            stalled.store(0, Ordering::Release);
        } else if stalled.load(Ordering::Acquire) == 0 {
            stalled.store(self.conn.now() + 1, Ordering::Release);
        }
        poll
    }
}

impl Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        let done = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        if self.conn.state().0 == State::Rests {
            self.conn.set(State::Head);
        }
        Poll::Ready(done)
    }
}

impl Write for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.went_on(done)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.went_on(done)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        if !self.is_shut {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.is_shut = true;
            if self.conn.has_open_body() {
                self.conn.set(State::Lingers);
            }
        }
        if !self.conn.has_open_body() {
            return Poll::Ready(Ok(()));
        }
        // Closed with bytes unread, the socket would be reset, and the answer lost on its way.
        let mut space = [std::mem::MaybeUninit::uninit(); 8192];
        loop {
            let mut waste = ReadBuf::uninit(&mut space);
            let read = ready!(Pin::new(&mut self.stream).poll_read(cx, waste.unfilled()));
            if read.is_err() || waste.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

/// A request's body, which tells when it has come wholly.
#[derive(Debug)]
pub(crate) struct Arriving {
    body: Incoming,
    conn: Arc<Conn>,
}

impl Arriving {
    pub(crate) fn new(body: Incoming, conn: &Arc<Conn>) -> Self {
        Self { body, conn: Arc::clone(conn) }
    }
}

impl hyper::body::Body for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() || self.body.is_end_stream() {
            self.conn.open_body.store(false, Ordering::Release);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body, which holds the request's place until it is sent.
#[derive(Debug)]
pub(crate) struct Leaving {
    body: Body,
    _busy: Busy,
}

impl Leaving {
    pub(crate) fn new(body: Body, busy: Busy) -> Self {
        Self { body, _busy: busy }
    }
}

impl hyper::body::Body for Leaving {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { header: Duration::ZERO, idle: Duration::MAX, stall: Duration::ZERO };

    #[test]
    fn a_request_under_way_is_never_over() {
        let conn = Arc::new(Conn::new());
        let busy = conn.begin(false);
        conn.press();
        assert!(!conn.is_over(&LIMITS) && conn.unused().is_none());
        drop(busy);
        assert!(conn.is_over(&LIMITS) && conn.unused().is_some());
    }

    #[test]
    fn each_state_has_its_own_limit() {
        let conn = Arc::new(Conn::new());
        assert!(!conn.is_over(&LIMITS));
        conn.set(State::Head);
        assert!(conn.is_over(&LIMITS));
        conn.set(State::Lingers);
        assert!(!conn.is_over(&LIMITS));
        conn.set(State::Busy);
        conn.stalled.store(1, Ordering::Release);
        assert!(conn.is_over(&LIMITS));
    }
}
