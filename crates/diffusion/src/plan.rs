//! What a sampler is asked to do with a canvas, as values: steps, temperature, commit rule, which
//! ids may win, when to stop.

use std::ops::Range;

use mmada_tokens::Vocab;
use serde::{Deserialize, Serialize};

use crate::cache::CacheRule;
use crate::commit::Commit;
use crate::error::{Error, Result};
use crate::schedule::{Schedule, transfer_counts};

/// How a canvas is unmasked.
#[derive(Debug, Clone, PartialEq)]
pub enum Plan {
    /// Semi-autoregressive blocks of text.
    Text(TextPlan),
    /// The picture as a whole, MaskGIT's way.
    Image(ImagePlan),
}

/// Text: blocks left to right, within a block the surest positions first (`generate.py`).
#[derive(Debug, Clone, PartialEq)]
pub struct TextPlan {
    /// Denoising steps over all blocks, shared out by their lengths. A block gets at least one, so
    /// there are never fewer than blocks, and at most one for each of its tokens, so none commits
    /// nothing. Bolder commit rules take fewer.
    pub steps: usize,
    /// Masked positions per block.
    pub block_length: usize,
    /// Masked positions after the block that a forward sees; those further on are left out of it,
    /// which is as much faster as they are many. Absent: all of them, as in the original. A canvas
    /// that does not end masked is never shortened.
    pub ahead: Option<usize>,
    /// Scale of the Gumbel noise on the logits; 0 takes the best id.
    pub temperature: f32,
    /// Which positions are fixed in a step.
    pub commit: Commit,
    /// Which rows a step computes anew.
    pub cache: CacheRule,
    /// Which ids may win.
    pub allowed: Allowed,
    /// When to stop before the end.
    pub stop: Stop,
    /// What becomes of positions still masked after an early stop.
    pub rest: Rest,
}

/// The ids that may win a text position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// Slice of the vocabulary; softmax runs over it.
    pub range: Range<u32>,
    /// Ids in it that never win and take no part in the softmax.
    pub banned: Vec<u32>,
    /// Ids that never win at single positions of the canvas.
    pub banned_at: Vec<(usize, u32)>,
}

/// When text is finished before every position is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Stop {
    /// Every position is generated.
    #[default]
    Never,
    /// As soon as one of these ids is committed and every generated position before it is decided.
    Complete {
        /// Ids that end an answer.
        end: Vec<u32>,
    },
    /// After a block whose last position holds this id (the original's `mmu_generate_fast`).
    BlockEnd {
        /// The id.
        token: u32,
    },
}

/// What becomes of masked positions after an early stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rest {
    /// They stay masked, as in the original.
    #[default]
    Masked,
    /// They become this id.
    Fill(u32),
}

/// A picture: every step draws all masked codes and keeps the surest (`t2i_generate`).
#[derive(Debug, Clone, PartialEq)]
pub struct ImagePlan {
    /// Positions of the picture on the canvas; the masked ones among them are painted.
    pub range: Range<usize>,
    /// Ids of the image codes; code k is `codes.start + k`.
    pub codes: Range<u32>,
    /// Denoising steps.
    pub steps: usize,
    /// Codes in a line of the picture.
    pub width: usize,
    /// Masked fraction over the steps.
    pub schedule: Schedule,
    /// Which positions are decided first.
    pub order: Order,
    /// Which rows a step computes anew.
    pub cache: CacheRule,
    /// Initial scale of the Gumbel noise on the choice of positions.
    pub temperature: f32,
    /// How that scale falls.
    pub anneal: Anneal,
    /// What logits are divided by before a code is drawn, by inverse CDF in the order of the codes;
    /// 1 in the original, 0 takes the most probable.
    pub token_temperature: f32,
    /// What the masked fraction is a fraction of.
    pub count: Count,
    /// What the last step does.
    pub finish: Finish,
    /// Steps on the complete picture: in each, every other code, as on a chessboard, is masked once
    /// more and drawn anew, its neighbours being given. A hole of one colour of the board is not
    /// revised. 0 in the original.
    pub revisions: usize,
    /// `token_temperature` of the revisions; absent: the same. 0 leads to the likeliest picture near the
    /// one that was drawn.
    pub revision_temperature: Option<f32>,
}

/// The most revisions of a picture.
const MOST_REVISIONS: usize = 1000;

