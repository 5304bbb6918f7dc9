//! What can be typed. Nothing here acts; `commands` does.

mod bench;
mod curves;
mod eval;
mod sampler;

use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use mmada_diffusion::{Commit, Schedule};
use mmada_model::Think;

pub(crate) use self::bench::{BackwardArg, BenchArgs, BenchTask};
pub(crate) use self::curves::CurvesArgs;
pub(crate) use self::eval::{EvalArgs, EvalTask};
pub(crate) use self::sampler::SamplerArg;

/// Multimodal masked diffusion: one model that chats, describes pictures and paints them.
#[derive(Debug, Parser)]
#[command(
    name = "mmada",
    version,
    propagate_version = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How to hold the kernels low.
const LEVELS: &str = "MMADA_CPU=portable, avx2, avx512 or amx holds the kernels to a lower instruction \
                      set than the processor's own.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show what the model can do: a chat, a description, a painting, in under a minute.
    #[command(after_help = "Example:\n  mmada try\n  mmada try -o out/try --seed 7")]
    Try(TryArgs),
    /// Answer a question or hold a conversation.
    #[command(
        after_help = "Examples:\n  mmada chat \"What is 12 + 30?\"\n  mmada chat --watch \"Calculate 6 - 10 * 9.\"\n  mmada chat --sampler fast \"What is 12 + 30?\"\n  mmada chat            # asks for one message after another"
    )]
    Chat(ChatArgs),
    /// Describe a picture, or answer a question about it.
    #[command(
        after_help = "Examples:\n  mmada describe assets/examples/red-triangle.png\n  mmada describe assets/examples/red-triangle.png \"what is the color of the shape?\"\n  mmada describe assets/examples/red-triangle.png --answer \"a red ___\""
    )]
    Describe(DescribeArgs),
    /// Paint a picture from words.
    #[command(
        after_help = "Examples:\n  mmada paint \"a teal circle\" -o out/circle.png\n  mmada paint \"noto style: dog\" --count 4 --guidance 3 --seed 1 --watch\n  mmada paint \"twemoji style: sunflower\" --think"
    )]
    Paint(PaintArgs),
    /// Fill the gaps of a text; `___` is a gap, `[MASK:8]` one of eight tokens.
    #[command(
        after_help = "Example:\n  mmada fill \"<think>12 + 30 = ___.</think>42\"\n  mmada fill \"<think>6 * 7 = [MASK:2].</think>42\""
    )]
    Fill(FillArgs),
    /// Repaint a part of a picture, or paint on beyond its edges.
    #[command(
        after_help = "Examples:\n  mmada inpaint assets/examples/red-triangle.png --mask assets/examples/mask.png -p \"a red circle\"\n  mmada inpaint assets/examples/red-triangle.png --extend right=32 -o out/wide.png\n\nIn the mask, transparent pixels are repainted; in a mask without transparency, white ones."
    )]
    Inpaint(InpaintArgs),
    /// Train a model as a run file says.
    #[command(
        after_help = "Examples:\n  mmada train runs/stage1.toml\n  mmada train runs/stage1.toml --resume\n  mmada train runs/stage1.toml lr.peak=3e-4 run.steps=200 --dry-run"
    )]
    Train(TrainArgs),
    /// Train a byte-level BPE tokenizer (digits single) on the texts of data packs.
    #[command(
        name = "train-tokenizer",
        after_help = "Example:\n  mmada train-tokenizer --data assets/data --size 1024 -o out/tokenizer"
    )]
    TrainTokenizer(TrainTokenizerArgs),
    /// Draw a metric of runs over their steps; runs of one label as a mean with a band.
    #[command(
        after_help = "Examples:\n  mmada curves assets/model/training/stage2i.jsonl --metric loss -o out/loss.png\n  mmada curves h=assets/model/training/stage2h.jsonl --metric loss --smooth 5 --csv out/h.csv\n\nSeveral runs: a=out/a1 a=out/a2 b=out/b1 draws two lines, the mean of the first two and the third."
    )]
    Curves(CurvesArgs),
    /// Add an adapter's changes to its model, or add up what several models have learnt: a model of its own.
    #[command(
        after_help = "Examples:\n  mmada merge out/adapter/model out/merged\n  mmada merge out/paints/model out/sums/model out/both --base out/stage2/model   # what either has learnt since\n  mmada merge out/stage3/model out/halfway --base out/stage2/model --scale 0.5   # half of what it has learnt"
    )]
    Merge(MergeArgs),
    /// Score a model on a data pack, with 95 % intervals.
    #[command(
        after_help = "Examples:\n  mmada eval vqa --data assets/data/shapes --split test\n  mmada eval reasoning --data assets/data/arithmetic --sampler fast --json   # score and cost\n  mmada eval paint --data assets/data/animals --split train --keep out/right.jsonl   # data to train on\n  mmada eval all --data assets/data --split test --json"
    )]
    Eval(EvalArgs),
    /// Measure how fast forwards, sampling and training are here, and how near to the peak.
    #[command(
        after_help = format!("Examples:\n  mmada bench text --sampler fast\n  mmada bench forward --shape d=512,layers=8,heads=8,mlp=1536,vocab=8192 --precision bf16 --json\n\n{LEVELS}")
    )]
    Bench(BenchArgs),
    /// Print the sequence a prompt becomes, with its spans in colour.
    #[command(
        after_help = "Examples:\n  mmada explain \"What is 12 + 30?\"\n  mmada explain --task paint \"a blue circle\""
    )]
    Explain(ExplainArgs),
    /// Say what is in a model directory, and whether it is sound.
    #[command(after_help = "Example:\n  mmada inspect assets/model")]
    Inspect(InspectArgs),
    /// Check this machine and this build.
    #[command(
        after_help = format!("Example:\n  mmada doctor\n\n{LEVELS}")
    )]
    Doctor(DoctorArgs),
    /// Print shell completions.
    #[command(after_help = "Example:\n  mmada completions bash > /etc/bash_completion.d/mmada")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Which model, where, and from which seed.
