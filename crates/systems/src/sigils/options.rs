//! What a process may choose about sigils.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::error::SigilError;

/// Says what time it is, in microseconds since 1970.
#[derive(Clone)]
pub struct Now(Arc<dyn Fn() -> i64 + Send + Sync>);

impl Now {
    /// The time that `tell` says, for tests and simulations.
    #[must_use]
    pub fn told_by(tell: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    pub(super) fn get(&self) -> i64 {
        (self.0)()
    }
}

impl Default for Now {
    /// The machine's clock.
    fn default() -> Self {
        Self::told_by(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
        })
    }
}

impl std::fmt::Debug for Now {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Now({})", self.get())
    }
}

/// How sigils decay, and what becomes permanent.
#[derive(Debug, Clone)]
pub struct SigilOptions {
    pub(super) half_life: Duration,
    pub(super) threshold: f64,
    pub(super) crystallize_after: u64,
    pub(super) room_wait: Duration,
    pub(super) now: Now,
}

impl Default for SigilOptions {
    fn default() -> Self {
        Self {
            half_life: Duration::from_secs(3600),
            threshold: 1.0 / 64.0,
            crystallize_after: 5,
            room_wait: Duration::from_secs(10),
            now: Now::default(),
        }
    }
}

impl SigilOptions {
    /// A half-life of one hour; swept below 1/64, which is after six of them; permanent after five recalls.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// After how long half of a strength is left. A sigil keeps the half-life that it was encoded with.
    #[must_use]
    pub fn half_life(mut self, half_life: Duration) -> Self {
        self.half_life = half_life;
        self
    }

    /// Below which strength a sigil is swept: 0 to 1; 0 keeps all.
    #[must_use]
    pub fn threshold(mut self, threshold: f64) -> Self {
        self.threshold = threshold;
        self
    }

    /// After how many recalls a sigil becomes permanent.
    #[must_use]
    pub fn crystallize_after(mut self, recalls: u64) -> Self {
        self.crystallize_after = recalls;
        self
    }

    /// How long an operation waits for room, and for the store to cover its id; ten seconds if never set.
    #[must_use]
    pub fn room_wait(mut self, limit: Duration) -> Self {
        self.room_wait = limit;
        self
    }

    /// What time it is.
    #[must_use]
    pub fn now(mut self, now: Now) -> Self {
        self.now = now;
        self
    }

    pub(super) fn check(&self) -> Result<(), SigilError> {
        let refuse = |what, found: String, must| Err(SigilError::Option { what, found, must });
        if self.half_life < Duration::from_millis(1) {
            return refuse("half-life", format!("{:?}", self.half_life), "at least 1 ms");
        }
        if !(0.0..=1.0).contains(&self.threshold) {
            return refuse("threshold", self.threshold.to_string(), "0 to 1");
        }
        if self.crystallize_after == 0 {
            return refuse("number of recalls", "0".to_owned(), "at least 1");
        }
        Ok(())
    }
}
