//! What is measured: a forward, a text, a picture, a training step, all on random ids.

use anyhow::Result;
use mmada_diffusion::{
    Allowed, CacheRule, Canvas, Denoiser, ImagePlan, Rest, Sampler, SeededNoise, Stop, TextPlan,
    Unconditional,
};
use mmada_model::{Mmada, Network, Preset, TextRules, Work};
use mmada_nn::transformer::Config;
use mmada_nn::{Mode, Params, Transformer};
use mmada_tensor::random::{Key, Purpose};
use mmada_tensor::{Device, PackedLinear, Packing, Rows, Tensor, Want, ops};
use mmada_train::config::Backward;
use mmada_train::optimizer::{Gradients, Optimizer, OptimizerConfig};

use crate::args::{BenchArgs, BenchTask};
use crate::usage;

/// Tokens that stand before what is made.
const PROMPT: usize = 32;
/// Length of a sequence in training.
const TRAIN_LENGTH: usize = 128;
/// Most numbers of a matrix: 8 GiB in f32.
const LARGEST: usize = 1 << 31;
/// One in so many tokens is masked in training.
const TRAIN_MASKED: usize = 2;

/// A transformer, with weights to sample from and weights to train.
pub(super) struct Subject {
    config: Config,
    params: Params,
    frozen: Transformer,
    text: std::ops::Range<u32>,
    mask: u32,
    codes: std::ops::Range<u32>,
}

impl Subject {
    pub(super) fn of(model: &Mmada) -> Self {
        Self {
            config: model.config().clone(),
            params: model.params().clone(),
            frozen: model.transformer().clone(),
            text: model.vocab().text.clone(),
            mask: model.vocab().special.mask,
            codes: model.vocab().image.clone(),
        }
    }

    /// Random weights: the lower half of the ids is text, the last of it the mask, the upper half
    /// image codes.
    pub(super) fn random(config: Config, params: Params) -> Result<Self> {
        let ids = config.embedding_size as u32;
        Ok(Self {
            frozen: Transformer::load(&config, &params.frozen())?,
            text: 0..ids / 2 - 1,
            mask: ids / 2 - 1,
            codes: ids / 2..ids,
            config,
            params,
        })
    }

    /// With a transformer that is packed, unless it is already.
    pub(super) fn packed(mut self, packing: Option<Packing>) -> Result<Self> {
        if let (Some(packing), None) = (packing, self.frozen.packing()) {
            self.frozen = self.frozen.packed(packing)?;
        }
        Ok(self)
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }
}

/// What one run of a workload came to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Amount {
    /// Tokens made, or looked at in a forward or a training step.
    pub(super) tokens: usize,
    pub(super) work: Work,
    /// Floating-point operations of matrix products and attention.
    pub(super) flops: f64,
}

/// A workload ready to run.
pub(super) struct Workload<'s> {
    subject: &'s Subject,
    seed: u64,
    task: Task,
}

enum Task {
    Forward(Rows),
    Sample(Box<Canvas>),
    Train(Box<Training>),
    Linear(Layer),
}

/// A linear layer with random weights and inputs.
struct Layer {
    input: Tensor,
    weight: Tensor,
    packed: Option<PackedLinear>,
}

struct Training {
    transformer: Transformer,
    params: Params,
    optimizer: Optimizer,
    backward: Backward,
    rows: Rows,
    wanted: Vec<usize>,
    targets: Vec<u32>,
}

impl<'s> Workload<'s> {
    pub(super) fn new(task: BenchTask, subject: &'s Subject, args: &BenchArgs) -> Result<Self> {
        let seed = args.model.seed;
        let task = match task {
            BenchTask::Forward => {
                let context = subject.config.max_sequence_length;
                let tokens = args.tokens.unwrap_or(640.min(context));
                within("--tokens", tokens, context)?;
                let ids = ids(subject, tokens, seed);
                Task::Forward(Rows::pack([ids]))
            }
            BenchTask::Text => Task::Sample(Box::new(text(subject, args)?)),
            BenchTask::Image => Task::Sample(Box::new(image(subject, args)?)),
            BenchTask::Train => Task::Train(Box::new(Training::new(subject, args)?)),
            BenchTask::Linear => Task::Linear(Layer::new(args, subject.frozen.packing())?),
        };
        Ok(Self {
            subject,
            seed,
            task,
        })
    }

