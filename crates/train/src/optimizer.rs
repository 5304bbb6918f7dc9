//! AdamW or Muon by parameter group, clipping by the global norm, and a moving average of the weights.
//!
//! ```text
//!   gradients of micro-batches ──sum──▶ global norm ──clip──▶ method per group ──▶ weights ──▶ EMA
//!   each gradient as it is complete ─────────────────────────▶ method per group ──▶ weights ──▶ EMA
//! ```
//!
//! AdamW has decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101), with the operations
//! in the order of PyTorch's `torch.optim.AdamW`, which trained the original. Muon (Jordan et al.
//! 2024) moves a matrix along its momentum with all singular values made equal, at the size of an
//! AdamW step (Liu et al. 2025, arXiv 2502.16982), so that both share one learning rate.

mod bits;
mod gradients;
mod moving;

use std::path::Path;
use std::sync::Arc;

use mmada_nn::atomic;
use mmada_tensor::ops::{self, AdamwStep};
use mmada_tensor::{Activations, Device, Precision, Tensor, Var};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use self::bits::SharedBits;
pub use self::bits::{CodeBits, CodeTables};
pub(crate) use self::bits::{bits_of, sign};
pub use self::gradients::{Gradients, Norms};
use self::moving::Moving;
use crate::config::Backward;
use crate::{Error, Result};

/// Settings of the optimiser. The defaults are the original's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerConfig {
    /// Decay rates of the first and second moment.
    pub betas: (f64, f64),
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay of parameters that no group claims.
    pub weight_decay: f64,
    /// Highest global gradient norm; larger gradients are scaled down. 0 leaves them alone.
    pub clip: f64,
    /// Decay of Muon's momentum.
    pub momentum: f64,
    /// Exceptions by name; the first group that matches a parameter claims it.
    pub groups: Vec<GroupConfig>,
    /// Rows of image codes also move together, by their bits. Absent: each for itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code_bits: Option<CodeBits>,
}

/// How a parameter moves along its gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Each element by its own moments.
    #[default]
    AdamW,
    /// The matrix as a whole; for hidden matrices. Vectors of the group move by AdamW.
    Muon,
}

/// Parameters that are treated differently.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupConfig {
    /// A parameter belongs here when its name contains one of these.
    pub names: Vec<String>,
    /// Weight decay of the group.
    pub weight_decay: f64,
    /// How the group's parameters move.
    #[serde(default)]
    pub method: Method,
    /// The group's learning rate as a multiple of the schedule's.
    #[serde(default = "one")]
    pub lr_scale: f64,
}

fn one() -> f64 {
    1.0
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            betas: (0.9, 0.999),
            eps: 1e-8,
            weight_decay: 0.01,
            clip: 1.0,
            momentum: 0.95,
            groups: Vec::new(),
            code_bits: None,
        }
    }
}

/// Settings of the moving average of the weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmaConfig {
    /// The share of the old average kept at each step. Early steps keep less,
    /// `(1 + step) / (10 + step)`, so that the random start is forgotten.
    pub decay: f64,
}

/// A parameter and what the optimiser remembers of it.
#[derive(Debug, Clone)]
struct Slot {
    name: String,
    var: Var,
    first: Tensor,
    /// Absent where nothing but a momentum is kept.
    second: Option<Tensor>,
    average: Option<Tensor>,
    /// What rows of image codes share, in a table that has them.
    shared: Option<SharedBits>,
    weight_decay: f64,
    lr_scale: f64,
}

/// How the parameters move in one step.
#[derive(Debug, Clone, Copy)]
struct Rule {
    betas: (f64, f64),
    eps: f64,
    momentum: f64,
    lr: f64,
    step: u64,
    /// Gradients are multiplied by this first.
    grad_scale: f64,
}

