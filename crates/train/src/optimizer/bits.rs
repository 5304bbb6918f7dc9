//! Rows of image codes that move together, by their bits.
//!
//! The codes of a lookup-free quantiser are patterns of bits, and patches that look alike share most of
//! them, but a table of embeddings knows nothing of that: each of 4,096 rows learns for itself. Here a
//! row is `own + Σ ± vector of each bit + vector of all codes`, and the vectors are learnt too. They
//! are an idea of the optimiser's alone: what they move by is added to the rows at every step, so the
//! network, its forward pass and its files are those of any other run.
//!
//! ```text
//!   gradient of rows [table, width] ──signs──▶ gradient of vectors [bits + 1, width] ──AdamW──▶ moves
//!                                   table += signsᵀ · moves ◀────────────────────────────────────┘
//! ```

use std::ops::Range;

use mmada_tensor::ops::{self, AdamwStep};
use mmada_tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::Result;

/// Settings of the vectors that rows of image codes share.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeBits {
    /// Their learning rate as a multiple of the table's own.
    pub lr_scale: f64,
}

/// Where a model keeps the rows of its image codes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeTables {
    /// The tensors with one row per token.
    pub names: Vec<String>,
    /// The rows that are image codes.
    pub rows: Range<usize>,
}

/// The vectors of one table.
#[derive(Debug, Clone)]
pub(super) struct SharedBits {
    /// `[bits + 1, rows of the table]`: 1 where a code has the bit, -1 where not, 0 for other rows.
    signs: Tensor,
    pub(super) first: Tensor,
    pub(super) second: Tensor,
    lr_scale: f64,
}

impl SharedBits {
    /// Vectors that have not moved, for a table of the shape `(rows, width)`.
    pub(super) fn new(
        (rows, width): (usize, usize),
        codes: &Range<usize>,
        config: CodeBits,
        device: &Device,
    ) -> Result<Self> {
        let bits = codes.len().next_power_of_two().trailing_zeros() as usize;
        let mut signs = vec![0f32; (bits + 1) * rows];
        for (bit, of_bit) in signs.chunks_exact_mut(rows).enumerate() {
            for (code, sign) in of_bit[codes.clone()].iter_mut().enumerate() {
                *sign = if bit == bits || code >> bit & 1 == 1 {
                    1.0
                } else {
                    -1.0
                };
            }
        }
        let moments = || Tensor::zeros((bits + 1, width), mmada_tensor::DType::F32, device);
        Ok(Self {
            signs: Tensor::from_vec(signs, (bits + 1, rows), device)?,
            first: moments()?,
            second: moments()?,
            lr_scale: config.lr_scale,
        })
    }

    /// Moves the rows of `table` along what the vectors are asked for by its gradient.
    pub(super) fn move_along(&self, table: &Tensor, grad: &Tensor, step: &AdamwStep) -> Result<()> {
        let moves = self.first.zeros_like()?;
        let step = AdamwStep {
            lr: step.lr * self.lr_scale,
            weight_decay: 0.0,
            ..*step
        };
        let grad = self.signs.matmul(grad)?;
        ops::adamw_step(&moves, &grad, &self.first, &self.second, &step)?;
        let rows = self.signs.t()?.matmul(&moves)?;
        Ok(ops::blend(table, &rows, 1.0, 1.0)?)
    }
}
