//! Every operation of [`crate::ops`] written with plain tensor operations.
//!
//! Slow, obvious, differentiable on every device: the reference of the fused kernels and what runs
//! where none exists. Letters: r rows, d width, h heads, c width of one head, v vocabulary.

use candle_core::{D, DType, Tensor};

use crate::Result;
use crate::ops::{AdamwStep, Heads, Looking};
use crate::packed::Segment;

/// `x · wᵀ`; see [`crate::ops::linear`].
pub fn linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    Ok(x.matmul(&weight.t()?)?)
}

/// See [`crate::ops::add_linear`].
pub fn add_linear(residual: &Tensor, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    Ok((residual + linear(x, weight)?)?)
}

/// See [`crate::ops::gated_linear`].
pub fn gated_linear(x: &Tensor, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    swiglu(&linear(x, gate)?, &linear(x, up)?)
}

/// See [`crate::ops::rms_norm`].
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    // Sums are f32, whatever is summed.
    let wide = x.to_dtype(DType::F32)?;
    let mean_square = wide.sqr()?.mean_keepdim(D::Minus1)?;
    let normed = wide.broadcast_div(&(mean_square + eps)?.sqrt()?)?;
    let scaled = normed.broadcast_mul(&weight.to_dtype(DType::F32)?)?;
    Ok(scaled.to_dtype(x.dtype())?)
}

/// See [`crate::ops::swiglu`].
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    Ok((gate.silu()? * up)?)
}

/// See [`crate::ops::rotary`].
pub fn rotary(x: &Tensor, cos: &Tensor, sin: &Tensor, heads: usize) -> Result<Tensor> {
    let (r, width) = x.dims2()?;
    let c = width / heads;
    // Angles are f32, whatever is turned by them.
    let (dtype, x) = (x.dtype(), x.to_dtype(cos.dtype())?);
    let x = x.reshape((r, heads, 2, c / 2))?;
    let first = x.narrow(2, 0, 1)?.squeeze(2)?;
    let second = x.narrow(2, 1, 1)?.squeeze(2)?;
    let (cos, sin) = (cos.unsqueeze(1)?, sin.unsqueeze(1)?);
    let turned_first = (first.broadcast_mul(&cos)? - second.broadcast_mul(&sin)?)?;
    let turned_second = (second.broadcast_mul(&cos)? + first.broadcast_mul(&sin)?)?;
    let turned = Tensor::stack(&[turned_first, turned_second], 2)?;
    Ok(turned.reshape((r, width))?.to_dtype(dtype)?)
}

/// See [`crate::ops::attention`].
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: Heads,
    segments: &[Segment],
) -> Result<Tensor> {
    let (_, width) = q.dims2()?;
    let c = width / heads.query;
    let scale = 1.0 / (c as f64).sqrt();
    let group = heads.query / heads.key_value;
    // [rows, heads * c] -> [heads, rows, c]
    let split = |x: &Tensor, h: usize| -> Result<Tensor> {
        let x = x.reshape((x.dim(0)?, h, c))?;
        Ok(x.transpose(0, 1)?.contiguous()?)
    };
    let seen = |x: &Tensor, Segment { past, keys, .. }: &Segment| -> Result<Tensor> {
        let keys = x.narrow(0, keys.start, keys.len())?;
        match past.is_empty() {
            true => Ok(keys),
            false => Ok(Tensor::cat(
                &[x.narrow(0, past.start, past.len())?, keys],
                0,
            )?),
        }
    };
    let spread = |x: Tensor| -> Result<Tensor> {
        if group == 1 {
            return Ok(x);
        }
        let (h, l, c) = x.dims3()?;
        let wide = x.unsqueeze(1)?.broadcast_as((h, group, l, c))?;
        Ok(wide.reshape((h * group, l, c))?)
    };
    let mut outputs = Vec::with_capacity(segments.len());
    for segment in segments.iter().filter(|s| !s.queries.is_empty()) {
        let queries = q.narrow(0, segment.queries.start, segment.queries.len())?;
        let q = split(&queries, heads.query)?;
        let k = spread(split(&seen(k, segment)?, heads.key_value)?)?;
        let v = spread(split(&seen(v, segment)?, heads.key_value)?)?;
        let mut scores = (q.matmul(&k.transpose(1, 2)?.contiguous()?)? * scale)?;
        if segment.is_partly_seen() {
            let (rows, l) = (segment.queries.len(), segment.seen());
            let mut offsets = vec![0f32; rows * l];
            for (query, offsets) in segment.queries.clone().zip(offsets.chunks_exact_mut(l)) {
                for unseen in segment.unseen_by(query) {
                    offsets[unseen].fill(f32::NEG_INFINITY);
                }
            }
            let offsets = Tensor::from_vec(offsets, (1, rows, l), scores.device())?;
            scores = scores.broadcast_add(&offsets.to_dtype(scores.dtype())?)?;
        }
        let mixed = softmax(&scores)?.matmul(&v)?;
        let rows = segment.queries.len();
        outputs.push(
            mixed
                .transpose(0, 1)?
                .contiguous()?
                .reshape((rows, width))?,
        );
    }
    if outputs.is_empty() {
        return Ok(q.zeros_like()?);
    }
    Ok(Tensor::cat(&outputs, 0)?)
}

