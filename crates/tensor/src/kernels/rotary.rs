//! Rotary positions: dimension i of a head is paired with i + c/2 and turned by the row's angle.
//! The gradient is turned back by the same angle. r rows, c width of one head.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::math::multiversion;
use super::{PIECE, for_each_piece, output, slice, view, zeros};

/// Which way rows are turned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// By the angle.
    Forward,
    /// By minus the angle.
    Back,
}

/// x `[r, heads·c]`, result alike.
#[derive(Clone)]
pub(crate) struct Rotary {
    /// Cosines `[r, c/2]`, contiguous.
    pub(crate) cos: Tensor,
    /// Sines `[r, c/2]`, contiguous.
    pub(crate) sin: Tensor,
    /// Heads side by side in a row.
    pub(crate) heads: usize,
    /// The direction.
    pub(crate) turn: Turn,
}

multiversion! {
    fn turn_head(x: &[f32], cos: &[f32], sin: &[f32], sign: f32, out: &mut [f32]) {
        let (first, second) = x.split_at(cos.len());
        let (out_first, out_second) = out.split_at_mut(cos.len());
        let inputs = first.iter().zip(second).zip(cos).zip(sin);
        let outputs = out_first.iter_mut().zip(out_second);
        for ((((&a, &b), &cos), &sin), (out_a, out_b)) in inputs.zip(outputs) {
            let sin = sin * sign;
            *out_a = a * cos - b * sin;
            *out_b = b * cos + a * sin;
        }
    }
}

impl Rotary {
    fn turn_rows(&self, x: &[f32], width: usize) -> Result<Vec<f32>> {
        let (cos, sin) = (view(&self.cos)?, view(&self.sin)?);
        let (cos, sin): (&[f32], &[f32]) = (&cos, &sin);
        let c = width / self.heads;
        let sign = match self.turn {
            Turn::Forward => 1.0,
            Turn::Back => -1.0,
        };
        let mut out = zeros(x.len());
        let rows_per_piece = (PIECE / width).max(1);
        for_each_piece(&mut out, rows_per_piece * width, |start, out| {
            let x = x[start..].chunks_exact(width);
            let first_row = start / width;
            for (i, (x, out)) in x.zip(out.chunks_exact_mut(width)).enumerate() {
                let angles = (first_row + i) * (c / 2)..(first_row + i + 1) * (c / 2);
                let (cos, sin) = (&cos[angles.clone()], &sin[angles]);
                for (x, out) in x.chunks_exact(c).zip(out.chunks_exact_mut(c)) {
                    turn_head(x, cos, sin, sign, out);
                }
            }
        });
        Ok(out)
    }
}

impl CustomOp1 for Rotary {
    fn name(&self) -> &'static str {
        "rotary"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, width) = layout.shape().dims2()?;
        output(self.turn_rows(slice(x, layout)?, width)?, layout.shape())
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let turn = match self.turn {
            Turn::Forward => Turn::Back,
            Turn::Back => Turn::Forward,
        };
        let back = Self {
            turn,
            ..self.clone()
        };
        let grad = grad.contiguous()?;
        let (_, width) = grad.dims2()?;
        let dx = back.turn_rows(&view(&grad)?, width)?;
        Ok(Some(Tensor::from_vec(dx, grad.shape(), grad.device())?))
    }
}
