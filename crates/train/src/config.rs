//! A run as a value: what a file in `runs/` may say, with the defaults of the original.
//!
//! ```text
//!   RUN.toml ─parse─▶ table ─override key=value─▶ table ─▶ RunConfig ─check─▶ a run
//! ```
//!
//! Unknown keys are refused. Paths are relative to the working directory.

mod init;
mod rules;

use std::path::{Path, PathBuf};

use mmada_data::SourceConfig;
use mmada_diffusion::{Coefficients, Corruption};
use mmada_nn::LoraConfig;
use mmada_tensor::Precision;
use serde::{Deserialize, Serialize};

pub use self::init::{CodeRows, GrowFrom, Init};
use crate::checkpoint::CheckpointConfig;
use crate::lr::LrConfig;
use crate::optimizer::{EmaConfig, OptimizerConfig};
use crate::unigrpo::UniGrpoConfig;
use crate::{Error, Result, overrides};

/// One reproducible run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Name, place, length.
    pub run: RunSection,
    /// Where the weights begin.
    pub model: ModelSection,
    /// What a batch is and what its loss is.
    pub objective: ObjectiveConfig,
    /// How weights move.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    /// How fast they move.
    pub lr: LrConfig,
    /// How much is seen per step.
    pub batch: BatchConfig,
    /// A moving average of the weights, if wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<EmaConfig>,
    /// What is learnt from.
    pub data: Vec<SourceConfig>,
    /// When the run is saved.
    #[serde(default)]
    pub checkpoint: CheckpointConfig,
    /// What is shown while the model learns.
    #[serde(default)]
    pub samples: SamplesConfig,
    /// How often numbers are written.
    #[serde(default)]
    pub log: LogConfig,
}

/// Name, place and length of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunSection {
    /// Name in logs.
    pub name: String,
    /// Folder of checkpoints, metrics, samples and the result.
    pub out: PathBuf,
    /// Seed from which every random number derives.
    #[serde(default)]
    pub seed: u64,
    /// Optimiser steps in all.
    pub steps: u64,
    /// Worker threads; 0 for one per core. Numbers do not depend on it.
    #[serde(default)]
    pub threads: usize,
    /// In what the factors of matrix products are: mixed precision. Weights stay f32.
    #[serde(default)]
    pub precision: Precision,
    /// What is kept of a forward pass, and when weights move: time against memory.
    #[serde(default)]
    pub backward: Backward,
}

/// What is kept of a forward pass, and when weights move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backward {
    /// Every activation is kept until its gradient is there; weights move when all gradients are.
    #[default]
    Keep,
    /// Only what passes between blocks is kept, and each block runs a second time for its gradients
    /// (activation checkpointing). The same losses to the last bit.
    Recompute,
    /// As `recompute`, and the weights of a block move as soon as their gradients are complete, which
    /// are then dropped. For one micro-batch per step and no clipping; the same losses as without.
    Fused,
}

/// Where weights, tokenizer and image tokenizer come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSection {
    /// Where the trained weights begin.
    pub init: Init,
    /// Folder of the text tokenizer and chat template (`mmada train-tokenizer`). With `from`
    /// or `grow`, the model's own is meant when this is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<PathBuf>,
    /// Folder of the trained image tokenizer. With `from` or `grow`, the model's own is meant when
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_tokenizer: Option<PathBuf>,
    /// Train low-rank changes beside the model of `init.from`, and nothing else. What is saved is
    /// the adapter, in PEFT's layout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraConfig>,
    /// New first rows for the image codes, in embedding and head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_rows: Option<CodeRows>,
    /// The sampling settings that the model is saved with, and sample sheets are made with, as in
    /// [`mmada_model::Defaults`]. What its tables do not name is as in the folder, or as published at the
    /// image tokenizer's size; a table within them, such as `image.looks`, is one value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<toml::Table>,
}

/// What a batch is and what its loss is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ObjectiveConfig {
    /// Masked diffusion over text and image tokens.
    Denoise(DenoiseConfig),
    /// Pictures through the image tokenizer and back.
    Reconstruct(ReconstructConfig),
    /// Completions of prompts are sampled and graded, and the better ones made likelier.
    #[serde(rename = "unigrpo")]
    UniGrpo(UniGrpoConfig),
}

/// Masked diffusion: each task's masked tokens are predicted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DenoiseConfig {
    /// Longest sequence; longer examples are skipped and counted. 0: the model's context.
    pub max_tokens: usize,
    /// When pictures are turned into codes.
    pub precompute: Precompute,
    /// File of the codes, which runs with one encoder may share, whatever the decoder; `codes.bin` in
    /// the run's folder when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub codes: Option<PathBuf>,
    /// How the noise levels of a batch are drawn.
    pub levels: Levels,
    /// How examples are noised and what their tokens weigh.
    pub corruption: Corruption,
    /// Weight of each task in the loss.
    pub coefficients: Coefficients,
    /// End-of-text filler: answer and filler together are a multiple of this many tokens. Sampling
    /// in blocks of this length then meets nothing it has not seen.
    pub tail: PerTask,
}

