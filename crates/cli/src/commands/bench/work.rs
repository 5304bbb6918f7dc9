//! What is measured: a forward, a text, a picture, a training step, all on random ids.

use anyhow::Result;
use mmada_diffusion::{
    Allowed, CacheRule, Canvas, Commit, Denoiser, ImagePlan, Rest, Sampler, SeededNoise, Stop,
    TextPlan, Unconditional,
};
use mmada_model::Mmada;
use mmada_model::denoiser::Network;
use mmada_nn::transformer::Config;
use mmada_nn::{Mode, Params, Transformer};
use mmada_tensor::random::{Key, Purpose};
use mmada_tensor::{Device, PackedLinear, Packing, Recall, Rows, Tensor, Want, ops};
use mmada_train::optimizer::{Gradients, Optimizer, OptimizerConfig};

use crate::args::{BenchArgs, BenchTask};
use crate::usage;

/// Tokens that stand before what is made.
const PROMPT: usize = 32;
/// Length of a sequence in training.
const TRAIN_LENGTH: usize = 128;
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
    pub(super) forwards: usize,
    /// Rows of all forwards.
    pub(super) rows: usize,
    /// Floating-point operations of matrix products and attention.
    pub(super) flops: f64,
}

/// A workload ready to run.
pub(super) struct Work<'s> {
    subject: &'s Subject,
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
    rows: Rows,
    wanted: Vec<usize>,
    targets: Vec<u32>,
}

impl<'s> Work<'s> {
    pub(super) fn new(task: BenchTask, subject: &'s Subject, args: &BenchArgs) -> Result<Self> {
        let seed = args.model.seed;
        let task = match task {
            BenchTask::Forward => {
                let ids = ids(subject, args.tokens.unwrap_or(640), seed);
                Task::Forward(Rows::pack([ids]))
            }
            BenchTask::Text => Task::Sample(Box::new(text(subject, args)?)),
            BenchTask::Image => Task::Sample(Box::new(image(subject, args)?)),
            BenchTask::Train => Task::Train(Box::new(Training::new(subject, args)?)),
            BenchTask::Linear => Task::Linear(Layer::new(args, subject.frozen.packing())?),
        };
        Ok(Self { subject, task })
    }

