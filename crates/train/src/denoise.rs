//! Masked diffusion over text and image tokens: pretraining, fine-tuning, all tasks at once.
//!
//! ```text
//!   Example ──codec, codes──▶ Sequence ──drop condition?──▶ noised at t ──▶ one packed batch
//!                                                                             │
//!            total = Σ task coefficient · Σ weight · nll / Σ share ◀──nll── transformer
//! ```
//!
//! The forward process and the loss are [`mmada_diffusion`]'s; here examples become sequences.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use mmada_data::{Example, Skipped};
use mmada_diffusion::corruption::{Corruption, drop_patches, without_condition};
use mmada_diffusion::loss::{Coefficients, Example as Noised, Part, weighted_cross_entropy};
use mmada_model::Mmada;
use mmada_nn::SaveOptions;
use mmada_tensor::random::Purpose;
use mmada_tensor::{Device, Rows, Tensor, Var};
use mmada_tokens::{Layout, Sequence, SpanKind, Tail, Task};
use serde_json::Value;

use crate::config::{DenoiseConfig, Levels, RunConfig, SamplesConfig};
use crate::objective::{BatchLoss, Metric, Moment, Network, Objective, Sheet};
use crate::optimizer::CodeTables;
use crate::stock::{MOST_LEFT_OUT, Stock};
use crate::{Error, Reporter, Result, start, weights};

/// A transformer as something to train.
pub struct Denoise {
    config: DenoiseConfig,
    network: Denoiser,
    layout: Layout,
    /// Left out of it are examples too long for the model or with an unreadable picture.
    stock: Stock,
}

/// The model with the weights of its losses.
#[derive(Debug)]
pub struct Denoiser {
    model: Mmada,
    coefficients: Coefficients,
}

/// Noised examples, ready for the network.
#[derive(Debug)]
pub struct NoisedBatch {
    /// The examples.
    pub examples: Vec<Noised>,
    /// Tokens of all examples together.
    pub tokens: usize,
    /// Mean share of learnable tokens that is masked.
    pub masking_rate: f64,
}

impl Denoise {
    /// Opens the data and the model, and turns the pictures into codes, until `stop` is set.
    ///
    /// # Errors
    /// When one of them cannot be read, or they do not fit together.
    pub fn open(
        run: &RunConfig,
        config: &DenoiseConfig,
        device: &Device,
        reporter: &dyn Reporter,
        stop: &AtomicBool,
    ) -> Result<Self> {
        let model = start::model(run, device)?;
        let codes = (config.codes.as_deref(), config.precompute);
        let stock = Stock::open(run, &model, codes, reporter, stop)?;
        let context = model.config().max_sequence_length;
        let limit = match config.max_tokens {
            0 => context,
            limit => limit.min(context),
        };
        Ok(Self {
            layout: model.codec().layout(limit),
            config: config.clone(),
            network: Denoiser {
                model,
                coefficients: config.coefficients,
            },
            stock,
        })
    }

    /// The sequence of an example; in words why there is none, when it is too long or its picture
    /// cannot be read.
    fn sequence(&mut self, example: &Example) -> Result<std::result::Result<Sequence, String>> {
        let image = match &example.image {
            None => Vec::new(),
            Some(image) => {
                let Some(codes) = self.stock.codes(image, &self.network.model)? else {
                    return Ok(Err("its picture cannot be read".to_owned()));
                };
                codes
                    .iter()
                    .map(|&code| self.network.model.vocab().image_id(code))
                    .collect()
            }
        };
        match self.lay_out(example, &image) {
            Ok(sequence) => Ok(Ok(sequence)),
            Err(error @ mmada_tokens::Error::TooLong { .. }) => Ok(Err(error.to_string())),
            Err(error) => Err(Error::data(format!("source '{}': {error}", example.source))),
        }
    }

