//! How to sample, per task: the options of a request, and a model's own defaults for them.
//!
//! The defaults live in `generation_config.json` of the model directory, one table per task:
//!
//! ```text
//!   { "text": {"length": 64, "sampler": "fast", …}, "describe": {…}, "fill": {…}, "paint": {…}, … }
//! ```
//!
//! `sampler` is a [`Preset`]; `commit`, `cache`, `ahead`, `order` and `guided` overrule what it says.
//!
//! Tables and keys that are left out have the paper's values (§5); other top-level keys are other
//! software's and are ignored.

use mmada_data::augment::Augment;
use mmada_data::picture::Fit;
use mmada_diffusion::{Anneal, CacheRule, Commit, Order, Schedule};
use mmada_tokens::thought::THINK_PAINT_PROMPT;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::preset::{PictureRules, Preset, TextRules};

/// How a text answer is sampled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TextOptions {
    /// Tokens of the answer's canvas.
    pub length: usize,
    /// Tokens decided together; blocks go from left to right.
    pub block: usize,
    /// Masks after the block that are looked at; absent: what the sampler says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ahead: Option<usize>,
    /// Denoising steps over all blocks.
    pub steps: usize,
    /// Scale of the Gumbel noise on the logits; 0 is greedy.
    pub temperature: f32,
    /// Strength of classifier-free guidance; 0 is none.
    pub guidance: f32,
    /// Fidelity or speed, by name.
    pub sampler: Preset,
    /// Which positions of a block are fixed in a step; absent: what the sampler says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<Commit>,
    /// Which rows a step computes anew; absent: what the sampler says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheRule>,
    /// Seed of every random choice.
    #[serde(skip)]
    pub seed: u64,
}

/// How gaps are filled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FillOptions {
    /// Tokens of a gap written `___`; see [`crate::gaps`].
    pub gap: usize,
    /// Denoising steps; never more than gap tokens.
    pub steps: usize,
    /// Scale of the Gumbel noise on the logits; 0 is greedy.
    pub temperature: f32,
    /// Strength of classifier-free guidance by everything that is given; 0 is none.
    pub guidance: f32,
    /// Which positions are fixed in a step.
    pub commit: Commit,
    /// Seed of every random choice.
    #[serde(skip)]
    pub seed: u64,
}

/// How a picture is painted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PaintOptions {
    /// Width in pixels, a multiple of the image tokenizer's factor.
    pub width: usize,
    /// Height in pixels, a multiple of the image tokenizer's factor.
    pub height: usize,
    /// How many pictures of one prompt.
    #[serde(skip)]
    pub count: usize,
    /// How many are painted for each picture that is wanted: the one in which the model itself reads
    /// the prompt most clearly is kept ([`crate::Mmada::readings`]). 1 paints it and is done.
    pub best_of: usize,
    /// Whether those are painted after a thought.
    #[serde(skip_serializing_if = "Think::is_never")]
    pub think: Think,
    /// Denoising steps.
    pub steps: usize,
    /// Strength of classifier-free guidance; 0 is none.
    pub guidance: f32,
    /// Initial scale of the noise on the order of positions.
    pub temperature: f32,
    /// What logits are divided by before a code is drawn; 0 takes the most probable.
    pub token_temperature: f32,
    /// Steps on the complete picture in which every other code is drawn anew, its neighbours being
    /// given.
    pub revisions: usize,
    /// `token_temperature` of the revisions; absent: the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision_temperature: Option<f32>,
    /// Masked fraction over the steps.
    pub schedule: Schedule,
    /// How that noise fades.
    pub anneal: Anneal,
    /// Fidelity or speed, by name.
    pub sampler: Preset,
    /// Which positions are decided first; absent: what the sampler says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// Which rows a step computes anew; absent: what the sampler says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheRule>,
    /// Share of the steps before revisions, from the first on, that are guided; absent: what the
    /// sampler says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guided: Option<f32>,
    /// What happens outside the mask when a picture is repainted.
    pub outside: Outside,
    /// Seed of every random choice.
    #[serde(skip)]
    pub seed: u64,
}

/// Whether a picture is painted after a thought ([`crate::Mmada::think_paint`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Think {
    /// From its words alone.
    #[default]
    Never,
    /// Of several rivals half are, and the model's own reading chooses; of one, none is.
    Half,
    /// From words and thought.
    Always,
}

impl Think {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
    fn is_never(&self) -> bool {
        *self == Self::Never
    }
}

/// What becomes of the pixels outside the repainted region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outside {
    /// They are the original's, to the bit.
    #[default]
    Original,
    /// They have gone through the image tokenizer, as in the paper's demonstrations.
    Decoded,
}

/// How pictures are brought to the model's size before it sees them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImageOptions {
    /// Width in pixels, a multiple of the image tokenizer's factor.
    pub width: usize,
    /// Height in pixels, a multiple of the image tokenizer's factor.
    pub height: usize,
    /// Cropped or squashed.
    pub fit: Fit,
    /// How often a picture is looked at when something is asked about it, and how it is moved, made
    /// smaller or turned meanwhile. The answer is what all looks together say.
    pub looks: Augment,
}

