//! A log-linear histogram of nanoseconds in shared words: eight steps an octave, so a value is known to 12 %.

use std::sync::atomic::{AtomicU64, Ordering};

const STEPS: u64 = 8;
/// Words of one histogram.
pub const HISTOGRAM_WORDS: usize = 40 * STEPS as usize;

/// Which bucket `nanos` falls into.
fn bucket(nanos: u64) -> usize {
    if nanos < STEPS {
        return nanos as usize;
    }
    let octave = u64::from(nanos.ilog2()) - 3;
    let step = (nanos >> octave) - STEPS;
    (((octave + 1) * STEPS + step) as usize).min(HISTOGRAM_WORDS - 1)
}

/// The largest value of a bucket.
fn upper(bucket: usize) -> u64 {
    let (octave, step) = (bucket as u64 / STEPS, bucket as u64 % STEPS);
    if octave == 0 { step } else { ((STEPS + step + 1) << (octave - 1)) - 1 }
}

/// Counts `nanos`; one thread writes a histogram.
pub fn record(words: &[AtomicU64], nanos: u64) {
    if let Some(word) = words.get(bucket(nanos)) {
        word.store(word.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

/// Adds a histogram to `sum`.
pub fn add(words: &[AtomicU64], sum: &mut [u64]) {
    for (to, from) in sum.iter_mut().zip(words) {
        *to += from.load(Ordering::Relaxed);
    }
}

/// The value below which `share` of all counted lie.
pub fn quantile(sum: &[u64], share: f64) -> u64 {
    let total: u64 = sum.iter().sum();
    let wanted = (total as f64 * share).ceil() as u64;
    let mut passed = 0;
    for (i, count) in sum.iter().enumerate() {
        passed += count;
        if passed >= wanted && passed > 0 {
            return upper(i);
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_at_most_its_buckets_upper_bound_and_above_the_one_before() {
        for nanos in (0..100_000).chain([u64::from(u32::MAX), 1 << 37]) {
            let b = bucket(nanos);
            assert!(nanos <= upper(b), "{nanos}");
            assert!(b == 0 || nanos > upper(b - 1), "{nanos}");
        }
    }

    #[test]
    fn quantiles() {
        let words: Vec<AtomicU64> = (0..HISTOGRAM_WORDS).map(|_| AtomicU64::new(0)).collect();
        (1..=100).for_each(|n| record(&words, n * 1000));
        let mut sum = vec![0; HISTOGRAM_WORDS];
        add(&words, &mut sum);
        let half = quantile(&sum, 0.5);
        assert!((50_000..58_000).contains(&half), "{half}");
        assert!(quantile(&sum, 0.99) >= 99_000);
        assert_eq!(quantile(&[0; 8], 0.5), 0);
    }
}
