//! The two halves of a transformer block.

use candle_core::Tensor;

use super::Heads;
use crate::kernels::attention::Attention;
use crate::kernels::halves::{Half, Middle};
use crate::kernels::rotary::Rotary;
use crate::packed::Segment;
use crate::{Precision, Result, check, composed, kernels};

/// How rows look at each other: where they stand, with how many heads, and whom each sees.
#[derive(Debug, Clone, Copy)]
pub struct Looking<'a> {
    /// Heads of queries, and of keys and values.
    pub heads: Heads,
    /// Cosines of the rows' rotary angles, `[r, c/2]`, constants.
    pub cos: &'a Tensor,
    /// Sines of them.
    pub sin: &'a Tensor,
    /// Queries of all rows once, in order; keys among the same rows.
    pub segments: &'a [Segment],
}

/// `x + out(silu(gate n) · up n)` with `n = rms_norm(x)`: [`super::rms_norm`],
/// [`super::gated_linear`] and [`super::add_linear`] as one operation.
///
/// # Shapes
/// x and result `[r, d]`; the norm is a gain `[d]` and what is added to the mean square; the weights
/// are gate and up, `[m, d]`, and out, `[d, m]`.
pub fn feed_forward(x: &Tensor, norm: (&Tensor, f64), weights: [&Tensor; 3]) -> Result<Tensor> {
    let ((gain, eps), [gate, up, out]) = (norm, weights);
    check::norm(x, gain)?;
    check::linear(x, gate)?;
    check::same_shape("feed_forward up", up, gate.dims())?;
    check::same_shape("feed_forward out", out, &[x.dim(1)?, gate.dim(0)?])?;
    if !kernels::fit(&[x, gain, gate, up, out]) {
        return composed::feed_forward(x, norm, weights);
    }
    let weights = [gain, gate, up, out];
    Ok(Half::apply(x, eps, &weights, Middle::Gate)?)
}

/// `x + out(attention(rotary(q n), rotary(k n), v n))` with `n = rms_norm(x)`: the operations of these
/// names, [`super::linear`] and [`super::add_linear`] as one.
///
/// # Shapes
/// x and result `[r, d]`; the norm is a gain `[d]` and what is added to the mean square; the weights
/// are those of q, `[h·c, d]`, of k and v, `[hkv·c, d]`, and out, `[d, h·c]`.
pub fn self_attention(
    x: &Tensor,
    norm: (&Tensor, f64),
    weights: [&Tensor; 4],
    looking: &Looking<'_>,
) -> Result<Tensor> {
    let ((gain, eps), [q, k, v, out]) = (norm, weights);
    let Looking {
        heads,
        cos,
        sin,
        segments,
    } = *looking;
    check::norm(x, gain)?;
    for weight in [q, k] {
        check::linear(x, weight)?;
    }
    check::same_shape("self_attention v", v, k.dims())?;
    let (r, d) = x.dims2()?;
    let (query_width, key_width) = (q.dim(0)?, k.dim(0)?);
    check::same_shape("self_attention out", out, &[d, query_width])?;
    check::attention((r, query_width), (r, key_width), heads, segments)?;
    check::rotary((r, query_width), [cos, sin], heads.query)?;
    if !kernels::fit(&[x, gain, q, k, v, out, cos, sin]) {
        return composed::self_attention(x, norm, weights, looking);
    }
    let (cos, sin) = (cos.detach().contiguous()?, sin.detach().contiguous()?);
    let turns = [heads.query, heads.key_value].map(|heads| Rotary {
        cos: cos.clone(),
        sin: sin.clone(),
        heads,
    });
    let attention = Attention {
        precision: Precision::current(),
        heads,
        segments: segments.to_vec(),
    };
    let middle = Middle::Attention { attention, turns };
    Ok(Half::apply(x, eps, &[gain, q, k, v, out], middle)?)
}
