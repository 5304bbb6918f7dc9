//! Commit rules of text: which masked positions of a block a step fixes, and how many.
//!
//! ```text
//!   candidates, surest first    .99 .97 .95 .80 .61 .40
//!   low confidence, quota 2      ■   ■
//!   threshold 0.9                ■   ■   ■
//!   verify 0.6 0.9               ■   ■   ■   ■   ■       and earlier ones may be masked again
//! ```
//!
//! The even share of the steps is what a rule commits at least, so every rule comes to an end, and
//! no block takes more steps than its share.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::scores::Proposal;

/// Which positions of a block are fixed in a step.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Commit {
    /// Low-confidence remasking: the positions with the highest probability are kept, an even share
    /// in every step. (The paper says lowest; its code keeps the highest.)
    #[default]
    LowConfidence,
    /// Positions in random order, an even share in every step.
    Random,
    /// All positions whose probability is above this (Fast-dLLM, arXiv 2505.22618).
    Threshold(f32),
    /// The most positions n for which (n + 1)·(1 − p of the n-th) stays below this: the surer they
    /// are, the more at once (Fast-dLLM).
    Factor(f32),
    /// The most positions whose entropies, in nats and without the largest, sum up to this at most:
    /// a bound on what is lost by deciding them apart (EB-Sampler, arXiv 2505.24857).
    Entropy(f32),
    /// Draft and verify (WINO, arXiv 2507.18578): commits boldly, and masks again what a masked
    /// stand-in of the token, which sees everything else, no longer finds likely.
    Verify {
        /// Positions above this probability are committed.
        draft: f32,
        /// Committed tokens below this probability are masked again.
        keep: f32,
    },
}

impl Commit {
    /// Whether committed tokens are doubted.
    pub(crate) fn verifies(self) -> bool {
        matches!(self, Self::Verify { .. })
    }

    /// Whether the rule looks at entropies.
    pub(crate) fn needs_entropy(self) -> bool {
        matches!(self, Self::Entropy(_))
    }

    /// How many of the proposals, surest first, are committed: `quota` at least.
    pub(crate) fn count(self, proposals: &[Proposal], quota: usize) -> usize {
        let surer_than = |bound: f32| {
            let is_surer = |p: &&Proposal| p.confidence > f64::from(bound);
            proposals.iter().take_while(is_surer).count()
        };
        let bold = match self {
            Self::LowConfidence | Self::Random => 0,
            Self::Threshold(bound) => surer_than(bound),
            // One at least is left for later: a block without masks is left, and what was drafted
            // last would never be verified.
            Self::Verify { draft, .. } => {
                let most = (proposals.len() * 7 / 10).clamp(5, 20);
                surer_than(draft).min(most.min(proposals.len().saturating_sub(1)))
            }
            Self::Factor(factor) => {
                let fits = |(n, p): &(usize, &Proposal)| {
                    (*n as f64 + 2.0) * (1.0 - p.confidence) < f64::from(factor)
                };
                let mut numbered = proposals.iter().enumerate();
                numbered.rfind(fits).map_or(0, |(n, _)| n + 1)
            }
            Self::Entropy(bound) => {
                let (mut sum, mut largest) = (0.0, 0.0_f64);
                let fits = |p: &&Proposal| {
                    sum += p.entropy;
                    largest = largest.max(p.entropy);
                    sum - largest <= f64::from(bound)
                };
                proposals.iter().take_while(fits).count()
            }
        };
        bold.max(quota)
    }

    /// Committed tokens, with the probability a stand-in gives them, that are masked again: the
    /// least likely first, and never so many that the step gains less than its quota.
    pub(crate) fn doubted(
        self,
        mut verdicts: Vec<(usize, f64)>,
        committed: usize,
        quota: usize,
    ) -> Vec<usize> {
        let Self::Verify { keep, .. } = self else {
            return Vec::new();
        };
        verdicts.retain(|(_, probability)| *probability < f64::from(keep));
        verdicts.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
        verdicts.truncate(committed.saturating_sub(quota));
        let mut doubted: Vec<usize> = verdicts.iter().map(|(position, _)| *position).collect();
        doubted.sort_unstable();
        doubted
    }

    /// Whether its bounds can be met.
    ///
    /// # Errors
    /// Probabilities outside of 0 to 1, other bounds that are negative or not finite.
    pub fn check(self) -> Result<()> {
        let share = |what, value: f32| match (0.0..=1.0).contains(&value) {
            true => Ok(()),
            false => {
                let hint = "0.9 is usual; 1 commits nothing beyond the even share";
                Err(Error::setting(what, "a probability", value, hint))
            }
        };
        match self {
            Self::LowConfidence | Self::Random => Ok(()),
            Self::Threshold(bound) => share("commit threshold", bound),
            Self::Verify { draft, keep } => {
                share("draft threshold", draft)?;
                share("verification threshold", keep)
            }
            Self::Factor(bound) | Self::Entropy(bound) => {
                if bound.is_finite() && bound >= 0.0 {
                    return Ok(());
                }
                let hint = "a factor of 1 and an entropy of 0.1 are usual";
                Err(Error::setting(
                    "bound of the commit rule",
                    "a finite number from 0",
                    bound,
                    hint,
                ))
            }
        }
    }
}

impl FromStr for Commit {
    type Err = Error;

    /// Reads `low-confidence`, `random`, `threshold=0.9`, `factor=1`, `entropy=0.1` and
    /// `verify=0.6:0.9` (draft, keep).
    fn from_str(text: &str) -> Result<Self> {
        let unknown = || {
            Error::setting(
                "commit rule",
                "low-confidence, random, threshold=P, factor=F, entropy=H or verify=P:P",
                text,
                "threshold=0.9 is a good start",
            )
        };
        let number = |text: &str| text.parse::<f32>().map_err(|_| unknown());
        let rule = match text.split_once('=') {
            None if text == "low-confidence" => Self::LowConfidence,
            None if text == "random" => Self::Random,
            Some(("threshold", bound)) => Self::Threshold(number(bound)?),
            Some(("factor", bound)) => Self::Factor(number(bound)?),
            Some(("entropy", bound)) => Self::Entropy(number(bound)?),
            Some(("verify", bounds)) => {
                let (draft, keep) = bounds.split_once(':').ok_or_else(unknown)?;
                Self::Verify {
                    draft: number(draft)?,
                    keep: number(keep)?,
                }
            }
            _ => return Err(unknown()),
        };
        rule.check()?;
        Ok(rule)
    }
}