    fn lay_out(&self, example: &Example, image: &[u32]) -> mmada_tokens::Result<Sequence> {
        let (codec, layout) = (self.network.model.codec(), &self.layout);
        let tail = &self.config.tail;
        let prompt = || codec.chat_ids(&example.messages);
        let answer = || codec.answer(&example.response());
        match example.task {
            Task::Text => layout.text(&codec.text(&example.answer)?, Tail::MultipleOf(tail.text)),
            Task::Chat => layout.chat(&prompt()?, &answer()?, Tail::MultipleOf(tail.chat)),
            Task::Describe => {
                let tail = Tail::MultipleOf(tail.describe);
                layout.describe(image, &prompt()?, &answer()?, tail)
            }
            Task::Paint => layout.paint(&codec.text(example.prompt.trim())?, image),
            Task::ThinkPaint => {
                let words = self
                    .network
                    .model
                    .defaults()
                    .to_think_about(&example.prompt);
                let tail = Tail::MultipleOf(tail.think_paint);
                layout.think_paint(&codec.prompt(&words)?, &answer()?, image, tail)
            }
        }
    }

    /// The forward process for the example number `index` of a batch, and the share of its learnable
    /// tokens that is masked.
    fn noise(
        &self,
        example: &Example,
        sequence: Sequence,
        at: Moment,
        index: usize,
    ) -> (Noised, f64) {
        let corruption = &self.config.corruption;
        let corruption = &Corruption {
            thought_share: example.thought_share.unwrap_or(corruption.thought_share),
            ..*corruption
        };
        let draw = |purpose| at.key(index, purpose).stream().uniform();
        let sequence = match corruption.drops_condition(sequence.task, draw(Purpose::Dropout)) {
            true => without_condition(&sequence),
            false => sequence,
        };
        let (sequence, origins) = match example.patch_dropout {
            0.0 => (sequence, Vec::new()),
            highest => {
                let mut stream = at.key(index, Purpose::PatchDropout).stream();
                drop_patches(&sequence, highest, &mut stream)
            }
        };
        let mut stream = at.key(index, Purpose::Corruption).stream();
        let mask = self.network.model.vocab().special.mask;
        let mut noised = match draw(Purpose::Blank) < example.blank {
            true => corruption.blank(&sequence, mask, &mut stream),
            false => {
                let time = self.time(at, index);
                corruption.corrupt(&sequence, mask, time, &mut stream)
            }
        };
        noised.origins = origins;
        for target in &mut noised.targets {
            target.weight *= example.weight;
        }
        // Masks ahead of a window have no place beyond the context.
        let longest = self.network.model.config().max_sequence_length;
        noised.truncate(longest - noised.left_out() as usize);
        let (masked, places) = match noised.pieces.is_empty() {
            true => {
                let places = learnable(&sequence).filter_map(|place| noised.ids.get(place));
                let is_masked: Vec<bool> = places.map(|id| *id == mask).collect();
                let masked = is_masked.iter().filter(|is_masked| **is_masked);
                (masked.count(), is_masked.len())
            }
            false => (noised.targets.len(), learnable(&sequence).count()),
        };
        let rate = masked as f64 / places.max(1) as f64;
        let task = sequence.task;
        (Noised { task, noised }, rate)
    }

    /// The time of the forward process for the example number `index` of a batch.
    fn time(&self, at: Moment, index: usize) -> f32 {
        let draw = |index| at.key(index, Purpose::NoiseLevel).stream().uniform();
        match self.config.levels {
            Levels::Independent => draw(index),
            Levels::Spread => (draw(0) + index as f32 * GOLDEN_RATIO).fract(),
        }
    }
}

/// Multiples of this, modulo 1, cover the unit interval more evenly than any random draw.
const GOLDEN_RATIO: f32 = 0.618_034;

impl Objective for Denoise {
    type Batch = NoisedBatch;
    type Network = Denoiser;

    fn parameters(&self) -> Vec<(String, Var)> {
        self.network.model.trainable().vars()
    }

    fn code_tables(&self) -> Option<CodeTables> {
        start::code_tables(&self.network.model)
    }

