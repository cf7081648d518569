//! A segment: its memory as a slice of atomic words, its header, its layout.

use std::path::{Path, PathBuf};

#[cfg(not(feature = "loom"))]
use commonhold_os::mapping::Mapping;
use commonhold_os::mapping::Published;
use commonhold_os::{OsError, clock, lock::LockFile, process, random};

use crate::header::{Header, HeaderError};
#[cfg(not(feature = "loom"))]
use crate::layout::HEADER_WORDS;
use crate::layout::{END_MARK, Geometry, Layout};
use crate::sync::AtomicU64;
#[cfg(not(feature = "loom"))]
use crate::sync::{Ordering, fence};

/// Why a segment cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// The kernel said no.
    #[error(transparent)]
    Os(#[from] OsError),
    /// The file is not a segment that can be used.
    #[error("segment {}: {error}", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: HeaderError,
    },
    /// It was made before the machine was last started.
    #[error(
        "segment {}: it was made before the machine's last start; drain is impossible, so destroy it with --force: the store has what was stored",
        path.display()
    )]
    Older {
        /// The file.
        path: PathBuf,
    },
    /// The sizes are beyond what an address can be.
    #[error("a segment of this many slots, cells and bytes is larger than the address space")]
    TooLarge,
}

/// What a new segment is to be; see [`Header`].
#[derive(Debug, Clone)]
pub struct NewSegment<'a> {
    /// The sizes; `catalogue_bytes` is taken from `catalogue`.
    pub geometry: Geometry,
    /// What stands behind the header, for the layer above.
    pub catalogue: &'a [u8],
    /// The store's own id.
    pub store_id: [u8; 16],
    /// How many segments the store has had, this one included.
    pub store_epoch: u64,
    /// The store's URL.
    pub store_url: &'a str,
    /// The segment's own id.
    pub uuid: [u8; 16],
}

enum Memory {
    #[cfg(not(feature = "loom"))]
    Mapped(Mapping),
    Heap(Box<[AtomicU64]>),
}

/// A segment in memory.
pub struct Segment {
    memory: Memory,
    header: Header,
    catalogue: Vec<u8>,
    layout: Layout,
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Segment").field("header", &self.header).finish_non_exhaustive()
    }
}

impl NewSegment<'_> {
    fn header(&self, ephemeral: bool) -> Result<Header, OsError> {
        // A model makes a segment for each of its many thousand runs.
        let known = if cfg!(feature = "loom") { None } else { Some(process::Identity::current()?) };
        let me = known.unwrap_or_default();
        let mut geometry = self.geometry.clone();
        geometry.catalogue_bytes = self.catalogue.len() as u32;
        Ok(Header {
            uuid: self.uuid,
            boot_id: if cfg!(feature = "loom") { [0; 16] } else { process::boot_id() },
            created_at: clock::wall_micros(),
            geometry,
            store_id: self.store_id,
            store_epoch: self.store_epoch,
            store_url: self.store_url.to_owned(),
            creator: [me.pid.into(), me.start_ticks, me.pidfd_inode, me.pid_namespace],
            ephemeral,
        })
    }
}

impl Segment {
    /// A named segment at `path`, zeroed but for its header, without its name until [`Segment::publish`].
    ///
    /// # Errors
    /// [`SegmentError`] when there is no space or the folder is closed.
    #[cfg(not(feature = "loom"))]
    pub fn create_named(path: &Path, new: &NewSegment<'_>) -> Result<Self, SegmentError> {
        Self::create(new, new.header(false)?, path, |bytes| Mapping::unpublished(path, bytes))
    }

    /// An ephemeral segment named `name` under `/dev/shm`, which goes when this value is dropped.
    ///
    /// # Errors
    /// [`SegmentError`] when there is no space or the name is taken.
    #[cfg(not(feature = "loom"))]
    pub fn create_ephemeral(name: &str, new: &NewSegment<'_>) -> Result<Self, SegmentError> {
        let make = |bytes| Mapping::create_object(name, bytes);
        Self::create(new, new.header(true)?, Path::new(name), make)
    }

