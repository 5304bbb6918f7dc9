//! Square convolutions as matrix products over tiles of whole output rows.
//!
//! ```text
//!   tile of target rows ─► columns [channels·k·k, pixels] ─► weight · columns ─► tile of output
//! ```
//!
//! The gradient of the input is the same walk the other way round: targets are input pixels,
//! sources are output gradients, and the taps run backwards. A 1×1 convolution of stride 1 reads
//! its source in place. b batch, k width of the kernel.

use std::ops::Range;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{Shared, math, output, slice, sum_in_order, view, with_scratch};
use crate::Precision;
use crate::gemm::{Into, Matrix, Workers, product_at, product_into};

/// Elements of the columns of one tile: 256 KiB, which stays in a core's own cache.
const TILE_ELEMENTS: usize = 64 * 1024;

/// Partial sums of the weight gradient.
const WEIGHT_PARTIALS: usize = 8;

/// x `[b, in, height, width]`, weight `[out, in, k, k]`, bias `[out]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conv {
    pub(crate) precision: Precision,
    pub(crate) stride: usize,
    /// Zeros on every side.
    pub(crate) padding: usize,
}

/// Pictures one after another.
#[derive(Clone, Copy)]
struct Pictures {
    channels: usize,
    height: usize,
    width: usize,
}

/// Which source pixel a tap of the kernel reads for a target pixel.
#[derive(Clone, Copy)]
enum Taps {
    /// Targets are outputs: source = target · stride + tap - padding.
    Forward(Conv),
    /// Targets are inputs: source = (target + padding - tap) / stride where that is whole.
    Backward(Conv),
}

/// The walk from source pictures to target pictures.
#[derive(Clone, Copy)]
struct Walk {
    source: Pictures,
    target: Pictures,
    k: usize,
    taps: Taps,
}

impl Conv {
    /// Rows or columns of the output for `size` of the input.
    pub(crate) fn output_size(self, size: usize, k: usize) -> Option<usize> {
        Some((size + 2 * self.padding).checked_sub(k)? / self.stride + 1)
    }
}

impl Pictures {
    fn pixels(self) -> usize {
        self.height * self.width
    }

    fn len(self) -> usize {
        self.channels * self.pixels()
    }
}

impl Taps {
    /// The source index along one axis, when it lies in the picture.
    fn source(self, target: usize, tap: usize, size: usize) -> Option<usize> {
        let source = match self {
            Self::Forward(conv) => (target * conv.stride + tap).checked_sub(conv.padding)?,
            Self::Backward(conv) => {
                let scaled = (target + conv.padding).checked_sub(tap)?;
                if scaled % conv.stride != 0 {
                    return None;
                }
                scaled / conv.stride
            }
        };
        (source < size).then_some(source)
    }

    fn conv(self) -> Conv {
        match self {
            Self::Forward(conv) | Self::Backward(conv) => conv,
        }
    }
}

impl Walk {
    /// Whether the columns are the source itself.
    fn is_pointwise(&self) -> bool {
        let Conv {
            stride, padding, ..
        } = self.taps.conv();
        self.k == 1 && stride == 1 && padding == 0
    }

    /// Rows of the matrix of columns.
    fn depth(&self) -> usize {
        self.source.channels * self.k * self.k
    }

    /// (picture, target rows) of every tile of a batch.
    fn tiles(&self, batch: usize) -> Vec<(usize, Range<usize>)> {
        let per_row = (self.depth() * self.target.width).max(1);
        let rows = (TILE_ELEMENTS / per_row).clamp(1, self.target.height.max(1));
        let height = self.target.height;
        (0..batch)
            .flat_map(|picture| {
                (0..height)
                    .step_by(rows)
                    .map(move |y| (picture, y..(y + rows).min(height)))
            })
            .collect()
    }

    /// Elements of the buffer that [`Walk::columns`] needs.
    fn columns_len(&self, rows: &Range<usize>) -> usize {
        match self.is_pointwise() {
            true => 0,
            false => self.depth() * rows.len() * self.target.width,
        }
    }

