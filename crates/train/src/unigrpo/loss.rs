//! The loss of an inner update: the surrogate's derivative by each masked token's log-likelihood is the
//! token's weight in the one cross-entropy.
//!
//! ```text
//!   estimates ──transformer──▶ nll ──▶ log p new ─┐
//!       └ log p old, log p reference, advantage ──┴▶ Surrogate::value ──▶ loss, one weight per token
//! ```

use mmada_model::Mmada;
use mmada_tensor::{DType, Device, Tensor};

use super::policy::{self, Surrogate};
use super::rollout::{self, Estimate};
use crate::Result;
use crate::objective::{BatchLoss, Metric, Network};

/// The model with the constants of its loss.
#[derive(Debug)]
pub struct Policy {
    /// What is improved; its row budget bounds a forward.
    pub model: Mmada,
    /// The constants.
    pub surrogate: Surrogate,
}

/// The estimates of one inner update.
#[derive(Debug)]
pub struct EstimateBatch {
    /// One of each completion.
    pub estimates: Vec<Estimate>,
    /// Completions that were asked for. What was left out of them counts as no gradient, so that each
    /// of the others weighs the same whichever micro-batch it is in.
    pub asked: usize,
    /// Of the rollout, once.
    pub metrics: Vec<Metric>,
}

impl Network<EstimateBatch> for Policy {
    fn loss(&self, batch: &EstimateBatch) -> Result<BatchLoss> {
        let mut metrics = batch.metrics.clone();
        let estimates = &batch.estimates;
        let examples = estimates.len();
        if estimates.is_empty() {
            let total = Tensor::zeros((), DType::F32, &Device::Cpu)?;
            return Ok(BatchLoss {
                total,
                metrics,
                examples,
                tokens: 0,
            });
        }
        // In several forwards: one of tens of thousands of rows fits no cache and takes longer.
        let forwards = rollout::forwards(estimates, self.model.row_budget());
        let nlls = forwards.map(|some| rollout::nll(&self.model, some));
        let nlls = nlls.collect::<Result<Vec<Tensor>>>()?;
        let mut new = Vec::new();
        for nll in &nlls {
            new.extend(nll.detach().to_vec1::<f32>()?.iter().map(|nll| -nll));
        }
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
        let share = examples as f64 / batch.asked.max(examples) as f64;
        // The one weighted cross-entropy: ∂loss/∂nll = −∂loss/∂(log p). Only its gradient is the
        // loss's; the constant makes the number the loss's too.
        let factors: Vec<f32> = value
            .gradient
            .iter()
            .map(|slope| -(*slope * share) as f32)
            .collect();
        let mut rest = factors.as_slice();
        let mut parts = Vec::with_capacity(nlls.len());
        for nll in &nlls {
            let (now, later) = rest.split_at(nll.elem_count());
            parts.push((nll * Tensor::new(now, nll.device())?)?.sum_all()?);
            rest = later;
        }
        let weighted = Tensor::stack(&parts, 0)?.sum_all()?;
        let shown = f64::from(weighted.detach().to_scalar::<f32>()?);
        let total = (weighted + (value.loss * share - shown))?;
        let weight = examples as f64;
        let mut tell = |name, value| {
            metrics.push(Metric {
                name,
                value,
                weight,
            });
        };
        if estimates
            .iter()
            .any(|estimate| !estimate.reference.is_empty())
        {
            tell("kl", value.kl);
        }
        tell("clip_fraction", value.clipped);
        tell("ratio", value.ratio);
        tell("masked_tokens", new.len() as f64 / weight);
        let tokens = new.len() as f64;
        metrics.push(Metric {
            name: "nll",
            value: -new.iter().map(|p| f64::from(*p)).sum::<f64>() / tokens,
            weight: tokens,
        });
        Ok(BatchLoss {
            total,
            metrics,
            examples,
            tokens: estimates.iter().map(|estimate| estimate.ids.len()).sum(),
        })
    }
}
