//! The two halves of a transformer block as one operation each, backward included.
//!
//! ```text
//!   x ─┬─ rms_norm ─► n ─ layers ─► gates, ups ─ silu(gates)·ups ─────────────► hidden ─ out ─► + ─►
//!      │                            q, k, v ─ rotary of q and k ─ attention ─►                  ▲
//!      └────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! A backward pass gives every input of every operation a tensor of zeros and adds to it, on one
//! thread; for large batches that takes as long as the products. Within one operation the gradients of
//! n are summed by the products themselves, and that of x begins as the residual's. Those of the weights
//! leave along a way of their own (`leave.rs`). r rows, d width.

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::activation::{activate, gradients};
use super::attention::{Attention, Given};
use super::linear::{forward, gradient_of_input, gradient_of_weight};
use super::norm::RmsNorm;
use super::rotary::{Rotary, Turn};
use super::{copied, output, slice, view};
use crate::Precision;
use crate::gemm::{Into, Matrix, Workers, product_into};
use crate::leave::{self, Slots};

/// What happens between the layers of the normalised rows and the layer into the residual stream.
pub(crate) enum Middle {
    /// `silu(gates) · ups`.
    Gate,
    /// Attention over q, k and v, of which the first two are turned before.
    Attention {
        attention: Attention,
        turns: [Rotary; 2],
    },
}

/// x `[r, d]` and the way of the weights' gradients to `x + out(middle(layers(rms_norm(x))))`.
pub(crate) struct Half {
    precision: Precision,
    norm: RmsNorm,
    middle: Middle,
    /// The gain `[d]`, the layers `[m, d]` and the layer out `[d, m]`; contiguous.
    weights: Vec<Tensor>,
    gradients: Slots,
    kept: OnceLock<Kept>,
}

/// What the forward pass leaves for the backward pass.
struct Kept {
    /// The normalised rows, `[r, d]`.
    n: Vec<f32>,
    /// What the layers gave, `[r, m]` each; q and k turned.
    layers: Vec<Vec<f32>>,
    /// What enters the layer out, `[r, m]`.
    hidden: Vec<f32>,
}

impl Middle {
    fn forward(&self, layers: &mut [Vec<f32>], r: usize) -> Result<Vec<f32>> {
        match (self, layers) {
            (Self::Gate, [gates, ups]) => Ok(activate(gates, ups)),
            (Self::Attention { attention, turns }, [q, k, v]) if r > 0 => {
                let (query_width, key_width) = (q.len() / r, k.len() / r);
                turns[0].turn_rows(q, query_width, Turn::Forward)?;
                turns[1].turn_rows(k, key_width, Turn::Forward)?;
                Ok(attention.forward(q, k, v, attention.geometry(query_width, key_width)))
            }
            (Self::Attention { .. }, [_, _, _]) => Ok(Vec::new()),
            (_, layers) => candle_core::bail!("half of a block: {} layers", layers.len()),
        }
    }

    /// The gradients of what the layers gave, from that of what enters the layer out.
    fn backward(&self, kept: &Kept, grad: &[f32], r: usize) -> Result<Vec<Vec<f32>>> {
        match (self, kept.layers.as_slice()) {
            (Self::Gate, [gates, ups]) => {
                let (dgates, dups) = gradients(gates, ups, grad);
                Ok(vec![dgates, dups])
            }
            (Self::Attention { attention, turns }, [q, k, v]) if r > 0 => {
                let (query_width, key_width) = (q.len() / r, k.len() / r);
                let out = &kept.hidden;
                let given = Given { q, k, v, out, grad };
                let geometry = attention.geometry(query_width, key_width);
                let mut grads = attention.backward(&given, geometry);
                turns[0].turn_rows(&mut grads.dq, query_width, Turn::Back)?;
                turns[1].turn_rows(&mut grads.dk, key_width, Turn::Back)?;
                Ok(vec![grads.dq, grads.dk, grads.dv])
            }
            (Self::Attention { .. }, [_, _, _]) => Ok(vec![Vec::new(); 3]),
            (_, layers) => candle_core::bail!("half of a block: {} layers", layers.len()),
        }
    }
}

