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
    /// The rows of the table that are codes.
    rows: Range<usize>,
    /// `[bits + 1, codes]`: 1 where a code has the bit, -1 where not; the last line is all ones.
    signs: Tensor,
    pub(super) first: Tensor,
    pub(super) second: Tensor,
    lr_scale: f64,
}

impl SharedBits {
    /// Vectors that have not moved, for a table `[any, width]` with codes in `rows`.
    pub(super) fn new(
        rows: &Range<usize>,
        width: usize,
        config: CodeBits,
        device: &Device,
    ) -> Result<Self> {
        let (codes, bits) = (rows.len(), bits_of(rows.len()));
        let of_bits = (0..bits).flat_map(|bit| (0..codes).map(move |code| sign(code, bit)));
        let signs: Vec<f32> = of_bits.chain(std::iter::repeat_n(1.0, codes)).collect();
        let moments = || Tensor::zeros((bits + 1, width), mmada_tensor::DType::F32, device);
        Ok(Self {
            rows: rows.clone(),
            signs: Tensor::from_vec(signs, (bits + 1, codes), device)?,
            first: moments()?,
            second: moments()?,
            lr_scale: config.lr_scale,
        })
    }

    /// Moves the rows of `table` along what the vectors are asked for by its gradient.
    pub(super) fn move_along(&self, table: &Tensor, grad: &Tensor, step: &AdamwStep) -> Result<()> {
        let (start, codes) = (self.rows.start, self.rows.len());
        let step = AdamwStep {
            lr: step.lr * self.lr_scale,
            // The rows decay already.
            weight_decay: 0.0,
            ..*step
        };
        let grad = self.signs.matmul(&grad.narrow(0, start, codes)?)?;
        // Moved from zero, what they are is how far they moved.
        let moves = self.first.zeros_like()?;
        ops::adamw_step(&moves, &grad, &self.first, &self.second, &step)?;
        let rows = self.signs.t()?.matmul(&moves)?;
        Ok(ops::blend(
            &table.narrow(0, start, codes)?,
            &rows,
            1.0,
            1.0,
        )?)
    }
}

/// Bits of that many codes.
pub(crate) fn bits_of(codes: usize) -> usize {
    codes.next_power_of_two().trailing_zeros() as usize
}

/// 1 where a code has the bit, else -1.
pub(crate) fn sign(code: usize, bit: usize) -> f32 {
    if code >> bit & 1 == 1 { 1.0 } else { -1.0 }
}
