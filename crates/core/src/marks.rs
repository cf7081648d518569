//! What the steward stores beside the tables: the marks of id allocators (ids.rs) and the values of counters
//! (counter.rs), in the same transaction as the rows of a round.
//!
//! **Order**: read who asks, read the numbers, transaction, then the words in the segment that say that the store has
//! them, then wake. Whatever is not done when the steward dies is done again by the next one: a mark or a value that
//! is stored twice is the same, or a later one.

use commonhold_segment::sync::crossing;

use crate::directory::NameKind;
use crate::error::Error;
use crate::handle::Handle;
use crate::space::Space;

/// One number for the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// [`NameKind::Ids`] or [`NameKind::Counter`].
    pub kind: NameKind,
    /// The name.
    pub name: String,
    /// The mark of the ids, or the counter's value.
    pub value: i64,
    index: u16,
}

/// What one round stores beside the tables.
#[derive(Debug, Clone, Default)]
pub struct Marks {
    /// The numbers.
    pub marks: Vec<Mark>,
    /// Somebody waits for the counters.
    counters_asked: bool,
}

impl Marks {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty() && !self.counters_asked
    }
}

impl Space {
    /// For the steward: the marks that are asked for; the counters that changed too if somebody asks for them, or with
    /// `counters`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged.
    pub fn collect_marks(&self, counters: bool) -> Result<Marks, Error> {
        if self.catalogue().named.names == 0 {
            return Ok(Marks::default());
        }
        // The steward just put the doorbell to Awake: who asks and finds it so need not ring.
        crossing();
        // Before any value: see counter.rs.
        let counters_asked = self.counters_asked()?;
        let mut marks = Marks { marks: Vec::new(), counters_asked };
        self.each_name_of(NameKind::Ids, |index| {
            // The store's numbers are signed; a mark has 62 bits.
            let mark = self.id_words(index)?.asked().map(u64::cast_signed);
            marks.push(self, NameKind::Ids, index, mark)
        })?;
        if counters || counters_asked {
            self.each_name_of(NameKind::Counter, |index| {
                let value = self.counter_words(index)?.unstored();
                marks.push(self, NameKind::Counter, index, value)
            })?;
        }
        // Nothing is stored that was read behind a cut.
        self.whole(Ok(marks))
    }

    /// For the steward: the store has what was collected. Says so, and wakes who waits for it.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the segment is damaged.
    pub fn complete_marks(&self, stored: &Marks) -> Result<(), Error> {
        for mark in &stored.marks {
            match mark.kind {
                NameKind::Ids => self.id_words(mark.index)?.raise(mark.value.cast_unsigned()),
                _ => self.counter_words(mark.index)?.keep(mark.value),
            }
        }
        if stored.counters_asked {
            self.counters_served()?;
        }
        self.check_whole()
    }

    /// Whether somebody waits for a mark or for the counters, or will soon.
    pub(crate) fn marks_asked(&self) -> Result<bool, Error> {
        if self.catalogue().named.names == 0 {
            return Ok(false);
        }
        let mut asked = self.counters_asked()?;
        self.each_name_of(NameKind::Ids, |index| {
            asked |= self.id_words(index)?.is_asked();
            Ok(())
        })?;
        Ok(asked)
    }
}

impl Marks {
    fn push(
        &mut self,
        space: &Space,
        kind: NameKind,
        index: u16,
        value: Option<i64>,
    ) -> Result<(), Error> {
        if let Some(value) = value {
            let name = space.descriptor(index)?.name;
            self.marks.push(Mark { kind, name, value, index });
        }
        Ok(())
    }
}

impl Handle {
    /// Fills a segment that nobody else sees yet: an id allocator goes on above its stored mark.
    ///
    /// # Errors
    /// As for [`Handle::register_name`].
    pub fn load_ids(&self, name: &str, mark: i64) -> Result<(), Error> {
        let ids = self.register_ids(name)?;
        self.space().id_words(ids.index)?.load(u64::try_from(mark).unwrap_or(0));
        Ok(())
    }

    /// Fills a segment that nobody else sees yet: a counter goes on with its stored value.
    ///
    /// # Errors
    /// As for [`Handle::register_name`].
    pub fn load_counter(&self, name: &str, value: i64) -> Result<(), Error> {
        let counter = self.register_counter(name)?;
        self.space().counter_words(counter.index)?.load(value);
        Ok(())
    }
}
