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
mod loss;
pub mod noise;
pub mod policy;
mod prompts;
mod report;
pub mod reward;
pub mod rollout;
mod sheet;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use mmada_data::Skipped;
use mmada_model::{Mmada, Preset};
use mmada_nn::SaveOptions;
use mmada_tensor::{Device, Packing, Precision, Var};
use mmada_tokens::Task;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::{BatchSize, Precompute, RunConfig, SamplesConfig};
use crate::objective::{Metric, Moment, Objective, Sheet};
use crate::optimizer::CodeTables;
use crate::stock::Stock;
use crate::{Error, Reporter, Result, start, weights};
use judges::{Judges, JudgesConfig};
pub use loss::{EstimateBatch, Policy};
use noise::{Masks, Thoughts};
use policy::{Levels, Scale, Surrogate};
use reward::Rewards;
use rollout::{Estimate, Group, Sampling};

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
    /// How those of painted pictures are chosen, and of the thoughts before them; as `levels` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub picture_levels: Option<Levels>,
    /// Share of the prompt's tokens that is masked in estimates; diffu-GRPO has 0.15.
    pub prompt_rate: f32,
    /// Where completions are masked.
    pub masks: Masks,
    /// Whether thoughts before pictures are scored with them.
    pub thoughts: Thoughts,
    /// What the rewards of a group are divided by.
    pub scale: Scale,
    /// The clipped surrogate.
    pub surrogate: Surrogate,
    /// Noise on the tokens of sampled text; pictures are sampled as the model paints.
    pub temperature: f32,
    /// Whether likelihoods of text are those of what was sampled: at the temperature of sampling, where
    /// `false` takes the policy's own. A token that only the noise chose is then as likely as it was, and a
    /// step against it is not larger than it has to be.
    pub tempered: bool,
    /// Strength of the guidance of sampled pictures; the model's own when absent. At 0 the policy that
    /// paints is the one whose likelihood is measured, and a step costs half.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance: Option<f32>,
    /// How completions are sampled, by name; the model's own way when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampler: Option<Preset>,
    /// What becomes of groups of equal reward.
    pub dead_groups: DeadGroups,
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
            picture_levels: None,
            prompt_rate: 0.0,
            masks: Masks::default(),
            thoughts: Thoughts::default(),
            scale: Scale::default(),
            surrogate: Surrogate::default(),
            temperature: 1.0,
            tempered: false,
            guidance: None,
            sampler: None,
            dead_groups: DeadGroups::default(),
            rewards: Rewards::default(),
            judges: JudgesConfig::default(),
            codes: None,
        }
    }
}

/// What becomes of groups of equal reward, which have no advantages. Kept, they only hold the policy
/// near the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadGroups {
    /// They are masked and learnt from like the others.
    #[default]
    Keep,
    /// They are judged and counted, and no update is spent on them.
    LeaveOut,
    /// The same, and new prompts take their places, this many times at most: dynamic sampling (Yu et
    /// al. 2025, DAPO).
    Replace(usize),
}

/// A transformer as a policy to improve.
pub struct UniGrpo {
    config: UniGrpoConfig,
    /// Of rollouts, the same as of updates: the ratio compares what both compute.
    precision: Precision,
    network: Policy,
    /// The policy it must stay near; absent where that weighs nothing.
    reference: Option<Reference>,
    judges: Judges,
    stock: Stock,
    /// Some groups of the latest rollout, for the sheets.
    latest: sheet::Groups,
    /// Why completions had no verdict, and how many, since somebody was told.
    unjudged: BTreeMap<String, usize>,
    /// What is left of the present rollout, by micro-batch.
    rollouts: Vec<Rollout>,
}

/// The policy to stay near.
struct Reference {
    model: Mmada,
    /// Of its weights: a run must not go on beside another one.
    fingerprint: u64,
}

/// The estimates of a micro-batch, one set for each inner update.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Rollout {
    sets: Vec<Vec<Estimate>>,
    /// Completions that were asked for, those without a verdict and of left-out groups too; 0 in
    /// checkpoints of older versions: those that are there.
    #[serde(default)]
    asked: usize,
}

