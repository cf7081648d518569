//! Metrics on a segment in the heap: sums, bounds, and what a reader sees while others count.
#![cfg(not(feature = "loom"))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use commonhold_core::catalogue::Catalogue;
use commonhold_core::guard::Patience;
use commonhold_core::metrics::{HistogramSample, NewMetric, Octaves, Sample, SampleValue, Unit};
use commonhold_core::{Error, Handle, Space};
use commonhold_segment::NamedGeometry;
use proptest::prelude::*;

const HELP: &str = "What it counts.";

fn space_of(names: u32, share_words: u32) -> Arc<Space> {
    let named = NamedGeometry { names, share_words, intents: 0 };
    let catalogue = Catalogue::new(8, 1, Vec::new()).unwrap().with_named(named).unwrap();
    Space::in_heap(&catalogue).unwrap()
}

fn new(name: &str) -> NewMetric<'_> {
    NewMetric { name, help: HELP, labels: &[] }
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// The one sample of this name.
fn sample(space: &Space, name: &str) -> Sample {
    let all = space.metrics().unwrap();
    let mut found = all.into_iter().filter(|sample| sample.name == name);
    let one = found.next().unwrap_or_else(|| panic!("no sample {name}"));
    assert_eq!(found.next(), None);
    one
}

fn counted(space: &Space, name: &str) -> u64 {
    match sample(space, name).value {
        SampleValue::Counter(count) => count,
        other => panic!("{other:?}"),
    }
}

fn histogram(space: &Space, name: &str) -> HistogramSample {
    match sample(space, name).value {
        SampleValue::Histogram(histogram) => histogram,
        other => panic!("{other:?}"),
    }
}

#[test]
fn sums_are_exact_and_go_on_through_all_owners_of_an_entry() {
    const THREADS: u64 = 4;
    const EACH: u64 = 20_000;
    let space = space_of(8, 256);
    for generation in 1..=3 {
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let space = &space;
                scope.spawn(move || {
                    let handle = Handle::open(space).unwrap();
                    let counter = handle.metric_counter(&new("things_total")).unwrap();
                    let gauge = handle.metric_gauge(&new("level")).unwrap();
                    let sizes = Octaves::between(4, 1 << 20);
                    let histogram = handle.metric_histogram(&new("size_bytes"), sizes).unwrap();
                    for i in 0..EACH {
                        handle.count(counter, 3).unwrap();
                        handle.add_gauge(gauge, 0.5).unwrap();
                        handle.observe(histogram, i * THREADS + thread).unwrap();
                    }
                });
            }
        });
        let all = THREADS * EACH * generation;
        assert_eq!(counted(&space, "things_total"), 3 * all);
        assert_eq!(sample(&space, "level").value, SampleValue::Gauge(all as f64 / 2.0));
        let sizes = histogram(&space, "size_bytes");
        assert_eq!(sizes.count(), all);
        let values = THREADS * EACH;
        assert_eq!(sizes.sum, values * (values - 1) / 2 * generation);
        for bucket in sizes.buckets.iter().scan(0, |below, bucket| {
            *below += bucket.count;
            Some((bucket.bound, *below))
        }) {
            let up_to = bucket.0.map_or(values, |bound| (bound + 1).min(values));
            assert_eq!(bucket.1, up_to * generation, "values up to {:?}", bucket.0);
        }
    }
}

#[test]
fn registering_again_gives_the_same_metric_and_another_kind_is_refused() {
    let space = space_of(8, 256);
    let (one, two) = (Handle::open(&space).unwrap(), Handle::open(&space).unwrap());
    let first = one.metric_counter(&new("a_total")).unwrap();
    assert_eq!(two.metric_counter(&new("a_total")).unwrap(), first);
    let labels = [pair("k", "x")];
    let labelled = NewMetric { labels: &labels, ..new("a_total") };
    let second = two.metric_counter(&labelled).unwrap();
    assert_ne!(first, second);
    one.count(first, 1).unwrap();
    two.count(second, 5).unwrap();
    let all = space.metrics().unwrap();
    let found: Vec<_> = all.iter().filter(|s| s.name == "a_total").collect();
    assert_eq!((&found[0].value, &found[0].labels[..]), (&SampleValue::Counter(1), &[][..]));
    assert_eq!((&found[1].value, &found[1].labels[..]), (&SampleValue::Counter(5), &labels[..]));
    assert_eq!((found[1].help.as_str(), found[1].unit), (HELP, Unit::One));

    let sizes = |low, high| Octaves::between(low, high);
    one.metric_histogram(&new("h_ms"), sizes(4, 64)).unwrap();
    one.metric_histogram(&new("h_ms"), sizes(4, 64)).unwrap();
    let other = two.metric_histogram(&new("h_ms"), sizes(4, 128)).unwrap_err();
    assert!(matches!(other, Error::OtherKind { .. }), "{other}");
    let other = two.metric_gauge(&new("h_ms")).unwrap_err().to_string();
    assert!(
        other.starts_with("`h_ms` is a histogram metric in milliseconds, not a gauge"),
        "{other}"
    );
    for refused in [
        one.metric_counter(&new("a")).map(drop),
        one.metric_gauge(&new("commonhold_participants")).map(drop),
        one.metric_gauge(&NewMetric { labels: &[pair("le", "1")], ..new("g") }).map(drop),
    ] {
        assert!(matches!(refused, Err(Error::BadName { .. })), "{refused:?}");
    }
}

