//! Root-mean-square normalisation and group normalisation (alone or followed by SiLU).
//!
//! Both recompute their statistics in the backward pass: one reading of x is cheaper than keeping
//! a normalised copy. r rows, d width, c channels.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::math::{multiversion, sigmoid, sum_of};
use super::{
    PIECE, Shared, for_each_piece, for_each_task, output, slice, sum_in_order, view, zeros,
};

/// x `[r, d]`, weight `[d]` to `[r, d]`.
pub(crate) struct RmsNorm {
    /// Added to the mean square.
    pub(crate) eps: f64,
}

multiversion! {
    pub(crate) fn rms_row(x: &[f32], weight: &[f32], eps: f64, out: &mut [f32]) {
        let mean_square = sum_of([x], |[x]| x * x) / x.len() as f64;
        let inverse = (1.0 / (mean_square + eps).sqrt()) as f32;
        for ((out, &x), &w) in out.iter_mut().zip(x).zip(weight) {
            *out = x * inverse * w;
        }
    }
}

multiversion! {
    /// Adds to both gradients.
    fn rms_row_backward(
        x: &[f32],
        weight: &[f32],
        grad: &[f32],
        eps: f64,
        dx: &mut [f32],
        dweight: &mut [f32],
    ) {
        let width = x.len() as f64;
        let inverse = 1.0 / (sum_of([x], |[x]| x * x) / width + eps).sqrt();
        let along = sum_of([x, weight, grad], |[x, w, g]| g * w * x);
        let pull = (inverse * inverse * inverse * along / width) as f32;
        let inverse = inverse as f32;
        for (((dx, &x), &w), &g) in dx.iter_mut().zip(x).zip(weight).zip(grad) {
            *dx += g * w * inverse - x * pull;
        }
        for ((dw, &x), &g) in dweight.iter_mut().zip(x).zip(grad) {
            *dw += g * (x * inverse);
        }
    }
}

impl RmsNorm {
    /// The normalised rows.
    pub(super) fn forward(&self, x: &[f32], weight: &[f32]) -> Vec<f32> {
        let d = weight.len();
        let mut out = zeros(x.len());
        for_each_piece(&mut out, (PIECE / d).max(1) * d, |start, out| {
            for (x, out) in x[start..].chunks_exact(d).zip(out.chunks_exact_mut(d)) {
                rms_row(x, weight, self.eps, out);
            }
        });
        out
    }

    /// Adds the gradient of x to `dx`; returns that of the weight.
    pub(super) fn backward(
        &self,
        x: &[f32],
        weight: &[f32],
        grad: &[f32],
        dx: &mut [f32],
    ) -> Vec<f32> {
        let d = weight.len();
        let piece = (PIECE / d).max(1) * d;
        let partials: Vec<Vec<f32>> = dx
            .par_chunks_mut(piece)
            .zip(x.par_chunks(piece).zip(grad.par_chunks(piece)))
            .map(|(dx, (x, grad))| {
                let mut dweight = vec![0f32; d];
                let rows = x.chunks_exact(d).zip(grad.chunks_exact(d));
                for (dx, (x, grad)) in dx.chunks_exact_mut(d).zip(rows) {
                    rms_row_backward(x, weight, grad, self.eps, dx, &mut dweight);
                }
                dweight
            })
            .collect();
        sum_in_order(partials, d)
    }
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (slice(x, x_layout)?, slice(weight, weight_layout)?);
        output(self.forward(x, weight), x_layout.shape())
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let (xs, weights) = (view(x)?, view(weight)?);
        let mut dx = zeros(xs.len());
        let dweight = self.backward(&xs, &weights, &view(&grad)?, &mut dx);
        let dx = Tensor::from_vec(dx, x.shape(), x.device())?;
        let dweight = Tensor::from_vec(dweight, weight.shape(), weight.device())?;
        Ok((Some(dx), Some(dweight)))
    }
}

/// What follows a group normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// Nothing.
    Nothing,
    /// `x · sigmoid(x)`.
    Silu,
}