#[derive(Debug, Clone, Args)]
pub(crate) struct ModelArgs {
    /// Model directory or hub id [default: the embedded model].
    #[arg(long, short, env = "MMADA_MODEL", value_name = "DIR|ID")]
    pub(crate) model: Option<String>,
    /// Image tokenizer (directory or hub id) of a model that is published without one.
    #[arg(long, value_name = "DIR|ID", requires = "model")]
    pub(crate) image_tokenizer: Option<String>,
    /// Where to compute.
    #[arg(long, value_enum, default_value_t = DeviceArg::Cpu)]
    pub(crate) device: DeviceArg,
    /// In what the transformer multiplies; sums are in f32.
    #[arg(long, value_enum, default_value_t = PrecisionArg::Auto)]
    pub(crate) precision: PrecisionArg,
    /// Seed of every random choice: same seed, same output.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PrecisionArg {
    /// bf16 where the processor has instructions for it, else f32.
    Auto,
    /// 32 bits.
    F32,
    /// Weights and inputs rounded to 16 bits.
    Bf16,
    /// Weights of blocks, and their inputs, in 8 bits.
    Int8,
}

/// How to sample; what is left out comes from the model's generation_config.json.
#[derive(Debug, Clone, Args)]
pub(crate) struct SampleArgs {
    /// Denoising steps.
    #[arg(long)]
    pub(crate) steps: Option<usize>,
    /// Randomness of the tokens (text; 0 is greedy) or of the order (pictures).
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) temperature: Option<f32>,
    /// Strength of classifier-free guidance; 0 is none.
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) guidance: Option<f32>,
    /// Show every step as the masks melt away.
    #[arg(long)]
    pub(crate) watch: bool,
    /// Print one JSON object instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

