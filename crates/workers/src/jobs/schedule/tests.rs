//! Expressions, zones and intervals: what they say, and what is wrong with others.

use super::*;

fn cron(expression: &str, zone: &str) -> Schedule {
    Schedule::cron("j", expression).unwrap().zone("j", zone).unwrap()
}

/// Microseconds of such as `2026-03-29T00:59:00Z`.
fn micros(text: &str) -> i64 {
    text.parse::<DateTime<Utc>>().unwrap().timestamp_micros()
}

/// The next `count` times behind `from`, in UTC.
fn times(schedule: &Schedule, from: &str, count: usize) -> Vec<String> {
    let mut at = micros(from);
    let mut next = || {
        at = schedule.after(at).unwrap();
        DateTime::from_timestamp_micros(at).unwrap().format("%dT%H:%M:%S").to_string()
    };
    (0..count).map(|_| next()).collect()
}

#[track_caller]
fn refused(expression: &str, why: &str) {
    let error = Schedule::cron("j", expression).unwrap_err().to_string();
    let begin = format!("job `j`: cron expression `{}`: ", expression.trim());
    assert!(error.starts_with(&begin) && error.contains(why), "{error} lacks {why:?}");
    assert!(!error.contains('\n'), "{error}");
}

#[test]
fn a_wrong_expression_names_its_field_and_column() {
    refused("0 0 25 * * *", "the hour `25` (column 5): number out of bounds; it must be 0 to 23");
    refused("61 * * * * *", "the second `61` (column 1)");
    refused("61 * * * *", "the minute `61` (column 1)");
    refused("0 0 * * FOO", "the day of the week `FOO` (column 9): a character that cannot stand");
    refused("*/0 * * * * *", "the second `*/0` (column 1): step cannot be zero");
    refused("0 0 0 32 * *", "the day of the month `32` (column 7)");
    refused("0 0 0 1 13 *", "the month `13` (column 9)");
    refused("0 30-10 * * * *", "the minute `30-10` (column 3)");
    refused("", "it has 0 fields; it must have 5, or 6");
    refused("noon", "it has 1 field; it must have 5, or 6");
    refused("* * * * * * 2027", "it has 7 fields");
    refused("@often", "known are @yearly");
    refused("0 0 0 30 2 *", "such a time never comes");
    let long = format!("{} * * * *", ["1"; 80].join(","));
    refused(&long, "it has 167 bytes, and 128 are the most");
}

#[test]
fn wrong_zones_and_intervals_are_refused() {
    let zone = |name| Schedule::cron("j", "@daily").unwrap().zone("j", name).unwrap_err();
    let error = zone("Europe/Berlim").to_string();
    assert!(error.starts_with("job `j`: zone `Europe/Berlim`: name one of"), "{error}");
    assert!(zone("").to_string().contains("zone ``"));
    let every = Schedule::every("j", Duration::from_secs(5)).unwrap();
    assert!(every.zone("j", "UTC").unwrap_err().to_string().contains("an interval has none"));
    for period in [Duration::ZERO, Duration::from_micros(999), Duration::MAX] {
        let error = Schedule::every("j", period).unwrap_err().to_string();
        assert!(error.contains("from 1 ms to 100 years"), "{error}");
    }
}

#[test]
fn a_schedule_comes_back_from_its_record() {
    let now = super::super::clock::Moment { wall: 0, monotonic: 0, epoch: 1 };
    let cron = cron(" 0  */5 * * * MON-FRI ", "Asia/Kolkata");
    let every = Schedule::every("j", Duration::from_millis(1500)).unwrap();
    for schedule in [cron, every] {
        let stored = StoredJob::new(&schedule, &now);
        assert!(schedule.is_of(&stored), "{stored:?}");
        let back = Schedule::of("j", &stored).unwrap();
        assert!(back.is_of(&stored), "{back:?}");
        assert_eq!(back.after(0), schedule.after(0));
        let other = Schedule::every("j", Duration::from_millis(1501)).unwrap();
        assert!(!other.is_of(&stored));
    }
}

#[test]
fn an_hour_that_comes_twice() {
    // In Berlin the clock goes back at 01:00 UTC, from 3:00 to 2:00.
    let from = "2026-10-25T00:15:00Z";
    let fixed = cron("0 30 2 * * *", "Europe/Berlin");
    assert_eq!(times(&fixed, from, 2), ["25T00:30:00", "26T01:30:00"], "once, the first time");
    let often = cron("0 */30 * * * *", "Europe/Berlin");
    let halves = ["25T00:30:00", "25T01:00:00", "25T01:30:00", "25T02:00:00"];
    assert_eq!(times(&often, from, 4), halves, "both times");
}

#[test]
fn an_hour_that_is_left_out() {
    // In Berlin the clock goes on at 01:00 UTC, from 2:00 to 3:00.
    let from = "2026-03-29T00:15:00Z";
    let fixed = cron("0 30 2 * * *", "Europe/Berlin");
    assert_eq!(times(&fixed, from, 2), ["29T01:00:00", "30T00:30:00"], "made up for behind it");
    let often = cron("0 */30 * * * *", "Europe/Berlin");
    let halves = ["29T00:30:00", "29T01:00:00", "29T01:30:00", "29T02:00:00"];
    assert_eq!(times(&often, from, 4), halves, "as if there were no gap");
}

#[test]
fn times_lie_ahead_also_from_within_a_second() {
    let each = cron("* * * * * *", "UTC");
    assert_eq!(each.after(4_000_000), Some(5_000_000));
    assert_eq!(each.after(4_000_001), Some(5_000_000));
    assert_eq!(each.after(4_999_999), Some(5_000_000));
    assert_eq!(each.after(i64::MAX), None, "no calendar has that");
}

proptest::proptest! {
    /// Whatever the instant, also within a change of the clock, the next time lies ahead, is a whole second, and there
    /// is none between.
    #[test]
    fn no_time_is_left_out(second in 0_i64..28_800, day in 0_usize..3, which in 0_usize..4) {
        let expressions = ["0 30 2 * * *", "0 */20 * * * *", "15 59 1,2,3 * * *", "0 0 2 * * SUN"];
        let days = ["2026-03-28T21:00:00Z", "2026-10-24T21:00:00Z", "2026-12-31T20:00:00Z"];
        let schedule = cron(expressions[which], "Europe/Berlin");
        let from = micros(days[day]) + second * 1_000_000 + 7;
        let next = schedule.after(from).unwrap();
        proptest::prop_assert!(next > from && next % 1_000_000 == 0);
        let between = from + (next - from) / 2;
        proptest::prop_assert_eq!(schedule.after(between), Some(next));
        proptest::prop_assert_eq!(schedule.after(next - 1_000_001), Some(next));
    }
}
