//! A TCP proxy that does what networks do to a database: it stalls, cuts a connection in the middle of a message,
//! drops all connections, and refuses new ones. It changes and reorders nothing.
//!
//! Each connection has two threads, one a direction; each asks `State` what to do with what it has read, and sleeps
//! while the proxy stalls. All end with the proxy.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Bytes that are read at a time.
const PIECE: usize = 16 << 10;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From clients to the server.
    ToServer,
    /// From the server to clients.
    ToClient,
}

/// What the proxy does at present.
#[derive(Debug, Default)]
struct State {
    stalled: bool,
    refusing: bool,
    /// So many bytes of one way go through, then their connection is cut.
    cut: Option<(Way, u64)>,
    /// How often that was done.
    cuts: u64,
    /// Bytes that went through.
    to_server: u64,
    to_client: u64,
    /// Connections that were accepted and passed on.
    connections: u64,
    open: Vec<(TcpStream, TcpStream)>,
    ended: bool,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
}

/// A proxy on a port of the loopback address.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// How many of `length` bytes may go `way`, once the proxy does not stall; whether the connection is cut then.
    fn grant(&self, way: Way, length: usize) -> Option<(usize, bool)> {
        let state = self.lock();
        let stalled = |state: &mut State| state.stalled && !state.ended;
        let mut state =
            self.changed.wait_while(state, stalled).unwrap_or_else(PoisonError::into_inner);
        if state.ended {
            return None;
        }
        let (granted, cut) = match state.cut {
            Some((cut_way, left)) if cut_way == way => {
                let granted = usize::try_from(left).unwrap_or(usize::MAX).min(length);
                let left = left - granted as u64;
                state.cut = Some((way, left)).filter(|_| left > 0);
                (granted, left == 0)
            }
            _ => (length, false),
        };
        state.cuts += u64::from(cut);
        match way {
            Way::ToServer => state.to_server += granted as u64,
            Way::ToClient => state.to_client += granted as u64,
        }
        self.changed.notify_all();
        Some((granted, cut))
    }
}

impl Proxy {
    /// A proxy before `server`.
    ///
    /// # Panics
    /// When no port of the loopback address is free.
    #[must_use]
    pub fn start(server: SocketAddr) -> Self {
        let listener = match TcpListener::bind((Ipv4Addr::LOCALHOST, 0)) {
            Ok(listener) => listener,
            Err(e) => panic!("no port for the proxy: {e}"),
        };
        let Ok(address) = listener.local_addr() else { panic!("a proxy without an address") };
        let shared = Arc::new(Shared { server, state: Mutex::default(), changed: Condvar::new() });
        let its = Arc::clone(&shared);
        let acceptor = Some(std::thread::spawn(move || accept(&listener, &its)));
        Self { address, shared, acceptor }
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From here on nothing goes through: the connections stay, what is sent is taken and kept.
    pub fn stall(&self) {
        self.shared.change(|state| state.stalled = true);
    }

    /// Ends [`stall`](Self::stall) and [`refuse`](Self::refuse), and forgets a cut that has not come.
    pub fn mend(&self) {
        self.shared.change(|state| {
            (state.stalled, state.refusing, state.cut) = (false, false, None);
        });
    }

    /// From here on each new connection is closed at once.
    pub fn refuse(&self) {
        self.shared.change(|state| state.refusing = true);
    }

    /// Closes every connection; new ones are taken.
    pub fn drop_connections(&self) {
        self.shared.change(|state| {
            for (client, server) in state.open.drain(..) {
                close(&client);
                close(&server);
            }
        });
    }

    /// Lets so many bytes go `way`, and cuts the connection behind them, once.
    pub fn cut_after(&self, way: Way, bytes: u64) {
        self.shared.change(|state| state.cut = Some((way, bytes)));
    }

    /// How often a connection was cut by [`cut_after`](Self::cut_after).
    #[must_use]
    pub fn cuts(&self) -> u64 {
        self.shared.lock().cuts
    }

    /// How many connections it has passed on.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.lock().connections
    }

    /// How many bytes went `way`.
    #[must_use]
    pub fn passed(&self, way: Way) -> u64 {
        let state = self.shared.lock();
        match way {
            Way::ToServer => state.to_server,
            Way::ToClient => state.to_client,
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.change(|state| state.ended = true);
        self.drop_connections();
        // Wakes the acceptor.
        drop(TcpStream::connect(self.address));
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn close(stream: &TcpStream) {
    // It may be closed already.
    let _ = stream.shutdown(Shutdown::Both);
}

/// Accepts until the proxy ends, then waits for the threads of its connections.
fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut pumps: Vec<JoinHandle<()>> = Vec::new();
    for client in listener.incoming().map_while(Result::ok) {
        if shared.lock().ended {
            break;
        }
        pumps.retain(|pump| !pump.is_finished());
        // A client that is refused, and one whose server is not there, sees the connection closed.
        if !shared.lock().refusing
            && let Ok(started) = connect(client, shared)
        {
            pumps.extend(started);
        }
    }
    shared.change(|state| {
        for (client, server) in state.open.drain(..) {
            close(&client);
            close(&server);
        }
    });
    for pump in pumps {
        let _ = pump.join();
    }
}

fn connect(client: TcpStream, shared: &Arc<Shared>) -> std::io::Result<[JoinHandle<()>; 2]> {
    let server = TcpStream::connect(shared.server)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let pair = (client.try_clone()?, server.try_clone()?);
    let (to_server, to_client) = ((client.try_clone()?, server.try_clone()?), (server, client));
    shared.change(|state| {
        state.connections += 1;
        state.open.push(pair);
    });
    let pump = |(from, to), way| {
        let shared = Arc::clone(shared);
        std::thread::spawn(move || pump(from, to, way, &shared))
    };
    Ok([pump(to_server, Way::ToServer), pump(to_client, Way::ToClient)])
}

/// Moves what comes from one side to the other, until one of them ends or the connection is cut.
fn pump(mut from: TcpStream, mut to: TcpStream, way: Way, shared: &Shared) {
    let mut piece = vec![0; PIECE];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        let Some((granted, cut)) = shared.grant(way, length) else { break };
        let passed = piece.get(..granted).map(|bytes| to.write_all(bytes));
        if cut || !matches!(passed, Some(Ok(()))) {
            break;
        }
    }
    close(&from);
    close(&to);
}
