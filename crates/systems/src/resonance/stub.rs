//! Stand-ins until guards and ids land. Not for the main line.
#![allow(missing_docs, clippy::missing_errors_doc, missing_debug_implementations)]

use std::borrow::Borrow;
use std::marker::PhantomData;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use commonhold_runtime::{Error, Handle, Record, Table};

static LOCK: Mutex<()> = Mutex::new(());
static NEXT: AtomicU64 = AtomicU64::new(0);

#[derive(Debug)]
pub struct GuardOptions;
impl GuardOptions {
    #[must_use]
    pub fn new() -> Self {
        Self
    }
    #[must_use]
    pub fn metrics(self, _: &str) -> Self {
        self
    }
}
#[derive(Debug)]
pub struct Guard<H>(#[allow(dead_code)] H);
pub struct Held<'a>(PhantomData<&'a ()>);
pub struct Changes<'a>(PhantomData<&'a ()>);
#[derive(Debug)]
pub struct Ids<H>(#[allow(dead_code)] H);

impl<H> Guard<H> {
    pub fn new(handle: H, _: &str, _: &GuardOptions) -> Result<Self, Error> {
        Ok(Self(handle))
    }
    pub fn with<R>(&self, f: impl FnOnce(&Held<'_>) -> R) -> Result<R, Error> {
        let _lock = LOCK.lock();
        Ok(f(&Held(PhantomData)))
    }
}
impl Held<'_> {
    pub fn changes(&self) -> Changes<'_> {
        Changes(PhantomData)
    }
}
impl Changes<'_> {
    pub fn get<T: Record, H: Borrow<Handle>>(
        &mut self,
        table: &Table<T, H>,
        key: &str,
    ) -> Result<Option<T>, Error> {
        table.get(key)
    }
    pub fn put<T: Record + Clone, H: Borrow<Handle>>(
        &mut self,
        table: &Table<T, H>,
        key: &str,
        value: &T,
    ) -> Result<(), Error> {
        table.upsert(key, value).map(|_| ())
    }
    pub fn delete<T: Record, H: Borrow<Handle>>(
        &mut self,
        table: &Table<T, H>,
        key: &str,
    ) -> Result<(), Error> {
        table.delete(key).map(|_| ())
    }
    pub fn commit(self) -> Result<(), Error> {
        Ok(())
    }
}
impl<H> Ids<H> {
    pub fn new(handle: H, _: &str) -> Result<Self, Error> {
        Ok(Self(handle))
    }
    pub fn next(&self) -> Result<u64, Error> {
        Ok(1 + NEXT.fetch_add(1, Ordering::SeqCst))
    }
}
