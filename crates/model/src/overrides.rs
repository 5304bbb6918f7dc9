//! What a caller wants otherwise than a model's own settings: flags of a command line, options of a
//! benchmark, the sampling of a rollout.

use mmada_diffusion::{Anneal, Commit, Schedule};

use crate::options::{FillOptions, PaintOptions, TextOptions, Think};
use crate::preset::Preset;

/// Settings in place of a model's own; what is `None` stays.
///
/// The sampler comes first, as in [`TextOptions::under`] and [`PaintOptions::under`]; what else is
/// wanted then replaces what it brought. Each task takes the settings that it has.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Overrides {
    /// Fidelity or speed, by name.
    pub sampler: Option<Preset>,
    /// Denoising steps.
    pub steps: Option<usize>,
    /// Noise on the tokens of texts, or on the order of a painting's positions.
    pub temperature: Option<f32>,
    /// Strength of classifier-free guidance.
    pub guidance: Option<f32>,
    /// Tokens of a text answer.
    pub length: Option<usize>,
    /// Tokens of a text answer that are decided together; never more than there are.
    pub block: Option<usize>,
    /// Masks after the block that are looked at.
    pub ahead: Option<usize>,
    /// Which positions of a text are fixed in a step.
    pub commit: Option<Commit>,
    /// What logits of codes are divided by.
    pub token_temperature: Option<f32>,
    /// How many are painted to choose each painting from.
    pub best_of: Option<usize>,
    /// Whether those are painted after a thought.
    pub think: Option<Think>,
    /// Steps on the complete painting.
    pub revisions: Option<usize>,
    /// `token_temperature` of those steps.
    pub revision_temperature: Option<f32>,
    /// Masked fraction of a painting over the steps.
    pub schedule: Option<Schedule>,
    /// How the noise on the order fades.
    pub anneal: Option<Anneal>,
}

impl Overrides {
    /// The settings of a text answer.
    #[must_use]
    pub fn text(&self, own: &TextOptions) -> TextOptions {
        let own = self.sampler_alone(own);
        let length = self.length.unwrap_or(own.length);
        TextOptions {
            length,
            block: self.block.unwrap_or(own.block).min(length.max(1)),
            ahead: self.ahead.or(own.ahead),
            steps: self.steps.unwrap_or(own.steps),
            temperature: self.temperature.unwrap_or(own.temperature),
            guidance: self.guidance.unwrap_or(own.guidance),
            commit: self.commit.or(own.commit),
            ..own
        }
    }

    /// The settings of a text of which only the sampler is another: of the thought before a painting, since all else is asked of
    /// the painting.
    #[must_use]
    pub fn sampler_alone(&self, own: &TextOptions) -> TextOptions {
        match self.sampler {
            Some(sampler) => own.clone().under(sampler),
            None => own.clone(),
        }
    }

    /// The settings of filled gaps, which no sampler changes.
    #[must_use]
    pub fn fill(&self, own: &FillOptions) -> FillOptions {
        FillOptions {
            steps: self.steps.unwrap_or(own.steps),
            temperature: self.temperature.unwrap_or(own.temperature),
            guidance: self.guidance.unwrap_or(own.guidance),
            commit: self.commit.unwrap_or(own.commit),
            ..own.clone()
        }
    }

    /// The settings of a painting.
    #[must_use]
    pub fn paint(&self, own: &PaintOptions) -> PaintOptions {
        let own = match self.sampler {
            Some(sampler) => own.clone().under(sampler),
            None => own.clone(),
        };
        PaintOptions {
            steps: self.steps.unwrap_or(own.steps),
            temperature: self.temperature.unwrap_or(own.temperature),
            token_temperature: self.token_temperature.unwrap_or(own.token_temperature),
            guidance: self.guidance.unwrap_or(own.guidance),
            best_of: self.best_of.unwrap_or(own.best_of),
            think: self.think.unwrap_or(own.think),
            revisions: self.revisions.unwrap_or(own.revisions),
            revision_temperature: self.revision_temperature.or(own.revision_temperature),
            schedule: self.schedule.unwrap_or(own.schedule),
            anneal: self.anneal.unwrap_or(own.anneal),
            ..own
        }
    }
}
