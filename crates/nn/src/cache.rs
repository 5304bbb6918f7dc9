//! Keys and values that outlive a forward: what rows that are not computed anew still show to the
//! others.
//!
//! ```text
//!   block i   k, v of the active rows ──put──► keys[i], values[i] ──► attention sees all of them
//! ```
//!
//! The cache knows no rule: which rows are active, and which kept rows they see, is said by a
//! [`Recall`] from outside.

use mmada_tensor::{Recall, Tensor, ops};

use crate::{Result, Transformer};

/// Keys and values of every block for the rows of a [`Recall`].
#[derive(Debug, Clone, Default)]
pub struct Cache {
    /// `[capacity, kv]` for each block.
    keys: Vec<Tensor>,
    /// The same.
    values: Vec<Tensor>,
    capacity: usize,
}

impl Cache {
    /// Makes room for the rows of a recall. A new capacity begins with an empty cache.
    pub(crate) fn fit(&mut self, model: &Transformer, recall: &Recall) -> Result<()> {
        let (blocks, capacity) = (model.config().n_layers, recall.capacity);
        if self.capacity == capacity && self.keys.len() == blocks {
            return Ok(());
        }
        let shape = (capacity, model.config().key_value_width());
        let empty = || -> Result<Vec<Tensor>> {
            let empty = |_| Ok(Tensor::zeros(shape, model.dtype(), model.device())?);
            (0..blocks).map(empty).collect()
        };
        (self.keys, self.values) = (empty()?, empty()?);
        self.capacity = capacity;
        Ok(())
    }

    /// Remembers keys and values of some rows of a block; returns those of all rows.
    pub(crate) fn put(
        &self,
        block: usize,
        keys: &Tensor,
        values: &Tensor,
        places: &[usize],
    ) -> Result<(Tensor, Tensor)> {
        ops::put_rows(&self.keys[block], keys, places)?;
        ops::put_rows(&self.values[block], values, places)?;
        Ok((self.keys[block].clone(), self.values[block].clone()))
    }
}