/// A model's own sampling settings: `generation_config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Defaults {
    /// Chats.
    pub text: TextOptions,
    /// Descriptions of pictures, and answers about them.
    pub describe: TextOptions,
    /// The thought before a painting.
    pub thought: TextOptions,
    /// Gaps in text.
    pub fill: FillOptions,
    /// Paintings.
    pub paint: PaintOptions,
    /// Pictures that the model is shown.
    pub image: ImageOptions,
    /// What is asked about a picture when nothing is asked.
    pub question: String,
    /// What is said before the words of who wants a picture thought about, then painted.
    pub instruction: String,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            text: TextOptions::default(),
            describe: TextOptions::default(),
            thought: TextOptions::default(),
            fill: FillOptions::default(),
            paint: PaintOptions::default(),
            image: ImageOptions::default(),
            question: "Please describe this image in detail.".to_owned(),
            instruction: THINK_PAINT_PROMPT.to_owned(),
        }
    }
}

impl Defaults {
    /// Reads the content of a `generation_config.json`.
    ///
    /// # Errors
    /// [`Error::Settings`] for what is no JSON, for unknown keys inside the tables, and for numbers that
    /// nothing can be sampled with.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let refused = |problem| Error::Settings {
            file: "generation_config.json",
            problem,
        };
        let defaults: Self =
            serde_json::from_slice(bytes).map_err(|error| refused(error.to_string()))?;
        defaults.check().map_err(refused)?;
        Ok(defaults)
    }

    /// Whether anything can be sampled so.
    ///
    /// # Errors
    /// In words, beginning with the key.
    pub fn check(&self) -> std::result::Result<(), String> {
        self.image.check()?;
        self.check_rules()?;
        let texts = [
            ("text", &self.text),
            ("describe", &self.describe),
            ("thought", &self.thought),
        ];
        let of_text = texts.iter().flat_map(|(table, text)| {
            let counts = [
                ("length", text.length),
                ("block", text.block),
                ("steps", text.steps),
            ];
            counts.map(|(key, count)| (*table, key, count))
        });
        let counts = of_text.chain([
            ("fill", "gap", self.fill.gap),
            ("fill", "steps", self.fill.steps),
            ("paint", "steps", self.paint.steps),
            ("paint", "best_of", self.paint.best_of),
        ]);
        if let Some((table, key, _)) = counts.into_iter().find(|(_, _, count)| *count == 0) {
            return Err(format!("{table}.{key}: expected 1 or more, got 0"));
        }
        let of_text = texts.map(|(table, text)| (table, "temperature", text.temperature));
        let scales = of_text.into_iter().chain([
            ("fill", "temperature", self.fill.temperature),
            ("paint", "temperature", self.paint.temperature),
            ("paint", "token_temperature", self.paint.token_temperature),
        ]);
        let mut broken = scales.filter(|(_, _, scale)| !(scale.is_finite() && *scale >= 0.0));
        if let Some((table, key, scale)) = broken.next() {
            return Err(format!(
                "{table}.{key}: expected a number of 0 or more, got {scale}"
            ));
        }
        let strengths = texts.map(|(table, text)| (table, text.guidance));
        let others = [("fill", self.fill.guidance), ("paint", self.paint.guidance)];
        let mut strengths = strengths.into_iter().chain(others);
        match strengths.find(|(_, strength)| !strength.is_finite()) {
            Some((table, strength)) => Err(format!(
                "{table}.guidance: expected a finite number, got {strength}"
            )),
            None => Ok(()),
        }
    }

    /// The same of rules that are set one by one.
    fn check_rules(&self) -> std::result::Result<(), String> {
        let said = |table: &'static str| move |error| format!("{table}: {error}");
        for (table, text) in [
            ("text", &self.text),
            ("describe", &self.describe),
            ("thought", &self.thought),
        ] {
            if let Some(commit) = text.commit {
                commit.check().map_err(said(table))?;
            }
            if let Some(cache) = text.cache {
                cache.check(true).map_err(said(table))?;
            }
        }
        self.fill.commit.check().map_err(said("fill"))?;
        let paint = &self.paint;
        paint.schedule.check().map_err(said("paint"))?;
        if let Some(cache) = paint.cache {
            cache.check(false).map_err(said("paint"))?;
        }
        match paint
            .guided
            .is_none_or(|share| (0.0..=1.0).contains(&share))
        {
            true => Ok(()),
            false => Err("paint.guided: expected a share from 0 to 1".to_owned()),
        }
    }

    /// The words of who wants a picture thought about, then painted, with the instruction before them.
    pub fn to_think_about(&self, prompt: &str) -> String {
        format!("{}{prompt}", self.instruction)
    }

    /// What is asked about a picture: the question, or without words [`Defaults::question`].
    pub fn asked<'a>(&'a self, question: &'a str) -> &'a str {
        match question.trim() {
            "" => &self.question,
            _ => question,
        }
    }
}