impl Half {
    /// `x + out(middle(layers(rms_norm(x))))`; the weights are the gain, the layers and the layer out.
    pub(crate) fn apply(
        x: &Tensor,
        eps: f64,
        weights: &[&Tensor],
        middle: Middle,
    ) -> Result<Tensor> {
        let weights = weights.iter().map(|weight| weight.contiguous());
        let weights: Vec<Tensor> = weights.collect::<Result<_>>()?;
        let (way, gradients) = leave::way(&weights)?;
        let half = Self {
            precision: Precision::current(),
            norm: RmsNorm { eps },
            middle,
            weights,
            gradients,
            kept: OnceLock::new(),
        };
        x.contiguous()?.apply_op2(&way, half)
    }

    fn parts(&self) -> Result<(&Tensor, &[Tensor], &Tensor)> {
        match self.weights.as_slice() {
            [gain, layers @ .., out] => Ok((gain, layers, out)),
            _ => candle_core::bail!("half of a block: without weights"),
        }
    }

    /// The gradients of the layers' weights go to their slots; returns that of the normalised rows if
    /// it is wanted.
    fn through_layers(
        &self,
        kept: &Kept,
        grad: Matrix<'_>,
        is_wanted: bool,
    ) -> Result<Option<Vec<f32>>> {
        let (gain, layers, out) = self.parts()?;
        let (r, d) = (grad.rows(), gain.elem_count());
        let hidden = Matrix::new(&kept.hidden, r, out.dim(1)?);
        let dout = gradient_of_weight(self.precision, grad, hidden, out)?;
        self.gradients.put(layers.len() + 1, dout);
        let dhidden = gradient_of_input(self.precision, &[(grad, out)])?;
        let grads = self.middle.backward(kept, &dhidden, r)?;
        drop(dhidden);
        let mut pairs = Vec::with_capacity(layers.len());
        for (grad, layer) in grads.iter().zip(layers) {
            pairs.push((Matrix::new(grad, r, layer.dim(0)?), layer));
        }
        let n = Matrix::new(&kept.n, r, d);
        for (index, (grad, layer)) in pairs.iter().enumerate() {
            let gradient = gradient_of_weight(self.precision, *grad, n, layer)?;
            self.gradients.put(index + 1, gradient);
        }
        match is_wanted {
            true => gradient_of_input(self.precision, &pairs).map(Some),
            false => Ok(None),
        }
    }
}

impl CustomOp2 for Half {
    fn name(&self) -> &'static str {
        match self.middle {
            Middle::Gate => "feed_forward",
            Middle::Attention { .. } => "self_attention",
        }
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (r, d) = x_layout.shape().dims2()?;
        let (gain, layers, out) = self.parts()?;
        let x = slice(x, x_layout)?;
        let n = self.norm.forward(x, &view(gain)?);
        let layers = layers
            .iter()
            .map(|layer| forward(self.precision, Matrix::new(&n, r, d), layer));
        let mut layers: Vec<Vec<f32>> = layers.collect::<Result<_>>()?;
        let hidden = self.middle.forward(&mut layers, r)?;
        let m = out.dim(1)?;
        let weight = view(out)?;
        let pair = (Matrix::new(&hidden, r, m), Matrix::new(&weight, d, m).t());
        let mut y = copied(x);
        product_into(self.precision, 1.0, pair, Into::Add, &mut y, Workers::Pool);
        // An operation runs forward once; were it run again, the numbers would be the same.
        let _ = self.kept.set(Kept { n, layers, hidden });
        output(y, (r, d))
    }

    fn bwd(
        &self,
        x: &Tensor,
        way: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let Some(kept) = self.kept.get() else {
            candle_core::bail!("{}: backward without forward", self.name());
        };
        let (r, d) = x.dims2()?;
        let (gain, ..) = self.parts()?;
        let grad = grad.contiguous()?;
        let grads = view(&grad)?;
        let is_wanted = x.track_op() || gain.track_op();
        let dn = self.through_layers(kept, Matrix::new(&grads, r, d), is_wanted)?;
        let mut dx = None;
        if let Some(dn) = dn {
            let mut sum = copied(&grads);
            let dgain = self.norm.backward(&view(x)?, &view(gain)?, &dn, &mut sum);
            if gain.track_op() {
                let dgain = Tensor::from_vec(dgain, gain.shape(), gain.device())?;
                self.gradients.put(0, Some(dgain));
            }
            if x.track_op() {
                dx = Some(Tensor::from_vec(sum, (r, d), x.device())?);
            }
        }
        // Whoever is on the way comes next, whatever the number is.
        Ok((dx, Some(way.zeros_like()?)))
    }
}
