//! What a sampler needs of a model: logits for some rows, over some ids.

use mmada_tensor::{Result, Rows, Tensor, Want};

/// Predicts the clean token at masked rows.
pub trait Denoiser {
    /// Logits, f32, for the wanted rows of packed sequences.
    ///
    /// # Shapes
    /// `[want.rows.len(), want.vocab.len()]`
    fn logits(&mut self, rows: &Rows, want: &Want) -> Result<Tensor>;
}

impl<D: Denoiser + ?Sized> Denoiser for &mut D {
    fn logits(&mut self, rows: &Rows, want: &Want) -> Result<Tensor> {
        (**self).logits(rows, want)
    }
}

impl<D: Denoiser + ?Sized> Denoiser for Box<D> {
    fn logits(&mut self, rows: &Rows, want: &Want) -> Result<Tensor> {
        (**self).logits(rows, want)
    }
}