/// See [`crate::ops::feed_forward`].
pub fn feed_forward(x: &Tensor, norm: (&Tensor, f64), weights: [&Tensor; 3]) -> Result<Tensor> {
    let ((gain, eps), [gate, up, out]) = (norm, weights);
    let hidden = gated_linear(&rms_norm(x, gain, eps)?, gate, up)?;
    add_linear(x, &hidden, out)
}

/// See [`crate::ops::self_attention`].
pub fn self_attention(
    x: &Tensor,
    norm: (&Tensor, f64),
    weights: [&Tensor; 4],
    looking: &Looking<'_>,
) -> Result<Tensor> {
    let ((gain, eps), [q, k, v, out]) = (norm, weights);
    let Looking {
        heads, cos, sin, ..
    } = *looking;
    let n = rms_norm(x, gain, eps)?;
    let q = rotary(&linear(&n, q)?, cos, sin, heads.query)?;
    let k = rotary(&linear(&n, k)?, cos, sin, heads.key_value)?;
    let mixed = attention(&q, &k, &linear(&n, v)?, heads, looking.segments)?;
    add_linear(x, &mixed, out)
}

/// See [`crate::ops::nll`].
pub fn nll(hidden: &Tensor, head: &Tensor, targets: &[u32]) -> Result<Tensor> {
    let logits = linear(hidden, head)?.to_dtype(DType::F32)?;
    let max = logits.max_keepdim(D::Minus1)?.detach();
    let shifted = logits.broadcast_sub(&max)?;
    let log_sum = shifted.exp()?.sum(D::Minus1)?.log()?;
    let targets = Tensor::new(targets, hidden.device())?.unsqueeze(1)?;
    let picked = shifted.gather(&targets, 1)?.squeeze(1)?;
    Ok((log_sum - picked)?)
}

/// Softmax over the last axis.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    let max = x.max_keepdim(D::Minus1)?.detach();
    let exp = x.broadcast_sub(&max)?.exp()?;
    let sum = exp.sum_keepdim(D::Minus1)?;
    Ok(exp.broadcast_div(&sum)?)
}

/// See [`crate::ops::group_norm`].
pub fn group_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    groups: usize,
    eps: f64,
) -> Result<Tensor> {
    let (b, c, height, width) = x.dims4()?;
    let grouped = x.reshape((b, groups, c / groups * height * width))?;
    let mean = grouped.mean_keepdim(D::Minus1)?;
    let centred = grouped.broadcast_sub(&mean)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let normed = centred.broadcast_div(&(variance + eps)?.sqrt()?)?;
    let normed = normed.reshape((b, c, height, width))?;
    let weight = weight.reshape((1, c, 1, 1))?;
    let bias = bias.reshape((1, c, 1, 1))?;
    Ok(normed.broadcast_mul(&weight)?.broadcast_add(&bias)?)
}

