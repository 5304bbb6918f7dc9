//! What `mmada eval` takes.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use mmada_diffusion::Commit;

use super::{ModelArgs, SamplerArg, ThinkArg};

#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// What to measure.
    #[arg(value_enum)]
    pub(crate) task: EvalTask,
    /// Pack folder, or a folder of packs for `all`.
    #[arg(long, default_value = "assets/data")]
    pub(crate) data: PathBuf,
    /// Which part of the pack.
    #[arg(long, default_value = "test")]
    pub(crate) split: String,
    /// Use only this many items, spread evenly; paintings are then told apart among these.
    #[arg(long)]
    pub(crate) limit: Option<usize>,
    /// Pictures per prompt when painting is judged.
    #[arg(long, default_value_t = 8)]
    pub(crate) samples: usize,
    /// Denoising steps [default: the model's].
    #[arg(long)]
    pub(crate) steps: Option<usize>,
    /// Randomness of the tokens (text) or of the order (pictures) [default: the model's].
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) temperature: Option<f32>,
    /// Randomness of the codes of pictures: 1 draws as the model says, 0 takes the most probable
    /// [default: the model's].
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) token_temperature: Option<f32>,
    /// Paint so many for each painting and keep the one that reads best [default: the model's].
    #[arg(long, value_name = "N")]
    pub(crate) best_of: Option<usize>,
    /// Paint after a thought [default: the model's; without a value: always].
    #[arg(long, value_enum, value_name = "WHEN", num_args = 0..=1, require_equals = true, default_missing_value = "always")]
    pub(crate) think: Option<ThinkArg>,
    /// Steps on the complete picture that draw every other code anew [default: the model's].
    #[arg(long, value_name = "N")]
    pub(crate) revisions: Option<usize>,
    /// Randomness of the codes that revisions draw; 0 takes the most probable [default: the model's].
    #[arg(long, allow_negative_numbers = true, value_name = "T")]
    pub(crate) revision_temperature: Option<f32>,
    /// Strength of guidance when painting [default: the model's].
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) guidance: Option<f32>,
    /// Fidelity or speed, by name [default: the model's].
    #[arg(long, value_enum)]
    pub(crate) sampler: Option<SamplerArg>,
    /// Which positions a step of text commits, such as threshold=0.9 [default: the sampler's].
    #[arg(long, value_name = "RULE")]
    pub(crate) commit: Option<Commit>,
    /// Tokens of text decided together [default: the model's].
    #[arg(long)]
    pub(crate) block: Option<usize>,
    /// Masks after the block that a forward of text sees [default: the model's].
    #[arg(long)]
    pub(crate) ahead: Option<usize>,
    /// Look at each picture so often, a little moved and smaller each time; answers rest on all looks
    /// [default: the model's].
    #[arg(long, value_name = "N")]
    pub(crate) looks: Option<usize>,
    /// Write a sheet of pictures here; for paint, reconstruction and all.
    #[arg(long, short)]
    pub(crate) output: Option<PathBuf>,
    /// Write the paintings that were right here, as JSON lines to train on (`kind = "jsonl"`): `prompt`,
    /// `shows`, `sketch` (what it looks like from afar, in words) and `image`, its codes.
    #[arg(long, value_name = "FILE")]
    pub(crate) keep: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EvalTask {
    /// PSNR of pictures through the image tokenizer.
    Reconstruction,
    /// Captions of pictures.
    Caption,
    /// Group and subgroup of what pictures show.
    Kind,
    /// Questions about pictures.
    Vqa,
    /// Paintings: shapes judged on pixels, anything else by the nearest training picture.
    Paint,
    /// Worded sums, exact answer and format.
    Reasoning,
    /// Everything the packs allow.
    All,
}