    /// Runs it once.
    pub(super) fn once(&mut self) -> Result<Amount> {
        let cfg = &self.subject.config;
        let mut network = Network::new(&self.subject.frozen);
        let tokens = match &mut self.task {
            Task::Forward(rows) => {
                let want = Want::new(0..rows.len(), 0..cfg.embedding_size);
                network.logits(rows, &want)?;
                rows.len()
            }
            Task::Sample(canvas) => {
                let noise = Box::new(SeededNoise(self.seed));
                Sampler::new(&mut network, vec![(**canvas).clone()], noise).finish()?;
                canvas.region().len()
            }
            Task::Linear(layer) => {
                let ((rows, width), outputs) = (layer.input.dims2()?, layer.weight.dim(0)?);
                match &layer.packed {
                    Some(packed) => drop(packed.part(&layer.input, 0..outputs)?),
                    None => drop(ops::linear(&layer.input, &layer.weight)?),
                }
                return Ok(Amount {
                    tokens: rows,
                    flops: (2 * rows * width * outputs) as f64,
                    ..Amount::default()
                });
            }
            Task::Train(training) => {
                let work = training.step()?;
                return Ok(Amount {
                    tokens: training.rows.len(),
                    work,
                    // Backward is twice as much again. What is computed a second time is no gain.
                    flops: 3.0 * work.flops(cfg),
                });
            }
        };
        let work = network.work();
        let flops = work.flops(cfg);
        Ok(Amount {
            tokens,
            work,
            flops,
        })
    }
}

/// Random text ids.
fn ids(subject: &Subject, n: usize, seed: u64) -> Vec<u32> {
    let mut stream = Key::new(seed, Purpose::Weights).stream();
    let text = &subject.text;
    (0..n)
        .map(|_| text.start + stream.below(text.len()) as u32)
        .collect()
}

/// Refuses nothing at all, and sizes that nothing here has.
fn within(option: &str, got: usize, most: usize) -> Result<()> {
    match (1..=most).contains(&got) {
        true => Ok(()),
        false => Err(usage(format!("{option} {got}: expected 1 to {most}"))),
    }
}

/// Tokens to be made behind a prompt.
fn made(subject: &Subject, args: &BenchArgs) -> Result<usize> {
    let most = subject.config.max_sequence_length.saturating_sub(PROMPT);
    let tokens = args.tokens.unwrap_or(256.min(most));
    within("--tokens", tokens, most)?;
    Ok(tokens)
}

/// A prompt and masks behind it.
fn masked(subject: &Subject, masks: usize, seed: u64) -> Vec<u32> {
    let mut ids = ids(subject, PROMPT, seed);
    ids.resize(PROMPT + masks, subject.mask);
    ids
}

/// 256 tokens in blocks of 32, one per step where the sampler has no bolder rule: the original's
/// careful setting.
fn text(subject: &Subject, args: &BenchArgs) -> Result<Canvas> {
    let tokens = made(subject, args)?;
    let block_length = args.block_causal.unwrap_or(32).min(tokens.max(1));
    within("--block-causal", block_length, tokens)?;
    let mut rules = sampler(args).text();
    if args.block_causal.is_some() {
        rules = TextRules {
            cache: CacheRule::BlockCausal,
            blocks_ahead: Some(0),
            ..rules
        };
    }
    let plan = TextPlan {
        steps: args.steps.unwrap_or(tokens),
        block_length,
        ahead: rules.blocks_ahead.map(|blocks| blocks * block_length),
        temperature: 0.0,
        commit: rules.commit,
        allowed: Allowed {
            range: subject.text.clone(),
            banned: Vec::new(),
            banned_at: Vec::new(),
        },
        stop: Stop::Never,
        rest: Rest::Masked,
        cache: rules.cache,
    };
    let ids = masked(subject, tokens, args.model.seed);
    Ok(Canvas::text(ids, subject.mask, plan)?)
}

/// 256 codes in 15 guided steps, the original's demonstration, or the sampler's share of both.
fn image(subject: &Subject, args: &BenchArgs) -> Result<Canvas> {
    const STEPS: f32 = 15.0;
    let tokens = made(subject, args)?;
    let ids = masked(subject, tokens, args.model.seed);
    let rules = sampler(args).picture();
    let steps = (STEPS * rules.steps).ceil() as usize;
    let (range, steps) = (PROMPT..PROMPT + tokens, args.steps.unwrap_or(steps));
    let plan = ImagePlan {
        // The most square of the grids that so many codes can have.
        width: (1..=tokens.isqrt())
            .rfind(|width| tokens % width == 0)
            .unwrap_or(1),
        order: rules.order,
        cache: rules.cache,
        ..ImagePlan::new(range, subject.codes.clone(), steps)
    };
    let unconditional = Unconditional::Prefix {
        ids: ids[..2].to_vec(),
        shared_from: PROMPT,
    };
    let canvas = Canvas::image(ids, subject.mask, plan)?;
    let guidance = args.guidance.unwrap_or(3.5);
    let canvas = canvas.guided(guidance, unconditional)?;
    Ok(canvas.guided_for(rules.guided)?)
}

