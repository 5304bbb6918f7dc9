//! UniGRPO: reinforcement learning for a diffusion model, the same for words and pictures.
//!
//! ```text
//!   every μ steps     prompts ──sample──▶ groups of G ──grade──▶ advantages
//!                        completions ──mask at t₁ … t_μ──▶ μ sets of estimates, old and reference log p
//!   every step        the next set ──forward──▶ log p new ──▶ clipped surrogate + divergence
//! ```
//!
//! [`policy`] holds the formulas, [`rollout`] the sampling, [`judges`] the rewards; here they become an
//! objective of the one trainer. A prompt is any example whose task has rewards: a conversation, a
//! question about a picture, a picture to paint, a picture to think about first. Source: the paper
//! (arXiv 2505.15809), §3.3 and Algorithm 1.

mod estimates;
pub mod judges;
pub mod policy;
mod report;
pub mod reward;
pub mod rollout;
mod sheet;

use std::path::Path;
use std::sync::atomic::AtomicBool;

use mmada_data::{Mixture, Skipped};
use mmada_model::{Mmada, Seen};
use mmada_nn::SaveOptions;
use mmada_tensor::{Device, Tensor, Var};
use mmada_tokens::Task;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::codes::CodeCache;
use crate::config::{BatchSize, RunConfig, SamplesConfig};
use crate::objective::{BatchLoss, Metric, Moment, Network, Objective, Sheet};
use crate::samples::Probes;
use crate::{Error, Reporter, Result, start, weights};
use judges::{Judges, JudgesConfig};
use policy::{Levels, Scale, Surrogate};
use reward::Rewards;
use rollout::{Estimate, Prompt, Sampling};

/// Reinforcement learning with grouped completions. The defaults are the paper's where it states
/// them, else those of its public neighbours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UniGrpoConfig {
    /// G, completions of each prompt.
    pub group: usize,
    /// μ, optimiser steps on each group of completions.
    pub updates: usize,
    /// T, the number of noise levels.
    pub levels_in_all: u32,
    /// How the noise levels of the μ steps are chosen.
    pub levels: Levels,
    /// Share of the prompt's tokens that is masked in estimates; diffu-GRPO has 0.15.
    pub prompt_rate: f32,
    /// What the rewards of a group are divided by.
    pub scale: Scale,
    /// The clipped surrogate.
    pub surrogate: Surrogate,
    /// Noise on the tokens of sampled text; pictures are sampled as the model paints.
    pub temperature: f32,
    /// The graders of each task.
    pub rewards: Rewards,
    /// Where those of them are that are models or services.
    pub judges: JudgesConfig,
    /// File of the pictures' codes, as for pretraining.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub codes: Option<std::path::PathBuf>,
}

impl Default for UniGrpoConfig {
    fn default() -> Self {
        Self {
            group: 8,
            updates: 4,
            levels_in_all: 1000,
            levels: Levels::default(),
            prompt_rate: 0.0,
            scale: Scale::default(),
            surrogate: Surrogate::default(),
            temperature: 1.0,
            rewards: Rewards::default(),
            judges: JudgesConfig::default(),
            codes: None,
        }
    }
}

/// A transformer as a policy to improve.
pub struct UniGrpo {
    config: UniGrpoConfig,
    network: Policy,
    /// The policy it must stay near; absent where that weighs nothing.
    reference: Option<Mmada>,
    judges: Judges,
    mixture: Mixture,
    codes: CodeCache,
    probes: Probes,
    left_out: Skipped,
    /// Some groups of the latest rollout, for the sheets.
    latest: sheet::Groups,
    /// What is left of the present rollout, by micro-batch.
    rollouts: Vec<Rollout>,
}

/// The model with the constants of its loss.
#[derive(Debug)]
pub struct Policy {
    model: Mmada,
    surrogate: Surrogate,
}

/// The estimates of a micro-batch, one set for each inner update.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Rollout {
    sets: Vec<Vec<Estimate>>,
}

/// The estimates of one inner update.
#[derive(Debug)]
pub struct EstimateBatch {
    estimates: Vec<Estimate>,
    /// Of the rollout, once.
    metrics: Vec<Metric>,
}

/// Where a run stands: the data, and the completions it is learning from.
#[derive(Serialize, Deserialize)]
struct Position {
    data: Value,
    rollouts: Vec<Rollout>,
}

