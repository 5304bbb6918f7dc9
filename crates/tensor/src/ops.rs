//! The operations networks are made of. Letters: r rows, d width, h heads, c width of one head,
//! m hidden width of the feed-forward part, v vocabulary.

mod halves;

use candle_core::Tensor;

use crate::check;
use crate::composed;
use crate::kernels;
use crate::kernels::activation::{GatedLinear, Swiglu};
use crate::kernels::attention::Attention;
use crate::kernels::conv::Conv;
use crate::kernels::linear::{AddLinear, Linear};
use crate::kernels::loss::Nll;
use crate::kernels::memory::PutRows;
use crate::kernels::norm::{GroupNorm, RmsNorm, Then};
use crate::kernels::optimizer::{Blend, Moment, UpdateMoment, UpdateParam};
use crate::kernels::picture::{PadBottomRight, UpsampleNearest2};
use crate::kernels::rotary::Rotary;
use crate::packed::Segment;
use crate::{Error, Precision, Result};

pub use halves::{Looking, feed_forward, self_attention};

/// How many attention heads look, and how many are looked at (fewer in grouped-query attention).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub query: usize,
    /// Key and value heads; divides `query`.
    pub key_value: usize,
}

/// `x · weightᵀ`.
///
/// # Shapes
/// x `[r, in]`, weight `[out, in]`, result `[r, out]`.
pub fn linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    check::linear(x, weight)?;
    if !kernels::fit(&[x, weight]) {
        return composed::linear(x, weight);
    }
    Ok(x.contiguous()?
        .apply_op2(&weight.contiguous()?, Linear(Precision::current()))?)
}

/// `residual + x · weightᵀ`: a linear layer into a residual stream, with one pass less over memory
/// in each direction.
///
/// # Shapes
/// residual `[r, out]`, x `[r, in]`, weight `[out, in]`, result `[r, out]`.
pub fn add_linear(residual: &Tensor, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    check::linear(x, weight)?;
    check::same_shape(
        "add_linear residual",
        residual,
        &[x.dim(0)?, weight.dim(0)?],
    )?;
    if !kernels::fit(&[residual, x, weight]) {
        return composed::add_linear(residual, x, weight);
    }
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    Ok(residual
        .contiguous()?
        .apply_op3(&x, &weight, AddLinear(Precision::current()))?)
}

/// `silu(x · gateᵀ) · (x · upᵀ)`: [`swiglu`] with the two layers that feed it.
///
/// # Shapes
/// x `[r, d]`, gate and up `[m, d]`, result `[r, m]`.
pub fn gated_linear(x: &Tensor, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    check::linear(x, gate)?;
    check::same_shape("gated_linear up", up, gate.dims())?;
    if !kernels::fit(&[x, gate, up]) {
        return composed::gated_linear(x, gate, up);
    }
    let (gate, up) = (gate.contiguous()?, up.contiguous()?);
    Ok(x.contiguous()?
        .apply_op3(&gate, &up, GatedLinear::new(Precision::current()))?)
}

/// Root-mean-square normalisation over the last axis, then a gain.
///
/// # Shapes
/// x `[r, d]`, weight `[d]`, result `[r, d]`.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    check::norm(x, weight)?;
    if !kernels::fit(&[x, weight]) {
        return composed::rms_norm(x, weight, eps);
    }
    Ok(x.contiguous()?
        .apply_op2(&weight.contiguous()?, RmsNorm { eps })?)
}

/// `silu(gate) · up`.
///
/// # Shapes
/// gate `[r, m]`, up `[r, m]`, result `[r, m]`.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    check::same_shape("swiglu up", up, gate.dims())?;
    if !kernels::fit(&[gate, up]) {
        return composed::swiglu(gate, up);
    }
    Ok(gate.contiguous()?.apply_op2(&up.contiguous()?, Swiglu)?)
}

/// Rotary positions: dimension i is paired with i + c/2 and turned by the row's angles.
///
/// # Shapes
/// x `[r, heads·c]`, cos and sin `[r, c/2]` (f32, constants), result like x.
pub fn rotary(x: &Tensor, cos: &Tensor, sin: &Tensor, heads: usize) -> Result<Tensor> {
    check::rotary(x.dims2()?, [cos, sin], heads)?;
    if !kernels::fit(&[x, cos, sin]) {
        return composed::rotary(x, cos, sin, heads);
    }
    let op = Rotary {
        cos: cos.detach().contiguous()?,
        sin: sin.detach().contiguous()?,
        heads,
    };
    Ok(x.contiguous()?.apply_op1(op)?)
}