/// Lowest temperature of codes above 0: what is divided by less may not be finite.
const COLDEST: f32 = 1e-6;

/// Which positions of a picture are decided first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The surest, with annealed noise (MaskGIT, the original).
    #[default]
    Confidence,
    /// Far apart from each other, in the order of the Halton sequence: known before the forward, so
    /// only their logits are computed. Better in few steps; needs no temperature.
    Halton,
}

/// How the temperature of the position choice falls over K steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Anneal {
    /// `T·Π_{j≤k} (1 − (j+1)/K)`: the original multiplies anew at each step.
    #[default]
    Compounding,
    /// `T·(1 − (k+1)/K)`: MaskGIT's own.
    MaskGit,
}

/// What the masked fraction is a fraction of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Count {
    /// The masked positions: a small hole is filled over all steps. The same as [`Count::Whole`]
    /// when the whole picture is masked.
    #[default]
    Hole,
    /// The whole picture, as in the original: a hole loses one position per step until the
    /// schedule falls below its size.
    Whole,
}

/// What the last step does, and whether idle steps are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The last step commits everything; never more steps than masked positions.
    #[default]
    Complete,
    /// The original: all steps run, one position stays masked on the canvas, and only the
    /// returned codes have it ([`Canvas::completed`](crate::Canvas::completed)).
    LeaveOne,
}

/// One step of a text plan: how many of which block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TextStep {
    /// Indices into the region.
    pub(crate) block: Range<usize>,
    pub(crate) quota: usize,
    pub(crate) is_first_of_block: bool,
    pub(crate) is_last_of_block: bool,
}

impl TextPlan {
    /// Greedy, over the text ids of `vocab`, to the end: the settings most callers start from.
    pub fn greedy(vocab: &Vocab, steps: usize, block_length: usize) -> Self {
        Self {
            steps,
            block_length,
            ahead: None,
            temperature: 0.0,
            commit: Commit::LowConfidence,
            cache: CacheRule::Off,
            allowed: Allowed::text(vocab),
            stop: Stop::Never,
            rest: Rest::Masked,
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        check_steps(self.steps)?;
        check_temperature(self.temperature)?;
        self.commit.check()?;
        self.cache.check(true)?;
        if self.block_length == 0 {
            let hint = "128 is the block length of the published demo";
            return Err(Error::setting("block length", "at least 1", 0, hint));
        }
        if self
            .allowed
            .range
            .clone()
            .all(|id| self.allowed.banned.contains(&id))
        {
            let hint = "use the text range of the vocabulary";
            return Err(Error::setting("allowed ids", "at least one", "none", hint));
        }
        Ok(())
    }

    /// The steps for a region of `masked` positions. Blocks get steps in proportion to their
    /// length (with equal blocks that divide the steps: as the original), each at least one.
    pub(crate) fn agenda(&self, masked: usize) -> Vec<TextStep> {
        let steps = self.steps.min(masked);
        let mut agenda = Vec::new();
        for start in (0..masked).step_by(self.block_length) {
            let block = start..masked.min(start + self.block_length);
            let share = steps * block.end / masked - steps * block.start / masked;
            let quotas = transfer_counts(block.len(), share.max(1));
            let last = quotas.len() - 1;
            agenda.extend(
                quotas
                    .into_iter()
                    .enumerate()
                    .map(|(index, quota)| TextStep {
                        block: block.clone(),
                        quota,
                        is_first_of_block: index == 0,
                        is_last_of_block: index == last,
                    }),
            );
        }
        agenda
    }
}

impl ImagePlan {
    /// The published settings: cosine, temperature 1, compounding, drawn codes.
    pub fn new(range: Range<usize>, codes: Range<u32>, steps: usize) -> Self {
        Self {
            width: range.len().max(1),
            range,
            codes,
            steps,
            schedule: Schedule::Cosine,
            order: Order::Confidence,
            cache: CacheRule::Off,
            temperature: 1.0,
            anneal: Anneal::Compounding,
            token_temperature: 1.0,
            count: Count::Hole,
            finish: Finish::Complete,
            revisions: 0,
            revision_temperature: None,
        }
    }

