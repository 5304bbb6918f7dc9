//! Cache rules: which rows of a canvas a step does not compute anew, and what is remembered of them.
//!
//! ```text
//!                    prompt │ earlier blocks │ block │ masks ahead
//!   off              ■ ■ ■ ■ ■ ■ ■ ■ ■ ■ ■ ■ ■ ■ ■ ■ ■ ■ ■ ■ ■ ■ ■
//!   prefix                                    ■ ■ ■ ■ ■ ■ ■ ■ ■ ■
//!   dual                                      ■ ■ ■ ■
//!   block causal             (its last one) ■ ■ ■ ■ ■ ■ ■ ■ ■ ■ ■   and nothing sees a later block
//!   uncertain        of a picture: rows that changed, and the masked ones it knows least of
//! ```
//!
//! The others show the keys and values of the forward that computed them last. Whatever the rule,
//! a row whose token has changed since then is computed anew.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Which rows a step computes anew.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheRule {
    /// All of them: exact.
    #[default]
    Off,
    /// Text: from the current block on (Fast-dLLM's prefix cache, arXiv 2505.22618).
    Prefix(Refresh),
    /// Text: those of the current block (Fast-dLLM's dual cache).
    Dual(Refresh),
    /// Text: what is given sees nothing that comes after it, the prompt no answer and a block no later one,
    /// so each is computed once when it is complete and then the current block alone, with its masks ahead.
    /// Another network than all others, and exact for a model that was trained so (the windows side by
    /// side of [`crate::corruption::Tiles`]; block diffusion, Arriola et al. 2025, arXiv 2503.09573).
    BlockCausal,
    /// Pictures: after a warm-up only the masked rows whose best code has the lowest logit, whose
    /// logits are renewed too (the ML-Cache of Lumina-DiMOO, arXiv 2510.06308).
    Uncertain {
        /// Share of the steps, from the first on, that compute all rows.
        warm_up: f32,
        /// Share of the masked rows that is computed in the other steps, at least one.
        share: f32,
        /// All rows are computed every so many steps after the warm-up.
        refresh: usize,
    },
}

/// When all rows of a text are computed anew. The first step always does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refresh {
    /// In the first step of every block.
    Block,
    /// Every so many steps; 1 is exact.
    Steps(usize),
}

impl CacheRule {
    /// The ML-Cache with its published settings.
    pub const ML_CACHE: Self = Self::Uncertain {
        warm_up: 0.3,
        share: 0.1,
        refresh: 5,
    };

    /// Whether text, or else a picture, can be sampled so.
    ///
    /// # Errors
    /// A rule of the other one's, no refresh at all, shares outside of 0 to 1.
    pub fn check(self, is_text: bool) -> Result<()> {
        let refused = |what, expected, got: String| {
            let hint =
                "prefix, dual and block-causal caches are for text, uncertain is for pictures";
            Err(Error::setting(what, expected, got, hint))
        };
        match self {
            Self::Off => Ok(()),
            Self::BlockCausal if is_text => Ok(()),
            Self::Prefix(refresh) | Self::Dual(refresh) if is_text => match refresh {
                Refresh::Steps(0) => refused("refresh of the cache", "1 step or more", "0".into()),
                _ => Ok(()),
            },
            Self::Uncertain {
                warm_up,
                share,
                refresh,
            } if !is_text => {
                let are_shares = [warm_up, share].iter().all(|s| (0.0..=1.0).contains(s));
                if are_shares && refresh > 0 {
                    return Ok(());
                }
                let expected = "shares from 0 to 1 and a refresh of 1 step or more";
                refused("cache of a picture", expected, format!("{self:?}"))
            }
            _ => refused("cache rule", "one that fits the plan", format!("{self:?}")),
        }
    }
}

/// Positions that a step computes anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    All,
    Within(Range<usize>),
    /// In order.
    These(Vec<usize>),
}

impl Scope {
    pub(crate) fn contains(&self, position: usize) -> bool {
        match self {
            Self::All => true,
            Self::Within(range) => range.contains(&position),
            Self::These(positions) => positions.binary_search(&position).is_ok(),
        }
    }
}

/// The rows of one sequence in the memory of a denoiser.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    /// Its first row there.
    pub(crate) start: usize,
    /// The id that each position had when it was computed last.
    computed: Vec<Option<u32>>,
}

impl Kept {
    pub(crate) fn new(start: usize, length: usize) -> Self {
        let computed = vec![None; length];
        Self { start, computed }
    }

    /// Forgets what is remembered of these positions, whose rows something else takes.
    pub(crate) fn forget(&mut self, positions: std::ops::Range<usize>) {
        let last = self.computed.len();
        self.computed[positions.start.min(last)..positions.end.min(last)].fill(None);
    }

    /// Positions to compute, in order: those in scope, and those that changed. From now on they
    /// are taken as computed.
    pub(crate) fn renew(&mut self, ids: &[u32], in_scope: impl Fn(usize) -> bool) -> Vec<usize> {
        let mut active = Vec::new();
        for (position, (id, computed)) in ids.iter().zip(&mut self.computed).enumerate() {
            if in_scope(position) || *computed != Some(*id) {
                *computed = Some(*id);
                active.push(position);
            }
        }
        active
    }
}

/// Logits of a picture's positions, guidance applied, as they were when last computed.
#[derive(Debug, Clone)]
pub(crate) struct Remembered {
    /// Position of the first row.
    first: usize,
    codes: usize,
    values: Vec<f32>,
    /// The largest logit of each row.
    largest: Vec<f32>,
}

impl Remembered {
    pub(crate) fn new(positions: &Range<usize>, codes: usize) -> Self {
        Self {
            first: positions.start,
            codes,
            values: vec![0.0; positions.len() * codes],
            largest: vec![f32::NEG_INFINITY; positions.len()],
        }
    }

    pub(crate) fn put(&mut self, position: usize, row: &[f32]) {
        let at = position - self.first;
        self.values[at * self.codes..(at + 1) * self.codes].copy_from_slice(row);
        self.largest[at] = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    }

    pub(crate) fn row(&self, position: usize) -> &[f32] {
        let at = position - self.first;
        &self.values[at * self.codes..(at + 1) * self.codes]
    }

    /// So many of the positions, in order, whose largest logit is lowest.
    pub(crate) fn least_certain(&self, positions: &[usize], count: usize) -> Vec<usize> {
        let largest = |position: &usize| self.largest[position - self.first];
        let mut sorted = positions.to_vec();
        sorted.sort_by(|a, b| largest(a).total_cmp(&largest(b)).then(a.cmp(b)));
        sorted.truncate(count);
        sorted.sort_unstable();
        sorted
    }
}
