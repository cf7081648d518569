//! Shared mappings: named segments are files mapped with `memmap2`, ephemeral ones POSIX shared memory
//! objects through `shared_memory`.
//!
//! A named segment is built in an unnamed file (`O_TMPFILE`) with its space reserved (`fallocate`, so a
//! full file system is an error here and not a SIGBUS later) and published whole by `linkat`: nobody ever
//! sees half of it, a killed creator leaves nothing behind, and of two creators one wins.
//!
//! Should somebody cut the file short later, its users go on and find zeros from there on (guard.rs).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use memmap2::{MmapOptions, MmapRaw};
use shared_memory::{Shmem, ShmemConf, ShmemError};

use crate::guard::{Guarded, guard};
use crate::lock::{LockFile, folder_of, link};
use crate::{OsError, fork};

/// Where POSIX shared memory objects are files.
pub const SHM_FOLDER: &str = "/dev/shm";

enum Memory {
    File(MmapRaw),
    Object(std::mem::ManuallyDrop<Shmem>),
}

impl Memory {
    fn start(&self) -> *mut u8 {
        match self {
            Self::File(map) => map.as_mut_ptr(),
            Self::Object(object) => object.as_ptr(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::File(map) => map.len(),
            Self::Object(object) => object.len(),
        }
    }
}

/// A mapping shared between processes.
pub struct Mapping {
    guarded: Option<Guarded>,
    memory: Memory,
    /// Kept while unpublished, to link it, and for its identity.
    file: File,
    path: PathBuf,
    writable: bool,
    generation: u64,
}

// SAFETY: a mapping is an address range that stays valid until drop, whichever thread holds it; all access
// to its bytes goes through atomics (crate `segment`).
unsafe impl Send for Mapping {}
// SAFETY: as for `Send`: shared access hands out only the address and the length.
unsafe impl Sync for Mapping {}

impl std::fmt::Debug for Mapping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mapping({}, {} bytes)", self.path.display(), self.len())
    }
}

/// What became of [`Mapping::publish`].
#[derive(Debug)]
#[must_use]
pub enum Published {
    /// The mapping now has its name.
    Mine,
    /// Another creator was first; attach to that one.
    Theirs,
}

impl Mapping {
    /// A zeroed mapping of `bytes`, to be published as `path`.
    ///
    /// # Errors
    /// [`OsError`] when the folder is not there or closed, the space is not, or the file system has no
    /// unnamed files.
    pub fn unpublished(path: &Path, bytes: u64) -> Result<Self, OsError> {
        let folder = folder_of(path);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .mode(0o600)
            .custom_flags(libc::O_TMPFILE | libc::O_CLOEXEC)
            .open(folder)
            .map_err(|e| OsError::new("make a segment in", folder, e))?;
        reserve(&file, bytes).map_err(|e| OsError::new("reserve the space of", path, e))?;
        Self::map(file, path, true)
    }

    /// Gives an unpublished mapping its name.
    ///
    /// # Errors
    /// [`OsError`] when the folder does not let it.
    pub fn publish(&self) -> Result<Published, OsError> {
        Ok(if link(&self.file, &self.path)? { Published::Mine } else { Published::Theirs })
    }

