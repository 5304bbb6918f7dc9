//! `mmada bench`: how fast forwards, sampling and training are here, and how near to the peak.
//!
//! ```text
//!   model or --shape ──▶ a workload, repeated ──▶ median and spread, tokens/s, GFLOP/s
//!                        products alone       ──▶ peak            ──▶ share of the peak
//! ```

mod work;

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use mmada_nn::transformer::{Config, MOST_PARAMETERS, Sizes};
use mmada_nn::{SaveOptions, Transformer};
use mmada_tensor::{Device, Packing, Precision, peak, process};
use mmada_train::config::Backward;
use serde_json::{Value, json};

use crate::args::{BackwardArg, BenchArgs, BenchTask, DeviceArg};
use crate::{output, session, terminal, usage};
use work::{Amount, Subject, Workload};

pub(crate) fn run(args: &BenchArgs) -> Result<()> {
    if !(1..=MOST_RUNS).contains(&args.repeat) {
        return Err(usage(format!(
            "--repeat: expected 1 to {MOST_RUNS}, got {}",
            args.repeat
        )));
    }
    let is_linear = args.task == BenchTask::Linear;
    if args.matrix.is_some() && !is_linear {
        return Err(usage("--matrix: expected with linear, which measures one"));
    }
    if args.shape.is_some() && is_linear {
        return Err(usage(
            "--shape: linear measures one matrix; give its sizes with --matrix",
        ));
    }
    if args.sampler.is_some() && !is_sampled(args.task) {
        return Err(usage(
            "--sampler: expected with text or image, which are sampled",
        ));
    }
    if args.backward != BackwardArg::Keep && args.task != BenchTask::Train {
        return Err(usage(
            "--backward: expected with train, which alone goes backward",
        ));
    }
    if args.block_causal.is_some() && args.task != BenchTask::Text {
        return Err(usage(
            "--block-causal: expected with text, which alone is written in blocks",
        ));
    }
    if args.guidance.is_some() && args.task != BenchTask::Image {
        return Err(usage(
            "--guidance: expected with image, which alone is guided",
        ));
    }
    if args.steps.is_some() && !is_sampled(args.task) {
        return Err(usage(
            "--steps: expected with text or image, which are sampled",
        ));
    }
    // One that the environment names is what is used when nothing is said, and here something is.
    let named = args.model.model.as_ref().map(std::ffi::OsString::from);
    if args.shape.is_some() && named.is_some() && named != std::env::var_os("MMADA_MODEL") {
        return Err(usage(
            "--shape cannot be used with --model; remove one of them",
        ));
    }
    if (args.shape.is_some() || is_linear) && args.model.device != DeviceArg::Cpu {
        return Err(usage(
            "--device: a --shape or a matrix is measured on the cpu alone",
        ));
    }
    let packing = session::packing(&args.model);
    if packing == Some(Packing::Int8) && args.task == BenchTask::Train {
        return Err(usage("--precision int8: training computes in f32 or bf16"));
    }
    let precision = packing.map_or(Precision::F32, Packing::precision);
    let subject = subject(args)?.packed(packing)?;
    let mut work = Workload::new(args.task, &subject, args)?;
    let bar = terminal::bar(args.repeat as u64 + 1, "runs");
    let (mut seconds, mut amount) = (Vec::new(), Amount::default());
    precision.scope(|| -> Result<()> {
        // The first run pays for memory and caches; it does not count.
        for round in 0..=args.repeat {
            let started = Instant::now();
            amount = work.once()?;
            if round > 0 {
                seconds.push(started.elapsed().as_secs_f64());
            }
            bar.inc(1);
        }
        Ok(())
    })?;
    bar.finish_and_clear();
    let report = report(args, &subject, &amount, &mut seconds, packing);
    match args.json {
        true => output::json(&report),
        false => output::line(text(&report)),
    }
}

/// Runs of a workload: more than tell any two programs apart.
const MOST_RUNS: usize = 1 << 20;

/// The model that is measured.
fn subject(args: &BenchArgs) -> Result<Subject> {
    let Some(shape) = &args.shape else {
        let model = session::open(&args.model)?;
        return Ok(Subject::of(&model));
    };
    let sizes = sizes(shape)?;
    let config = Config::new(&sizes).map_err(|error| usage(format!("--shape {shape}: {error}")))?;
    let text = format!("{:#}\n", config.to_json());
    if let Some(dir) = &args.save {
        check_folder(dir, &text)?;
    }
    let (params, _) = Transformer::init(&config, args.model.seed, &Device::Cpu)?;
    if let Some(dir) = &args.save {
        output::create_dir(dir)?;
        params.save(dir, &SaveOptions::default())?;
        output::write(&dir.join("config.json"), text.as_bytes())?;
    }
    Subject::random(config, params)
}

/// Refuses a folder that holds anything but weights of this shape from an earlier run.
fn check_folder(dir: &Path, config: &str) -> Result<()> {
    let is_empty = fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none());
    let is_alike = fs::read_to_string(dir.join("config.json")).is_ok_and(|text| text == config);
    if is_empty || is_alike && !dir.join("tokenizer.json").exists() {
        return Ok(());
    }
    Err(usage(format!(
        "bench --save {}: expected a new folder, or one with weights of this shape that an earlier bench \
         wrote; got one that holds something else",
        dir.display()
    )))
}

/// Half of the ids are text, one of them the mask.
const FEWEST_IDS: usize = 4;

