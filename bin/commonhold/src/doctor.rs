//! `doctor`: what of the host matters to a segment, each as ok, warn or fail, with what to do.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use commonhold_os::mapping::SHM_FOLDER;
use nix::fcntl::OFlag;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statvfs::statvfs;
use serde::Serialize;

use crate::failure::{Done, Failure};
use crate::output::{Format, Output, bytes_text, print_json};

/// Check the host
///
/// Checks the host: shared memory, limits, kernel, and what may remove segments behind everybody's back. Each
/// check is ok, warn or fail and says what to do. Fails when a check fails.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  commonhold doctor
  commonhold doctor --json")]
pub(crate) struct Doctor {
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    verdict: Verdict,
    found: String,
    /// What to do; empty when there is nothing.
    advice: String,
}

#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    checks: Vec<Check>,
}

impl Doctor {
    pub(crate) fn run(&self) -> Done {
        let checks = vec![
            shared_memory(),
            unnamed_files(Path::new(SHM_FOLDER)),
            open_files(),
            kernel(&read("/proc/sys/kernel/osrelease")),
            proc_mounted(),
            boot_id(),
            remove_ipc(&logind_configuration()),
        ];
        let failed = checks.iter().filter(|c| c.verdict == Verdict::Fail).count();
        let report = Report { ok: failed == 0, checks };
        if self.format.json {
            print_json(&report)?;
        } else {
            print(&report)?;
        }
        if report.ok {
            return Ok(());
        }
        Err(Failure::failed(format!("{failed} checks failed: segments will not work on this host")))
    }
}

fn print(report: &Report) -> Done {
    let mut out = Output::new();
    for Check { name, verdict, found, advice } in &report.checks {
        let verdict = match verdict {
            Verdict::Ok => "ok  ",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
        };
        let advice = if advice.is_empty() { String::new() } else { format!("; {advice}") };
        out.line(format_args!("{verdict}  {name}: {found}{advice}"))?;
    }
    out.finish()
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, found: found.into(), advice: String::new() }
    }

    fn bad(self, verdict: Verdict, advice: &str) -> Self {
        Self { verdict, advice: advice.to_owned(), ..self }
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn shared_memory() -> Check {
    let name = "shared memory";
    let stat = match statvfs(SHM_FOLDER) {
        Ok(stat) => stat,
        Err(e) => {
            let advice = "mount a tmpfs there, or give every segment as a path";
            return Check::ok(name, format!("{SHM_FOLDER}: {e}")).bad(Verdict::Fail, advice);
        }
    };
    let unit = u128::from(stat.fragment_size());
    let bytes = |blocks: u64| u64::try_from(u128::from(blocks) * unit).unwrap_or(u64::MAX);
    let (size, free) = (bytes(stat.blocks()), bytes(stat.blocks_available()));
    let found = format!("{SHM_FOLDER} has {}, {} free", bytes_text(size), bytes_text(free));
    shm_verdict(Check::ok(name, found), free)
}

fn shm_verdict(check: Check, free: u64) -> Check {
    const MIB: u64 = 1 << 20;
    let advice = "enlarge it (mount -o remount,size=1G /dev/shm; docker run --shm-size=1g)";
    match free {
        ..MIB => check.bad(Verdict::Fail, advice),
        MIB..0x400_0000 => check.bad(Verdict::Warn, advice),
        _ => check,
    }
}

fn unnamed_files(folder: &Path) -> Check {
    let name = "unnamed files";
    let flags = (OFlag::O_TMPFILE | OFlag::O_CLOEXEC).bits();
    let made: std::io::Result<File> =
        OpenOptions::new().read(true).write(true).mode(0o600).custom_flags(flags).open(folder);
    match made {
        Ok(_) => Check::ok(name, format!("{} makes them", folder.display())),
        Err(e) => Check::ok(name, format!("{}: {e}", folder.display())).bad(
            Verdict::Fail,
            "give every segment as a path on tmpfs, ext4, xfs or btrfs that you may write to",
        ),
    }
}

fn open_files() -> Check {
    let name = "open files";
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return Check::ok(name, "the limit cannot be read").bad(Verdict::Warn, "see ulimit -n");
    };
    let check = Check::ok(name, format!("limit {soft}, at most {hard}"));
    match soft {
        ..64 => check.bad(Verdict::Fail, "raise it (ulimit -n 1024)"),
        64..1024 => check.bad(
            Verdict::Warn,
            "a process takes about four, and one for each of its participants: raise it (ulimit -n 1024)",
        ),
        _ => check,
    }
}

