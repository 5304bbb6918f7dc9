//! What a sampler needs of a model: logits for some rows, over some ids.

use mmada_tensor::{Error, Recall, Result, Rows, Tensor, Want};

/// Predicts the clean token at masked rows.
pub trait Denoiser {
    /// Logits, f32, for the wanted rows of packed sequences.
    ///
    /// # Shapes
    /// `[want.rows.len(), want.vocab.len()]`
    fn logits(&mut self, rows: &Rows, want: &Want) -> Result<Tensor>;

    /// The same where `rows` are the active rows of longer sequences, whose other rows are as they
    /// were when they were active last. Cache rules and verification need it; a denoiser that
    /// remembers nothing refuses.
    fn logits_recalled(&mut self, rows: &Rows, recall: &Recall, want: &Want) -> Result<Tensor> {
        let _ = (rows, want);
        let expected = "all rows of every forward; sample without a cache and without verification";
        let got = format!("a memory of {} rows", recall.capacity);
        Err(Error::shape("rows of this denoiser", expected, got))
    }
}

impl<D: Denoiser + ?Sized> Denoiser for &mut D {
    fn logits(&mut self, rows: &Rows, want: &Want) -> Result<Tensor> {
        (**self).logits(rows, want)
    }

    fn logits_recalled(&mut self, rows: &Rows, recall: &Recall, want: &Want) -> Result<Tensor> {
        (**self).logits_recalled(rows, recall, want)
    }
}