    fn batch(&mut self, at: Moment) -> Result<NoisedBatch> {
        let (mut examples, mut tokens, mut rates) = (Vec::new(), 0, 0.0);
        let before = self.stock.left_out();
        while !at.is_full(examples.len(), tokens) {
            if self.stock.left_out() - before > MOST_LEFT_OUT {
                let what = "nearly every example is too long or has a broken picture; \
                            raise objective.max_tokens or look at the data";
                return Err(Error::Data(what.to_owned()));
            }
            let example = self.stock.next()?;
            let sequence = match self.sequence(&example)? {
                Ok(sequence) => sequence,
                Err(reason) => {
                    self.stock.leave_out(&example, reason);
                    continue;
                }
            };
            let (noised, rate) = self.noise(&example, sequence, at, examples.len());
            rates += rate;
            tokens += noised.noised.ids.len();
            examples.push(noised);
        }
        Ok(NoisedBatch {
            masking_rate: rates / examples.len().max(1) as f64,
            examples,
            tokens,
        })
    }

    fn network(&self) -> &Denoiser {
        &self.network
    }

    fn position(&self) -> Result<Value> {
        self.stock.position()
    }

    fn seek(&mut self, position: &Value) -> Result<()> {
        self.stock.seek(position)
    }

    fn skipped(&self) -> Skipped {
        self.stock.skipped()
    }

    fn save(&self, folder: &Path) -> Result<()> {
        self.network
            .model
            .write(folder, &SaveOptions::default())
            .map_err(Error::model)
    }

    fn restore(&mut self, folder: &Path) -> Result<()> {
        weights::take_over(self.network.model.trainable(), folder)
    }

    fn samples(&self, config: &SamplesConfig, seed: u64) -> Result<Sheet> {
        let model = self.network.model.frozen().map_err(Error::model)?;
        self.stock.sheet(&model, config, seed)
    }
}

impl Network<NoisedBatch> for Denoiser {
    fn loss(&self, batch: &NoisedBatch) -> Result<BatchLoss> {
        let transformer = self.model.transformer();
        let nll =
            |rows: &Rows, wanted: &[usize], targets: &[u32]| -> mmada_tensor::Result<Tensor> {
                Ok(transformer.nll(rows, wanted, targets)?)
            };
        let loss = weighted_cross_entropy(&nll, &batch.examples, &self.coefficients)
            .map_err(Error::model)?;
        let mut metrics: Vec<Metric> = loss.parts.iter().flat_map(metrics_of).collect();
        metrics.push(Metric {
            name: "avg_masking_rate",
            value: batch.masking_rate,
            weight: batch.examples.len() as f64,
        });
        Ok(BatchLoss {
            total: loss.total,
            metrics,
            examples: batch.examples.len(),
            tokens: batch.tokens,
        })
    }
}

fn learnable(sequence: &Sequence) -> impl Iterator<Item = usize> {
    let kinds: &[SpanKind] = match sequence.task {
        Task::Text | Task::Chat | Task::Describe => &[SpanKind::Answer, SpanKind::Tail],
        Task::Paint => &[SpanKind::Image],
        Task::ThinkPaint => &[SpanKind::Answer, SpanKind::Tail, SpanKind::Image],
    };
    kinds.iter().flat_map(|kind| sequence.positions(*kind))
}

/// Loss and mean negative log-likelihood of a task, under upstream's names where it has one.
fn metrics_of(part: &Part) -> [Metric; 2] {
    let (loss, nll) = match part.task {
        Task::Text => ("step_loss_lm", "nll_lm"),
        Task::Chat => ("step_loss_chat", "nll_chat"),
        Task::Describe => ("step_loss_mmu", "nll_mmu"),
        Task::Paint => ("step_loss_t2i", "nll_t2i"),
        Task::ThinkPaint => ("step_loss_r2i", "nll_r2i"),
    };
    [
        Metric {
            name: loss,
            value: part.loss,
            weight: part.examples as f64,
        },
        Metric {
            name: nll,
            value: part.mean_nll,
            weight: part.targets as f64,
        },
    ]
}
