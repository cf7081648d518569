//! The store, as the log tells of it: that it does not take what is committed, why, and how much waits for it; and that
//! it does again. The steward may be in any process: what he says stands in the segment.

use std::sync::Arc;
use std::time::Duration;

use commonhold::admin;
use commonhold::core::Space;
use tokio::time::Instant;

/// So often the segment is looked at.
const EVERY: Duration = Duration::from_secs(1);
/// So often the same is told again.
const AGAIN: Duration = Duration::from_secs(60);

/// What was told of an outage.
struct Told {
    why: String,
    since: Instant,
    last: Instant,
}

/// Tells for as long as the daemon runs.
pub(crate) async fn tell(space: Arc<Space>) {
    let mut told: Option<Told> = None;
    let mut ticks = tokio::time::interval(EVERY);
    loop {
        let now = ticks.tick().await;
        match space.steward_message() {
            Some(why) => {
                let known = told.as_ref().filter(|told| told.why == why);
                if known.is_none_or(|told| now.duration_since(told.last) >= AGAIN) {
                    let unstored = admin::unstored(&space).unwrap_or_default();
                    tracing::warn!(why, unstored, "the store does not take what is committed");
                    let since = told.as_ref().map_or(now, |told| told.since);
                    told = Some(Told { why, since, last: now });
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
