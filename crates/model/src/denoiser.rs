//! The transformer as the sampler's [`Denoiser`].

use mmada_diffusion::Denoiser;
use mmada_nn::{Cache, Transformer};
use mmada_tensor::{Recall, Rows, Tensor, Want};

/// Bidirectional forwards of a transformer, and what it remembers of them where a sampler asks.
#[derive(Debug, Clone)]
pub struct Network<'m> {
    transformer: &'m Transformer,
    cache: Cache,
}

impl<'m> Network<'m> {
    /// A network that remembers nothing yet.
    pub fn new(transformer: &'m Transformer) -> Self {
        let cache = Cache::default();
        Self { transformer, cache }
    }
}

impl Denoiser for Network<'_> {
    fn logits(&mut self, rows: &Rows, want: &Want) -> mmada_tensor::Result<Tensor> {
        Ok(self.transformer.logits(rows, want)?)
    }

    fn logits_recalled(
        &mut self,
        rows: &Rows,
        recall: &Recall,
        want: &Want,
    ) -> mmada_tensor::Result<Tensor> {
        let logits = self
            .transformer
            .logits_recalled(rows, recall, &mut self.cache, want);
        Ok(logits?)
    }
}
