//! A stand-in until ids land. Not for the main line.
#![allow(missing_docs, clippy::missing_errors_doc, missing_debug_implementations, unreachable_pub)]

use std::borrow::Borrow;
use std::io::{Read, Seek, Write};

use commonhold_runtime::{Error, Handle};

#[derive(Debug)]
pub struct Ids<H>(H);

impl<H: Borrow<Handle>> Ids<H> {
    pub fn new(handle: H, _: &str) -> Result<Self, Error> {
        Ok(Self(handle))
    }
    #[allow(clippy::unwrap_used)]
    pub fn next(&self) -> Result<u64, Error> {
        let path = self.0.borrow().space().segment().path().unwrap().with_extension("ids");
        let mut file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .unwrap();
        file.lock().unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        let next = text.trim().parse().unwrap_or(0) + 1;
        file.rewind().unwrap();
        write!(file, "{next}").unwrap();
        Ok(next)
    }
}