/// Softmax attention within segments, scaled by 1/√c. Segments list every query row once, in order.
///
/// # Shapes
/// q `[rq, h·c]`, k and v `[rk, hkv·c]`, result `[rq, h·c]`.
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: Heads,
    segments: &[Segment],
) -> Result<Tensor> {
    check::attention(q.dims2()?, k.dims2()?, heads, segments)?;
    check::same_shape("attention v", v, k.dims())?;
    if !kernels::fit(&[q, k, v]) {
        return composed::attention(q, k, v, heads, segments);
    }
    let op = Attention {
        precision: Precision::current(),
        heads,
        segments: segments.to_vec(),
    };
    Ok(q.contiguous()?
        .apply_op3(&k.contiguous()?, &v.contiguous()?, op)?)
}

/// Negative log-likelihood of each row's target under softmax(hidden · headᵀ), in f32.
///
/// # Shapes
/// hidden `[r, d]`, head `[v, d]`, targets `r` ids below v, result `[r]`.
pub fn nll(hidden: &Tensor, head: &Tensor, targets: &[u32]) -> Result<Tensor> {
    let ((r, d), (v, width)) = (hidden.dims2()?, head.dims2()?);
    if d != width || d == 0 || v == 0 {
        return Err(Error::shape(
            "nll head",
            format!("[v, {d}], not empty"),
            format!("{:?}", head.dims()),
        ));
    }
    if targets.len() != r {
        return Err(Error::shape(
            "nll targets",
            format!("{r}, one per row"),
            targets.len(),
        ));
    }
    if let Some(target) = targets.iter().find(|&&t| t as usize >= v) {
        return Err(Error::shape(
            "nll targets",
            format!("ids below {v}"),
            target,
        ));
    }
    if !kernels::fit(&[hidden, head]) {
        return composed::nll(hidden, head, targets);
    }
    Ok(hidden
        .contiguous()?
        .apply_op2(&head.contiguous()?, Nll::new(targets, Precision::current()))?)
}

/// Group normalisation with a gain and an offset per channel.
///
/// # Shapes
/// x `[b, c, height, width]`, weight and bias `[c]`, result like x.
pub fn group_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    groups: usize,
    eps: f64,
) -> Result<Tensor> {
    check::group_norm(x, weight, bias, groups)?;
    if !kernels::fit(&[x, weight, bias]) {
        return composed::group_norm(x, weight, bias, groups, eps);
    }
    let then = Then::Nothing;
    fused_group_norm(x, weight, bias, GroupNorm { groups, eps, then })
}

/// Square convolution with zero padding on all sides and a bias.
///
/// # Shapes
/// x `[b, in, height, width]`, weight `[out, in, k, k]`, bias `[out]`.
pub fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    stride: usize,
    padding: usize,
) -> Result<Tensor> {
    let ((_, c, height, width), (out, input, k, k2)) = (x.dims4()?, weight.dims4()?);
    if input != c || k != k2 || k == 0 {
        let expected = format!("[out, {c}, k, k]");
        return Err(Error::shape(
            "conv2d weight",
            expected,
            format!("{:?}", weight.dims()),
        ));
    }
    if bias.dims() != [out] {
        return Err(Error::shape(
            "conv2d bias",
            format!("[{out}]"),
            format!("{:?}", bias.dims()),
        ));
    }
    if stride == 0 || height.min(width) + 2 * padding < k {
        let expected = format!("a stride of 1 or more and at least {k}×{k} pixels with padding");
        let got = format!("stride {stride}, {height}×{width} pixels, padding {padding}");
        return Err(Error::shape("conv2d x", expected, got));
    }
    if !kernels::fit(&[x, weight, bias]) {
        return composed::conv2d(x, weight, bias, stride, padding);
    }
    let (x, weight, bias) = (x.contiguous()?, weight.contiguous()?, bias.contiguous()?);
    let op = Conv {
        precision: Precision::current(),
        stride,
        padding,
    };
    Ok(x.apply_op3(&weight, &bias, op)?)
}

/// `silu(group_norm(x))` in one pass over memory; see [`group_norm`].
pub fn group_norm_silu(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    groups: usize,
    eps: f64,
) -> Result<Tensor> {
    check::group_norm(x, weight, bias, groups)?;
    if !kernels::fit(&[x, weight, bias]) {
        return composed::group_norm_silu(x, weight, bias, groups, eps);
    }
    let then = Then::Silu;
    fused_group_norm(x, weight, bias, GroupNorm { groups, eps, then })
}

/// Appends `n` rows and columns of zeros at the bottom and the right of every picture.
///
/// # Shapes
/// x `[b, c, height, width]`, result `[b, c, height + n, width + n]`.
pub fn pad_bottom_right(x: &Tensor, n: usize) -> Result<Tensor> {
    x.dims4()?;
    if !kernels::fit(&[x]) {
        return composed::pad_bottom_right(x, n);
    }
    Ok(x.contiguous()?.apply_op1(PadBottomRight { n })?)
}

