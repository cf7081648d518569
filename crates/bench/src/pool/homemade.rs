//! Pools as one makes them at home: worker processes, a socket pair or two pipes to each, and the caller deals. Each worker
//! has one task at most; the others wait in the caller's queue. Nobody looks after a worker that dies.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;
use tokio::sync::Mutex;

use crate::Outcome;
use crate::pool::Pool;
use crate::pool::task::{self, Kind};

/// The hidden first argument that makes the benchmark a worker of such a pool.
pub(crate) const WORKER: &str = "__bench-pool-worker";
/// Bytes of a frame's length, which stands before it.
const LENGTH_BYTES: usize = 4;

/// What bytes go through.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Transport {
    Sockets,
    Pipes,
}

/// A worker and its task.
struct Worker {
    child: Child,
    to: File,
    from: BufReader<File>,
    busy: bool,
}

/// The pool.
pub(crate) struct Homemade {
    workers: Vec<Worker>,
    queue: VecDeque<Vec<u8>>,
    results: VecDeque<Vec<u8>>,
}

/// A worker process, and what it reads from and writes to on a socket.
fn on_a_socket() -> Outcome<(Child, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    let output = OwnedFd::from(theirs.try_clone()?);
    Ok((command()?.stdin(OwnedFd::from(theirs)).stdout(output).spawn()?, ours))
}

fn command() -> Outcome<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([WORKER, &std::process::id().to_string()]);
    Ok(command)
}

/// The bytes that are sent: length, then kind, then the task.
fn frame(kind: Kind, task: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(LENGTH_BYTES + 1 + task.len());
    frame.extend_from_slice(&(task.len() as u32 + 1).to_le_bytes());
    frame.push(kind as u8);
    frame.extend_from_slice(task);
    frame
}

/// A frame's bytes behind its length; none at the end.
fn read(from: &mut impl Read) -> Outcome<Option<Vec<u8>>> {
    let mut length = [0; LENGTH_BYTES];
    match from.read_exact(&mut length) {
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        done => done?,
    }
    let mut frame = vec![0; u32::from_le_bytes(length) as usize];
    from.read_exact(&mut frame)?;
    Ok(Some(frame))
}

impl Worker {
    fn start(transport: Transport) -> Outcome<Self> {
        let (child, to, from) = match transport {
            Transport::Sockets => {
                let (child, ours) = on_a_socket()?;
                (child, OwnedFd::from(ours.try_clone()?), OwnedFd::from(ours))
            }
            Transport::Pipes => {
                let mut child = command()?.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
                let to = child.stdin.take().ok_or("no pipe")?;
                let from = child.stdout.take().ok_or("no pipe")?;
                (child, to.into(), from.into())
            }
        };
        Ok(Self { child, to: to.into(), from: BufReader::new(from.into()), busy: false })
    }

    fn give(&mut self, frame: &[u8]) -> Outcome {
        self.busy = true;
        Ok(self.to.write_all(frame)?)
    }
}

impl Homemade {
    pub(crate) fn start(transport: Transport, workers: usize) -> Outcome<Self> {
        let workers = (0..workers).map(|_| Worker::start(transport)).collect::<Outcome<_>>()?;
        Ok(Self { workers, queue: VecDeque::new(), results: VecDeque::new() })
    }

    pub(crate) fn pids(&self) -> Vec<Pid> {
        self.workers.iter().map(|w| Pid::from_raw(w.child.id().cast_signed())).collect()
    }
}

impl Pool for Homemade {
    fn submit(&mut self, kind: Kind, task: Vec<u8>) -> Outcome {
        let frame = frame(kind, &task);
        match self.workers.iter_mut().find(|worker| !worker.busy) {
            Some(idle) => idle.give(&frame),
            None => {
                self.queue.push_back(frame);
                Ok(())
            }
        }
    }

    fn finished(&mut self) -> Outcome<Vec<u8>> {
        while self.results.is_empty() {
            let mut busy: Vec<&mut Worker> = self.workers.iter_mut().filter(|w| w.busy).collect();
            let ready: Vec<bool> = {
                let mut fds: Vec<PollFd<'_>> = busy
                    .iter()
                    .map(|w| PollFd::new(w.from.get_ref().as_fd(), PollFlags::POLLIN))
                    .collect();
                poll(&mut fds, PollTimeout::NONE)?;
                fds.iter().map(|fd| fd.any().unwrap_or(false)).collect()
            };
            for (worker, _) in busy.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
                let result = read(&mut worker.from)?.ok_or("a worker of the peer died")?;
                self.results.push_back(result);
                match self.queue.pop_front() {
                    Some(frame) => worker.give(&frame)?,
                    None => worker.busy = false,
                }
            }
        }
        Ok(self.results.pop_front().ok_or("no result")?)
    }
}

impl Drop for Homemade {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            let _ = worker.child.kill();
        }
        for worker in &mut self.workers {
            let _ = worker.child.wait();
        }
    }
}

/// The same for a program with an event loop: one socket a worker, and who has a task for it waits for his turn.
pub(crate) struct Sockets(Vec<(Child, Arc<Mutex<tokio::net::UnixStream>>)>);

impl Sockets {
    pub(crate) fn start(runtime: &Runtime, workers: usize) -> Outcome<Self> {
        let _inside = runtime.enter();
        let start = |_| {
            let (child, ours) = on_a_socket()?;
            ours.set_nonblocking(true)?;
            Ok((child, Arc::new(Mutex::new(tokio::net::UnixStream::from_std(ours)?))))
        };
        (0..workers).map(start).collect::<Outcome<_>>().map(Self)
    }

    pub(crate) fn pids(&self) -> Vec<Pid> {
        self.0.iter().map(|(child, _)| Pid::from_raw(child.id().cast_signed())).collect()
    }

    /// Where task `number` goes.
    pub(crate) fn socket(&self, number: usize) -> Outcome<Arc<Mutex<tokio::net::UnixStream>>> {
        let (_, socket) = self.0.get(number % self.0.len()).ok_or("no worker")?;
        Ok(Arc::clone(socket))
    }

    /// Has a worker do a task.
    pub(crate) async fn call(
        socket: &Mutex<tokio::net::UnixStream>,
        kind: Kind,
        task: &[u8],
    ) -> std::io::Result<Vec<u8>> {
        let frame = frame(kind, task);
        let mut socket = socket.lock().await;
        socket.write_all(&frame).await?;
        let mut result = vec![0; socket.read_u32_le().await? as usize];
        socket.read_exact(&mut result).await?;
        Ok(result)
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        for (child, _) in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The life of a worker; `args` are those behind [`WORKER`].
pub(crate) fn life(args: &[String]) -> ExitCode {
    match serve(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench: worker of a peer: {e}");
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
    let mut input = BufReader::with_capacity(16 * 1024, std::io::stdin().lock());
    let mut output = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    while let Some(frame) = read(&mut input)? {
        let (kind, task) = frame.split_first().ok_or("a frame without a kind")?;
        let kind = Kind::of(*kind).ok_or("a task of no known kind")?;
        let result = task::run(kind, task)?;
        let mut frame = Vec::with_capacity(LENGTH_BYTES + result.len());
        frame.extend_from_slice(&(result.len() as u32).to_le_bytes());
        frame.extend_from_slice(&result);
        output.write_all(&frame)?;
    }
    Ok(())
}
