//! Linear head and cross-entropy in one: the `[rows, vocabulary]` logits exist only a chunk at a
//! time, in the forward pass and again in the backward pass.
//!
//! ```text
//!   forward    chunk of hidden · headᵀ ─► logits ─► max, Σ exp ─► nll, kept: 2 numbers per row
//!   backward   chunk of hidden · headᵀ ─► logits ─► (softmax - onehot)·g ─► dhidden, dhead +=
//! ```
//!
//! r rows, d width, v vocabulary.

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::math::{exp, max_of, multiversion, sum_of};
use super::{output, slice, view, zeros};
use crate::Precision;
use crate::gemm::{Into, Matrix, Workers, product_into};

/// Logits held at once: 8 MiB, which stays in the last-level cache.
const CHUNK_ELEMENTS: usize = 2 * 1024 * 1024;

/// hidden `[r, d]`, head `[v, d]` to the negative log-likelihood `[r]` of `targets`.
pub(crate) struct Nll {
    precision: Precision,
    targets: Vec<u32>,
    normalisers: OnceLock<Vec<Normaliser>>,
}

/// log Σ exp of a row of logits, in two parts that keep their precision: the largest logit, and
/// the log of the sum relative to it.
#[derive(Debug, Clone, Copy)]
struct Normaliser {
    max: f32,
    log_sum: f32,
}

multiversion! {
    fn normaliser(logits: &[f32]) -> Normaliser {
        let max = max_of(logits);
        let sum = sum_of([logits], |[x]| exp::<FMA>(x - max));
        Normaliser { max, log_sum: sum.ln() as f32 }
    }
}

multiversion! {
    fn scaled_softmax(logits: &mut [f32], normaliser: Normaliser, scale: f32) {
        for x in logits.iter_mut() {
            *x = scale * exp::<FMA>((*x - normaliser.max) - normaliser.log_sum);
        }
    }
}

/// Rows of one chunk: few enough to stay in cache, enough for an efficient product.
fn rows_per_chunk(v: usize) -> usize {
    (CHUNK_ELEMENTS / v.max(1)).clamp(32, 512)
}

impl Nll {
    /// The loss of these targets, all below the size of the vocabulary.
    pub(crate) fn new(targets: &[u32], precision: Precision) -> Self {
        Self {
            precision,
            targets: targets.to_vec(),
            normalisers: OnceLock::new(),
        }
    }
}

impl CustomOp2 for Nll {
    fn name(&self) -> &'static str {
        "nll"
    }

    fn cpu_fwd(
        &self,
        hidden: &CpuStorage,
        hidden_layout: &Layout,
        head: &CpuStorage,
        head_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (r, d) = hidden_layout.shape().dims2()?;
        let (v, _) = head_layout.shape().dims2()?;
        let hidden = slice(hidden, hidden_layout)?;
        let head = Matrix::new(slice(head, head_layout)?, v, d).t();
        let rows = rows_per_chunk(v).min(r);
        let mut logits = zeros(rows * v);
        let mut normalisers = Vec::with_capacity(r);
        let mut losses = Vec::with_capacity(r);
        let chunks = hidden
            .chunks((rows * d).max(1))
            .zip(self.targets.chunks(rows.max(1)));
        for (hidden, targets) in chunks {
            let logits = &mut logits[..targets.len() * v];
            let hidden = Matrix::new(hidden, targets.len(), d);
            product_into(
                self.precision,
                1.0,
                (hidden, head),
                Into::Replace,
                logits,
                Workers::Pool,
            );
            let found: Vec<(Normaliser, f32)> = logits
                .par_chunks_exact(v)
                .zip(targets)
                .map(|(logits, &target)| {
                    let n = normaliser(logits);
                    (n, n.log_sum - (logits[target as usize] - n.max))
                })
                .collect();
            normalisers.extend(found.iter().map(|(n, _)| *n));
            losses.extend(found.iter().map(|(_, loss)| *loss));
        }
        // An operation runs forward once; were it run again, the numbers would be the same.
        let _ = self.normalisers.set(normalisers);
        output(losses, r)
    }

    fn bwd(
        &self,
        hidden: &Tensor,
        head: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (r, d) = hidden.dims2()?;
        let (v, _) = head.dims2()?;
        let grad = grad.contiguous()?;
        let (hiddens, heads, grads) = (view(hidden)?, view(head)?, view(&grad)?);
        let Some(normalisers) = self.normalisers.get() else {
            candle_core::bail!("nll: backward without forward");
        };
        let rows = rows_per_chunk(v).min(r).max(1);
        let mut logits = zeros(rows * v);
        let mut dhidden = vec![0f32; if hidden.track_op() { r * d } else { 0 }];
        let mut dhead = vec![0f32; if head.track_op() { v * d } else { 0 }];
        let heads = Matrix::new(&heads, v, d);
        for start in (0..r).step_by(rows) {
            let chunk = start..(start + rows).min(r);
            let n = chunk.len();
            let logits = &mut logits[..n * v];
            let hidden = Matrix::new(&hiddens[start * d..chunk.end * d], n, d);
            let pair = (hidden, heads.t());
            product_into(
                self.precision,
                1.0,
                pair,
                Into::Replace,
                logits,
                Workers::Pool,
            );
            logits
                .par_chunks_exact_mut(v)
                .zip(&normalisers[chunk.clone()])
                .zip(&self.targets[chunk.clone()])
                .zip(&grads[chunk.clone()])
                .for_each(|(((logits, &normaliser), &target), &grad)| {
                    scaled_softmax(logits, normaliser, grad);
                    logits[target as usize] -= grad;
                });
            let dlogits = Matrix::new(logits, n, v);
            if !dhidden.is_empty() {
                let out = &mut dhidden[start * d..chunk.end * d];
                let pair = (dlogits, heads);
                product_into(self.precision, 1.0, pair, Into::Replace, out, Workers::Pool);
            }
            if !dhead.is_empty() {
                let (pair, out) = ((dlogits.t(), hidden), &mut dhead);
                product_into(self.precision, 1.0, pair, Into::Add, out, Workers::Pool);
            }
        }
        let gradient = |tensor: &Tensor, data: Vec<f32>| -> Result<Option<Tensor>> {
            if data.is_empty() {
                return Ok(None);
            }
            Tensor::from_vec(data, tensor.shape(), tensor.device()).map(Some)
        };
        Ok((gradient(hidden, dhidden)?, gradient(head, dhead)?))
    }
}
