//! What a name stands for.

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NameKind {
    /// A guard.
    Guard,
    /// A named atomic counter.
    Counter,
    /// An allocator of ids.
    Ids,
    /// A metric that only grows, summed over all participants.
    MetricCounter,
    /// A metric that everybody sets.
    Gauge,
    /// A metric that counts values by size.
    Histogram,
    /// What those who share a queue of records tell one another.
    Queue,
}

impl NameKind {
    /// Every kind.
    const ALL: [Self; 7] = [
        Self::Guard,
        Self::Counter,
        Self::Ids,
        Self::MetricCounter,
        Self::Gauge,
        Self::Histogram,
        Self::Queue,
    ];

    pub(super) fn code(self) -> u64 {
        self as u64 + 1
    }

    pub(super) fn from_code(code: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// Whether both live in one space of names: two metrics do, a guard and a counter do not.
    pub(super) fn shares_names_with(self, other: Self) -> bool {
        let is_metric = |k: Self| matches!(k, Self::MetricCounter | Self::Gauge | Self::Histogram);
        self == other || (is_metric(self) && is_metric(other))
    }
}

impl std::fmt::Display for NameKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Guard => "guard",
            Self::Counter => "counter",
            Self::Ids => "id allocator",
            Self::MetricCounter => "counter metric",
            Self::Gauge => "gauge metric",
            Self::Histogram => "histogram metric",
            Self::Queue => "queue",
        })
    }
}
