//! The eye of `top`: looks at the segment under a name, whichever is there, and keeps it mapped while it is the same.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use commonhold::core::Space;
use commonhold::core::inspect::SlotMark;
use commonhold::workers::{self, PoolView};
use commonhold::{Config, admin};
use commonhold_os::clock::{monotonic_nanos, wall_micros};

use crate::failure::Failure;
use crate::looks::Looks;

/// One look at a segment.
#[derive(Debug)]
pub(crate) struct Sample {
    /// When, in nanoseconds of the monotonic clock.
    pub(crate) at_nanos: u64,
    /// When, in microseconds since 1970.
    pub(crate) wall_micros: i64,
    /// What was there.
    pub(crate) looks: Looks,
    /// Where the heads of each table stood.
    pub(crate) marks: Vec<Vec<SlotMark>>,
    /// Queue and workers, if there is a queue; or what is wrong with it.
    pub(crate) pool: Result<Option<PoolView>, String>,
}

/// Who looks.
#[derive(Debug)]
pub(crate) struct Eye {
    config: Config,
    mapped: Option<Mapped>,
}

/// A segment and the file that it is. As long as it is mapped, no other file has its numbers.
#[derive(Debug)]
struct Mapped {
    space: Arc<Space>,
    file: (u64, u64),
}

impl Eye {
    pub(crate) fn new(config: Config) -> Self {
        Self { config, mapped: None }
    }

    /// Looks at the segment that the name leads to now.
    pub(crate) fn look(&mut self) -> Result<Sample, Failure> {
        let there = std::fs::metadata(self.config.segment_path()).ok();
        let there = there.map(|file| (file.dev(), file.ino()));
        let kept = self.mapped.take().filter(|mapped| Some(mapped.file) == there);
        let mapped = match (kept, there) {
            (Some(kept), _) => kept,
            // Not there: the error of the look says so.
            (None, file) => {
                let space = admin::look(&self.config)?;
                Mapped { space, file: file.unwrap_or_default() }
            }
        };
        let sample = sample(&mapped.space)?;
        self.mapped = Some(mapped);
        Ok(sample)
    }
}

fn sample(space: &Space) -> Result<Sample, Failure> {
    let at_nanos = monotonic_nanos();
    let tables = 0..space.catalogue().tables.len();
    let marks = tables.map(|table| space.slot_marks(table)).collect::<Result<_, _>>()?;
    let pool = workers::look(space).map_err(|error| error.to_string());
    Ok(Sample { at_nanos, wall_micros: wall_micros(), looks: Looks::at(space)?, marks, pool })
}
