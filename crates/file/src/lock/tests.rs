//! Locks of the living, the dead, and of other programs.

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use super::*;

struct Place {
    _folder: tempfile::TempDir,
    lock: PathBuf,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join("human.jsonc.lock");
        Self { _folder: folder, lock }
    }

    /// A lock file of this process, but for what `change` changes; its kernel lock is free.
    fn plant(&self, change: impl FnOnce(&mut Value)) {
        self.plant_at(&self.lock, change);
    }

    fn plant_at(&self, path: &Path, change: impl FnOnce(&mut Value)) {
        let mut owner = serde_json::to_value(Owner::current(true).unwrap()).unwrap();
        change(&mut owner);
        std::fs::write(path, serde_json::to_vec(&owner).unwrap()).unwrap();
    }

    /// A lock file of ours that is not filled in.
    fn blank(&self, bytes: usize) {
        std::fs::write(&self.lock, vec![0; bytes]).unwrap();
        std::fs::set_permissions(&self.lock, PermissionsExt::from_mode(NEW_MODE)).unwrap();
    }

    fn take(&self) -> Result<FileLock, LockError> {
        FileLock::take(&self.lock, &Patience::new().retries(3))
    }

    /// Takes it over from a dead owner.
    fn takes_over(&self) {
        let lock = self.take().unwrap();
        assert_eq!(lock.waited().stale, 1);
        assert!(lock.is_held());
        drop(lock);
        assert_eq!(self.names(), [""; 0]);
    }

    /// Cannot take it; why.
    fn waits(&self) -> String {
        let before = std::fs::read(&self.lock).ok();
        let error = self.take().unwrap_err();
        assert!(matches!(error, LockError::Held { tries: 3, .. }), "{error}");
        assert_eq!(std::fs::read(&self.lock).ok(), before);
        error.to_string()
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.lock.parent().unwrap()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// What the kernel is made to say until the value is dropped.
struct Planted;

impl Planted {
    fn probe(probe: Probe) -> Self {
        seam::PROBE.set(Some(probe));
        Self
    }

    fn boot(time: i64) -> Self {
        seam::BOOT.set(Some(time));
        Self
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        seam::PROBE.set(None);
        seam::BOOT.set(None);
    }
}

/// The number of a process that has ended.
fn dead() -> u32 {
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    child.id()
}

#[test]
fn a_free_lock_is_taken_and_leaves_nothing() {
    let place = Place::new();
    let lock = place.take().unwrap();
    assert_eq!(lock.waited(), Waited { time: lock.waited().time, ..Waited::default() });
    let owner = Owner::parse(&std::fs::read(&place.lock).unwrap()).unwrap();
    assert_eq!(owner.pid, std::process::id());
    assert!(place.waits().contains(&format!("held by process {}", std::process::id())));
    drop(lock);
    assert_eq!(place.names(), [""; 0]);
}

#[test]
fn who_is_dead_has_no_lock() {
    let place = Place::new();
    place.plant(|owner| owner["pid"] = json!(dead()));
    place.takes_over();
    let _planted = Planted::probe(Probe::Unsupported);
    place.plant(|owner| owner["pid"] = json!(dead()));
    place.takes_over();
}

#[test]
fn another_process_with_the_same_number_is_not_the_owner() {
    for planted in [Probe::Free, Probe::Unsupported] {
        let _planted = Planted::probe(planted);
        let place = Place::new();
        let ticks = |owner: &Value| owner["start_ticks"].as_u64().unwrap();
        // The inode alone decides where it is unique, the start where it is not.
        place.plant(|owner| {
            owner["start_ticks"] = json!(ticks(owner) + 1);
            owner["pidfd_inode"] = json!(1);
        });
        place.takes_over();
    }
}

#[test]
fn who_lives_keeps_the_lock_whatever_the_kernels_locks_say() {
    for planted in [Probe::Free, Probe::Unsupported, Probe::Held] {
        let _planted = Planted::probe(planted);
        let place = Place::new();
        place.plant(|owner| owner["taken_at"] = json!(0));
        place.waits();
    }
}

#[test]
fn who_lives_and_has_closed_what_he_held_it_by_has_it_no_more() {
    let place = Place::new();
    place.plant(|_| {});
    place.takes_over();
    // Where the kernel's locks may lie, and where he never had one, he is believed to have it.
    place.plant(|owner| owner["locked"] = json!(false));
    place.waits();
    let _planted = Planted::probe(Probe::Free);
    place.plant(|_| {});
    place.waits();
    // Who could not remove it says so.
    place.plant(|owner| owner["released"] = json!(true));
    place.takes_over();
}

#[test]
fn a_sandbox_without_a_boot_is_believed_the_kernels_lock_alone() {
    let place = Place::new();
    place.plant(|owner| owner["boot"] = json!(""));
    place.takes_over();
    place.plant(|owner| {
        owner["boot"] = json!("");
        owner["locked"] = json!(false);
    });
    place.waits();
}

#[test]
fn everybody_may_read_who_has_it() {
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let place = Place::new();
    for planted in [None, Some(Probe::Free)] {
        let _planted = planted.map(Planted::probe);
        let lock = place.take().unwrap();
        let mode = std::fs::metadata(&place.lock).unwrap().mode();
        assert_eq!(mode & 0o777, LOCK_MODE, "{planted:?}");
        drop(lock);
    }
}

#[test]
fn who_held_it_before_the_last_start_is_dead() {
    let place = Place::new();
    let before = |owner: &mut Value| owner["boot"] = json!("0123456789abcdef0123456789abcdef");
    place.plant(before);
    place.takes_over();
    // Another machine's kernel may have the file system by way of this one, but not since before this boot.
    place.plant(|owner| {
        before(owner);
        owner["machine"] = json!("another");
    });
    place.waits();
    let planted = Planted::boot(i64::MAX);
    place.takes_over();
    drop(planted);
    // Where the kernel's locks prove nothing, the machine has to be this one.
    let _planted = Planted::probe(Probe::Unsupported);
    place.plant(|owner| {
        before(owner);
        owner["host"] = json!("another");
    });
    assert!(place.waits().contains(" on another"));
    // Somebody may have it by the kernel's word although his file says that he is dead.
    let _planted = Planted::probe(Probe::Held);
    place.plant(before);
    place.waits();
}

#[test]
fn another_container_is_believed_the_kernels_lock_alone() {
    let elsewhere = |owner: &mut Value| owner["pid_namespace"] = json!(1);
    let place = Place::new();
    place.plant(elsewhere);
    place.takes_over();
    for planted in [Probe::Held, Probe::Unsupported] {
        let _planted = Planted::probe(planted);
        place.plant(elsewhere);
        place.waits();
    }
}

#[test]
fn what_another_program_left_is_not_touched() {
    let place = Place::new();
    for text in ["", "\0\0", "4711\n", "{}", "{\"nonce\": \"../../x\"}"] {
        std::fs::write(&place.lock, text).unwrap();
        assert!(place.waits().contains("another program"), "{text}");
    }
    std::fs::remove_file(&place.lock).unwrap();
    std::fs::create_dir(&place.lock).unwrap();
    assert!(matches!(place.take(), Err(LockError::Foreign { .. })));
    std::fs::remove_dir(&place.lock).unwrap();
    nix::unistd::mkfifo(&place.lock, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(matches!(place.take(), Err(LockError::Foreign { .. })));
    std::fs::remove_file(&place.lock).unwrap();
    std::os::unix::fs::symlink("elsewhere", &place.lock).unwrap();
    assert!(place.take().unwrap_err().to_string().contains("symbolic link"));
    assert_eq!(place.names(), ["human.jsonc.lock"]);
}

#[test]
fn a_blank_file_is_filled_in_unless_somebody_is_about_to() {
    let place = Place::new();
    for blank in [0, 100, 1000] {
        place.blank(blank);
        let lock = place.take().unwrap();
        assert_eq!((lock.waited().stale, lock.waited().retries), (0, 0));
        let text = std::fs::read(&place.lock).unwrap();
        assert_eq!(text, lock.owner.line(), "{blank}");
    }
    place.blank(0);
    let slow = LockFile::open(&place.lock).unwrap();
    assert!(slow.try_lock(0, Mode::Exclusive).unwrap());
    place.waits();
    slow.unlock(0);
    // Who made it was slow: meanwhile somebody has filled it in and given it up,
    drop(place.take().unwrap());
    assert!(FileLock::claim(&place.lock, slow).unwrap().is_none());
    assert_eq!(place.names(), [""; 0]);
    // or has filled it in and died, and somebody else is about to take it over.
    place.blank(0);
    let slow = LockFile::open(&place.lock).unwrap();
    place.plant(|owner| owner["pid"] = json!(dead()));
    assert!(FileLock::claim(&place.lock, slow).unwrap().is_none());
    place.takes_over();
    // or it was removed by hand.
    place.blank(0);
    let slow = LockFile::open(&place.lock).unwrap();
    std::fs::remove_file(&place.lock).unwrap();
    assert!(FileLock::claim(&place.lock, slow).unwrap().is_none());
}

#[test]
fn where_kernels_locks_may_lie_a_blank_file_is_stale_only_if_the_power_went_since() {
    let place = Place::new();
    let _planted = Planted::probe(Probe::Free);
    std::fs::write(&place.lock, "").unwrap();
    place.waits();
    let _planted = Planted::boot(i64::MAX);
    place.takes_over();
    std::fs::write(&place.lock, [0; 100]).unwrap();
    place.takes_over();
}

#[test]
fn who_died_on_his_way_to_remove_a_stale_lock_is_followed() {
    let place = Place::new();
    let died = |nonce: &'static str| {
        move |owner: &mut Value| {
            owner["pid"] = json!(dead());
            owner["nonce"] = json!(nonce);
        }
    };
    place.plant(died("aa"));
    // He took the token and died; who came after him took the token's token and died too.
    place.plant_at(&place.lock.with_file_name("human.jsonc.lock.stale-aa"), died("bb"));
    place.plant_at(&place.lock.with_file_name("human.jsonc.lock.stale-bb"), died("cc"));
    std::fs::write(place.lock.with_file_name(".human.jsonc.lock.aa.tmp"), "half of").unwrap();
    place.takes_over();
}

#[test]
fn what_the_dead_left_is_swept_when_a_lock_is_taken_over() {
    let place = Place::new();
    let others = [".human.jsonc.lock.dd.tmp", "human.jsonc.lock.stale-dd", ".other.lock.dd.tmp"];
    others.iter().for_each(|name| std::fs::write(place.lock.with_file_name(name), "").unwrap());
    drop(place.take().unwrap());
    assert_eq!(place.names().len(), 3, "a lock that was free costs no look around");
    place.plant(|owner| owner["pid"] = json!(dead()));
    drop(place.take().unwrap());
    assert_eq!(place.names(), [".other.lock.dd.tmp"]);
}

#[test]
fn who_is_slow_to_remove_a_stale_lock_is_waited_for() {
    let place = Place::new();
    place.plant(|owner| {
        owner["pid"] = json!(dead());
        owner["nonce"] = json!("aa");
    });
    let token = place.lock.with_file_name("human.jsonc.lock.stale-aa");
    let slow = FileLock::take(&token, &Patience::new()).unwrap();
    assert!(place.waits().contains("stale-aa"));
    drop(slow);
    place.takes_over();
}

#[test]
fn a_lock_that_was_removed_by_hand_is_not_given_back_for_another() {
    let place = Place::new();
    let first = place.take().unwrap();
    std::fs::remove_file(&place.lock).unwrap();
    assert!(!first.is_held());
    let second = place.take().unwrap();
    drop(first);
    assert!(second.is_held());
    drop(second);
    assert_eq!(place.names(), [""; 0]);
}

#[test]
fn threads_that_meet_at_a_stale_lock_have_one_owner_at_a_time() {
    const THREADS: u32 = 32;
    for planted in [None, Some(Probe::Free), Some(Probe::Unsupported)] {
        let place = Place::new();
        place.plant(|owner| owner["pid"] = json!(dead()));
        let (inside, stale, all) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    seam::PROBE.set(planted);
                    let lock = FileLock::take(&place.lock, &Patience::new().limit(LIMIT)).unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two owners");
                    stale.fetch_add(lock.waited().stale, Ordering::SeqCst);
                    std::thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                    all.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        assert_eq!((stale.into_inner(), all.into_inner()), (1, THREADS), "{planted:?}");
        assert_eq!(place.names(), [""; 0]);
    }
}

/// So long no test waits.
const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn a_lock_with_a_name_before_it_is_published_works_too() {
    let place = Place::new();
    let hidden = hidden(&place.lock, "aa", UNPUBLISHED);
    let file = LockFile::unpublished_at(&hidden, &place.lock, LOCK_MODE).unwrap();
    assert!(file.publish().unwrap());
    assert!(!file.publish().unwrap());
    sweep_unpublished(&place.lock);
    assert!(hidden.exists(), "it is young");
    let old = std::time::SystemTime::now() - Duration::from_secs(3600);
    file.file().set_modified(old).unwrap();
    sweep_unpublished(&place.lock);
    assert_eq!(place.names(), ["human.jsonc.lock"]);
}
