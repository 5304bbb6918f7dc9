//! The one weighted cross-entropy: every objective is a weight per target.
//!
//! ```text
//!   examples ─pack─► rows ─model─► nll [n] ──Σ coefficient · weight / Σ share · nll──► total
//!                     only target rows        └ per task, detached, for the log
//! ```

use mmada_tensor::{DType, Device, Rows, Tensor};
use mmada_tokens::Task;
use serde::{Deserialize, Serialize};

use crate::corruption::Noised;
use crate::error::Result;

/// A model that says how unlikely ids are. Closures of this shape are one.
pub trait Likelihood {
    /// Negative log-likelihood, f32, with gradient, of `targets[i]` at packed row `wanted[i]`.
    ///
    /// # Shapes
    /// `[wanted.len()]`
    fn nll(&self, rows: &Rows, wanted: &[usize], targets: &[u32]) -> mmada_tensor::Result<Tensor>;
}

impl<F> Likelihood for F
where
    F: Fn(&Rows, &[usize], &[u32]) -> mmada_tensor::Result<Tensor>,
{
    fn nll(&self, rows: &Rows, wanted: &[usize], targets: &[u32]) -> mmada_tensor::Result<Tensor> {
        self(rows, wanted, targets)
    }
}

/// A noised example of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// The group it is averaged in.
    pub task: Task,
    /// The example.
    pub noised: Noised,
}

/// What each task's loss counts in the total.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Coefficients {
    pub text: f32,
    pub chat: f32,
    pub describe: f32,
    pub paint: f32,
    pub think_paint: f32,
}

impl Default for Coefficients {
    fn default() -> Self {
        Self {
            text: 1.0,
            chat: 1.0,
            describe: 1.0,
            paint: 1.0,
            think_paint: 1.0,
        }
    }
}

impl Coefficients {
    /// The coefficient of a task.
    pub fn of(&self, task: Task) -> f32 {
        match task {
            Task::Text => self.text,
            Task::Chat => self.chat,
            Task::Describe => self.describe,
            Task::Paint => self.paint,
            Task::ThinkPaint => self.think_paint,
        }
    }
}

/// A loss and what it is made of.
#[derive(Debug)]
pub struct Loss {
    /// Scalar, f32, with gradient. A constant 0 where the batch has no target at all.
    pub total: Tensor,
    /// The tasks of the batch, in the order of [`Task`].
    pub parts: Vec<Part>,
}

/// The loss of one task, for the log.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part {
    /// The task.
    pub task: Task,
    /// `Σ weight·nll / Σ share`, without the coefficient; 0 without targets.
    pub loss: f64,
    /// Plain mean of the negative log-likelihood over the targets, in nats; 0 without targets.
    pub mean_nll: f64,
    /// Targets of the task.
    pub targets: usize,
    /// Examples of the task.
    pub examples: usize,
}

/// In the order of the enum, so that a task is an index.
const TASKS: [Task; 5] = [
    Task::Text,
    Task::Chat,
    Task::Describe,
    Task::Paint,
    Task::ThinkPaint,
];

/// The loss of a batch: one packed forward, cross-entropy at target rows only.
pub fn weighted_cross_entropy(
    model: &(impl Likelihood + ?Sized),
    examples: &[Example],
    coefficients: &Coefficients,
) -> Result<Loss> {
    let mut rows = Rows::default();
    let (mut wanted, mut targets, mut weights, mut owners) = (vec![], vec![], vec![], vec![]);
    for (index, example) in examples.iter().enumerate() {
        let start = example.noised.push_onto(&mut rows);
        for target in &example.noised.targets {
            wanted.push(start + target.position);
            targets.push(target.id);
            weights.push(f64::from(target.weight));
            owners.push(index);
        }
    }
    let shares = TASKS.map(|task| {
        let group = examples.iter().filter(|example| example.task == task);
        group
            .map(|example| f64::from(example.noised.share))
            .sum::<f64>()
    });
    for (weight, &owner) in weights.iter_mut().zip(&owners) {
        *weight /= shares[examples[owner].task as usize];
    }
    if wanted.is_empty() {
        // No forward: nothing was masked.
        let total = Tensor::zeros((), DType::F32, &Device::Cpu);
        return Ok(Loss {
            total: total.map_err(mmada_tensor::Error::from)?,
            parts: parts(examples, &owners, &weights, &[]),
        });
    }
    let nll = model.nll(&rows, &wanted, &targets)?;
    let factors = weights.iter().zip(&owners).map(|(&weight, &owner)| {
        let coefficient = f64::from(coefficients.of(examples[owner].task));
        (coefficient * weight) as f32
    });
    let (total, nll) = weigh(&nll, factors.collect())?;
    Ok(Loss {
        total,
        parts: parts(examples, &owners, &weights, &nll),
    })
}

/// `Σ factor·nll` with gradient, and the nll itself on the host.
fn weigh(nll: &Tensor, factors: Vec<f32>) -> mmada_tensor::Result<(Tensor, Vec<f32>)> {
    if nll.dims() != [factors.len()] {
        let (expected, got) = (format!("[{}]", factors.len()), format!("{:?}", nll.dims()));
        return Err(mmada_tensor::Error::shape(
            "likelihood of targets",
            expected,
            got,
        ));
    }
    let count = factors.len();
    let total = (nll * Tensor::from_vec(factors, count, nll.device())?)?.sum_all()?;
    Ok((total, nll.detach().to_vec1::<f32>()?))
}

fn parts(examples: &[Example], owners: &[usize], weights: &[f64], nll: &[f32]) -> Vec<Part> {
    let part = |task: Task| {
        let count = examples
            .iter()
            .filter(|example| example.task == task)
            .count();
        if count == 0 {
            return None;
        }
        let mut part = Part {
            task,
            loss: 0.0,
            mean_nll: 0.0,
            targets: 0,
            examples: count,
        };
        for ((&owner, &weight), &nll) in owners.iter().zip(weights).zip(nll) {
            if examples[owner].task == task {
                part.loss += weight * f64::from(nll);
                part.mean_nll += f64::from(nll);
                part.targets += 1;
            }
        }
        part.mean_nll /= part.targets.max(1) as f64;
        Some(part)
    };
    TASKS.into_iter().filter_map(part).collect()
}
