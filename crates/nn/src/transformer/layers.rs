//! The linear layers of a block by their input: each for itself, or packed together for inference.

use std::ops::Range;

use mmada_tensor::{DType, PackedLinear, Packing, Tensor, ops};

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
    pub(super) fn forward<const M: usize>(&self, x: &Tensor, first: usize) -> Result<[Tensor; M]> {
        let which = first..first + M;
        let outputs: Vec<Tensor> = match self {
            Self::Apart(layers) => {
                let layers = layers[which].iter();
                layers
                    .map(|layer| layer.forward(x))
                    .collect::<Result<_>>()?
            }
            Self::Packed(layers) => layers.forward(x, which)?,
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

impl Layers<2> {
    /// `silu(first x) · second x`.
    ///
    /// # Shapes
    /// x `[rows, in]`, result `[rows, out]`.
    pub(super) fn gated(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Apart([gate, up]) => Projection::gated(gate, up, x),
            Self::Packed(layers) => Ok(layers.gated(x)?),
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

    /// Packs it, in bf16 always: int8 would change which token is the likeliest, and there is little
    /// to gain where only few rows are wanted.
    pub(super) fn packed(&self) -> Result<Self> {
        let weight = self.weight.to_dtype(DType::F32)?;
        Ok(Self {
            weight: self.weight.clone(),
            packed: Some(PackedLinear::pack(Packing::Bf16, &[&weight])?),
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
