//! When a job is due: by a cron expression on the wall clock of a zone, or at an interval.
//!
//! **Source**: the expressions and what becomes of them where a zone changes its clock are those of `croner`: a time
//! that the change leaves out is made up for at the first instant behind the gap, a time that comes twice is taken once
//! when second, minute and hour are one number each, and both times otherwise.

use std::time::Duration;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use croner::parser::{CronParser, Seconds, Year};
use croner::{Cron, JobType};

use super::error::JobsError;
use super::records::StoredJob;

/// The longest expression, in bytes.
pub(super) const EXPRESSION_BYTES_MAX: usize = 128;
/// The longest interval: a century.
const INTERVAL_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);
/// The shortest interval.
const INTERVAL_MIN: Duration = Duration::from_millis(1);
/// No time at all: never.
pub(super) const NEVER: i64 = i64::MAX;

/// How far a clock may be set back without an effect on ticks that are due at one time of the day.
const BACK_MAX: i64 = 3_600_000_000;
/// The same for all others: what is less is no jump.
const BACK_MIN: i64 = 1_000_000;

/// When a job is due.
#[derive(Debug, Clone)]
pub(super) enum Schedule {
    /// On the wall clock.
    Cron { expression: String, cron: Box<Cron>, zone: Tz },
    /// On the monotonic clock.
    Every(Duration),
}

impl Schedule {
    /// By a cron expression of five fields (minute, hour, day of the month, month, day of the week) or six (second
    /// first), in UTC.
    pub(super) fn cron(job: &str, expression: &str) -> Result<Self, JobsError> {
        let expression = expression.split_whitespace().collect::<Vec<_>>().join(" ");
        let wrong = |why: String| JobsError::Cron {
            job: job.to_owned(),
            expression: expression.clone(),
            why,
        };
        if expression.len() > EXPRESSION_BYTES_MAX {
            return Err(wrong(format!(
                "it has {} bytes, and {EXPRESSION_BYTES_MAX} are the most",
                expression.len()
            )));
        }
        let cron = parse(&expression).map_err(|e| wrong(place(&expression, &lower(&e))))?;
        let schedule =
            Self::Cron { expression: expression.clone(), cron: cron.into(), zone: Tz::UTC };
        // A day that no calendar has, such as the 30th of February.
        let begin = DateTime::<Utc>::from(std::time::SystemTime::now()).timestamp_micros();
        match schedule.after(begin) {
            Some(_) => Ok(schedule),
            None => Err(wrong("such a time never comes".to_owned())),
        }
    }

    /// At an interval.
    pub(super) fn every(job: &str, period: Duration) -> Result<Self, JobsError> {
        if (INTERVAL_MIN..=INTERVAL_MAX).contains(&period) {
            return Ok(Self::Every(period));
        }
        Err(JobsError::Interval { job: job.to_owned(), period })
    }

    /// The same in another zone.
    pub(super) fn zone(self, job: &str, name: &str) -> Result<Self, JobsError> {
        let wrong = |why| JobsError::Zone { job: job.to_owned(), zone: name.to_owned(), why };
        let Self::Cron { expression, cron, .. } = self else {
            return Err(wrong("an interval has none; leave the zone out"));
        };
        let unknown = "name one of the time zone database, such as `Europe/Berlin` or `UTC`";
        let zone = name.parse().map_err(|_| wrong(unknown))?;
        Ok(Self::Cron { expression, cron, zone })
    }

    /// What stands in a record.
    pub(super) fn of(job: &str, stored: &StoredJob) -> Result<Self, JobsError> {
        match stored.period {
            0 => Self::cron(job, &stored.schedule)?.zone(job, &stored.zone),
            nanos => Self::every(job, Duration::from_nanos(nanos)),
        }
    }

    /// Whether it is what stands in a record.
    pub(super) fn is_of(&self, stored: &StoredJob) -> bool {
        match self {
            Self::Cron { expression, zone, .. } => {
                stored.period == 0
                    && *stored.schedule == *expression.as_str()
                    && *stored.zone == *zone.name()
            }
            Self::Every(_) => stored.period == self.period(),
        }
    }

    /// The schedule in words: the expression, or such as `every 5s`.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Cron { expression, .. } => expression.clone(),
            Self::Every(period) => format!("every {period:?}"),
        }
    }

    /// The name of the zone; none: an interval.
    pub(super) fn zone_name(&self) -> &'static str {
        match self {
            Self::Cron { zone, .. } => zone.name(),
            Self::Every(_) => "",
        }
    }

    /// The interval in nanoseconds; 0: a cron expression.
    pub(super) fn period(&self) -> u64 {
        match self {
            Self::Cron { .. } => 0,
            Self::Every(period) => u64::try_from(period.as_nanos()).unwrap_or(u64::MAX),
        }
    }

    /// The first time on the wall clock that lies behind `wall`, in microseconds since 1970; none for an interval, and
    /// when there is none.
    pub(super) fn after(&self, wall: i64) -> Option<i64> {
        let Self::Cron { cron, zone, .. } = self else { return None };
        let from = DateTime::<Utc>::from_timestamp_micros(wall)?.with_timezone(zone);
        let next = cron.find_next_occurrence(&from, false).ok()?.timestamp_micros();
        // What does not lie ahead would be due again and again.
        (next > wall).then_some(next)
    }

    /// How far the wall clock may be set back before the time that is due is looked for anew: so far at most that no
    /// job is silent for long, and for one that is due at one time of the day an hour, so that it does not run twice.
    pub(super) fn set_back_max(&self) -> i64 {
        match self {
            Self::Cron { cron, .. } if cron.determine_job_type() == JobType::FixedTime => BACK_MAX,
            _ => BACK_MIN,
        }
    }
}

fn parse(expression: &str) -> Result<Cron, String> {
    let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
    parser.parse(expression).map_err(|e| e.to_string())
}

/// What is wrong, and in which field if it is in one.
fn place(expression: &str, why: &str) -> String {
    const FIELDS: [(&str, &str); 6] = [
        ("second", "0 to 59"),
        ("minute", "0 to 59"),
        ("hour", "0 to 23"),
        ("day of the month", "1 to 31"),
        ("month", "1 to 12 or JAN to DEC"),
        ("day of the week", "0 to 7 or SUN to SAT"),
    ];
    let words: Vec<&str> = expression.split(' ').filter(|word| !word.is_empty()).collect();
    if expression.starts_with('@') {
        return "known are @yearly, @monthly, @weekly, @daily and @hourly".to_owned();
    }
    let Some(skipped) = FIELDS.len().checked_sub(words.len()).filter(|n| *n <= 1) else {
        let fields = if words.len() == 1 { "field" } else { "fields" };
        let must = "it must have 5, or 6 with the second first";
        return format!("it has {} {fields}; {must}", words.len());
    };
    let mut column = 1;
    for ((field, values), word) in FIELDS.iter().skip(skipped).zip(&words) {
        // The field alone, among others that are right.
        let alone = FIELDS.iter().map(|(other, _)| if other == field { *word } else { "*" });
        if let Err(why) = parse(&alone.collect::<Vec<_>>().join(" ")) {
            let why = lower(&why);
            return format!("the {field} `{word}` (column {column}): {why}; it must be {values}");
        }
        column += word.chars().count() + 1;
    }
    why.to_owned()
}

/// The message as part of a sentence.
fn lower(message: &str) -> String {
    if message.contains("illegal character") {
        return "a character that cannot stand there".to_owned();
    }
    let message = message.trim_end_matches('.');
    let message = message.split_once(": ").map_or(message, |(_, what)| what);
    let mut letters = message.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests;