    /// Runs it once.
    pub(super) fn once(&mut self) -> Result<Amount> {
        let subject = self.subject;
        let mut counted = Counted::new(subject);
        match &mut self.task {
            Task::Forward(rows) => {
                let want = Want::new(0..rows.len(), 0..subject.config.embedding_size);
                counted.logits(rows, &want)?;
                counted.amount.tokens = rows.len();
            }
            Task::Sample(canvas) => {
                let noise = Box::new(SeededNoise(0));
                counted.amount.tokens = canvas.region().len();
                let sampler = Sampler::new(&mut counted, vec![(**canvas).clone()], noise);
                sampler.finish()?;
            }
            Task::Linear(layer) => {
                let (rows, width) = layer.input.dims2()?;
                match &layer.packed {
                    Some(packed) => drop(packed.part(&layer.input, 0..layer.weight.dim(0)?)?),
                    None => drop(ops::linear(&layer.input, &layer.weight)?),
                }
                counted.amount = Amount {
                    tokens: rows,
                    forwards: 1,
                    rows,
                    flops: (2 * rows * width * layer.weight.dim(0)?) as f64,
                };
            }
            Task::Train(training) => {
                counted.count(
                    &training.rows,
                    training.wanted.len(),
                    subject.config.embedding_size,
                );
                training.step()?;
                counted.amount.tokens = training.rows.len();
                // Backward is twice as much again.
                counted.amount.flops *= 3.0;
            }
        }
        Ok(counted.amount)
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

/// A prompt and masks behind it.
fn masked(subject: &Subject, masks: usize, seed: u64) -> Vec<u32> {
    let mut ids = ids(subject, PROMPT, seed);
    ids.resize(PROMPT + masks, subject.mask);
    ids
}

/// 256 tokens in blocks of 32, one per step: the original's careful setting.
fn text(subject: &Subject, args: &BenchArgs) -> Result<Canvas> {
    let tokens = args.tokens.unwrap_or(256);
    let plan = TextPlan {
        steps: args.steps.unwrap_or(tokens),
        block_length: 32.min(tokens.max(1)),
        ahead: None,
        temperature: 0.0,
        commit: Commit::LowConfidence,
        allowed: Allowed {
            range: subject.text.clone(),
            banned: Vec::new(),
            banned_at: Vec::new(),
        },
        stop: Stop::Never,
        rest: Rest::Masked,
        cache: CacheRule::Off,
    };
    let ids = masked(subject, tokens, args.model.seed);
    Ok(Canvas::text(ids, subject.mask, plan)?)
}

/// 256 codes in 15 guided steps: the original's demonstration.
fn image(subject: &Subject, args: &BenchArgs) -> Result<Canvas> {
    let tokens = args.tokens.unwrap_or(256);
    let ids = masked(subject, tokens, args.model.seed);
    let range = PROMPT..PROMPT + tokens;
    let plan = ImagePlan::new(range, subject.codes.clone(), args.steps.unwrap_or(15));
    let unconditional = Unconditional::Prefix {
        ids: ids[..2].to_vec(),
        shared_from: PROMPT,
    };
    let canvas = Canvas::image(ids, subject.mask, plan)?;
    Ok(canvas.guided(args.guidance.unwrap_or(3.5), unconditional)?)
}

impl Layer {
    fn new(args: &BenchArgs, packing: Option<Packing>) -> Result<Self> {
        let sizes = args.matrix.split_once(',');
        let sizes = sizes.and_then(|(a, b)| Some((a.trim().parse().ok()?, b.trim().parse().ok()?)));
        let Some((input, output)) = sizes.filter(|(a, b): &(usize, usize)| a * b > 0) else {
            let given = &args.matrix;
            return Err(usage(format!(
                "--matrix {given}: expected IN,OUT, such as 4096,4096"
            )));
        };
        let mut stream = Key::new(args.model.seed, Purpose::Weights).stream();
        let mut random = |shape: (usize, usize)| -> Result<Tensor> {
            let values: Vec<f32> = (0..shape.0 * shape.1)
                .map(|_| stream.uniform() - 0.5)
                .collect();
            Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
        };
        let weight = random((output, input))?;
        Ok(Self {
            input: random((args.tokens.unwrap_or(1024), input))?,
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
        let mut rows = Rows::default();
        let (mut wanted, mut targets) = (Vec::new(), Vec::new());
        for sequence in 0..tokens.div_ceil(TRAIN_LENGTH) {
            let mut ids = ids(subject, TRAIN_LENGTH, args.model.seed + sequence as u64);
            let start = rows.len();
            for (position, id) in ids.iter_mut().enumerate().step_by(TRAIN_MASKED) {
                wanted.push(start + position);
                targets.push(std::mem::replace(id, subject.mask));
            }
            rows.push(&ids);
        }
        let params = subject.params.copied(Mode::Trainable)?;
        Ok(Self {
            transformer: Transformer::load(&subject.config, &params)?,
            optimizer: Optimizer::new(&params.vars(), &OptimizerConfig::default(), None)?,
            params,
            rows,
            wanted,
            targets,
        })
    }

    /// Forward, backward and AdamW.
    fn step(&mut self) -> Result<()> {
        let nll = self
            .transformer
            .nll(&self.rows, &self.wanted, &self.targets)?;
        let grads = nll.mean_all()?.backward()?;
        let mut gradients = Gradients::default();
        gradients.add(&self.params.vars(), &grads)?;
        self.optimizer.step(&gradients, 1e-5)?;
        Ok(())
    }
}

/// A transformer that counts what it is asked.
struct Counted<'s> {
    network: Network<'s>,
    config: &'s Config,
    amount: Amount,
}

impl<'s> Counted<'s> {
    fn new(subject: &'s Subject) -> Self {
        Self {
            network: Network::new(&subject.frozen),
            config: &subject.config,
            amount: Amount::default(),
        }
    }

    fn count(&mut self, rows: &Rows, wanted: usize, ids: usize) {
        let cfg = self.config;
        let (d, r) = (cfg.d_model, rows.len());
        let (q, kv) = (cfg.query_width(), cfg.key_value_width());
        let weights = 2 * d * q + 2 * d * kv + 3 * d * cfg.mlp_hidden_size;
        let pairs: usize = rows
            .segments()
            .iter()
            .map(|segment| segment.queries.len() * segment.keys.len())
            .sum();
        let layer = 2 * r * weights + 4 * pairs * q;
        self.amount.flops += (cfg.n_layers * layer + 2 * wanted * d * ids) as f64;
        self.amount.rows += r;
        self.amount.forwards += 1;
    }
}

impl Denoiser for Counted<'_> {
    fn logits(&mut self, rows: &Rows, want: &Want) -> mmada_tensor::Result<Tensor> {
        self.count(rows, want.rows.len(), want.vocab.len());
        self.network.logits(rows, want)
    }

    fn logits_recalled(
        &mut self,
        rows: &Rows,
        recall: &Recall,
        want: &Want,
    ) -> mmada_tensor::Result<Tensor> {
        self.count(rows, want.rows.len(), want.vocab.len());
        self.network.logits_recalled(rows, recall, want)
    }
}
