//! How sure a score is: 95 % intervals of shares and of means.
//!
//! Shares (right or wrong) get Wilson's interval, which stays inside 0..1 and is honest for small
//! counts and for scores near the ends; means get the normal approximation.

use serde::{Deserialize, Serialize};

/// The 97.5 % quantile of the standard normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// A 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// Wilson's score interval of a share (Wilson 1927, without continuity correction).
    /// Without any trial everything is possible: 0..1.
    pub fn wilson(successes: usize, n: usize) -> Self {
        if n == 0 {
            return Self {
                low: 0.0,
                high: 1.0,
            };
        }
        let n = n as f64;
        let share = successes as f64 / n;
        let denominator = 1.0 + Z * Z / n;
        let centre = (share + Z * Z / (2.0 * n)) / denominator;
        let half = Z / denominator * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
        Self {
            low: (centre - half).max(0.0),
            high: (centre + half).min(1.0),
        }
    }

    /// Normal interval of a mean: mean ± 1.96 · s/√n, with the sample deviation s.
    /// With fewer than two values it is the value itself (NaN without any).
    pub fn of_mean(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        if values.len() < 2 {
            return Self {
                low: mean,
                high: mean,
            };
        }
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
        let half = Z * (variance / n).sqrt();
        Self {
            low: mean - half,
            high: mean + half,
        }
    }
}

/// One number of a report, with its interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// What was measured.
    pub name: String,
    /// The share of right answers (0..1) or the mean.
    pub value: f64,
    /// Lower end of the 95 % interval.
    pub low: f64,
    /// Upper end of the 95 % interval.
    pub high: f64,
    /// How many items it rests on.
    pub n: usize,
}

impl Score {
    /// A share of right answers with Wilson's interval.
    pub fn share(name: impl Into<String>, is_right: impl IntoIterator<Item = bool>) -> Self {
        let (mut right, mut n) = (0, 0);
        for item in is_right {
            right += usize::from(item);
            n += 1;
        }
        let Interval { low, high } = Interval::wilson(right, n);
        Self {
            name: name.into(),
            value: if n == 0 { 0.0 } else { right as f64 / n as f64 },
            low,
            high,
            n,
        }
    }

    /// A mean with the normal interval; 0 without any value.
    pub fn mean(name: impl Into<String>, values: &[f64]) -> Self {
        let Interval { low, high } = match values {
            [] => Interval {
                low: 0.0,
                high: 0.0,
            },
            values => Interval::of_mean(values),
        };
        Self {
            name: name.into(),
            value: values.iter().sum::<f64>() / values.len().max(1) as f64,
            low,
            high,
            n: values.len(),
        }
    }
}