fn kernel(release: &str) -> Check {
    let name = "kernel";
    let release = release.trim();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().ok());
    let (Some(Some(major)), Some(Some(minor))) = (numbers.next(), numbers.next()) else {
        let check = Check::ok(name, format!("version `{release}` is not known"));
        return check.bad(Verdict::Warn, "Linux 5.3 or later is needed");
    };
    let check = Check::ok(name, format!("Linux {release}"));
    match (major, minor) {
        (..5, _) | (5, ..3) => {
            check.bad(Verdict::Fail, "5.3 or later is needed, for descriptors of processes")
        }
        (5, _) | (6, ..9) => check.bad(
            Verdict::Warn,
            "6.9 or later is better: it tells a process from a later one with the same number",
        ),
        _ => check,
    }
}

fn proc_mounted() -> Check {
    let name = "/proc";
    if Path::new("/proc/self/stat").exists() && Path::new("/proc/self/fd").exists() {
        return Check::ok(name, "mounted");
    }
    Check::ok(name, "not mounted").bad(Verdict::Fail, "mount it: the living are told by it")
}

fn boot_id() -> Check {
    let name = "boot id";
    if commonhold_os::process::boot_id() == [0; 16] {
        let check = Check::ok(name, "cannot be read");
        return check.bad(Verdict::Fail, "/proc/sys/kernel/random/boot_id must be readable");
    }
    Check::ok(name, "readable")
}

/// The files that configure logind, one after the other; later ones win.
fn logind_configuration() -> String {
    let mut text = read("/etc/systemd/logind.conf");
    for folder in ["/usr/lib/systemd/logind.conf.d", "/etc/systemd/logind.conf.d"] {
        let files = fs::read_dir(folder).into_iter().flatten().flatten().map(|f| f.path());
        let mut files: Vec<_> = files.collect();
        files.sort();
        for file in files {
            text.push('\n');
            text.push_str(&fs::read_to_string(file).unwrap_or_default());
        }
    }
    text
}

fn remove_ipc(configuration: &str) -> Check {
    let name = "RemoveIPC";
    if !Path::new("/run/systemd/system").exists() {
        return Check::ok(name, "no systemd here");
    }
    remove_ipc_verdict(name, configuration, nix::unistd::getuid().as_raw())
}

/// logind removes the segments of a user who is not of the system when his last session ends.
fn remove_ipc_verdict(name: &'static str, configuration: &str, uid: u32) -> Check {
    let setting = configuration.lines().rev().find_map(|l| l.trim().strip_prefix("RemoveIPC="));
    let keeps = setting.is_some_and(|s| {
        ["no", "false", "off", "0"].contains(&s.trim().to_ascii_lowercase().as_str())
    });
    if keeps {
        return Check::ok(name, "no");
    }
    if uid < 1000 {
        return Check::ok(name, "yes, but not for a user of the system");
    }
    Check::ok(name, "yes").bad(
        Verdict::Warn,
        "segments under /dev/shm go when you log out: set RemoveIPC=no in /etc/systemd/logind.conf, or `loginctl enable-linger`",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_judged_by_number() {
        let verdict = |release| kernel(release).verdict;
        assert_eq!(verdict("4.19.0"), Verdict::Fail);
        assert_eq!(verdict("5.2.1-x"), Verdict::Fail);
        assert_eq!(verdict("5.3.0"), Verdict::Warn);
        assert_eq!(verdict("6.8.0-45-generic"), Verdict::Warn);
        assert_eq!(verdict("6.9.0\n"), Verdict::Ok);
        assert_eq!(verdict("10.0"), Verdict::Ok);
        assert_eq!(verdict(""), Verdict::Warn);
    }

    #[test]
    fn little_shared_memory_is_told() {
        let verdict = |free| shm_verdict(Check::ok("", ""), free).verdict;
        assert_eq!([0, 1 << 21, 1 << 30].map(verdict), [Verdict::Fail, Verdict::Warn, Verdict::Ok]);
    }

    #[test]
    fn what_logind_removes() {
        let verdict = |text, uid| remove_ipc_verdict("", text, uid).verdict;
        assert_eq!(verdict("#RemoveIPC=no\n", 1000), Verdict::Warn);
        assert_eq!(verdict("[Login]\nRemoveIPC=no\n", 1000), Verdict::Ok);
        assert_eq!(verdict("RemoveIPC=no\nRemoveIPC=yes\n", 1000), Verdict::Warn);
        assert_eq!(verdict("", 0), Verdict::Ok);
    }

    #[test]
    fn a_folder_that_makes_no_unnamed_files_fails() {
        assert_eq!(unnamed_files(Path::new("/proc")).verdict, Verdict::Fail);
    }
}