    #[cfg(not(feature = "loom"))]
    fn create(
        new: &NewSegment<'_>,
        header: Header,
        path: &Path,
        make: impl FnOnce(u64) -> Result<Mapping, OsError>,
    ) -> Result<Self, SegmentError> {
        let layout = header.geometry.layout().ok_or(SegmentError::TooLarge)?;
        let error = |error| SegmentError::Header { path: path.to_owned(), error };
        let words = header.encode(layout.total, new.catalogue).map_err(error)?;
        let mapping = make(layout.total as u64 * 8)?;
        let catalogue = new.catalogue.to_vec();
        let segment = Self { memory: Memory::Mapped(mapping), header, catalogue, layout };
        let region = segment.words().get(segment.layout.catalogue.clone()).unwrap_or_default();
        for (to, from) in region.iter().zip(new.catalogue.chunks(8)) {
            let word = from.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
            to.store(word, Ordering::Relaxed);
        }
        if let Some(end) = segment.words().last() {
            end.store(END_MARK, Ordering::Relaxed);
        }
        // The magic goes last: an ephemeral segment has its name already.
        for (to, from) in segment.words().iter().zip(words).rev() {
            to.store(from, Ordering::Release);
        }
        Ok(segment)
    }

    /// A segment in this process's own memory, for tests and models.
    ///
    /// # Errors
    /// [`SegmentError`] when the sizes are too large.
    pub fn in_heap(new: &NewSegment<'_>) -> Result<Self, SegmentError> {
        let header = new.header(true)?;
        let layout = header.geometry.layout().ok_or(SegmentError::TooLarge)?;
        let end = if cfg!(feature = "loom") { usize::MAX } else { layout.total - 1 };
        let word = |at| AtomicU64::new(if at == end { END_MARK } else { 0 });
        let words = (0..layout.total).map(word).collect();
        let catalogue = new.catalogue.to_vec();
        Ok(Self { memory: Memory::Heap(words), header, catalogue, layout })
    }

    /// Gives a named segment its name; [`Published::Theirs`] when another creator was first.
    ///
    /// # Errors
    /// [`SegmentError`] when the folder does not let it.
    pub fn publish(&self) -> Result<Published, SegmentError> {
        match &self.memory {
            #[cfg(not(feature = "loom"))]
            Memory::Mapped(mapping) => Ok(mapping.publish()?),
            Memory::Heap(_) => Ok(Published::Mine),
        }
    }

    /// Maps the segment at `path`; read-only disturbs nobody.
    ///
    /// # Errors
    /// [`SegmentError`] when there is none, or it is foreign, truncated, older or damaged.
    #[cfg(not(feature = "loom"))]
    pub fn attach(path: &Path, writable: bool) -> Result<Self, SegmentError> {
        let segment = Self::attach_any_boot(path, writable)?;
        if segment.header.boot_id != process::boot_id() {
            return Err(SegmentError::Older { path: path.to_owned() });
        }
        Ok(segment)
    }

    /// Like [`Segment::attach`], also when the machine was started anew since it was made.
    ///
    /// # Errors
    /// [`SegmentError`], never [`SegmentError::Older`].
    #[cfg(not(feature = "loom"))]
    pub fn attach_any_boot(path: &Path, writable: bool) -> Result<Self, SegmentError> {
        let mapping = Mapping::attach(path, writable)?;
        let error = |error| SegmentError::Header { path: path.to_owned(), error };
        let bytes = mapping.len() as u64;
        let words = as_words(&mapping);
        let first = words.get(..HEADER_WORDS).ok_or_else(|| error(HeaderError::Foreign))?;
        let mut fixed = [0; HEADER_WORDS];
        for (to, from) in fixed.iter_mut().zip(first) {
            *to = from.load(Ordering::Acquire);
        }
        let behind = |count: u32| read_bytes(words.get(HEADER_WORDS..)?, count as usize);
        let (header, catalogue) = Header::decode(&fixed, bytes, behind).map_err(error)?;
        let damaged = |what| error(HeaderError::Damaged { what });
        let layout = header.geometry.layout().ok_or_else(|| damaged("sizes"))?;
        if layout.total != words.len() {
            return Err(damaged("sizes and length do not fit"));
        }
        let segment = Self { memory: Memory::Mapped(mapping), header, catalogue, layout };
        if segment.is_cut() {
            return Err(damaged("its end is gone: somebody cut it short"));
        }
        Ok(segment)
    }

