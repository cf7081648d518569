//! Times of concepts: microseconds since 1970, written as RFC 3339 in UTC.

use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, SecondsFormat};
use serde_json::Value;

/// The last time: RFC 3339 has years of four digits.
pub(super) const LAST: i64 = 253_402_300_799_999_999;

/// The clock of this machine.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// A time in a file: RFC 3339, or whole milliseconds since 1970 as JavaScript's `Date.now()` gives them. None for
/// anything else, and for times before 1970 or after 9999.
pub(super) fn of_value(value: &Value) -> Option<i64> {
    let micros = match value {
        Value::String(text) => DateTime::parse_from_rfc3339(text).ok()?.timestamp_micros(),
        Value::Number(number) => number.as_i64()?.checked_mul(1000)?,
        _ => return None,
    };
    (0..=LAST).contains(&micros).then_some(micros)
}

/// As it is written.
pub(super) fn text(micros: i64) -> String {
    let time = DateTime::from_timestamp_micros(micros).unwrap_or_default();
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_read_and_written() {
        let read = |value: Value| of_value(&value);
        assert_eq!(read(json!("1970-01-01T00:00:01Z")), Some(1_000_000));
        assert_eq!(read(json!("1970-01-01T01:00:01.000002+01:00")), Some(1_000_002));
        assert_eq!(read(json!(1_500)), Some(1_500_000));
        for wrong in [json!("yesterday"), json!(""), json!(1.5), json!(-1), json!(null), json!([])]
        {
            assert_eq!(of_value(&wrong), None, "{wrong}");
        }
        assert_eq!(read(json!("1969-12-31T23:59:59Z")), None);
        assert_eq!(read(json!(i64::MAX)), None);
        assert_eq!(read(json!(9_000_000_000_000_000_i64)), None, "beyond any calendar");
        assert_eq!(text(1_000_000), "1970-01-01T00:00:01Z");
        assert_eq!(text(1_000_002), "1970-01-01T00:00:01.000002Z");
        let now = now();
        assert_eq!(of_value(&json!(text(now))), Some(now));
    }
}
