//! Linear layers at inference: weights packed once, several layers of one input in one go.
//!
//! ```text
//!   PackedLinear::pack(packing, [q, k, v])      bf16 or int8, laid out for this processor
//!   .forward(x, 0..3)  ──▶ [x · qᵀ, x · kᵀ, x · vᵀ]      x is packed once
//!   .add_to(residual, x), .gated(x)                       as ops::{add_linear, gated_linear}
//! ```
//!
//! Attention beside packed layers has bf16 factors. There are no gradients.

use std::ops::Range;
use std::sync::Arc;

use candle_core::Tensor;

use crate::gemm::packed::{ALIGNMENT, Part, Weights};
use crate::gemm::Matrix;
use crate::{Error, Result, check, kernels};

pub use crate::gemm::packed::Packing;

/// The weights of layers that share their input.
#[derive(Debug, Clone)]
pub struct PackedLinear {
    weights: Arc<Weights>,
    /// Values of an input.
    width: usize,
    /// Where the outputs of each layer are among the packed ones.
    layers: Vec<Range<usize>>,
}

impl PackedLinear {
    /// Packs the weights of layers, each `[out, in]` with the same `in`.
    ///
    /// # Errors
    /// No layer, inputs of different width, or tensors that are not f32 in this computer's memory.
    pub fn pack(packing: Packing, layers: &[&Tensor]) -> Result<Self> {
        let width = match layers.first() {
            Some(first) => first.dim(1)?,
            None => return Err(Error::shape("packed layers", "at least one", 0)),
        };
        let (mut data, mut ranges) = (Vec::new(), Vec::with_capacity(layers.len()));
        for layer in layers {
            let (out, wide) = layer.dims2()?;
            if wide != width || !kernels::fit(&[*layer]) {
                let expected = format!("f32 in main memory, [out, {width}]");
                let got = format!("{:?}, {:?}", layer.dtype(), layer.dims());
                return Err(Error::shape("packed layers", expected, got));
            }
            let start = data.len() / width.max(1);
            data.extend_from_slice(&kernels::view(&layer.contiguous()?)?);
            data.resize((start + out).next_multiple_of(ALIGNMENT) * width, 0.0);
            ranges.push(start..start + out);
        }
        let rows = data.len() / width.max(1);
        Ok(Self {
            weights: Arc::new(Weights::of(packing, Matrix::new(&data, rows, width))),
            width,
            layers: ranges,
        })
    }

    /// The outputs of some of the layers.
    ///
    /// # Shapes
    /// x `[r, in]`; a result for each layer, `[r, out]`.
    pub fn forward(&self, x: &Tensor, layers: Range<usize>) -> Result<Vec<Tensor>> {
        self.columns(x, self.layers[layers].iter().cloned())
    }

    /// A part of the first layer's outputs.
    ///
    /// # Shapes
    /// x `[r, in]`, result `[r, outputs.len()]`.
    pub fn part(&self, x: &Tensor, outputs: Range<usize>) -> Result<Tensor> {
        if outputs.end > self.layers[0].end {
            let expected = format!("within 0..{}", self.layers[0].end);
            return Err(Error::shape("packed outputs", expected, outputs.end));
        }
        Ok(self.columns(x, std::iter::once(outputs))?.remove(0))
    }

    /// `residual +` the first layer's output.
    ///
    /// # Shapes
    /// residual and result `[r, out]`, x `[r, in]`.
    pub fn add_to(&self, residual: &Tensor, x: &Tensor) -> Result<Tensor> {
        let columns = self.layers[0].clone();
        let dims = [x.dim(0)?, columns.len()];
        check::same_shape("packed residual", residual, &dims)?;
        let residual = residual.contiguous()?;
        let base = kernels::view(&residual)?;
        let part = Part {
            columns,
            gated: None,
            base: Some(&base),
        };
        Ok(self.run(x, &[part])?.remove(0))
    }

    /// `silu(first layer) · second layer`.
    ///
    /// # Shapes
    /// x `[r, in]`, result `[r, out]`; both layers are alike.
    pub fn gated(&self, x: &Tensor) -> Result<Tensor> {
        let [gate, up] = &self.layers[..] else {
            return Err(Error::shape("gated layers", 2, self.layers.len()));
        };
        if gate.len() != up.len() {
            return Err(Error::shape("gated layers", gate.len(), up.len()));
        }
        let part = Part {
            columns: gate.clone(),
            gated: Some(up.start - gate.start),
            base: None,
        };
        Ok(self.run(x, &[part])?.remove(0))
    }

    fn columns(&self, x: &Tensor, columns: impl Iterator<Item = Range<usize>>) -> Result<Vec<Tensor>> {
        let parts = columns.map(|columns| Part {
            columns,
            gated: None,
            base: None,
        });
        self.run(x, &parts.collect::<Vec<_>>())
    }

    fn run(&self, x: &Tensor, parts: &[Part<'_>]) -> Result<Vec<Tensor>> {
        let (rows, width) = x.dims2()?;
        if width != self.width || !kernels::fit(&[x]) {
            let expected = format!("f32 in main memory, [r, {}]", self.width);
            let got = format!("{:?}, {:?}", x.dtype(), x.dims());
            return Err(Error::shape("input of packed layers", expected, got));
        }
        let x = x.contiguous()?;
        let data = kernels::view(&x)?;
        let outs = self.weights.multiply(Matrix::new(&data, rows, width), parts);
        let outs = outs.into_iter().zip(parts);
        outs.map(|(out, part)| Ok(Tensor::from_vec(out, (rows, part.columns.len()), x.device())?))
            .collect()
    }
}