/// Most pixels along a side of a picture that is looked at: more than any context has patches for.
const LARGEST_SIDE: usize = 1 << 13;

impl ImageOptions {
    /// Whether pictures can be looked at so.
    ///
    /// # Errors
    /// In words.
    pub fn check(&self) -> std::result::Result<(), String> {
        let (looks, largest) = (&self.looks, self.width.max(self.height));
        if self.width.min(self.height) == 0 {
            return Err("image.width and image.height: expected 1 pixel or more, got 0".into());
        }
        if largest > LARGEST_SIDE {
            return Err(format!(
                "image.width and image.height: {largest} pixels, expected at most {LARGEST_SIDE}"
            ));
        }
        looks
            .check()
            .map_err(|problem| problem.replace("augment.", "image.looks."))?;
        match looks.figures.is_empty() {
            true => Ok(()),
            false => Err("image.looks.figures is set, but looks do not repaint a picture".into()),
        }
    }
}

impl Default for TextOptions {
    /// The demos of the original: 512 tokens, 256 steps, blocks of 128, greedy.
    fn default() -> Self {
        Self {
            length: 512,
            block: 128,
            ahead: None,
            steps: 256,
            temperature: 0.0,
            guidance: 0.0,
            sampler: Preset::default(),
            commit: None,
            cache: None,
            seed: 0,
        }
    }
}

impl TextOptions {
    /// The same under another sampler: rules set one by one are dropped. How far is looked ahead
    /// stays, and so does whether what is given looks ahead, since both are matters of how the model was
    /// trained.
    #[must_use]
    pub fn under(self, sampler: Preset) -> Self {
        Self {
            sampler,
            commit: None,
            cache: self.cache.filter(|rule| *rule == CacheRule::BlockCausal),
            ..self
        }
    }

    /// The rules of the sampler, those set one by one in place of its own.
    pub fn rules(&self) -> TextRules {
        let preset = self.sampler.text();
        TextRules {
            commit: self.commit.unwrap_or(preset.commit),
            cache: self.cache.unwrap_or(preset.cache),
            ..preset
        }
    }

    /// Masks after the block that are looked at; absent: the whole canvas.
    pub fn masks_ahead(&self) -> Option<usize> {
        let blocks = self.rules().blocks_ahead;
        self.ahead
            .or(blocks.map(|blocks| blocks.saturating_mul(self.block)))
    }
}

impl PaintOptions {
    /// How many of the rivals for a picture are painted after a thought.
    pub fn thoughtful(&self) -> usize {
        match self.think {
            Think::Never => 0,
            Think::Half => self.best_of / 2,
            Think::Always => self.best_of,
        }
    }

    /// Whether any of them is.
    pub fn thinks(&self) -> bool {
        self.thoughtful() > 0
    }

    /// The same under another sampler: rules set one by one are dropped, and steps and revisions are
    /// as many as that sampler takes for what this one takes.
    #[must_use]
    pub fn under(self, sampler: Preset) -> Self {
        let share = sampler.picture().steps / self.sampler.picture().steps;
        let share = |steps: usize| (steps as f32 * share).ceil() as usize;
        Self {
            sampler,
            steps: share(self.steps),
            revisions: share(self.revisions),
            order: None,
            cache: None,
            guided: None,
            ..self
        }
    }

    /// The rules of the sampler, those set one by one in place of its own.
    pub fn rules(&self) -> PictureRules {
        let preset = self.sampler.picture();
        PictureRules {
            order: self.order.unwrap_or(preset.order),
            cache: self.cache.unwrap_or(preset.cache),
            guided: self.guided.unwrap_or(preset.guided),
            ..preset
        }
    }
}

impl Default for FillOptions {
    fn default() -> Self {
        Self {
            gap: 8,
            steps: 64,
            temperature: 0.0,
            guidance: 0.0,
            commit: Commit::default(),
            seed: 0,
        }
    }
}

impl Default for PaintOptions {
    /// The paper's: 512 x 512, 50 steps, guidance 3.5, cosine.
    fn default() -> Self {
        Self {
            width: 512,
            height: 512,
            count: 1,
            best_of: 1,
            think: Think::default(),
            steps: 50,
            guidance: 3.5,
            temperature: 1.0,
            token_temperature: 1.0,
            revisions: 0,
            revision_temperature: None,
            schedule: Schedule::default(),
            anneal: Anneal::default(),
            sampler: Preset::default(),
            order: None,
            cache: None,
            guided: None,
            outside: Outside::default(),
            seed: 0,
        }
    }
}

impl Default for ImageOptions {
    fn default() -> Self {
        Self {
            width: 512,
            height: 512,
            fit: Fit::default(),
            looks: Augment {
                variants: 1,
                shift: 16,
                // A photograph goes to its edges, and cannot be moved.
                shrink: 0.15,
                ..Augment::default()
            },
        }
    }
}