/// How long a text answer may be.
#[derive(Debug, Clone, Args)]
pub(crate) struct TextArgs {
    /// Tokens of the answer.
    #[arg(long)]
    pub(crate) length: Option<usize>,
    /// Tokens decided together, from left to right.
    #[arg(long)]
    pub(crate) block: Option<usize>,
    /// Masks after the block that a forward sees [default: the model's, else the sampler's, else all].
    #[arg(long)]
    pub(crate) ahead: Option<usize>,
    /// Fidelity or speed, by name [default: the model's].
    #[arg(long, value_enum)]
    pub(crate) sampler: Option<SamplerArg>,
    /// Which positions a step commits: low-confidence, random, threshold=0.9, factor=1,
    /// entropy=0.1 or verify=0.6:0.9 [default: the sampler's].
    #[arg(long, value_name = "RULE")]
    pub(crate) commit: Option<Commit>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DeviceArg {
    Cpu,
    Cuda,
    Metal,
}

#[derive(Debug, Args)]
pub(crate) struct TryArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Folder for the pictures.
    #[arg(long, short, default_value = "out/try")]
    pub(crate) output: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ChatArgs {
    /// The message; without one, a conversation starts.
    pub(crate) prompt: Option<String>,
    /// Write the answer to this file instead.
    #[arg(long, short, requires = "prompt")]
    pub(crate) output: Option<PathBuf>,
    /// A system message put in front.
    #[arg(long)]
    pub(crate) system: Option<String>,
    /// Print the thought as well as the answer.
    #[arg(long)]
    pub(crate) show_thought: bool,
    #[command(flatten)]
    pub(crate) text: TextArgs,
    #[command(flatten)]
    pub(crate) sample: SampleArgs,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DescribeArgs {
    /// PNG, JPEG or WebP.
    pub(crate) image: PathBuf,
    /// The question; without one, a description is asked for.
    pub(crate) question: Option<String>,
    /// A half-given answer with gaps (`___`) to complete.
    #[arg(long, conflicts_with_all = ["length", "block", "ahead", "sampler", "show_thought"])]
    pub(crate) answer: Option<String>,
    /// Look at the picture so often, a little moved and smaller each time; the answer rests on all
    /// looks [default: the model's].
    #[arg(long, value_name = "N")]
    pub(crate) looks: Option<usize>,
    /// Write the answer to this file instead.
    #[arg(long, short)]
    pub(crate) output: Option<PathBuf>,
    /// Print the thought as well as the answer.
    #[arg(long)]
    pub(crate) show_thought: bool,
    #[command(flatten)]
    pub(crate) text: TextArgs,
    #[command(flatten)]
    pub(crate) sample: SampleArgs,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

/// Flags of everything that paints.
#[derive(Debug, Clone, Args)]
pub(crate) struct CanvasArgs {
    /// Where the picture goes; of several each has a number in its name.
    #[arg(long, short, default_value = "out/painting.png")]
    pub(crate) output: PathBuf,
    /// How many tokens stay masked over time: cosine, linear, sigmoid, or pow and an exponent (pow2).
    #[arg(long)]
    pub(crate) schedule: Option<Schedule>,
    /// How the randomness of the order fades.
    #[arg(long, value_enum)]
    pub(crate) anneal: Option<AnnealArg>,
    /// Paint so many for each and keep the one the model itself reads best [default: the model's].
    #[arg(long, value_name = "N")]
    pub(crate) best_of: Option<usize>,
    /// Randomness of the codes: 1 draws as the model says, 0 takes the most probable.
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) token_temperature: Option<f32>,
    /// Steps on the complete picture that draw every other code anew [default: the model's].
    #[arg(long, value_name = "N")]
    pub(crate) revisions: Option<usize>,
    /// Randomness of the codes that revisions draw; 0 takes the most probable [default: the model's].
    #[arg(long, allow_negative_numbers = true, value_name = "T")]
    pub(crate) revision_temperature: Option<f32>,
    /// Fidelity or speed, by name [default: the model's].
    #[arg(long, value_enum)]
    pub(crate) sampler: Option<SamplerArg>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AnnealArg {
    Compounding,
    Maskgit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ThinkArg {
    /// From the words alone.
    Never,
    /// Half of the rivals of `--best-of`, and the model's reading chooses.
    Half,
    /// All of them.
    Always,
}

impl From<ThinkArg> for Think {
    fn from(when: ThinkArg) -> Self {
        match when {
            ThinkArg::Never => Self::Never,
            ThinkArg::Half => Self::Half,
            ThinkArg::Always => Self::Always,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct PaintArgs {
    /// What to paint; an empty text paints without a condition.
    pub(crate) prompt: String,
    /// Width and height in pixels, multiples of the image tokenizer's factor [default: the model's].
    #[arg(long, value_name = "WxH")]
    pub(crate) size: Option<String>,
    /// How many pictures.
    #[arg(long, short = 'n', default_value_t = 1)]
    pub(crate) count: usize,
    /// Think first, then paint from the prompt and the thought, and tell it [default: the model's; without a value: always].
    #[arg(long, value_enum, value_name = "WHEN", num_args = 0..=1, require_equals = true, default_missing_value = "always")]
    pub(crate) think: Option<ThinkArg>,
    /// Fill the prompt up to this many tokens with visible padding, and cut a longer one, for checkpoints
    /// trained so.
    #[arg(long, value_name = "TOKENS", conflicts_with = "think")]
    pub(crate) attend_pads: Option<usize>,
    #[command(flatten)]
    pub(crate) canvas: CanvasArgs,
    #[command(flatten)]
    pub(crate) sample: SampleArgs,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

#[derive(Debug, Args)]
pub(crate) struct FillArgs {
    /// The text with gaps.
    pub(crate) text: String,
    /// Tokens of a `___` gap, to which one is added in place of a space before it.
    #[arg(long)]
    pub(crate) gap: Option<usize>,
    /// Write the text to this file instead.
    #[arg(long, short)]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) sample: SampleArgs,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("edit").args(["mask", "extend"]).required(true)))]
pub(crate) struct InpaintArgs {
    /// PNG, JPEG or WebP.
    pub(crate) image: PathBuf,
    /// The mask picture.
    #[arg(long)]
    pub(crate) mask: Option<PathBuf>,
    /// Pixels to add at a side; may be given for several sides.
    #[arg(long, value_name = "left|right|up|down=N")]
    pub(crate) extend: Vec<String>,
    /// What the picture shows.
    #[arg(long, short, default_value = "")]
    pub(crate) prompt: String,
    #[command(flatten)]
    pub(crate) canvas: CanvasArgs,
    #[command(flatten)]
    pub(crate) sample: SampleArgs,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TrainArgs {
    /// The run file.
    pub(crate) run: PathBuf,
    /// Settings that replace those of the file, such as `lr.peak=3e-4`.
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
    /// Go on from the newest checkpoint of the run's folder, or begin if there is none.
    #[arg(long)]
    pub(crate) resume: bool,
    /// Print the resolved run and stop.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Where to compute.
    #[arg(long, value_enum, default_value_t = DeviceArg::Cpu)]
    pub(crate) device: DeviceArg,
    /// Print one JSON object at the end, or the resolved run as one.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TrainTokenizerArgs {
    /// Pack folders, or folders of packs, whose training texts are used.
    #[arg(long, num_args = 1.., default_value = "assets/data")]
    pub(crate) data: Vec<PathBuf>,
    /// Ids, special ones included.
    #[arg(long, default_value_t = 1024)]
    pub(crate) size: usize,
    /// Folder for tokenizer.json and the chat template.
    #[arg(long, short, default_value = "out/tokenizer")]
    pub(crate) output: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct MergeArgs {
    /// Folder of the adapter, in PEFT's layout, whose model is where it says; or, with --base, of models trained from
    /// one. All but the weights is the first's.
    #[arg(required = true)]
    pub(crate) models: Vec<PathBuf>,
    /// Folder for the model: a new or empty one, or an earlier model.
    pub(crate) output: PathBuf,
    /// The model that the others were trained from: what each has learnt since is added up.
    #[arg(long)]
    pub(crate) base: Option<PathBuf>,
    /// How much of that is added: 1 is all, 0.5 of one model is halfway between it and its base.
    #[arg(long, requires = "base", default_value_t = 1.0)]
    pub(crate) scale: f32,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The prompt.
    pub(crate) prompt: String,
    /// The layout.
    #[arg(long, value_enum, default_value_t = ExplainTask::Chat)]
    pub(crate) task: ExplainTask,
    /// A picture for `describe`.
    #[arg(long)]
    pub(crate) image: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExplainTask {
    /// A message and its answer.
    Chat,
    /// Plain text, as it is learnt.
    Text,
    /// A question about the picture of `--image`, and its answer.
    Describe,
    /// A picture from words.
    Paint,
    /// A thought, then a picture.
    ThinkPaint,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Model directory or hub id [default: the embedded model].
    #[arg(env = "MMADA_MODEL", value_name = "DIR|ID")]
    pub(crate) model: Option<String>,
    /// List every tensor.
    #[arg(long)]
    pub(crate) tensors: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