impl UniGrpo {
    /// Opens the data and the model, and turns the pictures into codes, until `stop` is set.
    ///
    /// # Errors
    /// When one of them cannot be read, they do not fit together, or the settings make no sense.
    pub fn open(
        run: &RunConfig,
        config: &UniGrpoConfig,
        device: &Device,
        reporter: &dyn Reporter,
        stop: &AtomicBool,
    ) -> Result<Self> {
        config.check(run)?;
        let judges = Judges::open(&config.rewards, &config.judges, device)?;
        let model = start::model(run, device)?;
        let reference = match config.surrogate.kl > 0.0 {
            true => Some(reference(run, &model, device)?),
            false => None,
        };
        let mixture =
            Mixture::open(&run.data, Path::new("."), run.run.seed).map_err(Error::data)?;
        std::fs::create_dir_all(&run.run.out)
            .map_err(Error::file(&run.run.out, "create the run's folder"))?;
        let path = config.codes.clone();
        let path = path.unwrap_or_else(|| run.run.out.join("codes.bin"));
        let mut codes = CodeCache::open(&path, &model)?;
        if model.image_parts().is_some() {
            codes.encode_all(&mixture, &model, reporter, stop)?;
        }
        Ok(Self {
            probes: Probes::collect(&mixture, run.samples.pictures, &model)?,
            config: config.clone(),
            network: Policy {
                model,
                surrogate: config.surrogate,
            },
            reference,
            judges,
            mixture,
            codes,
            left_out: Skipped::default(),
            latest: sheet::Groups::default(),
            rollouts: Vec::new(),
        })
    }

    /// Prompts for a micro-batch: examples whose task has rewards.
    fn prompts(&mut self, count: usize) -> Result<Vec<Prompt>> {
        let mut prompts = Vec::with_capacity(count);
        let mut left_out = 0;
        while prompts.len() < count {
            if left_out > MOST_LEFT_OUT {
                let what = "no example makes a prompt; check objective.rewards, \
                            the tasks of the views and the pictures";
                return Err(Error::Data(what.to_owned()));
            }
            let example = self.mixture.next_example().map_err(Error::data)?;
            let seen = match (&example.image, example.task) {
                (Some(image), Task::Describe) => {
                    let model = &self.network.model;
                    let codes = self.codes.codes(image, model)?.map(<[u32]>::to_vec);
                    let shown = &model.defaults().image;
                    let grid = model
                        .grid(shown.width, shown.height)
                        .map_err(Error::model)?;
                    codes.map(|codes| Seen { codes, grid })
                }
                _ => None,
            };
            let lacks_picture = example.task == Task::Describe && seen.is_none();
            if lacks_picture || self.config.rewards.of(example.task).is_empty() {
                left_out += 1;
                let reason = "no reward, or no readable picture".to_owned();
                self.left_out.add(example.name.clone(), reason);
                continue;
            }
            prompts.push(Prompt { example, seen });
        }
        Ok(prompts)
    }

    /// Samples, judges and noises: all the inner updates of a micro-batch.
    fn roll_out(&mut self, at: Moment) -> Result<(Rollout, Vec<Metric>)> {
        let BatchSize::Sequences(count) = at.size else {
            return Err(Error::Config(SIZE_IN_PROMPTS.to_owned()));
        };
        let prompts = self.prompts(count)?;
        let policy = self.network.model.frozen().map_err(Error::model)?;
        let config = &self.config;
        let sampling = Sampling {
            group: config.group,
            temperature: config.temperature,
            seed: rollout::rollout_seed(at.seed, at.step, at.micro),
        };
        let groups = rollout::completions(&policy, &prompts, &sampling, &self.judges)?;
        let mut metrics = report::metrics_of(&groups);
        let mut sets = estimates::masked(config, at, &policy, &groups);
        for set in &mut sets {
            estimates::fill(set, &policy, self.reference.as_ref())?;
        }
        metrics.extend(report::entropy_of(sets.iter().flatten()));
        if at.micro == 0 {
            self.latest = sheet::Groups::of(&prompts, groups);
        }
        Ok((Rollout { sets }, metrics))
    }
}

/// Examples left out in a row before the data is taken to hold no prompt.
const MOST_LEFT_OUT: usize = 100_000;

const SIZE_IN_PROMPTS: &str = "batch.size: expected { sequences = N }, the prompts of a micro-batch; \
                               each has objective.group completions";

impl Objective for UniGrpo {
    type Batch = EstimateBatch;
    type Network = Policy;

    fn parameters(&self) -> Vec<(String, Var)> {
        self.network.model.trainable().vars()
    }

    fn batch(&mut self, at: Moment) -> Result<EstimateBatch> {
        let update = (at.step % self.config.updates as u64) as usize;
        let mut metrics = Vec::new();
        if update == 0 {
            let (rollout, news) = self.roll_out(at)?;
            metrics = news;
            self.rollouts.truncate(at.micro);
            self.rollouts.push(rollout);
        }
        let set = self.rollouts.get(at.micro);
        let set = set.and_then(|rollout| rollout.sets.get(update));
        let estimates = set.ok_or_else(|| {
            let what = "the checkpoint holds no completions for this step; \
                        objective.updates or batch.accumulate was changed";
            Error::Config(what.to_owned())
        })?;
        Ok(EstimateBatch {
            estimates: estimates.clone(),
            metrics,
        })
    }

    fn network(&self) -> &Policy {
        &self.network
    }

    fn position(&self) -> Result<Value> {
        let data = serde_json::to_value(self.mixture.state()).map_err(Error::data)?;
        let rollouts = self.rollouts.clone();
        serde_json::to_value(Position { data, rollouts }).map_err(Error::data)
    }