    /// The columns of a tile of one picture, `[depth, pixels]`.
    fn columns<'a>(
        &self,
        source: &'a [f32],
        rows: Range<usize>,
        buffer: &'a mut [f32],
    ) -> Matrix<'a> {
        let pixels = rows.len() * self.target.width;
        if self.is_pointwise() {
            let start = rows.start * self.target.width;
            let stride = self.source.pixels();
            return Matrix::strided(&source[start..], self.depth(), pixels, stride);
        }
        let (k, plane) = (self.k, self.source.pixels());
        for (row, out) in buffer.chunks_exact_mut(pixels).enumerate() {
            let source = &source[row / (k * k) * plane..][..plane];
            let tap = (row / k % k, row % k);
            for (y, out) in rows.clone().zip(out.chunks_exact_mut(self.target.width)) {
                self.column_row(source, y, tap, out);
            }
        }
        Matrix::new(buffer, self.depth(), pixels)
    }

    /// What one tap reads for one row of targets.
    fn column_row(&self, plane: &[f32], y: usize, tap: (usize, usize), out: &mut [f32]) {
        let Pictures { height, width, .. } = self.source;
        let Some(y) = self.taps.source(y, tap.0, height) else {
            out.fill(0.0);
            return;
        };
        let source = &plane[y * width..(y + 1) * width];
        let conv = self.taps.conv();
        if conv.stride > 1 {
            for (x, out) in out.iter_mut().enumerate() {
                *out = self.taps.source(x, tap.1, width).map_or(0.0, |x| source[x]);
            }
            return;
        }
        // Neighbouring targets read neighbouring sources, `shift` further on.
        let shift = match self.taps {
            Taps::Forward(conv) => tap.1 as isize - conv.padding as isize,
            Taps::Backward(conv) => conv.padding as isize - tap.1 as isize,
        };
        let end = (width as isize - shift).clamp(0, out.len() as isize) as usize;
        let start = ((-shift).max(0) as usize).min(end);
        out[..start].fill(0.0);
        out[end..].fill(0.0);
        if start < end {
            let from = (start as isize + shift) as usize;
            out[start..end].copy_from_slice(&source[from..from + end - start]);
        }
    }

    /// `weight · columns + bias` for a batch; weight `[target channels, depth]`.
    fn apply(
        &self,
        batch: usize,
        source: &[f32],
        weight: &[f32],
        bias: Option<&[f32]>,
    ) -> Vec<f32> {
        let mut out = vec![0f32; batch * self.target.len()];
        let shared = Shared::new(&mut out);
        let precision = self.taps.conv().precision;
        let weight = Matrix::new(weight, self.target.channels, self.depth());
        self.tiles(batch)
            .into_par_iter()
            .with_max_len(1)
            .for_each(|(picture, rows)| {
                let pixels = rows.len() * self.target.width;
                let start = picture * self.target.len() + rows.start * self.target.width;
                let source = &source[picture * self.source.len()..][..self.source.len()];
                for (channel, &bias) in bias.unwrap_or(&[]).iter().enumerate() {
                    let start = start + channel * self.target.pixels();
                    // SAFETY: tiles are disjoint in every channel; `out` outlives the tasks.
                    unsafe { shared.slice(start..start + pixels) }.fill(bias);
                }
                let stride = self.target.pixels();
                with_scratch(self.columns_len(&rows), |buffer| {
                    let columns = self.columns(source, rows, buffer);
                    // SAFETY: as above; the rows of the product are the tile's pixels in each
                    // channel.
                    unsafe {
                        let (pair, out) = ((weight, columns), (shared.at(start), stride));
                        product_at(precision, 1.0, pair, Into::Add, out, Workers::Caller);
                    }
                });
            });
        out
    }

    /// `Σ grad · columnsᵀ` over a batch: the gradient of the weight, `[target channels, depth]`.
    fn weight_gradient(&self, batch: usize, source: &[f32], grad: &[f32]) -> Vec<f32> {
        let tiles = self.tiles(batch);
        let precision = self.taps.conv().precision;
        let len = self.target.channels * self.depth();
        let per_partial = tiles.len().div_ceil(WEIGHT_PARTIALS).max(1);
        let partials = tiles
            .par_chunks(per_partial)
            .map(|tiles| {
                let mut total = vec![0f32; len];
                for (picture, rows) in tiles {
                    let pixels = rows.len() * self.target.width;
                    let source = &source[picture * self.source.len()..][..self.source.len()];
                    let start = picture * self.target.len() + rows.start * self.target.width;
                    let stride = self.target.pixels();
                    let grad =
                        Matrix::strided(&grad[start..], self.target.channels, pixels, stride);
                    with_scratch(self.columns_len(rows), |buffer| {
                        let columns = self.columns(source, rows.clone(), buffer);
                        let (pair, out) = ((grad, columns.t()), &mut total);
                        product_into(precision, 1.0, pair, Into::Add, out, Workers::Caller);
                    });
                }
                total
            })
            .collect();
        sum_in_order(partials, len)
    }
}

