//! Samplers by name: how much of exactness is given for speed. This is the one place that says what
//! a name stands for; single settings of a request overrule it.
//!
//! ```text
//!             text                                    pictures
//!   exact     every row, an even share of the steps   every row, the surest, every step guided
//!   cached    dual cache, all rows anew every block   least certain rows after a warm-up
//!   parallel  every row, all positions above 0.98     far apart positions, half the steps
//!   verified  every row, drafts that are verified     as exact
//!   fast      as parallel                             as cached
//!   turbo     one block of masks ahead, no refresh,   far apart positions, half the steps, only
//!             all positions above 0.7                 their rows, the first half guided
//! ```
//!
//! A model whose texts are block-causal ([`CacheRule::BlockCausal`]) stays so under every name: its
//! text then has that rule in place of the name's cache.

use mmada_diffusion::{CacheRule, Commit, Order, Refresh};
use serde::{Deserialize, Serialize};

/// A sampler by name; [`Preset::summary`] says what each stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Preset {
    #[default]
    Exact,
    Cached,
    Parallel,
    Verified,
    Fast,
    Turbo,
}

/// What a preset says of text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TextRules {
    /// Which positions a step fixes.
    pub commit: Commit,
    /// Which rows it computes.
    pub cache: CacheRule,
    /// Blocks of masks after the present one that are looked at; absent: all.
    pub blocks_ahead: Option<usize>,
}

/// What a preset says of pictures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PictureRules {
    /// Which positions are decided first.
    pub order: Order,
    /// Which rows a step computes.
    pub cache: CacheRule,
    /// Share of the steps before revisions, from the first on, that are guided.
    pub guided: f32,
    /// Steps, as a share of those that [`Preset::Exact`] takes.
    pub steps: f32,
}

/// Never on its own account: only rows whose token changed are computed anew.
const NO_REFRESH: Refresh = Refresh::Steps(usize::MAX);

impl Preset {
    /// All of them, from the most faithful to the fastest.
    pub const ALL: [Self; 6] = [
        Self::Exact,
        Self::Cached,
        Self::Parallel,
        Self::Verified,
        Self::Fast,
        Self::Turbo,
    ];

    /// The name in settings and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Cached => "cached",
            Self::Parallel => "parallel",
            Self::Verified => "verified",
            Self::Fast => "fast",
            Self::Turbo => "turbo",
        }
    }

    /// What it stands for, in a phrase for people.
    pub fn summary(self) -> &'static str {
        match self {
            Self::Exact => "Nothing is approximated: the tokens of the plain algorithm",
            Self::Cached => {
                "As many steps, but most rows are remembered: text by block, pictures where the \
                 model is sure"
            }
            Self::Parallel => {
                "Exact forwards; text commits all it is 98 % sure of, pictures take half the steps \
                 in Halton order"
            }
            Self::Verified => {
                "Exact forwards; text is drafted boldly, verified, and taken back where doubted"
            }
            Self::Fast => {
                "About a point of the embedded model's scores at most: text commits all it is 98 % sure \
                 of, pictures remember rows"
            }
            Self::Turbo => "As fast as the rules go; expect to lose quality",
        }
    }

    /// What it says of text.
    pub fn text(self) -> TextRules {
        let exact = TextRules {
            commit: Commit::LowConfidence,
            cache: CacheRule::Off,
            blocks_ahead: None,
        };
        // Chosen on 1,000 training items of worded sums: the bound 0.9 costs 1.8 points of 73.5, 0.95 costs
        // 0.1, 0.98 nothing; the cache costs 3.4.
        let (bold, cache) = (Commit::Threshold(0.98), CacheRule::Dual(Refresh::Block));
        match self {
            Self::Exact => exact,
            Self::Cached => TextRules { cache, ..exact },
            Self::Parallel | Self::Fast => TextRules {
                commit: bold,
                ..exact
            },
            // The thresholds published for mathematics.
            Self::Verified => TextRules {
                commit: Commit::Verify {
                    draft: 0.6,
                    keep: 0.9,
                },
                ..exact
            },
            Self::Turbo => TextRules {
                commit: Commit::Threshold(0.7),
                cache: CacheRule::Dual(NO_REFRESH),
                blocks_ahead: Some(1),
            },
        }
    }

    /// What it says of pictures.
    pub fn picture(self) -> PictureRules {
        let exact = PictureRules {
            order: Order::Confidence,
            cache: CacheRule::Off,
            guided: 1.0,
            steps: 1.0,
        };
        let cache = CacheRule::ML_CACHE;
        match self {
            Self::Exact | Self::Verified => exact,
            Self::Cached | Self::Fast => PictureRules { cache, ..exact },
            Self::Parallel => PictureRules {
                order: Order::Halton,
                steps: 0.5,
                ..exact
            },
            Self::Turbo => PictureRules {
                order: Order::Halton,
                cache: CacheRule::Uncertain {
                    warm_up: 0.0,
                    share: 0.0,
                    refresh: usize::MAX,
                },
                guided: 0.5,
                steps: 0.5,
            },
        }
    }
}
