//! UniGRPO as formulas: noise levels, advantages, and the clipped surrogate with its gradient.
//!
//! ```text
//!   rewards of a group ──▶ advantages                                    equation 15
//!   t₁, μ, T           ──▶ t₁ … t_μ, one noise level per inner update    algorithm 1
//!   log p of the masked tokens: new, old, reference ──▶ loss and ∂loss/∂(log p new)   equations 4, 5
//! ```
//!
//! Nothing here knows a network. The loss of a group is a number and one weight per masked token,
//! so training on it is the weighted cross-entropy that every other objective uses. Source: the
//! paper (arXiv 2505.15809), §3.3 and Algorithm 1; no code of its authors exists.

use mmada_tensor::random::Stream;
use serde::{Deserialize, Serialize};

/// How the noise levels of the inner updates are chosen. Levels are steps `0..=total`; at `total`
/// the whole completion is masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Levels {
    /// One random level, the others spread evenly from it to the highest: Algorithm 1.
    #[default]
    Structured,
    /// From the random level to as far from the other end, as in the example of the paper's §5.2
    /// (of 1000: 100, 300, 500, 700, 900).
    Inside,
    /// Each on its own: the "fully random" of the paper's ablation (Figure 4).
    Random,
    /// The highest for all: the answer fully masked, as diffu-GRPO (Zhao et al. 2025, d1).
    Full,
}

/// The noise levels of `updates` inner updates, in order.
///
/// For [`Levels::Structured`] the first is `first`, and update n of μ has
/// `⌊(n − 1) / (μ − 1) · (total − first) + first⌋`.
pub fn structured_levels(total: u32, first: u32, updates: usize) -> Vec<u32> {
    let span = u64::from(total.saturating_sub(first));
    let last = (updates as u64).saturating_sub(1).max(1);
    (0..updates as u64)
        .map(|n| first + (n * span / last) as u32)
        .collect()
}

impl Levels {
    /// Draws the levels of `updates` inner updates.
    pub fn draw(self, total: u32, updates: usize, stream: &mut Stream) -> Vec<u32> {
        let mut level = || (f64::from(stream.uniform()) * f64::from(total)) as u32;
        match self {
            Self::Structured => structured_levels(total, level(), updates),
            // One update alone sees every level, as it does otherwise.
            Self::Inside if updates == 1 => vec![level()],
            Self::Inside => {
                let first = level();
                let (low, high) = (first.min(total - first), first.max(total - first));
                structured_levels(high, low, updates)
            }
            Self::Random => (0..updates).map(|_| level()).collect(),
            Self::Full => vec![total; updates],
        }
    }
}

/// What the rewards of a group are divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// Their standard deviation over the group (divided by n), equation 15.
    #[default]
    Population,
    /// Their standard deviation as an estimate (divided by n − 1).
    Sample,
    /// Nothing: all differences count as they are (Liu et al. 2025, Dr. GRPO).
    None,
}

/// Keeps groups of nearly equal rewards from large advantages.
const SMALLEST_DEVIATION: f64 = 1e-4;

/// How much better than its group each completion is: `(r − mean) / (deviation + 1e-4)`.
pub fn advantages(rewards: &[f64], scale: Scale) -> Vec<f64> {
    let n = rewards.len() as f64;
    let mean = rewards.iter().sum::<f64>() / n.max(1.0);
    let squares: f64 = rewards.iter().map(|r| (r - mean).powi(2)).sum();
    let divisor = match scale {
        Scale::Population => (squares / n.max(1.0)).sqrt() + SMALLEST_DEVIATION,
        Scale::Sample => (squares / (n - 1.0).max(1.0)).sqrt() + SMALLEST_DEVIATION,
        Scale::None => 1.0,
    };
    rewards.iter().map(|r| (r - mean) / divisor).collect()
}

/// Where the ratio of new to old policy is formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ratio {
    /// Once per completion, of the mean log-likelihood of its masked tokens: equation 4.
    #[default]
    Sequence,
    /// For every masked token, averaged over the completion, then over the group.
    Token,
}

/// The constants of the surrogate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Surrogate {
    /// Where the ratio is formed.
    pub ratio: Ratio,
    /// Ratios below `1 − clip_low` gain nothing more for bad completions.
    pub clip_low: f64,
    /// Ratios above `1 + clip_high` gain nothing more for good completions.
    pub clip_high: f64,
    /// Weight β of the divergence from the reference policy.
    pub kl: f64,
}