    pub(crate) fn check(&self, canvas_length: usize) -> Result<()> {
        check_steps(self.steps)?;
        self.schedule.check()?;
        check_temperature(self.temperature)?;
        let revised = self.revision_temperature.unwrap_or(0.0);
        for (what, got) in [
            ("token temperature", self.token_temperature),
            ("revision temperature", revised),
        ] {
            if got != 0.0 && !(COLDEST..=1e6).contains(&got) {
                let (expected, hint) = ("0, or 1e-6 to 1e6", "0 takes the most probable code");
                return Err(Error::setting(what, expected, got, hint));
            }
        }
        if self.codes.is_empty() {
            let hint = "use the image range of the vocabulary";
            return Err(Error::setting("image codes", "at least one", "none", hint));
        }
        if self.range.start > self.range.end || self.range.end > canvas_length {
            return Err(Error::setting(
                "positions of the picture",
                format!("a range within 0..{canvas_length}"),
                format!("{:?}", self.range),
                "take the image span of the laid-out prompt",
            ));
        }
        if self.width == 0 || !self.range.len().is_multiple_of(self.width) {
            let expected = format!("a divisor of its {} positions", self.range.len());
            let hint = "take the width of the picture's grid";
            let what = "width of the picture";
            return Err(Error::setting(what, expected, self.width, hint));
        }
        if self.order == Order::Halton && self.finish == Finish::LeaveOne {
            let hint = "leave the last position masked in the order of confidence only";
            let got = "halton and leave_one";
            return Err(Error::setting("order and finish", "one of them", got, hint));
        }
        if self.revisions > MOST_REVISIONS {
            let (expected, hint) = (format!("at most {MOST_REVISIONS}"), "8 is many");
            return Err(Error::setting("revisions", expected, self.revisions, hint));
        }
        if self.revisions > 0 && self.finish == Finish::LeaveOne {
            let hint = "revise complete pictures only";
            let got = "leave_one and revisions";
            return Err(Error::setting(
                "finish and revisions",
                "one of them",
                got,
                hint,
            ));
        }
        self.cache.check(false)
    }

    /// Revisions that will be run for a hole of these positions.
    pub(crate) fn revisions_for(&self, hole: &[usize]) -> usize {
        let is_in = |colour| {
            hole.iter()
                .any(|&position| self.is_revised(position, colour))
        };
        if is_in(0) && is_in(1) {
            self.revisions
        } else {
            0
        }
    }

    /// Whether revision number `revision` (from 0) draws a position anew.
    pub(crate) fn is_revised(&self, position: usize, revision: usize) -> bool {
        let cell = position - self.range.start;
        (cell % self.width + cell / self.width + revision).is_multiple_of(2)
    }

    /// Steps that will be run for a hole of `masked` positions, before revisions.
    pub(crate) fn steps_for(&self, masked: usize) -> usize {
        match self.finish {
            Finish::Complete => self.steps.min(masked),
            Finish::LeaveOne if masked == 0 => 0,
            Finish::LeaveOne => self.steps,
        }
    }
}

impl Anneal {
    /// The temperature of step `step` (from 0) of `steps`, starting from `initial`.
    pub fn temperature(self, initial: f32, step: usize, steps: usize) -> f64 {
        let left = |step: usize| 1.0 - (step + 1) as f64 / steps as f64;
        match self {
            Self::Compounding => (0..=step).fold(f64::from(initial), |t, step| t * left(step)),
            Self::MaskGit => f64::from(initial) * left(step),
        }
    }
}

impl Allowed {
    /// Text ids without the mask, task and picture tokens: what an answer is made of.
    pub fn text(vocab: &Vocab) -> Self {
        Self {
            range: vocab.text.clone(),
            banned: vocab.banned_text(),
            banned_at: Vec::new(),
        }
    }

    /// The original's rule: any row of the table wins, image codes and the mask included. A
    /// position that predicts the mask uses up its step and stays masked.
    pub fn everything(vocab: &Vocab) -> Self {
        Self {
            range: 0..vocab.rows,
            banned: Vec::new(),
            banned_at: Vec::new(),
        }
    }
}

fn check_steps(steps: usize) -> Result<()> {
    if steps == 0 {
        let hint = "more steps are slower and better";
        return Err(Error::setting("steps", "at least 1", 0, hint));
    }
    Ok(())
}

fn check_temperature(temperature: f32) -> Result<()> {
    if temperature.is_finite() && temperature >= 0.0 {
        return Ok(());
    }
    let hint = "0 is deterministic, 1 samples from the model";
    let expected = "a finite number from 0";
    Err(Error::setting("temperature", expected, temperature, hint))
}
