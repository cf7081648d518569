//! A disk that loses power: what was synced is there; of what was written later any part, in pieces of a sector, each
//! as of any time since; of names that were made or removed since the folder was synced any part.
//!
//! A failed sync is modelled as Linux does it: what it should have written is clean in memory afterwards, so that a
//! later sync does not write it, and on disk each sector of it is there or not.

use std::collections::BTreeMap;
use std::path::Path;

use super::record::{Event, FileId};
use crate::random::Random;

/// A change of a file that is not known to be on disk.
#[derive(Debug, Clone)]
enum Change {
    Write { at: u64, bytes: Vec<u8>, lost: bool },
    Resize(u64),
}

#[derive(Debug, Clone, Default)]
struct File {
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Debug, Clone)]
enum NameChange {
    Set(String, FileId),
    Gone(String),
    Move(String, String),
}

/// The disk after some events.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    files: BTreeMap<FileId, File>,
    names: BTreeMap<String, FileId>,
    pending_names: Vec<NameChange>,
}

/// How a power loss chooses.
#[derive(Debug, Clone, Copy)]
struct Loss {
    /// Of a hundred sectors so many are written.
    percent: u64,
    sector: u64,
}

impl Loss {
    fn new(random: &mut Random) -> Self {
        let percent = [0, 10, 50, 90, 100][random.below(5) as usize % 5];
        Self { percent, sector: if random.chance(50) { 512 } else { 4096 } }
    }
}

fn put(content: &mut Vec<u8>, at: u64, bytes: &[u8]) {
    let (at, end) = (at as usize, at as usize + bytes.len());
    if content.len() < end {
        content.resize(end, 0);
    }
    content[at..end].copy_from_slice(bytes);
}

/// Writes a part of a change, sector by sector.
fn tear(content: &mut Vec<u8>, change: &Change, loss: Loss, random: &mut Random) {
    match change {
        Change::Resize(length) => {
            if random.chance(loss.percent) {
                content.resize(*length as usize, 0);
            }
        }
        Change::Write { at, bytes, .. } => {
            let mut from = *at;
            let end = at + bytes.len() as u64;
            while from < end {
                let to = ((from / loss.sector + 1) * loss.sector).min(end);
                if random.chance(loss.percent) {
                    let piece = &bytes[(from - at) as usize..(to - at) as usize];
                    put(content, from, piece);
                }
                from = to;
            }
        }
    }
}

impl File {
    fn sync(&mut self, random: &mut Random) {
        for change in std::mem::take(&mut self.pending) {
            match &change {
                Change::Resize(length) => self.durable.resize(*length as usize, 0),
                Change::Write { lost: true, .. } => {
                    let loss = Loss::new(random);
                    tear(&mut self.durable, &change, loss, random);
                }
                Change::Write { at, bytes, .. } => put(&mut self.durable, *at, bytes),
            }
        }
    }

    fn after_loss(&self, random: &mut Random) -> Vec<u8> {
        let mut content = self.durable.clone();
        let loss = Loss::new(random);
        // The length may be on disk before what should stand there.
        if random.chance(30) {
            let end = |change: &Change| match change {
                Change::Write { at, bytes, .. } => at + bytes.len() as u64,
                Change::Resize(_) => 0,
            };
            let longest = self.pending.iter().map(end).max().unwrap_or(0) as usize;
            content.resize(content.len().max(longest), 0);
        }
        self.pending.iter().for_each(|change| tear(&mut content, change, loss, random));
        content
    }
}

fn rename(names: &mut BTreeMap<String, FileId>, change: &NameChange) {
    match change {
        NameChange::Set(name, file) => {
            names.insert(name.clone(), *file);
        }
        NameChange::Gone(name) => {
            names.remove(name);
        }
        NameChange::Move(from, to) => {
            if let Some(file) = names.remove(from) {
                names.insert(to.clone(), file);
            }
        }
    }
}

impl Disk {
    /// One more thing happens.
    pub(crate) fn step(&mut self, event: &Event, random: &mut Random) {
        match event {
            Event::Create { name, file } => {
                self.files.insert(*file, File::default());
                self.pending_names.push(NameChange::Set(name.clone(), *file));
            }
            Event::Unlink { name } => self.pending_names.push(NameChange::Gone(name.clone())),
            Event::Rename { from, to } => {
                self.pending_names.push(NameChange::Move(from.clone(), to.clone()));
            }
            Event::Write { file, at, bytes } => {
                let change = Change::Write { at: *at, bytes: bytes.clone(), lost: false };
                self.files.entry(*file).or_default().pending.push(change);
            }
            Event::Resize { file, length } => {
                self.files.entry(*file).or_default().pending.push(Change::Resize(*length));
            }
            Event::Sync { file, done: true } => self.files.entry(*file).or_default().sync(random),
            Event::Sync { file, done: false } => {
                let writes = &mut self.files.entry(*file).or_default().pending;
                for change in writes {
                    if let Change::Write { lost, .. } = change {
                        *lost = true;
                    }
                }
            }
            Event::SyncFolder { done: true } => {
                let changes = std::mem::take(&mut self.pending_names);
                changes.iter().for_each(|change| rename(&mut self.names, change));
            }
            Event::SyncFolder { done: false } | Event::Commit(_) | Event::Durable(_) => {}
        }
    }

    /// The power goes: the files as they may then be, in `folder`.
    pub(crate) fn lose_power(&self, folder: &Path, random: &mut Random) -> std::io::Result<()> {
        let mut names = self.names.clone();
        let percent = Loss::new(random).percent;
        for change in &self.pending_names {
            if random.chance(percent) {
                rename(&mut names, change);
            }
        }
        std::fs::create_dir_all(folder)?;
        for (name, file) in names {
            if let Some(file) = self.files.get(&file) {
                std::fs::write(folder.join(name), file.after_loss(random))?;
            }
        }
        Ok(())
    }
}