impl Conv {
    /// The forward walk.
    fn walk(self, x: (usize, usize, usize, usize), out: usize, k: usize) -> Result<(usize, Walk)> {
        let (b, channels, height, width) = x;
        let (Some(out_height), Some(out_width)) =
            (self.output_size(height, k), self.output_size(width, k))
        else {
            candle_core::bail!("conv2d: a {k}×{k} kernel does not fit {height}×{width} pixels");
        };
        let walk = Walk {
            source: Pictures {
                channels,
                height,
                width,
            },
            target: Pictures {
                channels: out,
                height: out_height,
                width: out_width,
            },
            k,
            taps: Taps::Forward(self),
        };
        Ok((b, walk))
    }
}

/// weight `[out, in, k·k]` to `[in, out, k·k]`.
fn swap_channels(weight: &[f32], out: usize, input: usize) -> Vec<f32> {
    let taps = weight.len() / (out * input).max(1);
    let mut swapped = Vec::with_capacity(weight.len());
    for i in 0..input {
        for o in 0..out {
            let start = (o * input + i) * taps;
            swapped.extend_from_slice(&weight[start..start + taps]);
        }
    }
    swapped
}

/// `Σ grad` of every channel over batch and pixels.
fn bias_gradient(grad: &[f32], batch: usize, pictures: Pictures) -> Vec<f32> {
    (0..pictures.channels)
        .into_par_iter()
        .map(|channel| {
            let sums = (0..batch).map(|picture| {
                let start = (picture * pictures.channels + channel) * pictures.pixels();
                math::sum(&grad[start..start + pictures.pixels()])
            });
            sums.sum::<f64>() as f32
        })
        .collect()
}

impl CustomOp3 for Conv {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (out, _, k, _) = weight_layout.shape().dims4()?;
        let (b, walk) = self.walk(x_layout.shape().dims4()?, out, k)?;
        let weight = slice(weight, weight_layout)?;
        let bias = slice(bias, bias_layout)?;
        let data = walk.apply(b, slice(x, x_layout)?, weight, Some(bias));
        output(data, (b, out, walk.target.height, walk.target.width))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let (out, input, k, _) = weight.dims4()?;
        let (b, walk) = self.walk(x.dims4()?, out, k)?;
        let grads = view(&grad)?;
        let mut results = (None, None, None);
        if x.track_op() {
            let back = Walk {
                source: walk.target,
                target: walk.source,
                k,
                taps: Taps::Backward(*self),
            };
            let swapped = swap_channels(&view(weight)?, out, input);
            let dx = back.apply(b, &grads, &swapped, None);
            results.0 = Some(Tensor::from_vec(dx, x.shape(), x.device())?);
        }
        if weight.track_op() {
            let dweight = walk.weight_gradient(b, &view(x)?, &grads);
            results.1 = Some(Tensor::from_vec(dweight, weight.shape(), x.device())?);
        }
        if bias.track_op() {
            let dbias = bias_gradient(&grads, b, walk.target);
            results.2 = Some(Tensor::from_vec(dbias, out, x.device())?);
        }
        Ok(results)
    }
}
