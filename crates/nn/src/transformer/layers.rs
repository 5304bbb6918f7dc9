//! The linear layers of a block by their input: each for itself, or packed together for inference.

use std::ops::Range;

use mmada_tensor::{DType, Normed, PackedLinear, Packing, Tensor, ops};

use crate::lora::Projection;
use crate::{Error, Result};

/// `N` linear layers that share their input.
#[derive(Debug, Clone)]
pub(super) enum Layers<const N: usize> {
    /// As they were loaded: of any dtype, trainable, perhaps adapted.
    Apart([Projection; N]),
    /// Without gradients, packed once. What was learnt beside a matrix is part of it.
    Packed(PackedLinear),
}

impl<const N: usize> Layers<N> {
    /// Packs the layers.
    pub(super) fn packed(&self, packing: Packing) -> Result<Self> {
        let Self::Apart(layers) = self else {
            return Ok(self.clone());
        };
        let merged = layers.iter().map(Projection::merged);
        let merged: Vec<Tensor> = merged.collect::<Result<_>>()?;
        let layers: Vec<&Tensor> = merged.iter().collect();
        Ok(Self::Packed(PackedLinear::pack(packing, &layers)?))
    }

    /// The outputs of `M` of the layers, from the layer `first` on.
    ///
    /// # Shapes
    /// x `[rows, in]`; for each layer `[rows, out]`.
    pub(super) fn forward<const M: usize>(&self, x: &Input, first: usize) -> Result<[Tensor; M]> {
        let which = first..first + M;
        let outputs: Vec<Tensor> = match self {
            Self::Apart(layers) => {
                let x = x.normed()?;
                let layers = layers[which].iter();
                layers
                    .map(|layer| layer.forward(&x))
                    .collect::<Result<_>>()?
            }
            Self::Packed(layers) => layers.forward(&x.due(), which)?,
        };
        let got = outputs.len();
        outputs
            .try_into()
            .map_err(|_| Error::input("outputs of linear layers", M, got))
    }

    /// The residual stream with the first layer's output added.
    ///
    /// # Shapes
    /// residual and result `[rows, out]`, x `[rows, in]`.
    pub(super) fn add_to(&self, residual: &Tensor, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Apart(layers) => layers[0].add_to(residual, x),
            Self::Packed(layers) => Ok(layers.add_to(residual, x)?),
        }
    }
}

/// The matrices of layers that are apart, and the one of a layer behind them, if none is adapted.
pub(super) fn plain<'l, const N: usize>(
    layers: &'l Layers<N>,
    out: &'l Layers<1>,
) -> Option<([&'l Tensor; N], &'l Tensor)> {
    let (Layers::Apart(layers), Layers::Apart([out])) = (layers, out) else {
        return None;
    };
    let weights: Vec<&Tensor> = layers
        .iter()
        .map(Projection::plain)
        .collect::<Option<_>>()?;
    Some((weights.try_into().ok()?, out.plain()?))
}

/// `x + out(silu(gate n) · up n)`, where n is the input normalised.
///
/// # Shapes
/// The input and the result `[rows, d]`; the norm is a gain `[d]` and its epsilon.
pub(super) fn feed_forward(
    x: &Tensor,
    norm: (&Tensor, f64),
    gate_up: &Layers<2>,
    out: &Layers<1>,
) -> Result<Tensor> {
    if let Some(([gate, up], out)) = plain(gate_up, out) {
        return Ok(ops::feed_forward(x, norm, [gate, up, out])?);
    }
    match (gate_up, out) {
        (Layers::Packed(gate_up), Layers::Packed(out)) => {
            let norm = Some(norm);
            Ok(PackedLinear::feed_forward(
                &Normed { x, norm },
                gate_up,
                out,
            )?)
        }
        (Layers::Apart([gate, up]), _) => {
            let n = ops::rms_norm(x, norm.0, norm.1)?;
            out.add_to(x, &Projection::gated(gate, up, &n)?)
        }
        (Layers::Packed(_), Layers::Apart(_)) => Err(Error::input(
            "feed-forward layers",
            "packed all, or none",
            "some",
        )),
    }
}

/// What layers take: rows, to be normalised before. Where layers are packed they do it themselves.
#[derive(Debug, Clone)]
pub(super) struct Input {
    /// `[rows, d]`, as it was.
    pub(super) x: Tensor,
    normed: Option<Tensor>,
    gain: Tensor,
    eps: f64,
}

impl Input {
    /// Rows and the gains of their normalisation, which is done at once unless it `is_due` later.
    pub(super) fn new(x: &Tensor, gain: &Tensor, eps: f64, is_due: bool) -> Result<Self> {
        Ok(Self {
            normed: match is_due {
                true => None,
                false => Some(ops::rms_norm(x, gain, eps)?),
            },
            x: x.clone(),
            gain: gain.clone(),
            eps,
        })
    }

    /// Some of the rows.
    pub(super) fn select(&self, index: &Tensor) -> Result<Self> {
        let normed = self.normed.as_ref().map(|n| n.index_select(index, 0));
        Ok(Self {
            x: self.x.index_select(index, 0)?,
            normed: normed.transpose()?,
            ..self.clone()
        })
    }

    fn normed(&self) -> Result<Tensor> {
        match &self.normed {
            Some(normed) => Ok(normed.clone()),
            None => Ok(ops::rms_norm(&self.x, &self.gain, self.eps)?),
        }
    }

    fn due(&self) -> Normed<'_> {
        Normed {
            x: &self.x,
            norm: Some((&self.gain, self.eps)),
        }
    }
}

/// The projection onto the vocabulary.
#[derive(Debug, Clone)]
pub(super) struct Head {
    /// `[v, d]`.
    pub(super) weight: Tensor,
    packed: Option<PackedLinear>,
}

impl Head {
    pub(super) fn new(weight: Tensor) -> Self {
        Self {
            weight,
            packed: None,
        }
    }

    /// Packs it, in bf16 at least: int8 would change which token is the likeliest, and there is little
    /// to gain where only few rows are wanted.
    pub(super) fn packed(&self, packing: Packing) -> Result<Self> {
        let packing = match packing {
            Packing::F32 => Packing::F32,
            Packing::Bf16 | Packing::Int8 => Packing::Bf16,
        };
        let weight = self.weight.to_dtype(DType::F32)?;
        Ok(Self {
            weight: self.weight.clone(),
            packed: Some(PackedLinear::pack(packing, &[&weight])?),
        })
    }

    /// Logits, f32, over a part of the vocabulary.
    ///
    /// # Shapes
    /// hidden `[n, d]`, result `[n, vocab.len()]`.
    pub(super) fn logits(&self, hidden: &Tensor, vocab: &Range<usize>) -> Result<Tensor> {
        if let Some(packed) = &self.packed {
            return Ok(packed.part(hidden, vocab.clone())?);
        }
        let weight = match vocab.len() == self.weight.dim(0)? {
            true => self.weight.clone(),
            false => self.weight.narrow(0, vocab.start, vocab.len())?,
        };
        Ok(ops::linear(hidden, &weight)?.to_dtype(DType::F32)?)
    }
}