    /// Maps the file at `path`, for reading alone or for reading and writing.
    ///
    /// # Errors
    /// [`OsError`] when it is not there, not ours, a link or not a file.
    pub fn attach(path: &Path, writable: bool) -> Result<Self, OsError> {
        let file = OpenOptions::new()
            .read(true)
            .write(writable)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK)
            .open(path)
            .map_err(|e| OsError::new("open", path, e))?;
        let meta = file.metadata().map_err(|e| OsError::new("look at", path, e))?;
        if !meta.is_file() || meta.len() == 0 {
            let found = io::Error::new(io::ErrorKind::InvalidData, "it is not a segment file");
            return Err(OsError::new("map", path, found));
        }
        Self::map(file, path, writable)
    }

    fn map(file: File, path: &Path, writable: bool) -> Result<Self, OsError> {
        let options = MmapOptions::new();
        let mapped =
            if writable { options.map_raw(&file) } else { options.map_raw_read_only(&file) };
        let mapped = mapped.map_err(|e| OsError::new("map", path, e))?;
        Ok(Self::of(Memory::File(mapped), file, path.to_owned(), writable))
    }

    /// Creates the POSIX shared memory object `name`, zeroed, which goes when this mapping is dropped.
    ///
    /// # Errors
    /// [`OsError`] when the name is taken or the space is not there.
    pub fn create_object(name: &str, bytes: u64) -> Result<Self, OsError> {
        let size = usize::try_from(bytes).unwrap_or(usize::MAX);
        let made = ShmemConf::new().size(size).os_id(format!("/{name}")).create();
        let path = Path::new(SHM_FOLDER).join(name);
        let object = made.map_err(|e| shm_error("create the shared memory object", &path, &e))?;
        // Opened by name: `fallocate` wants a descriptor, and so do the locks.
        let file = open_object(&path)?;
        reserve(&file, bytes).map_err(|e| OsError::new("reserve the space of", &path, e))?;
        Ok(Self::of(Memory::Object(std::mem::ManuallyDrop::new(object)), file, path, true))
    }

    fn of(memory: Memory, file: File, path: PathBuf, writable: bool) -> Self {
        let guarded = Some(guard(memory.start(), memory.len()));
        Self { guarded, memory, file, path, writable, generation: fork::generation() }
    }

    /// The mapping's first byte.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.memory.start()
    }

    /// The mapping's length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.memory.len()
    }

    /// Whether the mapping is empty: never.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the mapping may be written.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// The file's name.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A new open file description of the mapped file, for locks; also while it has no name.
    ///
    /// # Errors
    /// [`OsError`] when no descriptor is left.
    pub fn lock_file(&self) -> Result<LockFile, OsError> {
        LockFile::reopen(&self.file, &self.path)
    }

    /// The file's device and inode.
    ///
    /// # Errors
    /// [`OsError`] when the kernel does not tell.
    pub fn inode(&self) -> Result<(u64, u64), OsError> {
        let meta = self.file.metadata().map_err(|e| OsError::new("look at", &self.path, e))?;
        Ok((meta.dev(), meta.ino()))
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        self.guarded = None; // before the memory goes
        // A forked child forgets an object that its parent owns: `Shmem` would unlink it.
        if let Memory::Object(object) = &mut self.memory
            && fork::generation() == self.generation
        {
            // SAFETY: dropped once, here; the mapping is not used afterwards.
            unsafe { std::mem::ManuallyDrop::drop(object) };
        }
    }
}

fn open_object(path: &Path) -> Result<File, OsError> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC);
    options.open(path).map_err(|e| OsError::new("open", path, e))
}

fn shm_error(action: &'static str, path: &Path, error: &ShmemError) -> OsError {
    let source = match error {
        ShmemError::MappingIdExists => io::Error::from_raw_os_error(libc::EEXIST),
        ShmemError::MapCreateFailed(code) | ShmemError::MapOpenFailed(code) => {
            io::Error::from_raw_os_error(i32::try_from(*code).unwrap_or(0))
        }
        other => io::Error::other(other.to_string()),
    };
    OsError::new(action, path, source)
}

/// Makes `file` `bytes` long with every block of it there.
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    let length =
        libc::off_t::try_from(bytes).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))?;
    loop {
        // SAFETY: a plain system call on an open descriptor.
        match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, length) } {
            0 => return Ok(()),
            libc::EINTR => {}
            errno => return Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_creators_one_wins() {
        let path = Path::new(SHM_FOLDER).join(format!("commonhold-test-{}", std::process::id()));
        let first = Mapping::unpublished(&path, 8192).expect("made");
        let second = Mapping::unpublished(&path, 8192).expect("made");
        assert!(Mapping::attach(&path, true).expect_err("not yet there").is_not_found());
        assert!(matches!(first.publish(), Ok(Published::Mine)));
        assert!(matches!(second.publish(), Ok(Published::Theirs)));
        let third = Mapping::attach(&path, true).expect("there");
        assert_eq!(third.inode().expect("known"), first.inode().expect("known"));
        std::fs::remove_file(&path).expect("removed");
    }

    #[test]
    fn behind_a_cut_is_zero() {
        let path = Path::new(SHM_FOLDER).join(format!("commonhold-cut-{}", std::process::id()));
        let mapping = Mapping::unpublished(&path, 4 * 4096).expect("made");
        assert!(matches!(mapping.publish(), Ok(Published::Mine)));
        let read_only = Mapping::attach(&path, false).expect("there");
        let at = |mapping: &Mapping, offset| mapping.as_ptr().wrapping_add(offset);
        // SAFETY: inside both mappings, which nobody else uses.
        unsafe { (0..4).for_each(|page| at(&mapping, page * 4096).write_volatile(7)) };
        mapping.file.set_len(8192).expect("cut");
        for mapping in [&mapping, &read_only] {
            // SAFETY: as above.
            let read = [1, 3, 2].map(|page| unsafe { at(mapping, page * 4096).read_volatile() });
            assert_eq!(read, [7, 0, 0]);
        }
        drop(mapping);
        let again = Mapping::unpublished(&path, 4096).expect("made");
        assert_eq!(again.len(), 4096);
        std::fs::remove_file(&path).expect("removed");
    }

    #[test]
    fn a_full_file_system_is_an_error() {
        let path = Path::new(SHM_FOLDER).join("commonhold-test-too-large");
        let error = Mapping::unpublished(&path, 1 << 50).expect_err("there is no such memory");
        assert!(error.to_string().contains("free space there"), "{error}");
    }
}