/// The sampler that was asked for.
pub(super) fn sampler(args: &BenchArgs) -> Preset {
    args.sampler.map_or(Preset::Exact, |sampler| sampler.0)
}

/// Inputs and outputs of the linear layer.
pub(super) fn matrix(args: &BenchArgs) -> Result<(usize, usize)> {
    let given = args.matrix.as_deref().unwrap_or("4096,4096");
    let sizes = given.split_once(',');
    let sizes = sizes.and_then(|(a, b)| Some((a.trim().parse().ok()?, b.trim().parse().ok()?)));
    let fits = |(a, b): &(usize, usize)| (1..=LARGEST).contains(&a.saturating_mul(*b));
    sizes.filter(fits).ok_or_else(|| {
        usage(format!(
            "--matrix {given}: expected IN,OUT, such as 4096,4096, of at most {LARGEST} numbers"
        ))
    })
}

impl Layer {
    fn new(args: &BenchArgs, packing: Option<Packing>) -> Result<Self> {
        let (input, output) = matrix(args)?;
        let rows = args.tokens.unwrap_or(1024);
        within("--tokens", rows, LARGEST / input.max(output))?;
        let mut stream = Key::new(args.model.seed, Purpose::Weights).stream();
        let mut random = |shape: (usize, usize)| -> Result<Tensor> {
            let values: Vec<f32> = (0..shape.0 * shape.1)
                .map(|_| stream.uniform() - 0.5)
                .collect();
            Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
        };
        let weight = random((output, input))?;
        Ok(Self {
            input: random((rows, input))?,
            packed: match packing {
                Some(packing) => Some(PackedLinear::pack(packing, &[&weight])?),
                None => None,
            },
            weight,
        })
    }
}

impl Training {
    fn new(subject: &Subject, args: &BenchArgs) -> Result<Self> {
        let tokens = args.tokens.unwrap_or(8192);
        within("--tokens", tokens, LARGEST / subject.config.embedding_size)?;
        let mut rows = Rows::default();
        let (mut wanted, mut targets) = (Vec::new(), Vec::new());
        for sequence in 0..tokens.div_ceil(TRAIN_LENGTH) {
            let mut ids = ids(
                subject,
                TRAIN_LENGTH,
                args.model.seed.wrapping_add(sequence as u64),
            );
            let start = rows.len();
            for (position, id) in ids.iter_mut().enumerate().step_by(TRAIN_MASKED) {
                wanted.push(start + position);
                targets.push(std::mem::replace(id, subject.mask));
            }
            rows.push(&ids);
        }
        let backward = args.backward.way();
        // A model's own weights are constants; random ones are there to be trained.
        let params = match subject.params.mode() {
            Mode::Trainable => subject.params.clone(),
            Mode::Frozen => subject.params.copied(Mode::Trainable)?,
        };
        let config = OptimizerConfig {
            // Weights that move within the backward pass cannot wait for the norm of all gradients.
            clip: match backward {
                Backward::Fused => 0.0,
                Backward::Keep | Backward::Recompute => 1.0,
            },
            ..OptimizerConfig::default()
        };
        Ok(Self {
            transformer: Transformer::load(&subject.config, &params)?,
            optimizer: Optimizer::new(&params.vars(), &config, None, None)?,
            backward,
            params,
            rows,
            wanted,
            targets,
        })
    }

    /// Forward, backward and AdamW.
    fn step(&mut self) -> Result<Work> {
        const LR: f64 = 1e-5;
        let begun = self.optimizer.begin(self.backward, LR)?;
        let (rows, wanted) = (&self.rows, &self.wanted);
        let nll = || self.transformer.nll(rows, wanted, &self.targets);
        let grads = begun
            .activations
            .clone()
            .scope(nll)?
            .mean_all()?
            .backward()?;
        let mut gradients = Gradients::default();
        gradients.add(&self.params.vars(), &grads)?;
        self.optimizer.end(&begun, &gradients)?;
        let ids = 0..self.transformer.config().embedding_size;
        let mut work = Work::default();
        work.add(&rows.segments(), &Want::new(wanted.iter().copied(), ids));
        Ok(work)
    }
}
