//! Square convolutions as products with the matrix of columns, tile by tile of whole output rows.
//!
//! ```text
//!   pictures ──pad──▶ planes ──shift by tap──▶ columns [channels·k·k, pixels] ──weight ·──▶ output
//! ```
//!
//! With a stride s a picture is s·s planes, one for each remainder of its coordinates, so that the
//! pixels of a row of columns always lie side by side. The gradient of the input is the same walk the
//! other way round: over output gradients with zeros between them, and the taps in reverse. A 1×1
//! convolution of stride 1 reads its source in place. b batch, k width of the kernel.

use std::ops::Range;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{Shared, math, output, slice, sum_in_order, view, zeros};
use crate::gemm::{Columns, Factor, Into, Matrix, Workers, product_at, product_into};
use crate::{Precision, scratch};

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

/// The walk from source pictures to target pictures: target pixel y meets, through tap t, the source
/// pixel `(y · stride + t - padding) / dilation` where that is whole and inside.
#[derive(Clone, Copy)]
struct Walk {
    source: Pictures,
    target: Pictures,
    k: usize,
    stride: usize,
    dilation: usize,
    padding: isize,
    precision: Precision,
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

impl Walk {
    /// Whether the rows of columns are the planes of the source itself.
    fn is_pointwise(&self) -> bool {
        self.k == 1 && self.stride == 1 && self.dilation == 1 && self.padding == 0
    }

    /// Rows of the matrix of columns.
    fn depth(&self) -> usize {
        self.source.channels * self.k * self.k
    }

    /// Height and width of a padded plane.
    fn plane(&self) -> (usize, usize) {
        let reach = (self.k - 1) / self.stride;
        (self.target.height + reach, self.target.width + reach)
    }

    /// Elements of a padded picture; none where the source is read in place.
    fn padded_len(&self) -> usize {
        let (height, width) = self.plane();
        match self.is_pointwise() {
            true => 0,
            false => self.source.channels * self.stride * self.stride * height * width,
        }
    }

    /// Where each row of columns begins within a padded picture.
    fn offsets(&self) -> Vec<usize> {
        let (height, width) = self.plane();
        let (k, s) = (self.k, self.stride);
        let taps = (0..k * k).map(|tap| (tap / k, tap % k));
        let taps: Vec<usize> = taps
            .map(|(y, x)| ((y % s * s + x % s) * height + y / s) * width + x / s)
            .collect();
        let planes = (0..self.source.channels).map(|channel| channel * s * s * height * width);
        planes
            .flat_map(|plane| taps.iter().map(move |tap| plane + tap))
            .collect()
    }

    /// The source index that a coordinate of the padded picture stands for.
    fn source_index(&self, at: usize, size: usize) -> Option<usize> {
        let at = usize::try_from(at as isize - self.padding).ok()?;
        let index = at / self.dilation;
        (at % self.dilation == 0 && index < size).then_some(index)
    }

    /// Writes the padded planes of one picture.
    fn pad(&self, source: &[f32], out: &mut [f32]) {
        let (height, width) = self.plane();
        let s = self.stride;
        let Pictures {
            height: source_height,
            width: source_width,
            ..
        } = self.source;
        for (index, row) in out.chunks_exact_mut(width.max(1)).enumerate() {
            let (plane, y) = (index / height, index % height);
            let (channel, phase) = (plane / (s * s), plane % (s * s));
            let Some(y) = self.source_index(y * s + phase / s, source_height) else {
                row.fill(0.0);
                continue;
            };
            let start = (channel * source_height + y) * source_width;
            let source = &source[start..start + source_width];
            if s * self.dilation == 1 && self.padding >= 0 {
                let left = (self.padding as usize).min(width);
                let inside = source_width.min(width - left);
                row[..left].fill(0.0);
                row[left..left + inside].copy_from_slice(&source[..inside]);
                row[left + inside..].fill(0.0);
                continue;
            }
            for (x, value) in row.iter_mut().enumerate() {
                let index = self.source_index(x * s + phase % s, source_width);
                *value = index.map_or(0.0, |x| source[x]);
            }
        }
    }

