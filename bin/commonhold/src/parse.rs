//! Parts of the command line that clap does not know: `field=value`, durations, columns.

use std::time::Duration;

/// `field=value`; the value may be empty and may hold further `=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) field: String,
    pub(crate) value: String,
}

impl std::str::FromStr for Assignment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((field, value)) if !field.is_empty() => {
                Ok(Self { field: field.to_owned(), value: value.to_owned() })
            }
            _ => Err("write field=value".to_owned()),
        }
    }
}

/// `10s`, `500ms`, `2m`, `1h`; a bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let help = || "write a number and ms, s, m or h, for instance 10s".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.get(digits.len()..).unwrap_or_default();
    let seconds = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(help()),
    };
    let number: f64 = digits.parse().map_err(|_| help())?;
    // A century at most: later points in time overflow.
    Duration::try_from_secs_f64((number * seconds).min(3.2e9)).map_err(|_| help())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let read = |text| duration(text).map(|d| d.as_millis());
        assert_eq!(read("10s"), Ok(10_000));
        assert_eq!(read("1.5"), Ok(1500));
        assert_eq!(read("250ms"), Ok(250));
        assert_eq!(read("2m"), Ok(120_000));
        assert_eq!(read("1h"), Ok(3_600_000));
        for wrong in ["", "s", "-1s", "1d", "NaN", "inf", "1 s", "10 seconds"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn assignments() {
        let read = |text: &str| text.parse::<Assignment>().map(|a| (a.field, a.value));
        let pair = |a: &str, b: &str| Ok((a.to_owned(), b.to_owned()));
        assert_eq!(read("n=5"), pair("n", "5"));
        assert_eq!(read("name="), pair("name", ""));
        assert_eq!(read("q=a=b"), pair("q", "a=b"));
        assert!(read("n").is_err());
        assert!(read("=5").is_err());
    }
}
