//! The operations networks are made of. Letters: r rows, d width, h heads, c width of one head,
//! m hidden width of the feed-forward part, v vocabulary.

use candle_core::Tensor;

use crate::Result;
use crate::composed;
use crate::packed::Segment;

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
    composed::linear(x, weight)
}

/// Root-mean-square normalisation over the last axis, then a gain.
///
/// # Shapes
/// x `[r, d]`, weight `[d]`, result `[r, d]`.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    composed::rms_norm(x, weight, eps)
}

/// `silu(gate) · up`.
///
/// # Shapes
/// gate `[r, m]`, up `[r, m]`, result `[r, m]`.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    composed::swiglu(gate, up)
}

/// Rotary positions: dimension i is paired with i + c/2 and turned by the row's angles.
///
/// # Shapes
/// x `[r, heads·c]`, cos and sin `[r, c/2]` (f32, constants), result like x.
pub fn rotary(x: &Tensor, cos: &Tensor, sin: &Tensor, heads: usize) -> Result<Tensor> {
    composed::rotary(x, cos, sin, heads)
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
    composed::attention(q, k, v, heads, segments)
}

/// Negative log-likelihood of each row's target under softmax(hidden · headᵀ), in f32.
///
/// # Shapes
/// hidden `[r, d]`, head `[v, d]`, targets `r` ids below v, result `[r]`.
pub fn nll(hidden: &Tensor, head: &Tensor, targets: &[u32]) -> Result<Tensor> {
    composed::nll(hidden, head, targets)
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
    composed::group_norm(x, weight, bias, groups, eps)
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
    composed::conv2d(x, weight, bias, stride, padding)
}
