//! How fast a run is, between one line of metrics and the next.

use std::time::Instant;

/// Seconds and tokens since the last line of metrics.
pub(crate) struct Clock {
    pub(crate) since: Instant,
    pub(crate) data: f64,
    pub(crate) batch: f64,
    pub(crate) examples: u64,
    pub(crate) tokens: u64,
    pub(crate) steps: u64,
    /// When this process began, and at which step.
    pub(crate) began: (Instant, u64),
}

impl Clock {
    pub(crate) fn new(step: u64) -> Self {
        Self {
            since: Instant::now(),
            data: 0.0,
            batch: 0.0,
            examples: 0,
            tokens: 0,
            steps: 0,
            began: (Instant::now(), step),
        }
    }

    pub(crate) fn tokens_per_second(&self) -> f64 {
        self.tokens as f64 / self.since.elapsed().as_secs_f64().max(1e-9)
    }

    pub(crate) fn examples_per_second(&self) -> f64 {
        self.examples as f64 / self.since.elapsed().as_secs_f64().max(1e-9)
    }

    pub(crate) fn restart(&mut self) {
        *self = Self {
            began: self.began,
            ..Self::new(0)
        };
    }
}
