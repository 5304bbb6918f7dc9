//! The learning rate as a function of the step: linear warm-up, then cosine down to a floor.
//!
//! ```text
//!   peak      /‾‾‾‾\
//!            /       \
//!   floor   /          \____      floor = peak · floor_ratio
//!          0  warmup        steps
//! ```

use serde::{Deserialize, Serialize};

/// A learning rate schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LrConfig {
    /// The highest rate.
    pub peak: f64,
    /// What follows the warm-up.
    #[serde(default)]
    pub decay: Decay,
    /// Steps over which the rate grows linearly from 0.
    #[serde(default)]
    pub warmup: u64,
    /// Lowest rate after the warm-up, as a share of the peak (the original's `min_lr_scale`).
    #[serde(default)]
    pub floor_ratio: f64,
}

/// What follows the warm-up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// Half a cosine from the peak to the floor, reached when the last step is done.
    #[default]
    Cosine,
    /// A straight line from the peak to the floor, reached when the last step is done.
    Linear,
    /// The peak for ever.
    Constant,
}

impl LrConfig {
    /// The rate for the optimiser step number `step`, counted from 0, of `steps`.
    ///
    /// During the warm-up the first step already moves: step 0 has rate `peak / warmup`.
    pub fn at(&self, step: u64, steps: u64) -> f64 {
        if step < self.warmup {
            return self.peak * (step + 1) as f64 / self.warmup as f64;
        }
        let length = steps.saturating_sub(self.warmup).max(1) as f64;
        let progress = ((step - self.warmup) as f64 / length).min(1.0);
        let height = match self.decay {
            Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
            Decay::Linear => 1.0 - progress,
            Decay::Constant => return self.peak,
        };
        self.peak * (self.floor_ratio + (1.0 - self.floor_ratio) * height)
    }
}
