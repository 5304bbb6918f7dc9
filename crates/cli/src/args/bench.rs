//! What can be typed after `mmada bench`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{ModelArgs, SamplerArg};

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// What to measure.
    #[arg(value_enum)]
    pub(crate) task: BenchTask,
    /// Random weights of these sizes in place of a model's.
    #[arg(long, value_name = "d=N,layers=N,heads=N,mlp=N,vocab=N")]
    pub(crate) shape: Option<String>,
    /// Write the random weights to this folder, for other programs to measure.
    #[arg(long, value_name = "DIR", requires = "shape")]
    pub(crate) save: Option<PathBuf>,
    /// Tokens: of the forward [640, or the context], made [256], of the training step [8192], or
    /// rows of the linear layer [1024].
    #[arg(long)]
    pub(crate) tokens: Option<usize>,
    /// Denoising steps [default: 1 per token of text, 15 for a picture or the sampler's share].
    #[arg(long)]
    pub(crate) steps: Option<usize>,
    /// How text or a picture is sampled [default: exact]. Of random weights no rule that depends on
    /// their confidence says anything: measure a trained model.
    #[arg(long, value_enum)]
    pub(crate) sampler: Option<SamplerArg>,
    /// Text in blocks of so many tokens, of which none sees a later one: what is written is computed
    /// once. As the embedded model writes, with 1.
    #[arg(long, value_name = "N")]
    pub(crate) block_causal: Option<usize>,
    /// What a training step keeps of its forward pass.
    #[arg(long, value_enum, default_value_t = BackwardArg::Keep)]
    pub(crate) backward: BackwardArg,
    /// Strength of guidance of a picture [default: 3.5].
    #[arg(long)]
    pub(crate) guidance: Option<f32>,
    /// Inputs and outputs of the linear layer [default: 4096,4096].
    #[arg(long, value_name = "IN,OUT")]
    pub(crate) matrix: Option<String>,
    /// Runs that count, after one that does not.
    #[arg(long, default_value_t = 5)]
    pub(crate) repeat: usize,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchTask {
    /// One sequence, logits of all rows.
    Forward,
    /// Text in blocks of 32; exact, one token per step.
    Text,
    /// A picture, guided; exact, in 15 steps.
    Image,
    /// Forward, backward and AdamW.
    Train,
    /// One linear layer.
    Linear,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BackwardArg {
    /// All activations.
    Keep,
    /// What passes between blocks; each block is computed a second time.
    Recompute,
    /// As recompute, and weights move within the backward pass; without clipping.
    Fused,
}