/// Where a run stands: the data, and the completions it is learning from.
#[derive(Serialize, Deserialize)]
struct Position {
    data: Value,
    rollouts: Vec<Rollout>,
    /// [`Reference::fingerprint`]; absent without a reference, and in checkpoints of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reference: Option<u64>,
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
        let codes = (config.codes.as_deref(), Precompute::All);
        let stock = Stock::open(run, &model, codes, reporter, stop)?;
        Ok(Self {
            config: config.clone(),
            precision: run.run.precision,
            network: Policy {
                model,
                surrogate: config.surrogate,
            },
            reference,
            judges,
            stock,
            latest: sheet::Groups::default(),
            unjudged: BTreeMap::new(),
            rollouts: Vec::new(),
        })
    }

    /// Samples, judges and noises: all the inner updates of a micro-batch.
    fn roll_out(&mut self, at: Moment) -> Result<(Rollout, Vec<Metric>)> {
        let policy = self.network.model.frozen().map_err(Error::model)?;
        let mut metrics = Vec::new();
        // Completions come of a policy that is packed for it; likelihoods of the one that is trained.
        let packing = match Precision::current() {
            Precision::F32 => Packing::F32,
            Precision::Bf16 => Packing::Bf16,
        };
        let author = match packing.is_native() && policy.transformer().device().is_cpu() {
            true => policy.clone().packed(packing).map_err(Error::model)?,
            false => policy.clone(),
        };
        let groups = self.groups(&author, at, &mut metrics)?;
        let mut sets = estimates::masked(&self.config, at, &policy, &groups);
        for set in &mut sets {
            estimates::fill(set, &policy, self.reference.as_ref().map(|it| &it.model))?;
        }
        metrics.extend(report::entropy_of(sets.iter().flatten()));
        if at.micro == 0 {
            self.latest = sheet::Groups::of(groups);
        }
        let asked = prompts_of(at)? * self.config.group;
        Ok((Rollout { sets, asked }, metrics))
    }

    /// Judged groups to learn from, one for each prompt of a micro-batch but for [`DeadGroups`]. All
    /// groups that were sampled are in the log, also those that are left out.
    fn groups(
        &mut self,
        policy: &Mmada,
        at: Moment,
        metrics: &mut Vec<Metric>,
    ) -> Result<Vec<Group>> {
        let count = prompts_of(at)?;
        let mut kept = Vec::with_capacity(count);
        let (keeps_dead, rounds) = match self.config.dead_groups {
            DeadGroups::Keep => (true, 0),
            DeadGroups::LeaveOut => (false, 0),
            DeadGroups::Replace(rounds) => (false, rounds),
        };
        for round in 0..=rounds {
            let wanted = count - kept.len();
            let rewards = &self.config.rewards;
            let prompts = prompts::draw(&mut self.stock, &self.network.model, rewards, wanted)?;
            let sampling = self.config.sampling(at, round);
            let groups = rollout::completions(policy, &prompts, &sampling, &self.judges)?;
            metrics.extend(report::metrics_of(&groups));
            let reasons = groups.iter().flatten();
            for reason in reasons.filter_map(|completion| completion.verdict.as_ref().err()) {
                *self.unjudged.entry(reason.clone()).or_default() += 1;
            }
            let numbered = (round * count..).zip(prompts.into_iter().zip(groups));
            let made = numbered.map(|(number, (prompt, completions))| Group {
                number,
                prompt,
                completions,
            });
            kept.extend(made.filter(|group| keeps_dead || !report::is_dead(&group.completions)));
            if kept.len() == count {
                break;
            }
        }
        Ok(kept)
    }
}

/// How many prompts a micro-batch has.
fn prompts_of(at: Moment) -> Result<usize> {
    match at.size {
        BatchSize::Sequences(prompts) => Ok(prompts),
        BatchSize::Tokens(_) => Err(Error::Config(SIZE_IN_PROMPTS.to_owned())),
    }
}

const SIZE_IN_PROMPTS: &str = "batch.size: expected { sequences = N }, the prompts of a micro-batch, 1 \
                               to 65536; each has objective.group completions";

/// Prompts, completions of each and updates on them: more than any machine has time for.
const MOST: usize = 1 << 16;

impl Objective for UniGrpo {
    type Batch = EstimateBatch;
    type Network = Policy;

    fn parameters(&self) -> Vec<(String, Var)> {
        self.network.model.trainable().vars()
    }

    fn code_tables(&self) -> Option<CodeTables> {
        start::code_tables(&self.network.model)
    }

    fn batch(&mut self, at: Moment) -> Result<EstimateBatch> {
        let update = (at.step % self.config.updates as u64) as usize;
        let mut metrics = Vec::new();
        if update == 0 {
            let (rollout, news) = self.precision.scope(|| self.roll_out(at))?;
            metrics = news;
            self.rollouts.truncate(at.micro);
            self.rollouts.push(rollout);
        }
        let rollout = self.rollouts.get(at.micro);
        let set = rollout.and_then(|rollout| Some((rollout.sets.get(update)?, rollout.asked)));
        let (estimates, asked) = set.ok_or_else(|| {
            let what = "the checkpoint holds no completions for this step; \
                        objective.updates or batch.accumulate was changed";
            Error::Config(what.to_owned())
        })?;
        Ok(EstimateBatch {
            estimates: estimates.clone(),
            asked,
            metrics,
        })
    }

    fn network(&self) -> &Policy {
        &self.network
    }

    fn position(&self) -> Result<Value> {
        let position = Position {
            data: self.stock.position()?,
            rollouts: self.rollouts.clone(),
            reference: self.reference.as_ref().map(|it| it.fingerprint),
        };
        serde_json::to_value(position).map_err(Error::data)
    }