impl Rule {
    fn move_along(&self, slot: &Slot, grad: &Tensor) -> Result<()> {
        let (param, grad) = (slot.var.as_tensor(), &grad.contiguous()?);
        let (lr, grad_scale) = (self.lr * slot.lr_scale, self.grad_scale);
        let Some(second) = &slot.second else {
            let (momentum, rest) = (self.momentum, 1.0 - self.momentum);
            ops::blend(&slot.first, grad, momentum, rest * grad_scale)?;
            // Nesterov's look ahead: the momentum as the next equal gradient would make it.
            let ahead = slot.first.copy()?;
            ops::blend(&ahead, grad, momentum, rest * grad_scale)?;
            let direction = ops::orthogonalize(&ahead)?;
            // An update of this size has the usual root mean square of AdamW's, 0.2.
            let (rows, cols) = param.dims2()?;
            let size = 0.2 * (rows.max(cols) as f64).sqrt();
            let keep = 1.0 - lr * slot.weight_decay;
            return Ok(ops::blend(param, &direction, keep, -lr * size)?);
        };
        let step = AdamwStep {
            lr,
            beta1: self.betas.0,
            beta2: self.betas.1,
            eps: self.eps,
            weight_decay: slot.weight_decay,
            step: self.step,
            grad_scale,
        };
        ops::adamw_step(param, grad, &slot.first, second, &step)?;
        match &slot.shared {
            Some(shared) => shared.move_along(param, grad, &step),
            None => Ok(()),
        }
    }
}

/// Every group has a parameter of its own, the first that claims one having it, and a method for it.
fn check_groups(parameters: &[(String, Var)], groups: &[GroupConfig]) -> Result<()> {
    let owner = |name: &str| groups.iter().position(|group| group.claims(name));
    for (index, group) in groups.iter().enumerate() {
        let claimed = parameters.iter().filter(|(name, _)| group.claims(name));
        let own: Vec<usize> = claimed
            .clone()
            .filter(|(name, _)| owner(name) == Some(index))
            .map(|(_, var)| var.rank())
            .collect();
        let problem = match own.as_slice() {
            [] if claimed.count() > 0 => "match only parameters that belong to an earlier group",
            [] => "match no parameter; try part of a name as `mmada inspect` prints it",
            own if group.method == Method::Muon && !own.contains(&2) => {
                "match no matrix, and method = \"muon\" moves nothing else"
            }
            _ => continue,
        };
        let names = &group.names;
        return Err(Error::Config(format!(
            "optimizer.groups: names {names:?} {problem}"
        )));
    }
    Ok(())
}

/// A step that has begun.
pub struct Begun {
    /// What its forward passes keep.
    pub activations: Activations,
    /// The moves made already, where they are made within the backward pass.
    moving: Option<Arc<Moving>>,
    lr: f64,
}

/// Moves named parameters.
#[derive(Debug)]
pub struct Optimizer {
    config: OptimizerConfig,
    ema: Option<EmaConfig>,
    slots: Arc<Vec<Slot>>,
    /// Steps taken.
    step: u64,
}

impl Optimizer {
    /// Starts with zero moments. Parameters keep the order in which they are given; `tables` says
    /// which of them hold rows of image codes.
    ///
    /// # Errors
    /// When memory for the moments cannot be had, a group matches no parameter, or rows of image
    /// codes are to move by their bits and none of the parameters has any that AdamW moves.
    pub fn new(
        parameters: &[(String, Var)],
        config: &OptimizerConfig,
        ema: Option<&EmaConfig>,
        tables: Option<&CodeTables>,
    ) -> Result<Self> {
        check_groups(parameters, &config.groups)?;
        let slots = parameters.iter().map(|(name, var)| {
            let group = config.groups.iter().find(|group| group.claims(name));
            let method = match var.rank() {
                2 => group.map_or(Method::AdamW, |group| group.method),
                _ => Method::AdamW,
            };
            Ok(Slot {
                name: name.clone(),
                var: var.clone(),
                first: var.zeros_like()?.detach(),
                second: match method {
                    Method::AdamW => Some(var.zeros_like()?.detach()),
                    Method::Muon => None,
                },
                average: match ema {
                    Some(_) => Some(var.as_tensor().copy()?.detach()),
                    None => None,
                },
                shared: None,
                weight_decay: group.map_or(config.weight_decay, |group| group.weight_decay),
                lr_scale: group.map_or(1.0, |group| group.lr_scale),
            })
        });
        let mut slots = slots.collect::<Result<Vec<_>>>()?;
        if let Some(bits) = config.code_bits {
            share_bits(&mut slots, bits, tables)?;
        }
        Ok(Self {
            config: config.clone(),
            ema: ema.cloned(),
            slots: Arc::new(slots),
            step: 0,
        })
    }

