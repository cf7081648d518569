//! A tick as a worker gets it: which node, how much time passed, and the node's state.
//!
//! ```text
//! arguments   step in nanoseconds: 8 bytes, little endian · length of the node's name: 4 · name · state
//! result      the next state
//! ```

use std::time::Duration;

use commonhold_runtime::Record;
use commonhold_runtime::core::schema::{Decoder, Encoder};

use crate::kinds::{Context, Kind};

/// A tick of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick<'a> {
    /// The node's name: for a table's records, the key.
    pub node: &'a str,
    /// The time that passed since the node's last tick.
    pub step: Duration,
    /// Its state.
    pub state: &'a [u8],
}

impl<'a> Tick<'a> {
    /// The arguments of its task.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let step = u64::try_from(self.step.as_nanos()).unwrap_or(u64::MAX);
        let length = u32::try_from(self.node.len()).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(12 + self.node.len() + self.state.len());
        bytes.extend_from_slice(&step.to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(self.node.as_bytes());
        bytes.extend_from_slice(self.state);
        bytes
    }

    /// Reads the arguments of a task.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn decode(arguments: &'a [u8]) -> Result<Self, String> {
        let short = || format!("{} bytes are no tick", arguments.len());
        let (step, rest) = arguments.split_first_chunk().ok_or_else(short)?;
        let (length, rest) = rest.split_first_chunk().ok_or_else(short)?;
        let split = rest.split_at_checked(u32::from_le_bytes(*length) as usize);
        let (node, state) = split.ok_or_else(short)?;
        let node = std::str::from_utf8(node).map_err(|e| format!("a node's name: {e}"))?;
        Ok(Self { node, step: Duration::from_nanos(u64::from_le_bytes(*step)), state })
    }
}

impl Kind {
    /// A kind that makes a node's next state of its state. `check` is asked before anything is dispatched.
    #[must_use]
    pub fn tick(
        name: &str,
        check: impl Fn(&Tick<'_>) -> Result<(), String> + Send + Sync + 'static,
        run: impl Fn(&Context<'_>, &Tick<'_>) -> Result<Vec<u8>, String> + Send + Sync + 'static,
    ) -> Self {
        let check = move |bytes: &[u8]| check(&Tick::decode(bytes)?);
        Self::new(name, check, move |context, bytes| run(context, &Tick::decode(bytes)?))
    }

    /// A kind that changes records of type `T`: what [`crate::TableSource`] hands out.
    #[must_use]
    pub fn tick_of<T: Record>(
        name: &str,
        run: impl Fn(&Context<'_>, &Tick<'_>, &mut T) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        let check = |tick: &Tick<'_>| record::<T>(tick.state).map(drop);
        Self::tick(name, check, move |context, tick| {
            let mut state = record::<T>(tick.state)?;
            run(context, tick, &mut state)?;
            let mut next = Vec::new();
            state.encode(&mut Encoder::new(&mut next)).map_err(|e| e.to_string())?;
            Ok(next)
        })
    }
}

/// The record that `state` encodes.
pub(super) fn record<T: Record>(state: &[u8]) -> Result<T, String> {
    let mut fields = Decoder::new(state);
    let record = T::decode(&mut fields).and_then(|record| fields.finish().map(|()| record));
    record.map_err(|e| format!("the state is no such record: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_comes_back() {
        for (node, state) in [("", &b""[..]), ("n-1", b"abc"), ("ä", &[0, 255, 7])] {
            let tick = Tick { node, step: Duration::new(3, 7), state };
            assert_eq!(Tick::decode(&tick.encode()), Ok(tick));
        }
    }

    #[test]
    fn what_is_no_tick_is_refused() {
        let whole = Tick { node: "node", step: Duration::ZERO, state: b"" }.encode();
        for end in 0..whole.len() {
            assert!(Tick::decode(&whole[..end]).is_err(), "{end} bytes");
        }
        let mut odd = whole;
        odd[12] = 0xff;
        assert!(Tick::decode(&odd).is_err_and(|e| e.contains("name")));
    }
}