    /// Calls `work` with the padded pictures of a batch, or the pictures themselves where they are
    /// read in place.
    fn with_padded<T>(&self, batch: usize, source: &[f32], work: impl FnOnce(&[f32]) -> T) -> T {
        let len = self.padded_len();
        if len == 0 {
            return work(source);
        }
        scratch::with(batch * len, |padded| {
            padded
                .par_chunks_exact_mut(len)
                .zip(source.par_chunks_exact(self.source.len()))
                .for_each(|(padded, source)| self.pad(source, padded));
            work(padded)
        })
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

    /// The columns of a tile of one picture, `[depth, pixels]`.
    fn columns<'a>(
        &self,
        padded: &'a [f32],
        offsets: &'a [usize],
        (picture, rows): (usize, &Range<usize>),
    ) -> Factor<'a> {
        let pixels = rows.len() * self.target.width;
        if self.is_pointwise() {
            let start = picture * self.source.len() + rows.start * self.target.width;
            let plane = self.source.pixels();
            return Matrix::strided(&padded[start..], self.depth(), pixels, plane).into();
        }
        let (_, pitch) = self.plane();
        let len = self.padded_len();
        let data = &padded[picture * len..][..len][rows.start * pitch..];
        Factor::Columns(Columns::new(
            data,
            offsets,
            (self.target.width, pitch),
            pixels,
        ))
    }

    /// `weight · columns + bias` for a batch; weight `[target channels, depth]`.
    fn apply(
        &self,
        batch: usize,
        source: &[f32],
        weight: &[f32],
        bias: Option<&[f32]>,
    ) -> Vec<f32> {
        let mut out = zeros(batch * self.target.len());
        let shared = Shared::new(&mut out);
        let weight = Matrix::new(weight, self.target.channels, self.depth());
        let offsets = self.offsets();
        self.with_padded(batch, source, |padded| {
            let tiles = self.tiles(batch).into_par_iter().with_max_len(1);
            tiles.for_each(|(picture, rows)| {
                let pixels = rows.len() * self.target.width;
                let start = picture * self.target.len() + rows.start * self.target.width;
                for (channel, &bias) in bias.unwrap_or(&[]).iter().enumerate() {
                    let start = start + channel * self.target.pixels();
                    // SAFETY: tiles are disjoint in every channel; `out` outlives the tasks.
                    unsafe { shared.slice(start..start + pixels) }.fill(bias);
                }
                let pair = (weight, self.columns(padded, &offsets, (picture, &rows)));
                // SAFETY: as above; the rows of the product are the tile's pixels in each channel.
                unsafe {
                    let out = (shared.at(start), self.target.pixels());
                    product_at(self.precision, 1.0, pair, Into::Add, out, Workers::Caller);
                }
            });
        });
        out
    }

    /// `Σ grad · columnsᵀ` over a batch: the gradient of the weight, `[target channels, depth]`.
    fn weight_gradient(&self, batch: usize, source: &[f32], grad: &[f32]) -> Vec<f32> {
        let tiles = self.tiles(batch);
        let len = self.target.channels * self.depth();
        let per_partial = tiles.len().div_ceil(WEIGHT_PARTIALS).max(1);
        let offsets = self.offsets();
        let partials = self.with_padded(batch, source, |padded| {
            let partial = |tiles: &[(usize, Range<usize>)]| {
                let mut total = vec![0f32; len];
                for (picture, rows) in tiles {
                    let pixels = rows.len() * self.target.width;
                    let start = picture * self.target.len() + rows.start * self.target.width;
                    let plane = self.target.pixels();
                    let grad = Matrix::strided(&grad[start..], self.target.channels, pixels, plane);
                    let columns = self.columns(padded, &offsets, (*picture, rows)).t();
                    let (pair, out) = ((grad, columns), &mut total);
                    product_into(self.precision, 1.0, pair, Into::Add, out, Workers::Caller);
                }
                total
            };
            tiles.par_chunks(per_partial).map(partial).collect()
        });
        sum_in_order(partials, len)
    }

    /// The walk of gradients from targets back to sources.
    fn back(&self) -> Self {
        Self {
            source: self.target,
            target: self.source,
            stride: 1,
            dilation: self.stride,
            padding: self.k as isize - 1 - self.padding,
            ..*self
        }
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
            stride: self.stride,
            dilation: 1,
            padding: self.padding as isize,
            precision: self.precision,
        };
        Ok((b, walk))
    }
}

/// weight `[out, in, k·k]` to `[in, out, k·k]` with the taps in reverse.
fn turned(weight: &[f32], out: usize, input: usize) -> Vec<f32> {
    let taps = weight.len() / (out * input).max(1);
    let mut turned = Vec::with_capacity(weight.len());
    for i in 0..input {
        for o in 0..out {
            let start = (o * input + i) * taps;
            turned.extend(weight[start..start + taps].iter().rev());
        }
    }
    turned
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
            let weight = turned(&view(weight)?, out, input);
            let dx = walk.back().apply(b, &grads, &weight, None);
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
