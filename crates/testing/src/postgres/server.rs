//! A private server: started, killed, stopped, restarted.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::programs::{User, command};

/// The password of the superuser `commonhold`, asked for over TCP only.
pub const PASSWORD: &str = "p@ss:wörd/?#%";
/// The same within a url.
const PASSWORD_ENCODED: &str = "p%40ss%3Aw%C3%B6rd%2F%3F%23%25";
/// How long a start may take.
const START: Duration = Duration::from_secs(60);
/// Ports tried for TCP: below those that the kernel gives to clients.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// How often a port is looked for: another process may look at the same time.
const PORT_TRIES: u32 = 20;

/// What ends a server whose process is gone, and removes what it leaves: `$1` is the folder. It waits for the end of its
/// standard input, which comes when the process that holds the other end has ended.
const GUARD: &str = r#"
trap '' INT TERM HUP
read -r line
file=$1/data/postmaster.pid
memory=$(sed -n '7s/.* //p' "$file" 2>/dev/null)
left=100
while pid=$(sed -n 1p "$file" 2>/dev/null) && [ -n "$pid" ] && [ $left -gt 0 ]; do
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = postgres ] || break
    grep -q '^State:.*Z' "/proc/$pid/status" && break
    [ $left = 100 ] && kill -QUIT "$pid"
    [ $left = 1 ] && kill -KILL "$pid"
    left=$((left - 1))
    sleep 0.1