/// See [`crate::ops::conv2d`].
pub fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    stride: usize,
    padding: usize,
) -> Result<Tensor> {
    let out = x.conv2d(weight, padding, stride, 1, 1)?;
    Ok(out.broadcast_add(&bias.reshape((1, (), 1, 1))?)?)
}

/// See [`crate::ops::group_norm_silu`].
pub fn group_norm_silu(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    groups: usize,
    eps: f64,
) -> Result<Tensor> {
    Ok(group_norm(x, weight, bias, groups, eps)?.silu()?)
}

/// See [`crate::ops::pad_bottom_right`].
pub fn pad_bottom_right(x: &Tensor, n: usize) -> Result<Tensor> {
    Ok(x.pad_with_zeros(2, 0, n)?.pad_with_zeros(3, 0, n)?)
}

/// See [`crate::ops::upsample_nearest2`].
pub fn upsample_nearest2(x: &Tensor) -> Result<Tensor> {
    let (b, c, height, width) = x.dims4()?;
    let x = x.reshape((b * c, height, 1, width, 1))?;
    let doubled = x.broadcast_as((b * c, height, 2, width, 2))?;
    Ok(doubled.reshape((b, c, 2 * height, 2 * width))?)
}

/// See [`crate::ops::adamw_step`].
pub fn adamw_step(
    param: &Tensor,
    grad: &Tensor,
    m: &Tensor,
    v: &Tensor,
    step: &AdamwStep,
) -> Result<()> {
    let grad = (grad.detach() * step.grad_scale)?;
    let new_m = ((m.detach() * step.beta1)? + (&grad * (1.0 - step.beta1))?)?;
    let new_v = ((v.detach() * step.beta2)? + (grad.sqr()? * (1.0 - step.beta2))?)?;
    let correction1 = 1.0 - step.beta1.powf(step.step as f64);
    let correction2 = 1.0 - step.beta2.powf(step.step as f64);
    let root = ((new_v.sqrt()? * (1.0 / correction2.sqrt()))? + step.eps)?;
    let kept = (param.detach() * (1.0 - step.lr * step.weight_decay))?;
    let moved = (kept - ((&new_m / root)? * (step.lr / correction1))?)?;
    for (tensor, new) in [(param, moved), (m, new_m), (v, new_v)] {
        tensor
            .flatten_all()?
            .slice_set(&new.flatten_all()?.contiguous()?, 0, 0)?;
    }
    Ok(())
}

/// See [`crate::ops::blend`].
pub fn blend(x: &Tensor, y: &Tensor, keep: f64, share: f64) -> Result<()> {
    let new = ((x.detach() * keep)? + (y.detach() * share)?)?;
    Ok(x.flatten_all()?
        .slice_set(&new.flatten_all()?.contiguous()?, 0, 0)?)
}

/// See [`crate::ops::put_rows`].
pub fn put_rows(x: &Tensor, rows: &Tensor, places: &[usize]) -> Result<()> {
    for (row, place) in places.iter().enumerate() {
        x.slice_set(&rows.narrow(0, row, 1)?.contiguous()?, 0, *place)?;
    }
    Ok(())
}

/// See [`crate::ops::orthogonalize`].
pub fn orthogonalize(x: &Tensor) -> Result<Tensor> {
    let (rows, cols) = x.dims2()?;
    if rows > cols {
        return Ok(orthogonalize(&x.t()?.contiguous()?)?.t()?.contiguous()?);
    }
    let norm = (x.sqr()?.sum_all()?.sqrt()? + 1e-7)?;
    let mut x = x.broadcast_div(&norm)?;
    for _ in 0..5 {
        let gram = x.matmul(&x.t()?)?;
        let inner = ((&gram * -4.775)? + (gram.matmul(&gram)? * 2.0315)?)?;
        x = ((&x * 3.4445)? + inner.matmul(&x)?)?;
    }
    Ok(x)
}

/// See [`crate::ops::sum_of_squares`].
pub fn sum_of_squares(x: &Tensor) -> Result<f64> {
    Ok(x.detach()
        .to_dtype(DType::F64)?
        .sqr()?
        .sum_all()?
        .to_scalar::<f64>()?)
}