impl Surrogate {
    /// Whether its numbers are such that ratios can be clipped.
    pub(super) fn is_sound(&self) -> bool {
        let numbers = [self.clip_low, self.clip_high, self.kl];
        numbers.iter().all(|it| it.is_finite() && *it >= 0.0)
    }
}

impl Default for Surrogate {
    fn default() -> Self {
        Self {
            ratio: Ratio::Sequence,
            clip_low: 0.2,
            clip_high: 0.2,
            kl: 0.01,
        }
    }
}

/// The masked tokens of one completion under three policies, and how good it is.
#[derive(Debug, Clone, Copy)]
pub struct Completion<'a> {
    /// Log-likelihoods under the policy that is trained.
    pub new: &'a [f32],
    /// Under the policy that wrote it.
    pub old: &'a [f32],
    /// Under the reference policy; empty where `kl` is 0.
    pub reference: &'a [f32],
    /// Its advantage.
    pub advantage: f64,
}

/// The loss of some completions.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// `−(surrogate − β · divergence)`, a mean over the completions.
    pub loss: f64,
    /// Its derivative by each new log-likelihood, completion after completion.
    pub gradient: Vec<f64>,
    /// The mean surrogate.
    pub surrogate: f64,
    /// The mean divergence from the reference, per token.
    pub kl: f64,
    /// The share of ratios outside the clipping range.
    pub clipped: f64,
    /// The mean ratio.
    pub ratio: f64,
}

impl Surrogate {
    /// The loss of completions, each of which has masked tokens.
    pub fn value(&self, completions: &[Completion<'_>]) -> Value {
        let n = completions.len().max(1) as f64;
        let mut sums = Value {
            loss: 0.0,
            gradient: Vec::new(),
            surrogate: 0.0,
            kl: 0.0,
            clipped: 0.0,
            ratio: 0.0,
        };
        for completion in completions {
            self.add(completion, 1.0 / n, &mut sums);
        }
        sums.loss = self.kl * sums.kl - sums.surrogate;
        sums
    }

    /// Adds one completion of this weight.
    fn add(&self, completion: &Completion<'_>, weight: f64, sums: &mut Value) {
        let tokens = completion.new.len().max(1) as f64;
        let differences = completion.new.iter().zip(completion.old);
        let differences = differences.map(|(new, old)| f64::from(*new) - f64::from(*old));
        let start = sums.gradient.len();
        // ∂ratio/∂log p is the ratio itself; a clipped ratio has no gradient.
        match self.ratio {
            Ratio::Sequence => {
                let ratio = (differences.sum::<f64>() / tokens).exp();
                let slope = self.step(ratio, completion.advantage, weight, sums);
                let each = -slope * ratio / tokens;
                sums.gradient.extend(completion.new.iter().map(|_| each));
            }
            Ratio::Token => {
                for difference in differences {
                    let ratio = difference.exp();
                    let slope = self.step(ratio, completion.advantage, weight / tokens, sums);
                    sums.gradient.push(-slope * ratio);
                }
            }
        }
        let references = completion.reference.iter().zip(completion.new);
        for ((reference, new), gradient) in references.zip(&mut sums.gradient[start..]) {
            // Schulman's k3: never negative, unbiased under the new policy.
            let gap = f64::from(*reference) - f64::from(*new);
            sums.kl += (gap.exp() - gap - 1.0) * weight / tokens;
            *gradient += self.kl * (1.0 - gap.exp()) * weight / tokens;
        }
    }

    /// Adds a ratio of this weight; returns the derivative of the surrogate by it.
    fn step(&self, ratio: f64, advantage: f64, weight: f64, sums: &mut Value) -> f64 {
        let (low, high) = (1.0 - self.clip_low, 1.0 + self.clip_high);
        let clipped = ratio.clamp(low, high) * advantage;
        let free = ratio * advantage;
        sums.ratio += ratio * weight;
        sums.surrogate += free.min(clipped) * weight;
        if !(low..=high).contains(&ratio) {
            sums.clipped += weight;
        }
        if free <= clipped {
            advantage * weight
        } else {
            0.0
        }
    }
}