/// How the noise levels t of a batch are drawn; each is uniform in either case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Levels {
    /// Each on its own, as in the original.
    #[default]
    Independent,
    /// One draw per batch, then evenly spread: the same mean, less noise in the gradient.
    Spread,
}

/// When pictures are turned into codes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precompute {
    /// All of them before the first step, in one pass over the data.
    #[default]
    All,
    /// Each when it is first met; for data too large for a pass.
    AsNeeded,
}

/// A number of tokens for each task with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PerTask {
    /// Plain text.
    pub text: usize,
    /// Conversations.
    pub chat: usize,
    /// Text about a picture.
    pub describe: usize,
    /// The thought before a picture.
    pub think_paint: usize,
}

impl Default for PerTask {
    fn default() -> Self {
        Self {
            text: 1,
            chat: 1,
            describe: 1,
            think_paint: 1,
        }
    }
}

/// Weights of the terms of the image tokenizer's loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReconstructConfig {
    /// Mean absolute difference of pixels in [-1, 1].
    pub absolute: f64,
    /// Mean squared difference.
    pub squared: f64,
    /// Mean absolute difference of horizontal and vertical neighbour differences: sharp edges.
    pub edges: f64,
    /// The quantiser's entropy loss: every code decided, all codes used.
    pub entropy: f64,
    /// The quantiser's commitment loss: encoder outputs near their codes.
    pub commitment: f64,
    /// What moves.
    pub learnt: Learnt,
}

/// The part of the image tokenizer that is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Learnt {
    /// Encoder and decoder.
    #[default]
    All,
    /// The decoder: codes stay what they are, and with them every model trained on them.
    Decoder,
}

impl Default for ReconstructConfig {
    fn default() -> Self {
        Self {
            absolute: 1.0,
            squared: 0.0,
            edges: 0.0,
            entropy: 1.0,
            commitment: 1.0,
            learnt: Learnt::All,
        }
    }
}

/// How much one optimiser step sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchConfig {
    /// Size of one micro-batch.
    pub size: BatchSize,
    /// Micro-batches whose gradients are averaged into one step.
    #[serde(default = "one")]
    pub accumulate: usize,
}

fn one() -> usize {
    1
}

/// Size of one micro-batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchSize {
    /// Examples are added until there are at least this many tokens.
    Tokens(usize),
    /// This many examples.
    Sequences(usize),
}

/// Sample sheets written during training. The sampling settings are the model's own, see
/// [`ModelSection::generation`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SamplesConfig {
    /// Steps between sheets; one more is written at the end. 0: never.
    pub every: u64,
    /// Pictures that are reconstructed, or described with the prompts below.
    pub pictures: usize,
    /// Texts to paint.
    pub paint: Vec<String>,
    /// Messages to answer.
    pub chat: Vec<String>,
    /// Questions to ask about pictures of the data.
    pub describe: Vec<String>,
}

impl Default for SamplesConfig {
    fn default() -> Self {
        Self {
            every: 0,
            pictures: 16,
            paint: Vec::new(),
            chat: Vec::new(),
            describe: Vec::new(),
        }
    }
}

/// How often numbers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Steps between lines of metrics.
    pub every: u64,
    /// Whether they hold `grad_norm/NAME` of every parameter, as the original's do now and then: the
    /// L2 norm of its clipped gradient, divided by the number of its elements.
    pub parameters: bool,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            every: 10,
            parameters: false,
        }
    }
}

impl RunConfig {
    /// Reads a run file and applies `key=value` overrides.
    ///
    /// # Errors
    /// When the file cannot be read, is no TOML, or a key or value does not belong in a run.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::file(path, "read the run"))?;
        let is_sound = || !overrides.is_empty() && Self::parse(&text, &[]).is_ok();
        Self::parse(&text, overrides).map_err(|error| match error {
            Error::Config(what) if is_sound() => Error::Override(format!(
                "{}, changed by {}: {what}",
                path.display(),
                overrides.join(" ")
            )),
            Error::Config(what) => Error::Config(format!("{}: {what}", path.display())),
            other => other,
        })
    }

    /// The same from text.
    ///
    /// # Errors
    /// As [`RunConfig::load`].
    pub fn parse(text: &str, overrides: &[String]) -> Result<Self> {
        let mut table: toml::Table =
            toml::from_str(text).map_err(|error| Error::Config(error.to_string()))?;
        for item in overrides {
            overrides::apply(&mut table, item)?;
        }
        let config: Self = match overrides.is_empty() {
            // From the text itself, so that an error points at its line.
            true => toml::from_str(text).map_err(|error| overrides::explain(&error)),
            false => table
                .clone()
                .try_into()
                .map_err(|error| overrides::explain(&error)),
        }?;
        config.check()?;
        Ok(config)
    }

    /// The run with its defaults filled in, but for sampling settings, as TOML.
    ///
    /// # Errors
    /// When a value cannot be written as TOML, such as a seed of more than 63 bits.
    pub fn resolved(&self) -> Result<String> {
        toml::to_string_pretty(self).map_err(|error| Error::Config(error.to_string()))
    }
}