/// Reads `d=512,layers=8,heads=8,mlp=1536,vocab=8192`.
fn sizes(shape: &str) -> Result<Sizes> {
    const KEYS: [&str; 5] = ["d", "layers", "heads", "mlp", "vocab"];
    let wrong = |what: String| {
        usage(format!(
            "--shape {shape}: {what}; expected d=512,layers=8,heads=8,mlp=1536,vocab=8192"
        ))
    };
    let mut values = [None; KEYS.len()];
    for part in shape.split(',') {
        let pair = part.split_once('=');
        let known = pair.and_then(|(key, value)| {
            let index = KEYS.iter().position(|known| *known == key.trim())?;
            Some((index, value.trim().parse::<usize>().ok()?))
        });
        let (index, value) = known.ok_or_else(|| wrong(format!("'{part}' is no size")))?;
        values[index] = Some(value);
    }
    let get =
        |index: usize| values[index].ok_or_else(|| wrong(format!("{} is missing", KEYS[index])));
    if get(4)? < FEWEST_IDS {
        return Err(wrong(format!("vocab is below {FEWEST_IDS}")));
    }
    let [d, layers, mlp, vocab] = [get(0)?, get(1)?, get(3)?, get(4)?].map(|size| size as u128);
    let of_block = d.saturating_mul(4 * d + 3 * mlp);
    let parameters = layers
        .saturating_mul(of_block)
        .saturating_add(2 * vocab * d);
    if parameters > MOST_PARAMETERS {
        return Err(wrong(format!(
            "{parameters} parameters, more than {MOST_PARAMETERS}"
        )));
    }
    Ok(Sizes {
        d_model: get(0)?,
        n_layers: get(1)?,
        n_heads: get(2)?,
        n_kv_heads: get(2)?,
        mlp_hidden_size: get(3)?,
        embedding_size: get(4)?,
        max_sequence_length: 4096,
        weight_tying: false,
    })
}

fn report(
    args: &BenchArgs,
    subject: &Subject,
    amount: &Amount,
    seconds: &mut [f64],
    packing: Option<Packing>,
) -> Value {
    seconds.sort_by(f64::total_cmp);
    let median = seconds[seconds.len() / 2];
    // Asked before anything else is run.
    let memory = process::peak_memory();
    let peak = peak::operations(packing);
    let rate = amount.flops / median;
    let config = subject.config();
    let is_linear = args.task == BenchTask::Linear;
    let matrix = work::matrix(args).ok().filter(|_| is_linear);
    let shape = json!({
        "d": config.d_model, "layers": config.n_layers, "heads": config.n_heads,
        "mlp": config.mlp_hidden_size, "vocab": config.embedding_size,
    });
    json!({
        "task": "bench",
        "bench": args.task.name(),
        "precision": packing.map_or_else(|| json!("f32"), |packing| json!(packing)),
        "sampler": is_sampled(args.task).then(|| work::sampler(args)),
        "backward": (args.task == BenchTask::Train).then(|| args.backward.way()),
        "shape": (!is_linear).then_some(shape),
        "matrix": matrix.map(|(input, output)| [input, output]),
        "threads": process::workers(),
        "repeat": seconds.len(),
        "seconds": median,
        "seconds_min": seconds.first(),
        "seconds_max": seconds.last(),
        "tokens": amount.tokens,
        "tokens_per_second": amount.tokens as f64 / median,
        "forwards": amount.work.forwards,
        "tokens_per_forward": amount.tokens as f64 / amount.work.forwards.max(1) as f64,
        "rows": amount.work.rows,
        "gflops_per_second": rate / 1e9,
        "peak_gflops_per_second": peak / 1e9,
        "share_of_peak": rate / peak,
        "peak_memory_bytes": memory,
    })
}

fn is_sampled(task: BenchTask) -> bool {
    matches!(task, BenchTask::Text | BenchTask::Image)
}

fn text(report: &Value) -> String {
    let number = |key: &str| report[key].as_f64().unwrap_or(0.0);
    let milliseconds = |key: &str| format!("{:.1}", 1e3 * number(key));
    let bench = report["bench"].as_str().unwrap_or_default();
    let settings = ["precision", "sampler", "backward"];
    let settings: Vec<&str> = settings
        .iter()
        .filter_map(|key| report[key].as_str())
        .collect();
    [
        ("workload", format!("{bench}, {}", settings.join(", "))),
        (
            "time",
            format!(
                "{} ms, {} to {} in {} runs",
                milliseconds("seconds"),
                milliseconds("seconds_min"),
                milliseconds("seconds_max"),
                report["repeat"]
            ),
        ),
        (
            "tokens",
            format!(
                "{}, {:.0}/s, {:.2} per forward",
                report["tokens"],
                number("tokens_per_second"),
                number("tokens_per_forward")
            ),
        ),
        (
            "products",
            format!(
                "{:.0} GFLOP/s of {:.0}: {:.0} %",
                number("gflops_per_second"),
                number("peak_gflops_per_second"),
                100.0 * number("share_of_peak")
            ),
        ),
        (
            "memory",
            format!("{:.0} MB at most", number("peak_memory_bytes") / 1e6),
        ),
    ]
    .map(|(name, value)| format!("{name:<10} {value}"))
    .join("\n")
}

impl BenchTask {
    fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Text => "text",
            Self::Image => "image",
            Self::Train => "train",
            Self::Linear => "linear",
        }
    }
}

impl BackwardArg {
    pub(super) fn way(self) -> Backward {
        match self {
            Self::Keep => Backward::Keep,
            Self::Recompute => Backward::Recompute,
            Self::Fused => Backward::Fused,
        }
    }
}
