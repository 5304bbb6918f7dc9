//! Rotary positions: dimension i of a head is paired with i + c/2 and turned by the row's angle.
//! The gradient is turned back by the same angle. r rows, c width of one head.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::math::multiversion;
use super::{PIECE, copied, for_each_piece, output, slice, view};

/// Which way rows are turned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// By the angle.
    Forward,
    /// By minus the angle.
    Back,
}

/// x `[r, heads·c]`, result alike.
pub(crate) struct Rotary {
    /// Cosines `[r, c/2]`, contiguous.
    pub(crate) cos: Tensor,
    /// Sines `[r, c/2]`, contiguous.
    pub(crate) sin: Tensor,
    /// Heads side by side in a row.
    pub(crate) heads: usize,
}

multiversion! {
    fn turn_head(x: &mut [f32], cos: &[f32], sin: &[f32], sign: f32) {
        let (first, second) = x.split_at_mut(cos.len());
        let pairs = first.iter_mut().zip(second);
        for (((a, b), &cos), &sin) in pairs.zip(cos).zip(sin) {
            let sin = sin * sign;
            (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
        }
    }
}

impl Rotary {
    /// Turns rows of this width in place.
    pub(super) fn turn_rows(&self, x: &mut [f32], width: usize, turn: Turn) -> Result<()> {
        let (cos, sin) = (view(&self.cos)?, view(&self.sin)?);
        let (cos, sin): (&[f32], &[f32]) = (&cos, &sin);
        let c = width / self.heads;
        let sign = match turn {
            Turn::Forward => 1.0,
            Turn::Back => -1.0,
        };
        let rows_per_piece = (PIECE / width).max(1);
        for_each_piece(x, rows_per_piece * width, |start, x| {
            let first_row = start / width;
            for (i, x) in x.chunks_exact_mut(width).enumerate() {
                let angles = (first_row + i) * (c / 2)..(first_row + i + 1) * (c / 2);
                let (cos, sin) = (&cos[angles.clone()], &sin[angles]);
                for x in x.chunks_exact_mut(c) {
                    turn_head(x, cos, sin, sign);
                }
            }
        });
        Ok(())
    }
}

impl CustomOp1 for Rotary {
    fn name(&self) -> &'static str {
        "rotary"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, width) = layout.shape().dims2()?;
        let mut out = copied(slice(x, layout)?);
        self.turn_rows(&mut out, width, Turn::Forward)?;
        output(out, layout.shape())
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        let (_, width) = grad.dims2()?;
        let mut dx = copied(&view(&grad)?);
        self.turn_rows(&mut dx, width, Turn::Back)?;
        Ok(Some(Tensor::from_vec(dx, grad.shape(), grad.device())?))
    }
}
