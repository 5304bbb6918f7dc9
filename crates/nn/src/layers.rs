//! Layers that the frozen judges share: what the published vision and text transformers are made of.
//!
//! ```text
//!   before   x += attend(norm1 x) ;  x += mlp(norm2 x)          CLIP, and BLIP's pictures
//! ```
//!
//! These networks only look, so their layers are written with plain operations and carry no fused
//! backward. Letters: r packed rows, d width, b pictures, s side, p side of a patch, n patches.

use mmada_tensor::ops::{self, Heads};
use mmada_tensor::{D, Segment, Tensor};

use crate::{Params, Result};

/// A linear layer with an offset.
#[derive(Debug, Clone)]
pub(crate) struct Affine {
    weight: Tensor,
    bias: Tensor,
}

impl Affine {
    pub(crate) fn load(params: &Params, name: &str, output: usize, input: usize) -> Result<Self> {
        Ok(Self {
            weight: params.get(&format!("{name}.weight"), &[output, input])?,
            bias: params.get(&format!("{name}.bias"), &[output])?,
        })
    }

    /// Three layers of one input that were stored as one.
    pub(crate) fn thirds(&self) -> Result<[Self; 3]> {
        let width = self.bias.dim(0)? / 3;
        let third = |index: usize| -> Result<Self> {
            Ok(Self {
                weight: self.weight.narrow(0, index * width, width)?.contiguous()?,
                bias: self.bias.narrow(0, index * width, width)?.contiguous()?,
            })
        };
        Ok([third(0)?, third(1)?, third(2)?])
    }

    /// # Shapes
    /// x `[r, in]`, result `[r, out]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(ops::linear(x, &self.weight)?.broadcast_add(&self.bias)?)
    }
}

/// Normalisation to mean 0 and variance 1 over the last axis, with a gain and an offset.
#[derive(Debug, Clone)]
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    pub(crate) fn load(params: &Params, name: &str, width: usize, eps: f64) -> Result<Self> {
        Ok(Self {
            weight: params.get(&format!("{name}.weight"), &[width])?,
            bias: params.get(&format!("{name}.bias"), &[width])?,
            eps,
        })
    }

    /// # Shapes
    /// x `[r, d]`, result like x.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        let scaled = centred.broadcast_div(&(variance + self.eps)?.sqrt()?)?;
        Ok(scaled
            .broadcast_mul(&self.weight)?
            .broadcast_add(&self.bias)?)
    }
}

/// The bend between the two layers of a feed-forward part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x · sigmoid(1.702 x)`, OpenAI's.
    QuickGelu,
    /// `x · Φ(x)`.
    Gelu,
}

impl Activation {
    fn forward(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::QuickGelu => (x / ((x * -1.702)?.exp()? + 1.0)?)?,
            Self::Gelu => x.gelu_erf()?,
        })
    }
}

/// Two linear layers with a bend between them.
#[derive(Debug, Clone)]
pub(crate) struct FeedForward {
    pub(crate) into: Affine,
    pub(crate) out: Affine,
    pub(crate) activation: Activation,
}

impl FeedForward {
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.out
            .forward(&self.activation.forward(&self.into.forward(x)?)?)
    }
}

/// Attention of rows to rows, of the same sequence or of another.
#[derive(Debug, Clone)]
pub(crate) struct Attention {
    pub(crate) query: Affine,
    pub(crate) key: Affine,
    pub(crate) value: Affine,
    pub(crate) out: Affine,
    pub(crate) heads: usize,
}

impl Attention {
    /// # Shapes
    /// x `[rq, d]`, context `[rk, width of the context]`, result `[rq, d]`.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        context: &Tensor,
        segments: &[Segment],
    ) -> Result<Tensor> {
        let heads = Heads {
            query: self.heads,
            key_value: self.heads,
        };
        let (q, k) = (self.query.forward(x)?, self.key.forward(context)?);
        let v = self.value.forward(context)?;
        let mixed = ops::attention(&q, &k, &v, heads, segments)?;
        self.out.forward(&mixed)
    }
}

/// A transformer block that normalises before each part.
#[derive(Debug, Clone)]
pub(crate) struct PreNormBlock {
    pub(crate) norm1: LayerNorm,
    pub(crate) attention: Attention,
    pub(crate) norm2: LayerNorm,
    pub(crate) mlp: FeedForward,
}

impl PreNormBlock {
    /// # Shapes
    /// x and result `[r, d]`.
    pub(crate) fn forward(&self, x: &Tensor, segments: &[Segment]) -> Result<Tensor> {
        let normed = self.norm1.forward(x)?;
        let x = (x + self.attention.forward(&normed, &normed, segments)?)?;
        Ok((&x + self.mlp.forward(&self.norm2.forward(&x)?)?)?)
    }
}

/// Cuts pictures into patches, each a row of its pixels, channel by channel.
///
/// # Shapes
/// pixels `[b, 3, s, s]`, result `[b·n, 3·p·p]`; a rest of fewer than p pixels is left out.
pub(crate) fn patches(pixels: &Tensor, p: usize) -> Result<Tensor> {
    let (b, channels, height, width) = pixels.dims4()?;
    let (rows, columns) = (height / p, width / p);
    let whole = pixels
        .narrow(2, 0, rows * p)?
        .narrow(3, 0, columns * p)?
        .contiguous()?;
    let tiles = whole.reshape(&[b, channels, rows, p, columns, p][..])?;
    let tiles = tiles.permute([0, 2, 4, 1, 3, 5])?.contiguous()?;
    Ok(tiles.reshape((b * rows * columns, channels * p * p))?)
}

/// One segment for each of `count` sequences of `length` rows: each sees itself.
pub(crate) fn even_segments(count: usize, length: usize) -> Vec<Segment> {
    let ranges = (0..count).map(|i| i * length..(i + 1) * length);
    ranges
        .map(|range| Segment::new(range.clone(), range))
        .collect()
}
