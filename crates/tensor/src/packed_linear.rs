//! Linear layers at inference: weights packed once, several layers of one input in one go.
//!
//! ```text
//!   PackedLinear::pack(packing, [q, k, v])      f32, bf16 or int8, laid out for this processor
//!   .forward(x, 0..3)  ──▶ [x · qᵀ, x · kᵀ, x · vᵀ]      x is packed once
//!   .add_to(residual, x)                                  as ops::add_linear
//!   feed_forward(x, [gate, up], [out])                    what is between them stays in the caches
//! ```
//!
//! Attention beside layers in bf16 or int8 has bf16 factors. There are no gradients.

use std::ops::Range;
use std::sync::Arc;

use candle_core::Tensor;

use crate::gemm::Matrix;
use crate::gemm::packed::{ALIGNMENT, Input, Norm, Part, Weights};
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
    pub fn forward(&self, x: &Normed<'_>, layers: Range<usize>) -> Result<Vec<Tensor>> {
        self.columns(x, self.layers[layers].iter().cloned())
    }

    /// A part of the first layer's outputs.
    ///
    /// # Shapes
    /// x `[r, in]`, result `[r, outputs.len()]`.
    pub fn part(&self, x: &Tensor, outputs: Range<usize>) -> Result<Tensor> {
        if outputs.start > outputs.end || outputs.end > self.layers[0].end {
            let expected = format!("within 0..{}", self.layers[0].end);
            return Err(Error::shape(
                "packed outputs",
                expected,
                format!("{outputs:?}"),
            ));
        }
        let x = Normed { x, norm: None };
        Ok(self.columns(&x, std::iter::once(outputs))?.remove(0))
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
        let x = Normed { x, norm: None };
        Ok(self.run(&x, &[part])?.remove(0))
    }

    /// `x + out(silu(gate n) · up n)`, where n is x normalised: the second half of a block. `gate_up`
    /// holds two layers of one size.
    ///
    /// # Shapes
    /// x and result `[r, d]`, gain `[d]`.
    pub fn feed_forward(x: &Normed<'_>, gate_up: &Self, out: &Self) -> Result<Tensor> {
        let [gate, up] = &gate_up.layers[..] else {
            let got = gate_up.layers.len();
            return Err(Error::shape("gated layers", 2, got));
        };
        let (rows, d) = x.x.dims2()?;
        let last = out.layers[0].clone();
        if gate.len() != up.len() || out.width != gate.len() || last.len() != d {
            let expected = format!("[m, {d}] twice, and [{d}, m]");
            let got = [gate.len(), up.len(), out.width, last.len()];
            return Err(Error::shape(
                "layers of feed-forward",
                expected,
                format!("{got:?}"),
            ));
        }
        let gated = Part {
            columns: gate.clone(),
            gated: Some(up.start - gate.start),
            base: None,
        };
        gate_up.with_input(x, |input| {
            let base = input.rows.all();
            let last = Part {
                columns: last,
                gated: None,
                base: Some(base),
            };
            let result = gate_up.weights.feed(input, &gated, (&out.weights, &last));
            Ok(Tensor::from_vec(result, (rows, d), x.x.device())?)
        })
    }

    fn columns(
        &self,
        x: &Normed<'_>,
        columns: impl Iterator<Item = Range<usize>>,
    ) -> Result<Vec<Tensor>> {
        let parts = columns.map(|columns| Part {
            columns,
            gated: None,
            base: None,
        });
        self.run(x, &parts.collect::<Vec<_>>())
    }

    fn run(&self, x: &Normed<'_>, parts: &[Part<'_>]) -> Result<Vec<Tensor>> {
        self.with_input(x, |input| {
            let outs = self.weights.multiply(input, parts).into_iter().zip(parts);
            let tensor = |(out, part): (Vec<f32>, &Part<'_>)| {
                let shape = (input.rows.rows(), part.columns.len());
                Ok(Tensor::from_vec(out, shape, x.x.device())?)
            };
            outs.map(tensor).collect()
        })
    }

    fn with_input<T>(
        &self,
        x: &Normed<'_>,
        work: impl FnOnce(Input<'_>) -> Result<T>,
    ) -> Result<T> {
        let (rows, width) = x.x.dims2()?;
        if width != self.width || !kernels::fit(&[x.x]) {
            let expected = format!("f32 in main memory, [r, {}]", self.width);
            let got = format!("{:?}, {:?}", x.x.dtype(), x.x.dims());
            return Err(Error::shape("input of packed layers", expected, got));
        }
        let data = x.x.contiguous()?;
        let data = kernels::view(&data)?;
        let rows = Matrix::new(&data, rows, width);
        let Some((gain, eps)) = x.norm else {
            return work(Input { rows, norm: None });
        };
        check::same_shape("gain of packed layers", gain, &[width])?;
        let gain = gain.contiguous()?;
        let gain = kernels::view(&gain)?;
        let norm = Some(Norm { gain: &gain, eps });
        work(Input { rows, norm })
    }
}

/// The input of packed layers: rows, and the gain and epsilon of the root-mean-square normalisation
/// that comes before the layers, if there is one.
#[derive(Debug, Clone, Copy)]
pub struct Normed<'a> {
    /// `[r, in]`
    pub x: &'a Tensor,
    /// `[in]`
    pub norm: Option<(&'a Tensor, f64)>,
}
