//! The store, as the log tells of it: that it does not take what is committed, why, and how much waits for it; and that
//! it does again. The steward may be in any process: what he says stands in the segment.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use commonhold::admin;
use commonhold::core::Space;
use tokio::time::Instant;

/// So often the segment is looked at.
const EVERY: Duration = Duration::from_secs(1);
/// So often the same is told again.
const AGAIN: Duration = Duration::from_secs(60);

/// The most reasons that are kept of an outage.
const REASONS: usize = 16;

/// What was told of an outage.
struct Told {
    since: Instant,
    /// Each reason, and when it was told last: a store may give two in turn for as long as it is away.
    reasons: VecDeque<(String, Instant)>,
}

impl Told {
    fn new(since: Instant) -> Self {
        Self { since, reasons: VecDeque::new() }
    }

    /// Whether `why` is to be told now.
    fn is_news(&mut self, why: &str, now: Instant) -> bool {
        if let Some((_, last)) = self.reasons.iter_mut().find(|(told, _)| told == why) {
            let again = now.duration_since(*last) >= AGAIN;
            *last = if again { now } else { *last };
            return again;
        }
        if self.reasons.len() == REASONS {
            self.reasons.pop_front();
        }
        self.reasons.push_back((why.to_owned(), now));
        true
    }
}

/// Tells for as long as the daemon runs.
pub(crate) async fn tell(space: Arc<Space>) {
    let mut told: Option<Told> = None;
    let mut ticks = tokio::time::interval(EVERY);
    loop {
        let now = ticks.tick().await;
        match space.steward_message() {
            Some(why) => {
                if told.get_or_insert_with(|| Told::new(now)).is_news(&why, now) {
                    let unstored = admin::unstored(&space).unwrap_or_default();
                    tracing::warn!(why, unstored, "the store does not take what is committed");
                }
            }
            None => {
                if let Some(Told { since, .. }) = told.take() {
                    let seconds = now.duration_since(since).as_secs();
                    tracing::info!(seconds, "the store takes what is committed again");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_told_once_a_minute_also_among_others() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut told = Told::new(start);
        let news: Vec<_> = (0..120)
            .filter(|n| told.is_news(["lost", "refused"][*n as usize % 2], at(*n)))
            .collect();
        assert_eq!(news, [0, 1, 60, 61]);
        // However many there are, they are few in memory.
        assert!((0..100).all(|n| told.is_news(&n.to_string(), at(120))));
        assert_eq!(told.reasons.len(), REASONS);
    }
}
