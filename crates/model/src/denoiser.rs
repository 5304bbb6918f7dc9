//! The transformer as the sampler's [`Denoiser`].

use mmada_diffusion::Denoiser;
use mmada_nn::Transformer;
use mmada_tensor::{Rows, Tensor, Want};

/// Full bidirectional forwards of a transformer.
#[derive(Debug, Clone, Copy)]
pub struct Network<'m>(pub &'m Transformer);

impl Denoiser for Network<'_> {
    fn logits(&mut self, rows: &Rows, want: &Want) -> mmada_tensor::Result<Tensor> {
        self.0.logits(rows, want).map_err(|error| match error {
            mmada_nn::Error::Tensor(error) => error,
            other => mmada_tensor::candle::Error::Msg(other.to_string()).into(),
        })
    }
}
