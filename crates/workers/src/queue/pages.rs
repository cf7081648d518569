//! Pages: arguments and results that do not fit into a task's record.

use commonhold_runtime::core::commit::Way;
use commonhold_runtime::core::queue::GROUPS;
use commonhold_runtime::core::schema::{Decoder, Encoder};
use commonhold_runtime::{Bytes, Error};

use super::{FREE, Queue};
use crate::records::{PAGE_BYTES, PAYLOAD_BYTES_MAX, StoredTask, TaskId, TaskState};
use crate::table::Stop;

/// Whose a page is.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Owner {
    task: u64,
    attempt: u64,
}

/// Pages as a record names them.
pub(super) fn names(pages: &[u16]) -> Bytes<128> {
    let bytes: Vec<u8> = pages.iter().flat_map(|page| page.to_le_bytes()).collect();
    Bytes::new(&bytes).unwrap_or_default()
}

fn numbers(names: &Bytes<128>) -> impl Iterator<Item = u16> + '_ {
    names.as_bytes().as_chunks().0.iter().map(|pair| u16::from_le_bytes(*pair))
}

/// Bytes of a page's owner, with which its record begins.
const OWNER_BYTES: usize = 16;
/// A change of a page needs no more, and nobody waits for it.
const OWNER: Way = Way { front: OWNER_BYTES, quiet: true };

fn owner(payload: &[u8]) -> Owner {
    let mut fields = Decoder::new(payload);
    let task = fields.u64().unwrap_or(u64::MAX);
    Owner { task, attempt: fields.u64().unwrap_or(0) }
}

fn write(owner: Owner, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Stop> {
    let damaged = |_| {
        let found = bytes.len() as u64;
        Stop::Failed(Error::Corrupt { what: "a page's content", offset: 0, found })
    };
    let mut fields = Encoder::new(out);
    fields.u64(owner.task).map_err(damaged)?;
    fields.u64(owner.attempt).map_err(damaged)?;
    fields.bytes(bytes, PAGE_BYTES as u32).map_err(damaged)
}

impl Queue {
    /// Writes `bytes` into free pages, for `attempt` of the task (0: its arguments); `None` when there are too few.
    pub(super) fn write_pages(
        &self,
        id: TaskId,
        attempt: u64,
        bytes: &[u8],
    ) -> Result<Option<Vec<u16>>, Error> {
        let mut pages = Vec::with_capacity(bytes.len().div_ceil(PAGE_BYTES));
        let mut swept = false;
        for chunk in bytes.chunks(PAGE_BYTES) {
            let page = loop {
                match self.write_page(Owner { task: id.get(), attempt }, chunk) {
                    Ok(None) if !swept => {
                        swept = true;
                        self.sweep_pages()?;
                    }
                    Ok(page) => break page,
                    Err(e) => {
                        self.free_pages(id, &names(&pages))?;
                        return Err(e);
                    }
                }
            };
            let Some(page) = page else {
                self.free_pages(id, &names(&pages))?;
                return Ok(None);
            };
            pages.push(page as u16);
        }
        Ok(Some(pages))
    }

    /// Claims a free page and fills it, as one commit.
    fn write_page(&self, new: Owner, chunk: &[u8]) -> Result<Option<u32>, Error> {
        let pages = &self.shape.pages;
        let attempt = |page: u32| {
            if pages.look_front(&self.handle, page, OWNER_BYTES, owner)?.task != 0 {
                return Ok(None);
            }
            let made = pages.exchange(&self.handle, page, OWNER, |now, next| {
                if owner(now).task != 0 { Err(Stop::Refused) } else { write(new, chunk, next) }
            })?;
            Ok(made.then_some(page))
        };
        self.find(&self.shape.pages_queue, FREE, pages.count(), &self.page_cursor, attempt)
    }

    /// What stands in the pages of a task, written for `attempt`; `None` when they are not its own any more.
    pub(super) fn read_pages(
        &self,
        id: TaskId,
        attempt: u64,
        names: &Bytes<128>,
        length: u64,
    ) -> Result<Option<Vec<u8>>, Error> {
        let mut all =
            Vec::with_capacity(usize::try_from(length).map_or(0, |l| l.min(PAYLOAD_BYTES_MAX)));
        for page in numbers(names) {
            let read = self.shape.pages.look(&self.handle, page.into(), |payload| {
                let mut fields = Decoder::new(payload);
                let ours = fields.u64() == Ok(id.get()) && fields.u64() == Ok(attempt);
                let bytes = fields.bytes(PAGE_BYTES as u32);
                bytes.ok().filter(|_| ours).map(|bytes| all.extend_from_slice(bytes))
            })?;
            if read.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(all).filter(|all| all.len() as u64 == length))
    }

    /// Gives the pages of a task back.
    pub(super) fn free_pages(&self, id: TaskId, names: &Bytes<128>) -> Result<(), Error> {
        for page in numbers(names) {
            self.free_page(page.into(), |now| now.task == id.get())?;
        }
        Ok(())
    }

    fn free_page(&self, page: u32, is_his: impl Fn(Owner) -> bool) -> Result<(), Error> {
        let freed = self.shape.pages.exchange(&self.handle, page, OWNER, |now, next| {
            let none = Owner { task: 0, attempt: 0 };
            if is_his(owner(now)) { write(none, &[], next) } else { Err(Stop::Refused) }
        })?;
        if freed {
            self.space().set_hint(&self.shape.pages_queue, FREE, page % GROUPS)?;
        }
        Ok(())
    }

    /// Gives pages back that no task names: somebody died between two commits.
    pub(crate) fn sweep_pages(&self) -> Result<(), Error> {
        for page in 0..self.shape.pages.count() {
            match self.sweep_page(page) {
                // A record that cannot be read keeps nobody from the others.
                Err(e) if e.is_damage() => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn sweep_page(&self, page: u32) -> Result<(), Error> {
        let of = self.shape.pages.look_front(&self.handle, page, OWNER_BYTES, owner)?;
        let group = page % GROUPS;
        if of.task == 0 {
            if self.space().hints(&self.shape.pages_queue, FREE)? >> group & 1 == 0 {
                self.space().set_hint(&self.shape.pages_queue, FREE, group)?;
            }
            return Ok(());
        }
        // The page was read first: whoever claims one has his task in a state that says so already.
        let task = self.task(TaskId(of.task))?;
        if task.is_some_and(|task| has(&task, of.attempt, page)) {
            return Ok(());
        }
        self.free_page(page, |now| now == of)
    }

    /// How many pages are in use.
    pub(crate) fn pages_in_use(&self) -> Result<u32, Error> {
        let mut used = 0;
        for page in 0..self.shape.pages.count() {
            used += u32::from(
                self.shape.pages.look_front(&self.handle, page, OWNER_BYTES, owner)?.task != 0,
            );
        }
        Ok(used)
    }
}

/// Whether the page, written for `attempt` of the task, is still the task's.
fn has(task: &StoredTask, attempt: u64, page: u32) -> bool {
    let named = |names: &Bytes<128>| numbers(names).any(|p| u32::from(p) == page);
    match TaskState::from_code(task.state) {
        Some(TaskState::Reserved) => attempt == 0,
        Some(TaskState::Running) if attempt != 0 => i64::try_from(attempt) == Ok(task.attempt),
        _ if attempt == 0 => named(&task.argument_pages),
        _ => named(&task.result_pages),
    }
}