    /// Every word of the segment.
    #[must_use]
    #[inline]
    pub fn words(&self) -> &[AtomicU64] {
        match &self.memory {
            #[cfg(not(feature = "loom"))]
            Memory::Mapped(mapping) => as_words(mapping),
            Memory::Heap(words) => words,
        }
    }

    /// Whether the file was cut short since it was made: then words that were read before this call may be zeros
    /// that nobody wrote. What was written before this call and is not cut now was written into the file.
    #[cfg(not(feature = "loom"))]
    #[must_use]
    #[inline]
    pub fn is_cut(&self) -> bool {
        // What was read before is not read later than the mark.
        fence(Ordering::Acquire);
        self.words().last().is_none_or(|mark| mark.load(Ordering::Relaxed) != END_MARK)
    }

    /// No file, no cut.
    #[cfg(feature = "loom")]
    #[must_use]
    pub fn is_cut(&self) -> bool {
        false
    }

    /// What the header says.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What stands behind the header.
    #[must_use]
    pub fn catalogue(&self) -> &[u8] {
        &self.catalogue
    }

    /// Where everything stands.
    #[must_use]
    #[inline]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The segment's file; none for a segment in the heap.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match &self.memory {
            #[cfg(not(feature = "loom"))]
            Memory::Mapped(mapping) => Some(mapping.path()),
            Memory::Heap(_) => None,
        }
    }

    /// Whether the segment may be written.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        match &self.memory {
            #[cfg(not(feature = "loom"))]
            Memory::Mapped(mapping) => mapping.is_writable(),
            Memory::Heap(_) => true,
        }
    }

    /// A new open file description of the segment's file, for locks; none for a segment in the heap.
    ///
    /// # Errors
    /// [`SegmentError`] when no descriptor is left.
    pub fn lock_file(&self) -> Result<Option<LockFile>, SegmentError> {
        match &self.memory {
            #[cfg(not(feature = "loom"))]
            Memory::Mapped(mapping) => Ok(Some(mapping.lock_file()?)),
            Memory::Heap(_) => Ok(None),
        }
    }
}

/// The mapping as words. Its length is that of the file, cut to whole words.
#[cfg(not(feature = "loom"))]
#[inline]
fn as_words(mapping: &Mapping) -> &[AtomicU64] {
    let count = mapping.len() / 8;
    // SAFETY: a mapping starts on a page, so it is aligned, and stays mapped as long as it is borrowed;
    // every bit pattern is a valid AtomicU64; other processes access these words with atomics only (what
    // a foreign program writes there is a number like any other). A read-only mapping is never written:
    // callers open it writable before they do (`is_writable`).
    unsafe { std::slice::from_raw_parts(mapping.as_ptr().cast::<AtomicU64>(), count) }
}

#[cfg(not(feature = "loom"))]
fn read_bytes(words: &[AtomicU64], count: usize) -> Option<Vec<u8>> {
    let words = words.get(..count.div_ceil(8))?;
    let mut bytes: Vec<u8> =
        words.iter().flat_map(|w| w.load(Ordering::Relaxed).to_le_bytes()).collect();
    bytes.truncate(count);
    Some(bytes)
}

/// A fresh segment id.
#[must_use]
pub fn new_uuid() -> [u8; 16] {
    random::uuid()
}