done
[ -z "$memory" ] || ipcrm -m "$memory" 2>/dev/null
rm -rf "$1/data" "$1"/* "$1"/.s.* 2>/dev/null
rmdir "$1" 2>/dev/null
true
"#;

/// How a server is started.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Listens on a port of the loopback address too, where it asks for [`PASSWORD`].
    pub tcp: bool,
    /// Syncs its log: for what is measured, or pulls the plug.
    pub fsync: bool,
    /// Settings beyond those, as in `postgresql.conf`.
    pub settings: Vec<(String, String)>,
}

/// How a server is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Sessions are ended, then everything is written.
    Fast,
    /// Everything ends at once; the next start recovers from the log.
    Immediate,
    /// SIGKILL.
    Kill,
}

/// A running server and the thread that reads what it says, which ends when all of its processes have.
#[derive(Debug)]
struct Running {
    child: Child,
    log: JoinHandle<()>,
}

/// A private PostgreSQL.
#[derive(Debug)]
pub struct Server {
    folder: PathBuf,
    options: Options,
    port: u16,
    user: Option<User>,
    running: Mutex<Option<Running>>,
    /// While it is open the guard waits.
    guard: Option<(Child, ChildStdin)>,
}

impl Server {
    /// A server on a socket in a temporary folder, which does not sync.
    ///
    /// # Panics
    /// When it cannot be started, with one line that says why.
    #[must_use]
    pub fn start() -> Self {
        Self::with(Options::default())
    }

    /// A server with these options.
    ///
    /// # Panics
    /// When it cannot be started, with one line that says why.
    #[must_use]
    pub fn with(options: Options) -> Self {
        match Self::try_with(options, None) {
            Ok(server) => server,
            Err(e) => panic!("no PostgreSQL for this test: {e}"),
        }
    }

    /// A replica of this server, which must run: a copy that follows it and takes no writes until it is
    /// [promoted](Self::promote).
    ///
    /// # Panics
    /// When it cannot be started, with one line that says why.
    #[must_use]
    pub fn replica(&self, options: Options) -> Self {
        match Self::try_with(options, Some(self)) {
            Ok(server) => server,
            Err(e) => panic!("no replica for this test: {e}"),
        }
    }

    /// Makes a server of its own of a replica; it takes writes when this returns.
    ///
    /// # Panics
    /// When it is none, or does not run.
    pub fn promote(&self) {
        let done = super::sql(&self.url("postgres"), "SELECT pg_promote(true, 60)");
        assert_eq!(done, "t\n", "the replica was not promoted");
    }

    fn try_with(options: Options, of: Option<&Self>) -> Result<Self, String> {
        let user = User::choose()?;
        // From here on the guard removes it.
        let folder = TempDir::new().map_err(|e| format!("temporary folder: {e}"))?.keep();
        if let Some(user) = user {
            user.own(&folder)?;
        }
        let port = if options.tcp { free_port()? } else { 5432 };
        let guard = Some(guard(&folder, user)?);
        let mut server = Self { folder, options, port, user, running: Mutex::default(), guard };
        match of {
            Some(of) => server.copy(of)?,
            None => server.initialise()?,
        }
        let mut left = PORT_TRIES;
        while let Err(e) = server.launch() {
            left -= 1;
            if left == 0 || !server.options.tcp || !e.contains("TCP/IP socket") {
                return Err(e);
            }
            // Another process was given it just now.
            server.port = free_port()?;
        }
        Ok(server)
    }

    fn initialise(&self) -> Result<(), String> {
        let mut initdb = self.program("initdb")?;
        initdb.arg("-D").arg(self.folder.join("data"));
        initdb.args(["-U", "commonhold", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]);
        initdb.args(["--auth-local=trust", "--auth-host=scram-sha-256"]);
        let password = self.folder.join("password");
        std::fs::write(&password, format!("{PASSWORD}\n")).map_err(|e| format!("password: {e}"))?;
        if let Some(user) = self.user {
            user.own(&password)?;
        }
        initdb.arg("--pwfile").arg(&password);
        run(initdb, "initdb")
    }

    fn copy(&self, of: &Self) -> Result<(), String> {
        let mut copy = self.program("pg_basebackup")?;
        copy.arg("-D").arg(self.folder.join("data")).arg("-h").arg(&of.folder);
        copy.args(["-p", &of.port.to_string(), "-U", "commonhold"]);
        copy.args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync"]);
        run(copy, "pg_basebackup")
    }

    /// A program that runs as the server's user, in its folder.
    fn program(&self, name: &str) -> Result<Command, String> {
        let mut command = command(name)?;
        command.current_dir(&self.folder);
        if let Some(user) = self.user {
            user.run(&mut command);
        }
        Ok(command)
    }

    fn launch(&self) -> Result<(), String> {
        let mut postgres = self.program("postgres")?;
        postgres.arg("-D").arg(self.folder.join("data"));
        postgres.arg("-k").arg(&self.folder).arg("-p").arg(self.port.to_string());
        let on_off = |on: bool| if on { "on" } else { "off" };
        let settings = [
            ("listen_addresses", if self.options.tcp { "127.0.0.1" } else { "" }),
            ("fsync", on_off(self.options.fsync)),
            // Nothing in /dev/shm, which would stay when it is killed.
            ("dynamic_shared_memory_type", "mmap"),
            ("shared_buffers", "64MB"),
            ("max_wal_size", "1GB"),
            ("logging_collector", "off"),
            ("log_destination", "stderr"),
        ];
        let more = self.options.settings.iter().map(|(name, value)| (&name[..], &value[..]));
        for (name, value) in settings.into_iter().chain(more) {
            postgres.arg("-c").arg(format!("{name}={value}"));
        }
        let mut child = postgres
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| format!("postgres: {e}"))?;
        let errors = child.stderr.take().ok_or("postgres without standard error")?;
        let (tell, told) = channel();
        let log = std::thread::spawn(move || {
            for line in BufReader::new(errors).split(b'\n').map_while(Result::ok) {
                // Nobody listens once it has started.
                let _ = tell.send(String::from_utf8_lossy(&line).into_owned());
            }
        });
        wait_until_ready(&told).inspect_err(|_| {
            let _ = child.kill();
            let _ = child.wait();
        })?;
        *self.lock() = Some(Running { child, log });
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The folder with its data, in `data`, and its socket.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Puts a file into its data, readable by the server alone.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn put(&self, name: &str, content: &[u8]) {
        use std::os::unix::fs::PermissionsExt;

        let path = self.folder.join("data").join(name);
        let private = std::fs::Permissions::from_mode(0o600);
        let written = std::fs::write(&path, content)
            .and_then(|()| std::fs::set_permissions(&path, private))
            .map_err(|e| e.to_string())
            .and_then(|()| self.user.map_or(Ok(()), |user| user.own(&path)));
        if let Err(e) = written {
            panic!("{}: {e}", path.display());
        }
    }

    /// The process of the postmaster, when it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.lock().as_ref().map(|running| running.child.id())
    }

    /// The url of a database, by the socket, as superuser.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        let folder = self.folder.display();
        format!("postgres://commonhold@/{database}?host={folder}&port={}", self.port)
    }

    /// The url of a database by TCP, with the password; more parameters may be appended after `&`.
    #[must_use]
    pub fn tcp_url(&self, database: &str) -> String {
        let address = self.address();
        format!("postgres://commonhold:{PASSWORD_ENCODED}@{address}/{database}?application_name=t")
    }

    /// Where it listens, if it was asked to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Ends all of its processes and waits until they are gone.
    pub fn stop(&self, how: Stop) {
        let Some(Running { mut child, log }) = self.lock().take() else { return };
        let signal = match how {
            Stop::Fast => Signal::SIGINT,
            Stop::Immediate => Signal::SIGQUIT,
            Stop::Kill => Signal::SIGKILL,
        };
        // It may be gone already.
        let _ = kill(Pid::from_raw(child.id().cast_signed()), signal);
        let _ = child.wait();
        // The sessions of a killed server end by themselves; each held the pipe that this thread reads.
        let _ = log.join();
    }

    /// Starts it again after [`stop`](Self::stop), on the same socket and port; recovered when it returns.
    ///
    /// # Panics
    /// When it cannot be started, with one line that says why.
    pub fn restart(&self) {
        self.stop(Stop::Fast);
        if let Err(e) = self.launch() {
            panic!("PostgreSQL did not start again: {e}");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop(Stop::Immediate);
        if let Some((mut guard, input)) = self.guard.take() {
            drop(input);
            let _ = guard.wait();
        }
        // What the server's user could not remove.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Runs a program that ends; its words when it fails.
fn run(mut program: Command, name: &str) -> Result<(), String> {
    let output = program.output().map_err(|e| format!("{name}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr).replace('\n', "; ");
    Err(format!("{name}: {text}"))
}

/// Starts the shell that cleans up. Its own process group keeps a Ctrl-C from it.
fn guard(folder: &Path, user: Option<User>) -> Result<(Child, ChildStdin), String> {
    let mut shell = Command::new("sh");
    shell.args(["-c", GUARD, "sh"]).arg(folder).process_group(0);
    if let Some(user) = user {
        user.run(&mut shell);
    }
    shell.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = shell.spawn().map_err(|e| format!("sh: {e}"))?;
    let input = child.stdin.take().ok_or("sh without standard input")?;
    Ok((child, input))
}

/// Reads what the server says until it accepts connections; the last words of one that ends before.
fn wait_until_ready(told: &Receiver<String>) -> Result<(), String> {
    let mut said = Vec::new();
    while let Ok(line) = told.recv_timeout(START) {
        if line.contains("ready to accept") {
            return Ok(());
        }
        said.push(line);
    }
    let last = said.iter().rev().take(3).rev().map(String::as_str).collect::<Vec<_>>();
    Err(format!("postgres did not start: {}", last.join("; ")))
}

fn free_port() -> Result<u16, String> {
    let first = PORTS.start + (std::process::id() % u32::from(PORTS.end - PORTS.start)) as u16;
    (first..PORTS.end)
        .chain(PORTS.start..first)
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .ok_or_else(|| "no port of the loopback address is free".to_owned())
}
