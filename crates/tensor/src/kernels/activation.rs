//! SwiGLU: `silu(gate) · up` and both gradients, one pass each.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::math::{multiversion, sigmoid};
use super::{PIECE, for_each_pair, for_each_piece, output, slice, view};

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
        let (gate, up) = (slice(gate, gate_layout)?, slice(up, up_layout)?);
        let mut out = vec![0f32; gate.len()];
        for_each_piece(&mut out, PIECE, |start, out| {
            let range = start..start + out.len();
            forward(&gate[range.clone()], &up[range], out);
        });
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
        let (gates, ups, grads) = (view(gate)?, view(up)?, view(&grad)?);
        let (gates, ups, grads): (&[f32], &[f32], &[f32]) = (&gates, &ups, &grads);
        let (mut dgate, mut dup) = (vec![0f32; gates.len()], vec![0f32; gates.len()]);
        for_each_pair(&mut dgate, &mut dup, PIECE, |start, dgate, dup| {
            let range = start..start + dgate.len();
            let (gate, up) = (&gates[range.clone()], &ups[range.clone()]);
            backward(gate, up, &grads[range], dgate, dup);
        });
        let dgate = Tensor::from_vec(dgate, gate.shape(), gate.device())?;
        let dup = Tensor::from_vec(dup, up.shape(), up.device())?;
        Ok((Some(dgate), Some(dup)))
    }
}
