//! SwiGLU: `silu(gate) · up` and both gradients, one pass each; alone, or with the two linear
//! layers that feed it.

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

use super::linear::{gradient_of_input, gradient_of_weight};
use super::math::{multiversion, sigmoid};
use super::{PIECE, for_each_pair, for_each_piece, output, slice, view, zeros};
use crate::Precision;
use crate::gemm::{Matrix, product};

/// gate and up of one shape, result alike.
pub(crate) struct Swiglu;

multiversion! {
    fn forward(gate: &[f32], up: &[f32], out: &mut [f32]) {
        for ((out, &gate), &up) in out.iter_mut().zip(gate).zip(up) {
            *out = gate * sigmoid::<FMA>(gate) * up;
        }
    }
}

multiversion! {
    fn backward(gate: &[f32], up: &[f32], grad: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
        let inputs = gate.iter().zip(up).zip(grad);
        let outputs = dgate.iter_mut().zip(dup);
        for (((&gate, &up), &grad), (dgate, dup)) in inputs.zip(outputs) {
            let s = sigmoid::<FMA>(gate);
            let silu = gate * s;
            *dup = grad * silu;
            // silu' = s · (1 + gate · (1 - s))
            *dgate = grad * up * (s + silu * (1.0 - s));
        }
    }
}

/// `silu(gate) · up`.
pub(super) fn activate(gate: &[f32], up: &[f32]) -> Vec<f32> {
    let mut out = zeros(gate.len());
    for_each_piece(&mut out, PIECE, |start, out| {
        let range = start..start + out.len();
        forward(&gate[range.clone()], &up[range], out);
    });
    out
}

/// The gradients of gate and up.
pub(super) fn gradients(gate: &[f32], up: &[f32], grad: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let (mut dgate, mut dup) = (zeros(gate.len()), zeros(gate.len()));
    for_each_pair(&mut dgate, &mut dup, PIECE, |start, dgate, dup| {
        let range = start..start + dgate.len();
        let (gate, up) = (&gate[range.clone()], &up[range.clone()]);
        backward(gate, up, &grad[range], dgate, dup);
    });
    (dgate, dup)
}

impl CustomOp2 for Swiglu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        gate_layout: &Layout,
        up: &CpuStorage,
        up_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let out = activate(slice(gate, gate_layout)?, slice(up, up_layout)?);
        output(out, gate_layout.shape())
    }

    fn bwd(
        &self,
        gate: &Tensor,
        up: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let (dgate, dup) = gradients(&view(gate)?, &view(up)?, &view(&grad)?);
        let dgate = Tensor::from_vec(dgate, gate.shape(), gate.device())?;
        let dup = Tensor::from_vec(dup, up.shape(), up.device())?;
        Ok((Some(dgate), Some(dup)))
    }
}

/// x `[r, d]`, gate and up weights `[m, d]`, to `[r, m]`.
pub(crate) struct GatedLinear {
    precision: Precision,
    /// What the two layers gave in the forward pass.
    layers: OnceLock<(Vec<f32>, Vec<f32>)>,
}

impl GatedLinear {
    pub(crate) fn new(precision: Precision) -> Self {
        Self {
            precision,
            layers: OnceLock::new(),
        }
    }
}

impl CustomOp3 for GatedLinear {
    fn name(&self) -> &'static str {
        "gated_linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        gate: &CpuStorage,
        gate_layout: &Layout,
        up: &CpuStorage,
        up_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ((r, d), (m, _)) = (x_layout.shape().dims2()?, gate_layout.shape().dims2()?);
        let x = Matrix::new(slice(x, x_layout)?, r, d);
        let gate = product(
            self.precision,
            x,
            Matrix::new(slice(gate, gate_layout)?, m, d).t(),
        );
        let up = product(
            self.precision,
            x,
            Matrix::new(slice(up, up_layout)?, m, d).t(),
        );
        let out = activate(&gate, &up);
        // An operation runs forward once; were it run again, the numbers would be the same.
        let _ = self.layers.set((gate, up));
        output(out, (r, m))
    }

    fn bwd(
        &self,
        x: &Tensor,
        gate: &Tensor,
        up: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let ((r, d), (m, _)) = (x.dims2()?, gate.dims2()?);
        let grad = grad.contiguous()?;
        let Some((gates, ups)) = self.layers.get() else {
            candle_core::bail!("gated_linear: backward without forward");
        };
        let (dgates, dups) = gradients(gates, ups, &view(&grad)?);
        let (dgates, dups) = (Matrix::new(&dgates, r, m), Matrix::new(&dups, r, m));
        let dx = match x.track_op() {
            true => {
                let dx = gradient_of_input(self.precision, &[(dgates, gate), (dups, up)])?;
                Some(Tensor::from_vec(dx, (r, d), x.device())?)
            }
            false => None,
        };
        let xs = view(x)?;
        let xs = Matrix::new(&xs, r, d);
        let dgate = gradient_of_weight(self.precision, dgates, xs, gate)?;
        let dup = gradient_of_weight(self.precision, dups, xs, up)?;
        Ok((dx, dgate, dup))
    }
}
