//! Gradients of a step: summed over micro-batches, and how large they are.

use mmada_tensor::candle::backprop::GradStore;
use mmada_tensor::{Tensor, Var, ops};

use crate::{Error, Result};

/// Sums of gradients over micro-batches, in the order of the parameters.
#[derive(Debug, Default)]
pub struct Gradients {
    pub(super) sums: Vec<Option<Tensor>>,
}

impl Gradients {
    /// Adds the gradients of one micro-batch. The order of calls is the order of summation.
    ///
    /// # Errors
    /// When tensors do not fit together.
    pub fn add(&mut self, parameters: &[(String, Var)], grads: &GradStore) -> Result<()> {
        self.sums.resize(parameters.len(), None);
        for (sum, (_, var)) in self.sums.iter_mut().zip(parameters) {
            let Some(grad) = grads.get(var) else {
                continue;
            };
            *sum = Some(match sum.take() {
                Some(sum) => (sum + grad)?,
                None => grad.clone(),
            });
        }
        Ok(())
    }

    /// The L2 norms, in the order of the parameters, and over all.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn norms(&self) -> Result<Norms> {
        let squares = self.sums.iter().map(|sum| match sum {
            Some(grad) => Ok(Some(ops::sum_of_squares(grad)?)),
            None => Ok(None),
        });
        Ok(Norms::of(&squares.collect::<Result<Vec<_>>>()?))
    }
}

/// L2 norms of gradients, before clipping.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Norms {
    /// Over all parameters.
    pub all: f64,
    /// Of each parameter; absent where it has no gradient.
    pub each: Vec<Option<f64>>,
    /// What clipping multiplied all gradients by.
    pub scale: f64,
}

impl Norms {
    pub(super) fn of(squares: &[Option<f64>]) -> Self {
        let roots = squares.iter().map(|square| square.map(f64::sqrt));
        Self {
            all: squares.iter().flatten().sum::<f64>().sqrt(),
            each: roots.collect(),
            scale: 1.0,
        }
    }

    /// The same, where they are numbers. `step` is how many were taken before.
    pub(super) fn finite(self, step: u64) -> Result<Self> {
        match self.all.is_finite() {
            true => Ok(self),
            false => Err(Error::Diverged {
                step,
                what: "the gradient norm".to_owned(),
                value: self.all,
            }),
        }
    }
}