/// Doubles height and width by repeating every pixel.
///
/// # Shapes
/// x `[b, c, height, width]`, result `[b, c, 2·height, 2·width]`.
pub fn upsample_nearest2(x: &Tensor) -> Result<Tensor> {
    x.dims4()?;
    if !kernels::fit(&[x]) {
        return composed::upsample_nearest2(x);
    }
    Ok(x.contiguous()?.apply_op1(UpsampleNearest2)?)
}

/// One step of AdamW: the constants of the run and where in the run it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamwStep {
    /// Learning rate of this step.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay; 0 for gains and biases.
    pub weight_decay: f64,
    /// Steps taken including this one; the first is 1.
    pub step: u64,
    /// The gradient is multiplied by this first (clipping, averaging); 1 leaves it alone.
    pub grad_scale: f64,
}

/// Updates `param` and its moments `m` and `v` in place with AdamW (decoupled weight decay, bias
/// correction, in the order of `torch.optim.AdamW`).
///
/// # Shapes
/// All four alike and contiguous; their storages must differ.
///
/// # Errors
/// When shapes differ or `step` is 0.
pub fn adamw_step(
    param: &Tensor,
    grad: &Tensor,
    m: &Tensor,
    v: &Tensor,
    step: &AdamwStep,
) -> Result<()> {
    check::same_shape("adamw_step grad", grad, param.dims())?;
    check::same_shape("adamw_step m", m, param.dims())?;
    check::same_shape("adamw_step v", v, param.dims())?;
    if step.step == 0 {
        return Err(Error::shape("adamw_step step", "1 or more", 0));
    }
    if !kernels::fit(&[param, grad, m, v]) {
        return composed::adamw_step(param, grad, m, v, step);
    }
    let grad = grad.contiguous()?;
    for (tensor, moment) in [(m, Moment::First), (v, Moment::Second)] {
        tensor.inplace_op2(&grad, &UpdateMoment { step, moment })?;
    }
    Ok(param.inplace_op3(m, v, &UpdateParam { step })?)
}

/// Updates `x` in place to `keep · x + share · y`: a momentum, a moving average.
///
/// # Shapes
/// Both alike and contiguous; their storages must differ.
pub fn blend(x: &Tensor, y: &Tensor, keep: f64, share: f64) -> Result<()> {
    check::same_shape("blend y", y, x.dims())?;
    if !kernels::fit(&[x, y]) {
        return composed::blend(x, y, keep, share);
    }
    let (keep, share) = (keep as f32, share as f32);
    Ok(x.inplace_op2(&y.contiguous()?, &Blend { keep, share })?)
}

/// Overwrites rows of `x` in place: row i of `rows` becomes row `places[i]` of `x`. Carries no
/// gradient.
///
/// # Shapes
/// x `[capacity, width]` and contiguous, rows `[places.len(), width]`; their storages must differ.
///
/// # Errors
/// When shapes differ, a place lies beyond the capacity or is named twice.
pub fn put_rows(x: &Tensor, rows: &Tensor, places: &[usize]) -> Result<()> {
    check::put_rows(x, rows, places)?;
    if places.is_empty() {
        return Ok(());
    }
    let rows = rows.detach().contiguous()?;
    if !kernels::fit(&[x, &rows]) {
        return composed::put_rows(x, &rows, places);
    }
    Ok(x.inplace_op2(&rows, &PutRows { places })?)
}

/// A matrix of the same singular vectors whose singular values are near one: the direction of a
/// Muon step (Jordan et al. 2024). Carries no gradient.
///
/// # Shapes
/// x and result `[rows, cols]`.
pub fn orthogonalize(x: &Tensor) -> Result<Tensor> {
    let (rows, cols) = x.dims2()?;
    let x = x.detach();
    if !kernels::fit(&[&x]) {
        return composed::orthogonalize(&x);
    }
    let x = x.contiguous()?;
    let out = kernels::orthogonal::orthogonalize(&kernels::view(&x)?, rows, cols);
    Ok(Tensor::from_vec(out, (rows, cols), x.device())?)
}

/// The sum of the squares of all elements, the same whatever the number of threads.
pub fn sum_of_squares(x: &Tensor) -> Result<f64> {
    if !kernels::fit(&[x]) {
        return composed::sum_of_squares(x);
    }
    let x = x.contiguous()?;
    let elements = kernels::view(&x)?;
    Ok(kernels::math::sum_of_squares(&elements))
}

/// Turns a row of logits, on the host, into their unnormalised probabilities `exp(x - largest)`,
/// and returns the largest logit and the sum of the row: all that a sampler asks of a
/// distribution, in two passes of f32. Logits of minus infinity become 0; infinity and NaN come
/// back in the results.
pub fn exponentials(row: &mut [f32]) -> (f32, f64) {
    kernels::math::exponentials(row)
}

fn fused_group_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, op: GroupNorm) -> Result<Tensor> {
    let (x, weight, bias) = (x.contiguous()?, weight.contiguous()?, bias.contiguous()?);
    Ok(x.apply_op3(&weight, &bias, op)?)
}