/// x `[b, c, height, width]`, weight and bias `[c]`, result like x.
pub(crate) struct GroupNorm {
    /// Groups of channels that share their statistics; divides c.
    pub(crate) groups: usize,
    /// Added to the variance.
    pub(crate) eps: f64,
    /// What follows.
    pub(crate) then: Then,
}

/// Mean, and one over the standard deviation.
#[derive(Clone, Copy)]
struct Moments {
    mean: f32,
    inverse: f32,
}

multiversion! {
    fn moments(x: &[f32], eps: f64) -> Moments {
        let n = x.len() as f64;
        let mean = (sum_of([x], |[x]| x) / n) as f32;
        let variance = sum_of([x], |[x]| (x - mean) * (x - mean)) / n;
        Moments { mean, inverse: (1.0 / (variance + eps).sqrt()) as f32 }
    }
}

multiversion! {
    fn affine(x: &[f32], scale: f32, offset: f32, out: &mut [f32]) {
        for (out, &x) in out.iter_mut().zip(x) {
            *out = x * scale + offset;
        }
    }
}

multiversion! {
    fn affine_silu(x: &[f32], scale: f32, offset: f32, out: &mut [f32]) {
        for (out, &x) in out.iter_mut().zip(x) {
            let z = x * scale + offset;
            *out = z * sigmoid::<FMA>(z);
        }
    }
}

multiversion! {
    /// Gradient before the SiLU of `z = x · scale + offset`.
    fn silu_backward(x: &[f32], grad: &[f32], scale: f32, offset: f32, dz: &mut [f32]) {
        for ((dz, &x), &g) in dz.iter_mut().zip(x).zip(grad) {
            let z = x * scale + offset;
            let s = sigmoid::<FMA>(z);
            *dz = g * (s + z * s * (1.0 - s));
        }
    }
}

multiversion! {
    /// `Σ dz` and `Σ dz · (x - mean)` of one channel.
    fn channel_sums(x: &[f32], dz: &[f32], mean: f32) -> (f64, f64) {
        let plain = sum_of([dz], |[dz]| dz);
        let along = sum_of([x, dz], |[x, dz]| dz * (x - mean));
        (plain, along)
    }
}

multiversion! {
    /// `dx = dz · scale - level - (x - mean) · slope`, over `dz` in place.
    fn finish_channel(x: &[f32], dx: &mut [f32], mean: f32, scale: f32, level: f32, slope: f32) {
        for (dx, &x) in dx.iter_mut().zip(x) {
            *dx = *dx * scale - level - (x - mean) * slope;
        }
    }
}

impl GroupNorm {
    /// One group forward: `x` and `out` hold its channels one after another.
    fn forward(&self, x: &[f32], weight: &[f32], bias: &[f32], out: &mut [f32]) {
        let Moments { mean, inverse } = moments(x, self.eps);
        let pixels = x.len() / weight.len();
        let channels = x.chunks_exact(pixels).zip(out.chunks_exact_mut(pixels));
        for ((x, out), (&weight, &bias)) in channels.zip(weight.iter().zip(bias)) {
            let scale = inverse * weight;
            let offset = bias - mean * scale;
            match self.then {
                Then::Nothing => affine(x, scale, offset, out),
                Then::Silu => affine_silu(x, scale, offset, out),
            }
        }
    }