#[test]
fn a_full_directory_and_a_full_share_are_told() {
    let space = space_of(2, 20);
    let handle = Handle::open(&space).unwrap();
    handle.metric_counter(&new("a_total")).unwrap();
    let wide = handle.metric_histogram(&new("h"), Octaves::between(4, 1 << 20)).unwrap_err();
    assert!(matches!(&wide, Error::NamesFull { raise: "share_words", limit: 20, .. }), "{wide}");
    handle.metric_histogram(&new("h"), Octaves::between(4, 64)).unwrap();
    let full = handle.metric_gauge(&new("g")).unwrap_err().to_string();
    let want =
        "gauge metric `g`: no room; 2 names are in use; raise `names` and create the segment anew";
    assert_eq!(full, want);
    assert_eq!(counted(&space, "a_total"), 0);
}

#[test]
fn who_reads_while_others_count_sees_whole_words() {
    const COUNTS: u64 = 200_000;
    // Two values that differ in every bit.
    let (one, other) = (1.5_f64, f64::from_bits(!1.5_f64.to_bits()));
    let space = space_of(4, 64);
    let begun = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let handle = Handle::open(&space).unwrap();
                let counter = handle.metric_counter(&new("things_total")).unwrap();
                let gauge = handle.metric_gauge(&new("level")).unwrap();
                handle.set_gauge(gauge, one).unwrap();
                for i in 0..COUNTS {
                    begun.fetch_add(1, Ordering::SeqCst);
                    handle.count(counter, 1 << 32).unwrap();
                    handle.set_gauge(gauge, if i % 2 == 0 { other } else { one }).unwrap();
                }
            });
        }
        while begun.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        let mut last = 0;
        while last < 2 * COUNTS {
            let count = counted(&space, "things_total");
            assert_eq!(count % (1 << 32), 0, "half a word");
            let count = count >> 32;
            assert!(count >= last && count <= begun.load(Ordering::SeqCst), "{last} {count}");
            last = count;
            let SampleValue::Gauge(level) = sample(&space, "level").value else { panic!() };
            assert!([one, other].map(f64::to_bits).contains(&level.to_bits()), "{level}");
        }
    });
}

#[test]
fn guards_tell_how_often_and_how_long_was_waited() {
    let space = space_of(4, 64);
    let one = Handle::open(&space).unwrap();
    let refused = one.guard("g", None, "not a name").unwrap_err();
    assert!(matches!(refused, Error::BadName { .. }), "{refused}");
    // Two guards whose metrics have one name are told as one.
    let [first, second] = ["a", "b"].map(|name| one.guard(name, None, "shared_mutex").unwrap());
    for (guard, contentions) in [(first, 2), (second, 1)] {
        let grant = one.acquire(guard, Patience::Try).unwrap().unwrap();
        // On a thread of its own: this one holds the guard.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let handle = Handle::open(&space).unwrap();
                let limit = Patience::Within(std::time::Duration::from_millis(2));
                (0..contentions).for_each(|_| assert!(handle.acquire(guard, limit).is_err()));
            });
        });
        one.release(&grant).unwrap();
    }
    assert_eq!(counted(&space, "shared_mutex_contention_total"), 3);
    let SampleValue::Gauge(waited) = sample(&space, "shared_mutex_wait_time_ms").value else {
        panic!()
    };
    assert!(waited >= 6.0, "three waits of 2 ms: {waited}");
    let all = space.metrics().unwrap();
    let of = |name: &str, guard| {
        let same = |s: &&Sample| s.name == name && s.labels == [pair("guard", guard)];
        all.iter().find(same).unwrap().value.clone()
    };
    assert_eq!(of("commonhold_guard_contention_total", "a"), SampleValue::Counter(2));
    assert_eq!(of("commonhold_guard_acquisitions_total", "b"), SampleValue::Counter(1));
    assert_eq!(of("commonhold_guard_held", "b"), SampleValue::Gauge(0.0));
    let nanos = ["a", "b"].map(|guard| of("commonhold_guard_wait_seconds_total", guard));
    let [SampleValue::Counter(a), SampleValue::Counter(b)] = nanos else { panic!() };
    assert_eq!((a + b) as f64 / 1e6, waited);
}

proptest! {
    #[test]
    fn a_quantile_lies_within_its_bounds(
        values in prop::collection::vec(prop_oneof![0..300_u64, any::<u32>().prop_map(u64::from), any::<u64>()], 1..200),
        low in 0..1_u64 << 40,
        high in any::<u64>(),
        q in 0.0..=1.0_f64,
    ) {
        let octaves = Octaves::between(low, high);
        let space = space_of(1, 512);
        let handle = Handle::open(&space).unwrap();
        let of = handle.metric_histogram(&new("sizes_bytes"), octaves).unwrap();
        for value in &values {
            handle.observe(of, *value).unwrap();
        }
        let seen = histogram(&space, "sizes_bytes");
        prop_assert_eq!(seen.count(), values.len() as u64);
        let mut sorted = values.clone();
        sorted.sort_unstable();
        let rank = (q * values.len() as f64).ceil().max(1.0) as usize;
        let exact = sorted[rank - 1];
        let (above, up_to) = seen.quantile(q).unwrap();
        prop_assert!(exact > above || above == 0, "{exact} {above}");
        prop_assert!(up_to.is_none_or(|bound| exact <= bound), "{exact} {up_to:?}");
        // Told apart as finely as promised, wherever values are told apart.
        if let Some(bound) = up_to && above > 0 {
            prop_assert!(bound - above <= above / 4, "{above} {bound}");
        }
        for (at, bucket) in seen.buckets.iter().enumerate() {
            let upper = bucket.bound.unwrap_or(u64::MAX);
            prop_assert_eq!(octaves.bucket_of(upper), at as u32);
        }
    }
}
