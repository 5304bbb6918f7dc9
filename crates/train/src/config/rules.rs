//! What a run file may not say: numbers out of range, and settings that do not go together.

use mmada_model::Defaults;

use super::{
    Backward, BatchSize, DenoiseConfig, Init, ModelSection, ObjectiveConfig, ReconstructConfig,
    RunConfig, SamplesConfig,
};
use crate::{Error, Result, overrides, start};

/// Whether a number is sound, and what is expected, in words.
type Range = (fn(f64) -> bool, &'static str);

/// A number, its name and its range.
type Checked = (Range, &'static str, f64);

const AT_LEAST_0: Range = (|value| value.is_finite() && value >= 0.0, "of 0 or more");
const SHARE: Range = (|value| (0.0..=1.0).contains(&value), "from 0 to 1");
const DECAY: Range = (|value| (0.0..1.0).contains(&value), "from 0 to below 1");
const RATE: Range = (|value| value > 0.0 && value <= 1.0, "above 0, at most 1");

fn denoise_numbers(denoise: &DenoiseConfig) -> Vec<Checked> {
    let (corruption, weights) = (&denoise.corruption, &denoise.coefficients);
    [
        (
            RATE,
            "objective.corruption.smallest_rate",
            corruption.smallest_rate,
        ),
        (
            SHARE,
            "objective.corruption.min_masking_rate",
            corruption.min_masking_rate,
        ),
        (
            SHARE,
            "objective.corruption.thought_share",
            corruption.thought_share,
        ),
        (
            SHARE,
            "objective.corruption.condition_dropout",
            corruption.condition_dropout,
        ),
        (AT_LEAST_0, "objective.coefficients.text", weights.text),
        (AT_LEAST_0, "objective.coefficients.chat", weights.chat),
        (
            AT_LEAST_0,
            "objective.coefficients.describe",
            weights.describe,
        ),
        (AT_LEAST_0, "objective.coefficients.paint", weights.paint),
        (
            AT_LEAST_0,
            "objective.coefficients.think_paint",
            weights.think_paint,
        ),
    ]
    .map(|(range, name, value)| (range, name, f64::from(value)))
    .into()
}

fn reconstruct_numbers(terms: &ReconstructConfig) -> Vec<Checked> {
    vec![
        (AT_LEAST_0, "objective.absolute", terms.absolute),
        (AT_LEAST_0, "objective.squared", terms.squared),
        (AT_LEAST_0, "objective.edges", terms.edges),
        (AT_LEAST_0, "objective.entropy", terms.entropy),
        (AT_LEAST_0, "objective.commitment", terms.commitment),
    ]
}

impl ModelSection {
    fn has_parts_of_a_transformer(&self) -> bool {
        let is_found = self.tokenizer.is_some() || self.image_tokenizer.is_some();
        is_found || self.code_rows.is_some() || self.generation.is_some()
    }
}

impl SamplesConfig {
    fn has_prompts(&self) -> bool {
        [&self.paint, &self.chat, &self.describe]
            .iter()
            .any(|prompts| !prompts.is_empty())
    }
}

impl RunConfig {
    pub(super) fn check(&self) -> Result<()> {
        let is_denoise = matches!(self.objective, ObjectiveConfig::Denoise(_));
        let is_reconstruct = matches!(self.objective, ObjectiveConfig::Reconstruct(_));
        let is_from = matches!(self.model.init, Init::From(_));
        let is_fresh = matches!(self.model.init, Init::Config(_) | Init::Sizes(_));
        let lacks_tokenizer = is_fresh && is_denoise && self.model.tokenizer.is_none();
        let mut views = self.data.iter().flat_map(|source| &source.views);
        let is_weighed = views.any(|view| {
            let is_noised = view.blank != 0.0 || view.patch_dropout != 0.0;
            is_noised || view.loss_weight != 1.0 || view.thought_share.is_some()
        });
        let share = |value: f32| (0.0..=1.0).contains(&value);
        let window = match &self.objective {
            ObjectiveConfig::Denoise(denoise) => denoise.corruption.window,
            ObjectiveConfig::Reconstruct(_) | ObjectiveConfig::UniGrpo(_) => None,
        };
        let (size, most) = match self.batch.size {
            BatchSize::Tokens(size) => (size, MOST_TOKENS),
            BatchSize::Sequences(size) => (size, MOST_ACCUMULATED),
        };
        let rules = [
            (self.run.steps == 0, "run.steps is 0; ask for at least one"),
            (size == 0, "batch.size is 0; ask for at least one"),
            (
                size > most,
                "batch.size: expected at most { sequences = 65536 } or { tokens = 268435456 }",
            ),
            (
                !(1..=MOST_ACCUMULATED).contains(&self.batch.accumulate),
                "batch.accumulate must be 1, which means one micro-batch per step, to 65536",
            ),
            (
                self.data.is_empty(),
                "no [[data]] source; name at least one",
            ),
            (self.log.every == 0, "log.every is 0; ask for at least one"),
            (
                self.model.code_rows.is_some_and(|rows| {
                    let is_share = |share: f32| (0.0..=10.0).contains(&share);
                    !(is_share(rows.keep) && is_share(rows.bits))
                }),
                "model.code_rows.keep and model.code_rows.bits must be in 0..=10",
            ),
            (
                self.model.code_rows.is_some() && self.model.lora.is_some(),
                "model.code_rows changes weights that model.lora leaves alone; remove one of them",
            ),
            (
                self.optimizer.code_bits.is_some() && (self.model.lora.is_some() || is_reconstruct),
                "optimizer.code_bits needs rows of image codes that are trained: a transformer, \
                 without model.lora; remove it",
            ),
            (
                is_weighed && !is_denoise,
                "loss_weight, blank, patch_dropout and thought_share of a view are of the cross-entropy; an image tokenizer and \
                 reinforcement know none of them, remove them (a source's weight says how often it is drawn)",
            ),
            (
                is_reconstruct && self.samples.has_prompts(),
                "samples.paint, samples.chat and samples.describe are for a transformer; an image tokenizer \
                 shows samples.pictures, remove the others",
            ),
            (
                is_reconstruct && self.model.has_parts_of_a_transformer(),
                "model.tokenizer, model.image_tokenizer, model.code_rows and model.generation are parts \
                 of a transformer's folder; an image tokenizer has none of them, remove them",
            ),
            (
                self.model.lora.is_some() && (!is_from || is_reconstruct),
                "model.lora needs the transformer of a folder: model.init = { from = \"DIR\" }",
            ),
            (
                self.model.lora.is_some() && self.model.tokenizer.is_some(),
                "model.lora goes with the text tokenizer of its model and saves none; remove model.tokenizer",
            ),
            (
                lacks_tokenizer,
                "model.tokenizer is missing: a fresh model needs the folder of one",
            ),
            (
                window.is_some_and(|window| {
                    let longest = window.length.max(window.ahead.unwrap_or(0));
                    let is_far = longest > LONGEST_WINDOW;
                    is_far
                        || ![window.share, window.tiled, window.by_token]
                            .into_iter()
                            .all(share)
                }),
                "objective.corruption.window: length and ahead must be at most 65536, share, tiled and by_token within 0 and 1",
            ),
            (
                self.run.threads > MOST_THREADS,
                "run.threads: expected at most 1024 workers; 0 is one per core",
            ),
            (
                window.is_some_and(|window| window.by_token > 0.0 && window.tiled == 0.0),
                "objective.corruption.window.by_token is a share of window.tiled, which is 0; set it, 1.0 for all",
            ),
            (
                window.is_some_and(|window| window.tiled > 0.0 && window.ahead.is_none()),
                "objective.corruption.window.tiled needs window.ahead, the masks after each window; add it",
            ),
        ];
        if let Some(written) = &self.model.generation {
            overrides::generation(&Defaults::default(), written)?;
        }
        if let (Init::Sizes(sizes), false) = (&self.model.init, is_reconstruct) {
            start::check_sizes(sizes)?;
        }
        for source in &self.data {
            let checked = source.check();
            checked.map_err(|error| Error::Config(error.to_string()))?;
        }
        self.check_numbers()?;
        let mut rules = rules.into_iter().chain(self.backward_rules());
        match rules.find(|(is_broken, _)| *is_broken) {
            Some((_, what)) => Err(Error::Config(what.to_owned())),
            None => Ok(()),
        }
    }

    /// Refuses numbers that would make weights NaN, or be left aside without a word.
    fn check_numbers(&self) -> Result<()> {
        let (optimizer, lr) = (&self.optimizer, &self.lr);
        let (beta1, beta2) = optimizer.betas;
        // What is added to a root is an f32.
        let is_positive = |value: f64| value.is_finite() && value as f32 > 0.0;
        let checked = [
            (AT_LEAST_0, "lr.peak", lr.peak),
            (SHARE, "lr.floor_ratio", lr.floor_ratio),
            (DECAY, "optimizer.betas", beta1),
            (DECAY, "optimizer.betas", beta2),
            (DECAY, "optimizer.momentum", optimizer.momentum),
            (AT_LEAST_0, "optimizer.clip", optimizer.clip),
            (AT_LEAST_0, "optimizer.weight_decay", optimizer.weight_decay),
            ((is_positive, "above 0"), "optimizer.eps", optimizer.eps),
        ];
        let mut checked: Vec<Checked> = checked.into();
        for group in &optimizer.groups {
            checked.push((
                AT_LEAST_0,
                "optimizer.groups.weight_decay",
                group.weight_decay,
            ));
            checked.push((AT_LEAST_0, "optimizer.groups.lr_scale", group.lr_scale));
        }
        if let Some(bits) = &optimizer.code_bits {
            checked.push((AT_LEAST_0, "optimizer.code_bits.lr_scale", bits.lr_scale));
        }
        if let Some(ema) = &self.ema {
            checked.push((SHARE, "ema.decay", ema.decay));
        }
        match &self.objective {
            ObjectiveConfig::Denoise(denoise) => checked.extend(denoise_numbers(denoise)),
            ObjectiveConfig::Reconstruct(terms) => checked.extend(reconstruct_numbers(terms)),
            ObjectiveConfig::UniGrpo(rl) => rl.check(self)?,
        }
        for ((is_sound, expected), name, value) in checked {
            if !is_sound(value) {
                let what = format!("{name}: expected a number {expected}, got {value}");
                return Err(Error::Config(what));
            }
        }
        if let ObjectiveConfig::Denoise(denoise) = &self.objective {
            let schedule = denoise.corruption.schedule.check();
            schedule.map_err(|error| Error::Config(format!("objective.corruption: {error}")))?;
        }
        Ok(())
    }

    /// What does not go together with `run.backward`.
    fn backward_rules(&self) -> [(bool, &'static str); 3] {
        let is_reconstruct = matches!(self.objective, ObjectiveConfig::Reconstruct(_));
        let is_fused = self.run.backward == Backward::Fused;
        [
            (
                self.run.backward != Backward::Keep && is_reconstruct,
                "run.backward must be \"keep\" for an image tokenizer, which has no blocks to \
                 compute again",
            ),
            (
                is_fused && self.batch.accumulate != 1,
                "run.backward = \"fused\" moves weights within a micro-batch: set batch.accumulate \
                 to 1, or take \"recompute\"",
            ),
            (
                is_fused && self.optimizer.clip > 0.0,
                "run.backward = \"fused\" moves weights before the norm of all gradients is known: \
                 set optimizer.clip to 0, or take \"recompute\"",
            ),
        ]
    }
}

/// Tokens of a micro-batch: more than any machine has room for.
const MOST_TOKENS: usize = 1 << 28;

/// Micro-batches of a step, and sequences of one: more than any run has.
const MOST_ACCUMULATED: usize = 1 << 16;

/// Worker threads: more than any machine has cores.
const MOST_THREADS: usize = 1024;

/// Tokens of a window, and masks after it: more than any context has.
const LONGEST_WINDOW: usize = 1 << 16;