    /// One group backward; `dweight` and `dbias` are those of its channels.
    fn backward(
        &self,
        operands: Operands<'_>,
        dx: &mut [f32],
        dweight: &mut [f32],
        dbias: &mut [f32],
    ) {
        let Operands {
            x,
            weight,
            bias,
            grad,
        } = operands;
        let Moments { mean, inverse } = moments(x, self.eps);
        let pixels = x.len() / weight.len();
        let (mut level, mut slope) = (0f64, 0f64);
        for channel in 0..weight.len() {
            let range = channel * pixels..(channel + 1) * pixels;
            let (x, grad, dz) = (&x[range.clone()], &grad[range.clone()], &mut dx[range]);
            let scale = inverse * weight[channel];
            match self.then {
                Then::Nothing => dz.copy_from_slice(grad),
                Then::Silu => silu_backward(x, grad, scale, bias[channel] - mean * scale, dz),
            }
            let (plain, along) = channel_sums(x, dz, mean);
            dbias[channel] = plain as f32;
            dweight[channel] = (along * f64::from(inverse)) as f32;
            level += plain * f64::from(scale);
            slope += along * f64::from(scale);
        }
        let n = x.len() as f64;
        let level = (level / n) as f32;
        let slope = (slope * f64::from(inverse) * f64::from(inverse) / n) as f32;
        let channels = x.chunks_exact(pixels).zip(dx.chunks_exact_mut(pixels));
        for ((x, dx), &weight) in channels.zip(weight) {
            finish_channel(x, dx, mean, inverse * weight, level, slope);
        }
    }
}

/// What the backward pass of one group reads.
#[derive(Clone, Copy)]
struct Operands<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    grad: &'a [f32],
}

impl CustomOp3 for GroupNorm {
    fn name(&self) -> &'static str {
        "group_norm"
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
        let x = slice(x, x_layout)?;
        let (weight, bias) = (slice(weight, weight_layout)?, slice(bias, bias_layout)?);
        let (b, c, height, width) = x_layout.shape().dims4()?;
        let channels = c / self.groups;
        let mut out = zeros(x.len());
        let size = channels * height * width;
        if size > 0 {
            let shared = Shared::new(&mut out);
            for_each_task(b * self.groups, |task| {
                let range = task * size..(task + 1) * size;
                let first = task % self.groups * channels;
                let of_group = first..first + channels;
                // SAFETY: tasks own disjoint ranges of `out`, which outlives them.
                let out = unsafe { shared.slice(range.clone()) };
                self.forward(&x[range], &weight[of_group.clone()], &bias[of_group], out);
            });
        }
        output(out, x_layout.shape())
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
        let (b, c, height, width) = x.dims4()?;
        let channels = c / self.groups;
        let size = channels * height * width;
        let (xs, weights, biases, grads) = (view(x)?, view(weight)?, view(bias)?, view(&grad)?);
        let (xs, weights, biases, grads): (&[f32], &[f32], &[f32], &[f32]) =
            (&xs, &weights, &biases, &grads);
        let mut dx = zeros(xs.len());
        let (mut dweights, mut dbiases) = (vec![0f32; b * c], vec![0f32; b * c]);
        if size > 0 {
            let (dx, dw, db) = (
                Shared::new(&mut dx),
                Shared::new(&mut dweights),
                Shared::new(&mut dbiases),
            );
            for_each_task(b * self.groups, |task| {
                let range = task * size..(task + 1) * size;
                let first = task % self.groups * channels;
                let of_group = first..first + channels;
                let of_task = task * channels..(task + 1) * channels;
                let operands = Operands {
                    x: &xs[range.clone()],
                    weight: &weights[of_group.clone()],
                    bias: &biases[of_group],
                    grad: &grads[range.clone()],
                };
                // SAFETY: tasks own disjoint ranges of the three buffers, which outlive them.
                let (dx, dw, db) = unsafe {
                    (
                        dx.slice(range),
                        dw.slice(of_task.clone()),
                        db.slice(of_task),
                    )
                };
                self.backward(operands, dx, dw, db);
            });
        }
        let over_batch =
            |data: &[f32]| sum_in_order(data.chunks(c).map(<[f32]>::to_vec).collect(), c);
        let dx = Tensor::from_vec(dx, x.shape(), x.device())?;
        let dweight = Tensor::from_vec(over_batch(&dweights), c, x.device())?;
        let dbias = Tensor::from_vec(over_batch(&dbiases), c, x.device())?;
        Ok((Some(dx), Some(dweight), Some(dbias)))
    }
}
