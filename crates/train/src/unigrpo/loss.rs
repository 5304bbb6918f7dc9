//! The loss of an inner update: the surrogate's derivative by each masked token's log-likelihood is the
//! token's weight in the one cross-entropy.
//!
//! ```text
//!   estimates ──transformer──▶ nll ──▶ log p new ─┐
//!       └ log p old, log p reference, advantage ──┴▶ Surrogate::value ──▶ loss, one weight per token
//! ```

use mmada_model::Mmada;
use mmada_tensor::Tensor;

use super::policy::{self, Surrogate};
use super::rollout::{self, Estimate};
use crate::objective::{BatchLoss, Metric, Network};
use crate::{Error, Result};

/// The model with the constants of its loss.
#[derive(Debug)]
pub struct Policy {
    pub(super) model: Mmada,
    pub(super) surrogate: Surrogate,
}

/// The estimates of one inner update.
#[derive(Debug)]
pub struct EstimateBatch {
    pub(super) estimates: Vec<Estimate>,
    /// Of the rollout, once.
    pub(super) metrics: Vec<Metric>,
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
