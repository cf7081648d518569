//! What a task of the torture does: it works for a while, and makes of its arguments what can be made of no others.

use std::time::{Duration, Instant};

use commonhold::workers::{Kind, Priority, Task};

/// The kind of all tasks.
pub(super) const KIND: &str = "torture";
/// Bytes before the filler: number, microseconds, bytes of the result.
const HEAD: usize = 16;
/// Sizes of arguments: in the record, in one page, in some.
const ARGUMENTS: [usize; 6] = [16, 200, 257, 5000, 16_385, 100_000];
/// Sizes of results.
const RESULTS: [u32; 5] = [0, 8, 256, 257, 40_000];
/// Longer than any run takes.
const DEADLINE: Duration = Duration::from_secs(600);

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Debug, Clone)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let words = std::iter::repeat_with(|| self.next().to_le_bytes());
        words.take(length.div_ceil(8)).flatten().take(length).collect()
    }

    fn of<T: Copy + Default>(&mut self, all: &[T]) -> T {
        let at = self.below(all.len() as u64) as usize;
        all.get(at).copied().unwrap_or_default()
    }
}

/// The task kind of this torture.
#[must_use]
pub fn kind() -> Kind {
    let check = |bytes: &[u8]| match parse(bytes) {
        Some(_) => Ok(()),
        None => Err(format!("{} bytes; at least {HEAD} are due", bytes.len())),
    };
    Kind::new(KIND, check, |_, bytes| {
        let job = parse(bytes).ok_or_else(|| "arguments without a head".to_owned())?;
        job.work();
        Ok(result(bytes))
    })
}

struct Job {
    number: u64,
    time: Duration,
    result: usize,
}

fn parse(bytes: &[u8]) -> Option<Job> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    let (micros, rest) = rest.split_first_chunk::<4>()?;
    let result = rest.first_chunk::<4>()?;
    Some(Job {
        number: u64::from_le_bytes(*number),
        time: Duration::from_micros(u32::from_le_bytes(*micros).into()),
        result: u32::from_le_bytes(*result) as usize,
    })
}

impl Job {
    /// Every fourth computes all the time, so that the machine has more to do than it can; the others wait.
    fn work(&self) {
        if !self.number.is_multiple_of(4) {
            return std::thread::sleep(self.time);
        }
        let end = Instant::now() + self.time;
        while Instant::now() < end {
            std::hint::spin_loop();
        }
    }
}

/// What a task with these arguments gives: a stream that every byte of them decides.
pub(super) fn result(arguments: &[u8]) -> Vec<u8> {
    let mix = |state: u64, byte: &u8| (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let seed = arguments.iter().fold(0xcbf2_9ce4_8422_2325, mix);
    Random(seed).bytes(parse(arguments).map_or(0, |job| job.result))
}

/// The arguments of task `number`.
pub(super) fn arguments(seed: u64, number: u64) -> Vec<u8> {
    let mut random = Random(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    // From 100 µs to 3.2 ms, each octave as likely.
    let micros = (100 << random.below(5)) + random.below(100 << 4) as u32 / 16;
    let (length, result) = (random.of(&ARGUMENTS).max(HEAD), random.of(&RESULTS));
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.extend(micros.to_le_bytes());
    bytes.extend(result.to_le_bytes());
    bytes.extend(random.bytes(length - HEAD));
    bytes
}

/// How often task `number` is begun at most: few may fail, most may not.
pub(super) fn attempts(number: u64) -> u64 {
    match number % 16 {
        0 => 1,
        1 => 2,
        _ => 10,
    }
}

/// Task `number` with its arguments.
pub(super) fn task(number: u64, arguments: &[u8]) -> Task<'_> {
    let priority = match number % 3 {
        0 => Priority::High,
        1 => Priority::Normal,
        _ => Priority::Low,
    };
    Task::new(KIND, arguments).attempts(attempts(number)).priority(priority).deadline(DEADLINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_of_the_arguments_counts() {
        let long = (0..).map(|n| arguments(7, n)).find(|a| a.len() > 5000 && result(a).len() > 8);
        let mut bytes = long.unwrap_or_default();
        let before = result(&bytes);
        assert!(before.len() > 8);
        for at in [0, 4999, bytes.len() - 1] {
            bytes[at] ^= 1;
            assert_ne!(result(&bytes), before, "byte {at}");
            bytes[at] ^= 1;
        }
        assert_eq!(result(&bytes), before);
    }
}
