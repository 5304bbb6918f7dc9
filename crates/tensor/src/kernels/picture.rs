//! Padding and nearest-neighbour doubling of pictures `[b, c, height, width]`.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::{PIECE, for_each_piece, output, slice, view, zeros};

/// Appends rows and columns of zeros at the bottom and the right.
pub(crate) struct PadBottomRight {
    /// How many.
    pub(crate) n: usize,
}

/// Repeats every pixel twice in both directions.
pub(crate) struct UpsampleNearest2;

/// Runs `work(row index, row)` over the rows of `out`, several to a task.
fn for_each_row(out: &mut [f32], width: usize, work: impl Fn(usize, &mut [f32]) + Sync + Send) {
    if width == 0 {
        return;
    }
    for_each_piece(out, (PIECE / width).max(1) * width, |start, piece| {
        for (i, row) in piece.chunks_exact_mut(width).enumerate() {
            work(start / width + i, row);
        }
    });
}

impl CustomOp1 for PadBottomRight {
    fn name(&self) -> &'static str {
        "pad_bottom_right"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(x, layout)?;
        let (b, c, height, width) = layout.shape().dims4()?;
        let (tall, wide) = (height + self.n, width + self.n);
        let mut out = zeros(b * c * tall * wide);
        for_each_row(&mut out, wide, |row, out| {
            let (picture, y) = (row / tall, row % tall);
            if y < height {
                let start = (picture * height + y) * width;
                out[..width].copy_from_slice(&x[start..start + width]);
            }
        });
        output(out, (b, c, tall, wide))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        let (_, _, height, width) = x.dims4()?;
        let (tall, wide) = (height + self.n, width + self.n);
        let mut dx = zeros(x.elem_count());
        let grads = view(&grad)?;
        let grads: &[f32] = &grads;
        for_each_row(&mut dx, width, |row, dx| {
            let start = (row / height * tall + row % height) * wide;
            dx.copy_from_slice(&grads[start..start + width]);
        });
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
    }
}

impl CustomOp1 for UpsampleNearest2 {
    fn name(&self) -> &'static str {
        "upsample_nearest2"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(x, layout)?;
        let (b, c, height, width) = layout.shape().dims4()?;
        let mut out = zeros(4 * x.len());
        // Row `row` of the output repeats row `row / 2` of the input: heights double too.
        for_each_row(&mut out, 2 * width, |row, out| {
            let start = row / 2 * width;
            let x = &x[start..start + width];
            for (pair, &x) in out.chunks_exact_mut(2).zip(x) {
                pair.fill(x);
            }
        });
        output(out, (b, c, 2 * height, 2 * width))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        let (_, _, _, width) = x.dims4()?;
        let mut dx = zeros(x.elem_count());
        let grads = view(&grad)?;
        let grads: &[f32] = &grads;
        for_each_row(&mut dx, width, |row, dx| {
            let start = 4 * row * width;
            let (upper, lower) = grads[start..start + 4 * width].split_at(2 * width);
            let pairs = upper.chunks_exact(2).zip(lower.chunks_exact(2));
            for (dx, (upper, lower)) in dx.iter_mut().zip(pairs) {
                *dx = (upper[0] + upper[1]) + (lower[0] + lower[1]);
            }
        });
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
    }
}
