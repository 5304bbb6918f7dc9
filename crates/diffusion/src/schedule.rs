//! How much is masked at which time: the fraction over `t`, and the counts that follow from it.
//!
//! ```text
//!   t = 0 ─────────────────────────────► t = 1
//!   everything masked                    nothing masked
//! ```
//!
//! Fractions are computed in f32 because the counts depend on it: the cosine at t = 8/12 is just
//! below one half in f32, so 16 positions leave 7 masked and not 8 (`training/sampling.py` of the
//! original works in f32 too).

use std::f32::consts::PI;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The masked fraction as a function of time.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// `cos(π/2 · t)`.
    #[default]
    Cosine,
    /// `1 − t`.
    Linear,
    /// `1 − t^exponent`.
    Power(f32),
    /// A sigmoid from `start` to `end` with temperature `tau`, rescaled to run from 1 to 0.
    Sigmoid {
        /// Argument of the sigmoid at t = 0.
        start: f32,
        /// Argument of the sigmoid at t = 1.
        end: f32,
        /// Divides both.
        tau: f32,
    },
}

/// Smallest fraction of every schedule but the cosine, as in the original.
const SMALLEST_FRACTION: f32 = 1e-6;

impl Schedule {
    /// The sigmoid with the parameters of the original.
    pub const SIGMOID: Self = Self::Sigmoid {
        start: -3.0,
        end: 3.0,
        tau: 1.0,
    };

    /// Refuses parameters that give no fraction from 1 down to 0.
    ///
    /// # Errors
    /// An exponent of 0 or less, a sigmoid that is flat, numbers that are not finite.
    pub fn check(self) -> Result<()> {
        let is_sound = match self {
            Self::Cosine | Self::Linear => true,
            Self::Power(exponent) => exponent.is_finite() && exponent > 0.0,
            Self::Sigmoid { start, end, tau } => {
                let (first, last) = (sigmoid(start / tau), sigmoid(end / tau));
                [start, end, tau].into_iter().all(f32::is_finite) && tau > 0.0 && first != last
            }
        };
        match is_sound {
            true => Ok(()),
            false => Err(Error::setting(
                "schedule",
                "a power above 0, or a sigmoid whose start and end differ, with tau above 0",
                format!("{self:?}"),
                "cosine is what the published models use",
            )),
        }
    }

    /// The fraction still masked at time `t` in `[0, 1]`. The cosine is a hair below 0 at t = 1.
    pub fn masked_fraction(self, t: f32) -> f32 {
        match self {
            Self::Cosine => (t * PI * 0.5).cos(),
            Self::Linear => (1.0 - t).clamp(SMALLEST_FRACTION, 1.0),
            Self::Power(exponent) => (1.0 - t.powf(exponent)).clamp(SMALLEST_FRACTION, 1.0),
            Self::Sigmoid { start, end, tau } => {
                let (first, last) = (sigmoid(start / tau), sigmoid(end / tau));
                let here = sigmoid((t * (end - start) + start) / tau);
                ((last - here) / (last - first)).clamp(SMALLEST_FRACTION, 1.0)
            }
        }
    }

    /// `⌊total · fraction⌋` after step `step` (from 0) of `steps`; −1 where the cosine is below 0.
    pub fn masked_floor(self, step: usize, steps: usize, total: usize) -> i64 {
        let t = ((step + 1) as f64 / steps as f64) as f32;
        (total as f32 * self.masked_fraction(t)).floor() as i64
    }

    /// How many positions stay masked after step `step` of `steps` when `unknown` are masked
    /// before it: `max(1, min(unknown − 1, ⌊total · fraction⌋))`, never 0 (`t2i_generate` of the
    /// original, `modeling_mmada.py`).
    pub fn masked_after(self, step: usize, steps: usize, total: usize, unknown: usize) -> usize {
        let wanted = self.masked_floor(step, steps, total);
        wanted.min(unknown as i64 - 1).max(1) as usize
    }

    /// How many of `total` positions a training example masks at time `t`: the fraction, at least
    /// `floor`, times `total`, rounded half to even, at least 1.
    pub fn training_count(self, t: f32, floor: f32, total: usize) -> usize {
        let fraction = self.masked_fraction(t).max(floor);
        let count = (total as f32 * fraction).round_ties_even().max(1.0) as usize;
        count.min(total)
    }
}

impl FromStr for Schedule {
    type Err = Error;

    /// Reads the names of the original's configuration: `cosine`, `linear`, `pow2`, `sigmoid`.
    fn from_str(name: &str) -> Result<Self> {
        let unknown = || {
            Error::setting(
                "schedule",
                "cosine, linear, sigmoid, or pow and an exponent such as pow2",
                name,
                "cosine is what the published models use",
            )
        };
        match name {
            "cosine" => Ok(Self::Cosine),
            "linear" => Ok(Self::Linear),
            "sigmoid" => Ok(Self::SIGMOID),
            _ => {
                let exponent = name.strip_prefix("pow").ok_or_else(unknown)?;
                let power = Self::Power(exponent.parse().map_err(|_| unknown())?);
                power.check().map(|()| power).map_err(|_| unknown())
            }
        }
    }
}

/// How many of `masked` positions each of `steps` steps commits: an even share, the remainder to
/// the first steps (`get_num_transfer_tokens` of the original).
pub fn transfer_counts(masked: usize, steps: usize) -> Vec<usize> {
    let (share, remainder) = match steps {
        0 => (0, 0),
        _ => (masked / steps, masked % steps),
    };
    (0..steps)
        .map(|step| share + usize::from(step < remainder))
        .collect()
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}