    fn seek(&mut self, position: &Value) -> Result<()> {
        let position: Position = serde_json::from_value(position.clone()).map_err(Error::data)?;
        let state = serde_json::from_value(position.data).map_err(Error::data)?;
        self.mixture.restore(&state).map_err(Error::data)?;
        self.rollouts = position.rollouts;
        Ok(())
    }

    fn skipped(&self) -> Skipped {
        let mut skipped = self.mixture.skipped();
        skipped.merge(&self.left_out);
        skipped
    }

    fn save(&self, folder: &Path) -> Result<()> {
        let model = &self.network.model;
        model
            .write(folder, &SaveOptions::default())
            .map_err(Error::model)
    }

    fn restore(&mut self, folder: &Path) -> Result<()> {
        weights::take_over(self.network.model.trainable(), folder)
    }

    fn samples(&self, config: &SamplesConfig, seed: u64) -> Result<Sheet> {
        let model = self.network.model.frozen().map_err(Error::model)?;
        let mut sheet = self.probes.sheet(&model, config, seed)?;
        self.latest.show(&mut sheet)?;
        Ok(sheet)
    }
}

impl Network<EstimateBatch> for Policy {
    fn loss(&self, batch: &EstimateBatch) -> Result<BatchLoss> {
        let mut metrics = batch.metrics.clone();
        let estimates = &batch.estimates;
        let examples = estimates.len();
        if estimates.is_empty() {
            let total = self
                .model
                .trainable()
                .vars()
                .first()
                .map(|(_, var)| var.sum_all());
            let total = (total
                .transpose()?
                .ok_or_else(|| Error::Config("no weights".to_owned()))?
                * 0.0)?;
            return Ok(BatchLoss {
                total,
                metrics,
                examples,
                tokens: 0,
            });
        }
        let nll = rollout::nll(&self.model, estimates)?;
        let new: Vec<f32> = nll
            .detach()
            .to_vec1::<f32>()?
            .iter()
            .map(|nll| -nll)
            .collect();
        let mut start = 0;
        let mut completions = Vec::with_capacity(examples);
        for estimate in estimates {
            let end = start + estimate.positions.len();
            completions.push(policy::Completion {
                new: &new[start..end],
                old: &estimate.old,
                reference: &estimate.reference,
                advantage: estimate.advantage,
            });
            start = end;
        }
        let value = self.surrogate.value(&completions);
        // The one weighted cross-entropy: ∂loss/∂nll = −∂loss/∂(log p). Only its gradient is the
        // loss's; the constant makes the number the loss's too.
        let factors: Vec<f32> = value.gradient.iter().map(|slope| -*slope as f32).collect();
        let weighted = (&nll * Tensor::from_vec(factors, new.len(), nll.device())?)?.sum_all()?;
        let shown = f64::from(weighted.detach().to_scalar::<f32>()?);
        let total = (weighted + (value.loss - shown))?;
        let weight = examples as f64;
        let mut tell = |name, value| {
            metrics.push(Metric {
                name,
                value,
                weight,
            });
        };
        tell("kl", value.kl);
        tell("clip_fraction", value.clipped);
        tell("ratio", value.ratio);
        tell("masked_tokens", new.len() as f64 / weight);
        tell(
            "nll",
            -new.iter().map(|p| f64::from(*p)).sum::<f64>() / new.len() as f64,
        );
        Ok(BatchLoss {
            total,
            metrics,
            examples,
            tokens: estimates.iter().map(|estimate| estimate.ids.len()).sum(),
        })
    }
}

/// The policy that a run begins with, for as long as it lasts. A new adapter changes nothing yet, so
/// the model without it serves, and no weight is held twice; an older one is copied; a model that is
/// trained as a whole is opened again.
fn reference(run: &RunConfig, model: &Mmada, device: &Device) -> Result<Mmada> {
    let reference = match (&run.model.lora, model.adapter()) {
        (Some(_), _) => model.without_adapter(),
        (None, Some(adapter)) => adapter
            .copied()
            .map_err(mmada_model::Error::from)
            .and_then(|adapter| model.with_adapter(adapter)),
        (None, None) => return start::model(run, device)?.frozen().map_err(Error::model),
    };
    let reference = reference.and_then(|reference| reference.frozen());
    reference.map_err(Error::model)
}

impl UniGrpoConfig {
    fn check(&self, run: &RunConfig) -> Result<()> {
        let fault = |key: &str, expected: &str| {
            Err(Error::Config(format!(
                "objective.{key}: expected {expected}"
            )))
        };
        if !matches!(run.batch.size, BatchSize::Sequences(1..)) {
            return Err(Error::Config(SIZE_IN_PROMPTS.to_owned()));
        }
        match self {
            _ if self.group < 2 => fault("group", "2 or more completions to compare"),
            _ if self.updates == 0 => fault("updates", "1 or more"),
            _ if self.levels_in_all == 0 => fault("levels_in_all", "1 or more"),
            _ if !(0.0..=1.0).contains(&self.prompt_rate) => fault("prompt_rate", "0 to 1"),
            _ => Ok(()),
        }
    }
}
