//! A step in pieces: every parameter moves as soon as its gradient is complete, and no gradient waits
//! for the others (Lv et al. 2023, arXiv 2306.09782, who call it a fused update).
//!
//! ```text
//!   backward ──▶ block n-1 ──▶ its gradients ──▶ its weights move ──▶ block n-2 ──▶ …
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use mmada_tensor::candle::TensorId;
use mmada_tensor::recompute::Receiver;
use mmada_tensor::{Tensor, ops};

use super::{Norms, Rule, Slot};
use crate::{Error, Result};

/// A step in progress; see [`super::Optimizer::begin`].
#[derive(Debug)]
pub(super) struct Moving {
    slots: Arc<Vec<Slot>>,
    places: HashMap<TensorId, usize>,
    rule: Rule,
    /// Sums of the squares of the gradients met so far, in the order of the slots.
    squares: Mutex<Vec<Option<f64>>>,
}

impl Moving {
    pub(super) fn new(slots: &Arc<Vec<Slot>>, rule: Rule) -> Self {
        let ids = slots.iter().map(|slot| slot.var.id());
        Self {
            places: ids.zip(0..).collect(),
            squares: Mutex::new(vec![None; slots.len()]),
            slots: slots.clone(),
            rule,
        }
    }

    /// What a backward pass gives its gradients to.
    pub(super) fn receiver(self: &Arc<Self>) -> Receiver {
        let moving = self.clone();
        Arc::new(move |variable, gradient| {
            let taken = moving.take(variable, gradient);
            taken.map_err(|error| mmada_tensor::candle::Error::wrap(error).into())
        })
    }

    /// Moves a parameter along its gradient. One that is not finite moves nothing and shows in the
    /// norm.
    pub(super) fn take(&self, variable: &Tensor, gradient: &Tensor) -> Result<()> {
        let Some(&place) = self.places.get(&variable.id()) else {
            return Ok(());
        };
        let square = ops::sum_of_squares(gradient)?;
        let mut squares = self.squares.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = &self.slots[place];
        if squares[place].replace(square).is_some() {
            let what = format!(
                "run.backward = \"fused\": {} has moved already in this step; \
                 a network that uses it twice needs \"recompute\"",
                slot.name
            );
            return Err(Error::Config(what));
        }
        match square.is_finite() {
            true => self.rule.move_along(slot, gradient),
            false => Ok(()),
        }
    }

    /// The L2 norms of the gradients met so far.
    pub(super) fn norms(&self) -> Norms {
        Norms::of(&self.squares.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