    /// Steps taken so far.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Moves the weights along the gradients, clipped to the configured norm; returns the norms.
    ///
    /// # Errors
    /// When a gradient is not finite, in which case nothing has moved, or a tensor operation fails.
    pub fn step(&mut self, gradients: &Gradients, lr: f64) -> Result<Norms> {
        let mut norms = gradients.norms()?.finite(self.step)?;
        let clip = self.config.clip;
        if clip > 0.0 {
            // PyTorch's clip_grad_norm_ divides by norm + 1e-6.
            norms.scale = (clip / (norms.all + 1e-6)).min(1.0);
        }
        self.step += 1;
        let (rule, precision) = (self.rule(lr, norms.scale), Precision::current());
        let moves = self.slots.par_iter().zip(&gradients.sums);
        moves.try_for_each(|(slot, grad)| match grad {
            Some(grad) => precision.scope(|| rule.move_along(slot, grad)),
            None => Ok(()),
        })?;
        self.update_averages()?;
        Ok(norms)
    }

    /// Begins a step, whose passes then keep what it says; [`Optimizer::end`] ends it.
    ///
    /// # Errors
    /// When weights are to move within the backward pass and gradients to be clipped: their norm is
    /// not known before all of them are there.
    pub fn begin(&mut self, backward: Backward, lr: f64) -> Result<Begun> {
        let (activations, moving) = match backward {
            Backward::Keep => (Activations::Kept, None),
            Backward::Recompute => (Activations::Recomputed, None),
            Backward::Fused if self.config.clip > 0.0 => {
                let what = format!(
                    "optimizer.clip = {}: expected 0 where parameters move before all gradients \
                     are known; set it to 0, or run.backward to \"recompute\"",
                    self.config.clip
                );
                return Err(Error::Config(what));
            }
            Backward::Fused => {
                self.step += 1;
                let moving = Arc::new(Moving::new(&self.slots, self.rule(lr, 1.0)));
                (Activations::Passed(moving.receiver()), Some(moving))
            }
        };
        Ok(Begun {
            activations,
            moving,
            lr,
        })
    }

    /// Moves what has not moved yet along the gradients that are left; returns the norms of all.
    ///
    /// # Errors
    /// As [`Optimizer::step`]; with weights that move within the backward pass, those of the blocks
    /// behind a gradient that is not finite have moved.
    pub fn end(&mut self, begun: &Begun, gradients: &Gradients) -> Result<Norms> {
        let Some(moving) = &begun.moving else {
            return self.step(gradients, begun.lr);
        };
        for (slot, grad) in self.slots.iter().zip(&gradients.sums) {
            if let Some(grad) = grad {
                moving.take(slot.var.as_tensor(), grad)?;
            }
        }
        let norms = moving.norms().finite(self.step - 1)?;
        self.update_averages()?;
        Ok(norms)
    }

    /// How every parameter moves in the step that has begun.
    fn rule(&self, lr: f64, grad_scale: f64) -> Rule {
        let OptimizerConfig {
            betas,
            eps,
            momentum,
            ..
        } = self.config;
        Rule {
            betas,
            eps,
            momentum,
            lr,
            step: self.step,
            grad_scale,
        }
    }

    fn update_averages(&self) -> Result<()> {
        let Some(ema) = &self.ema else {
            return Ok(());
        };
        let step = self.step as f64;
        let keep = ema.decay.min((1.0 + step) / (10.0 + step));
        for slot in self.slots.iter() {
            if let Some(average) = &slot.average {
                ops::blend(average, slot.var.as_tensor(), keep, 1.0 - keep)?;
            }
        }
        Ok(())
    }

