//! What the kernel says of this process.

use std::io;

/// Of a task's flags: it is on its way out.
const EXITING: u64 = 4;

/// How many threads this process has. One that has ended is listed by the kernel for a little longer, also after it was
/// joined: it does not count.
///
/// # Errors
/// What reading `/proc/self/task` gives.
pub fn threads() -> io::Result<usize> {
    let mut count = 0;
    for thread in std::fs::read_dir("/proc/self/task")? {
        // None: it has gone since it was listed.
        let stat = std::fs::read_to_string(thread?.path().join("stat")).unwrap_or_default();
        count += usize::from(!stat.is_empty() && !is_exiting(&stat));
    }
    Ok(count)
}

/// By the flags: the seventh field behind the name, which may hold spaces and brackets itself.
fn is_exiting(stat: &str) -> bool {
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let flags = fields.split_whitespace().nth(6).and_then(|flags| flags.parse::<u64>().ok());
    flags.is_some_and(|flags| flags & EXITING != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_joined_does_not_count() {
        let before = threads().unwrap();
        for _ in 0..2000 {
            std::thread::spawn(|| ()).join().unwrap();
            assert_eq!(threads().unwrap(), before);
        }
        std::thread::scope(|scope| {
            let (go, wait) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || wait.recv());
            assert_eq!(threads().unwrap(), before + 1);
            drop(go);
        });
    }

    #[test]
    fn names_are_no_fields() {
        assert!(is_exiting("1 (a) R 4) Z 1 2 3 4 5 4194308 0"));
        assert!(!is_exiting("1 (a) R 4) S 1 2 3 4 5 4194304 0"));
    }
}