    fn seek(&mut self, position: &Value) -> Result<()> {
        let position: Position = serde_json::from_value(position.clone()).map_err(Error::data)?;
        self.stock.seek(&position.data)?;
        let mut rollouts = position.rollouts.iter();
        if rollouts.any(|rollout| rollout.sets.len() != self.config.updates) {
            let what = "the checkpoint holds completions for another number of updates: set \
                        objective.updates as it was";
            return Err(Error::Config(what.to_owned()));
        }
        let mut estimates = position
            .rollouts
            .iter()
            .flat_map(|it| it.sets.iter().flatten());
        if self.reference.is_some() && estimates.any(|estimate| estimate.reference.is_empty()) {
            let what = "the checkpoint holds completions without likelihoods of a reference: set \
                        objective.surrogate.kl as it was";
            return Err(Error::Config(what.to_owned()));
        }
        if let (Some(began), Some(now)) = (position.reference, &self.reference)
            && began != now.fingerprint
        {
            let what = "the run began from other weights, which it must stay near: put back what \
                        model.init.from held then, or begin anew in another run.out";
            return Err(Error::Config(what.to_owned()));
        }
        self.rollouts = position.rollouts;
        Ok(())
    }

    fn skipped(&self) -> Skipped {
        self.stock.skipped()
    }

    fn warnings(&mut self) -> Vec<String> {
        let unjudged = std::mem::take(&mut self.unjudged).into_iter();
        let told = |(reason, count)| format!("{count} completions were dropped: {reason}");
        unjudged.map(told).collect()
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
        let mut sheet = self.stock.sheet(&model, config, seed)?;
        self.latest.show(&mut sheet)?;
        Ok(sheet)
    }
}

/// The policy that a run begins with, for as long as it lasts. A new adapter changes nothing yet, so
/// the model without it serves, and no weight is held twice; an older one is copied; a model that is
/// trained as a whole is opened again.
fn reference(run: &RunConfig, model: &Mmada, device: &Device) -> Result<Reference> {
    let reference = match (&run.model.lora, model.adapter()) {
        (Some(_), _) => model.without_adapter(),
        (None, Some(adapter)) => adapter
            .copied()
            .map_err(mmada_model::Error::from)
            .and_then(|adapter| model.with_adapter(adapter)),
        (None, None) => Ok(start::model(run, device)?),
    };
    let reference = reference.and_then(|reference| reference.frozen());
    let model = reference.map_err(Error::model)?;
    let adapter = match model.adapter() {
        Some(adapter) => weights::fingerprint(adapter.params(), |_| true, "")?,
        None => 0,
    };
    let fingerprint = weights::fingerprint(model.params(), |_| true, &adapter.to_string())?;
    Ok(Reference { model, fingerprint })
}

impl UniGrpoConfig {
    /// How the completions of a micro-batch are sampled, in a round of replacing dead groups.
    fn sampling(&self, at: Moment, round: usize) -> Sampling {
        Sampling {
            group: self.group,
            temperature: self.temperature,
            thoughts: self.thoughts,
            guidance: self.guidance,
            sampler: self.sampler,
            seed: rollout::rollout_seed(at, round),
        }
    }

    /// How the noise levels of a task's completions are chosen.
    fn levels_of(&self, task: Task) -> Levels {
        match (task, self.picture_levels) {
            (Task::Paint | Task::ThinkPaint, Some(levels)) => levels,
            _ => self.levels,
        }
    }

    /// Whether the settings make sense, alone and with the rest of a run file.
    ///
    /// # Errors
    /// For the first that does not.
    pub(crate) fn check(&self, run: &RunConfig) -> Result<()> {
        let fault = |key: &str, expected: &str| {
            Err(Error::Config(format!(
                "objective.{key}: expected {expected}"
            )))
        };
        if !matches!(run.batch.size, BatchSize::Sequences(1..=MOST)) {
            return Err(Error::Config(SIZE_IN_PROMPTS.to_owned()));
        }
        let is_sane = |value: f32, most: f32| value.is_finite() && value.abs() <= most;
        match self {
            _ if !(2..=MOST).contains(&self.group) => {
                fault("group", "2 or more completions to compare, at most 65536")
            }
            _ if !(1..=MOST).contains(&self.updates) => fault("updates", "1 to 65536"),
            _ if !is_sane(self.temperature, 1000.0) || self.temperature < 0.0 => {
                fault("temperature", "0 to 1000")
            }
            _ if !self
                .guidance
                .is_none_or(|guidance| is_sane(guidance, 1000.0)) =>
            {
                fault("guidance", "-1000 to 1000")
            }
            _ if self.levels_in_all == 0 => fault("levels_in_all", "1 or more"),
            _ if !(0.0..=1.0).contains(&self.prompt_rate) => fault("prompt_rate", "0 to 1"),
            _ if !self.surrogate.is_sound() => fault(
                "surrogate",
                "finite numbers from 0 for clip_low, clip_high and kl",
            ),
            _ => self.rewards.check(),
        }
    }
}