    /// Puts the averaged weights in place of the trained ones while `work` runs. Without a moving
    /// average the trained weights stay.
    ///
    /// # Errors
    /// Those of `work`; the trained weights are back in any case.
    pub fn with_average<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let averaged = self.slots.iter();
        let averaged = averaged.filter_map(|slot| Some((&slot.var, slot.average.as_ref()?)));
        let averaged: Vec<_> = averaged.collect();
        // All copies first: where memory ends, no weight has moved yet.
        let copies = averaged.iter().map(|(var, _)| Ok(var.as_tensor().copy()?));
        let trained: Vec<Tensor> = copies.collect::<Result<_>>()?;
        let swapped = averaged
            .iter()
            .try_for_each(|(var, average)| var.set(average));
        let result = swapped.map_err(Error::from).and_then(|()| work());
        let back = averaged.iter().zip(&trained);
        let back: Vec<_> = back.map(|((var, _), weight)| var.set(weight)).collect();
        back.into_iter().collect::<std::result::Result<(), _>>()?;
        result
    }

    /// Writes the moments and averages as `optimizer.safetensors`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut tensors = Vec::new();
        for slot in self.slots.iter() {
            let name = &slot.name;
            tensors.push((format!("first.{name}"), &slot.first));
            if let Some(second) = &slot.second {
                tensors.push((format!("second.{name}"), second));
            }
            if let Some(average) = &slot.average {
                tensors.push((format!("average.{name}"), average));
            }
            if let Some(shared) = &slot.shared {
                tensors.push((format!("first.bits.{name}"), &shared.first));
                tensors.push((format!("second.bits.{name}"), &shared.second));
            }
        }
        let bytes = safetensors::serialize(tensors, None)
            .map_err(|error| Error::checkpoint(path, error))?;
        Ok(atomic::write_atomic(path, |file| file.write_all(&bytes))?)
    }

    /// Continues from saved moments, as after `step` steps.
    ///
    /// # Errors
    /// When the file cannot be read or does not fit the parameters.
    pub fn load(&mut self, path: &Path, step: u64) -> Result<()> {
        let mut tensors = mmada_tensor::candle::safetensors::load(path, &Device::Cpu)
            .map_err(|error| Error::checkpoint(path, error))?;
        for slot in Arc::make_mut(&mut self.slots) {
            let mut take = |kind: &str, like: &Tensor| -> Result<Tensor> {
                let name = format!("{kind}.{}", slot.name);
                let found = tensors.remove(&name);
                let tensor = found.ok_or_else(|| missing(path, &name))?;
                if tensor.shape() != like.shape() {
                    let (got, expected) = (tensor.shape(), like.shape());
                    let what = format!("{name}: expected shape {expected:?}, got {got:?}");
                    return Err(Error::checkpoint(path, what));
                }
                Ok(tensor.to_device(like.device())?)
            };
            let own = slot.var.as_tensor();
            slot.first = take("first", own)?;
            if slot.second.is_some() {
                slot.second = Some(take("second", own)?);
            }
            if slot.average.is_some() {
                slot.average = Some(take("average", own)?);
            }
            if let Some(shared) = &mut slot.shared {
                shared.first = take("first.bits", &shared.first)?;
                shared.second = take("second.bits", &shared.second)?;
            }
        }
        if let Some(name) = tensors.keys().min() {
            let what = format!(
                "{name} is not what this run keeps; continue with the run file that wrote the checkpoint"
            );
            return Err(Error::checkpoint(path, what));
        }
        self.step = step;
        Ok(())
    }
}

/// Gives the tables among the slots vectors for the bits of their image codes.
fn share_bits(slots: &mut [Slot], bits: CodeBits, tables: Option<&CodeTables>) -> Result<()> {
    let refused = |what: &str| Err(Error::Config(format!("optimizer.code_bits: {what}")));
    let mut found = false;
    for slot in slots {
        let Some(tables) = tables.filter(|tables| tables.names.contains(&slot.name)) else {
            continue;
        };
        if slot.second.is_none() {
            return refused(&format!(
                "expected {} to move by AdamW, got Muon; leave it out of that group",
                slot.name
            ));
        }
        let (width, device) = (slot.var.dim(1)?, slot.var.device());
        slot.shared = Some(SharedBits::new(&tables.rows, width, bits, device)?);
        found = true;
    }
    match found {
        true => Ok(()),
        false => refused("expected rows of image codes among what is trained, got none; remove it"),
    }
}

fn missing(path: &Path, name: &str) -> Error {
    Error::checkpoint(
        path,
        format!("{name} is missing; continue with the run file that wrote the checkpoint"),
    )
}

impl GroupConfig {
    fn claims(&self, name: &str) -> bool {
        self.names.iter().any(|part| name.contains(part.as_str()))
    }
}
