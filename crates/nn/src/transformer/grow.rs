//! A larger network that computes what a smaller one computes, to be trained further.
//!
//! After Net2Net (Chen, Goodfellow and Shlens, arXiv 1511.05641), with zeros in place of copies:
//!
//! ```text
//!   stream     [ old | 0 ]     what is new begins empty: the embedding and everything that is
//!                              added to the stream write zeros there
//!   readers    [ old | rnd ]   queries, keys, values, gate, up and head read the new part with
//!              [ rnd | rnd ]   random weights, and new heads and hidden units read all of it
//!   writers    [ old |  0  ]   nothing is written yet by new heads and units, nor to new places
//!              [  0  |  0  ]
//!   gains      old · √(d/d′)   the mean square of the stream is smaller by d/d′
//!   blocks                     new ones come last and write zeros
//! ```
//!
//! Zeros in the writers alone do not stop learning: their gradient is what the random readers ask
//! for.

use mmada_tensor::random::{Key, Purpose};
use mmada_tensor::{DType, Tensor};

use super::build::{Part, Role, check_total, parts};
use super::{Config, Transformer};
use crate::{Growth, Init, Mode, Params, Result};

impl Transformer {
    /// Trainable weights in f32 of the network grown `to` larger sizes, and its config. Random
    /// weights spread as those they stand beside.
    ///
    /// Logits are the same but for `rms_norm_eps`, which now counts d′/d times as much.
    ///
    /// # Errors
    /// Sizes that [`Config::grown`] refuses; `params` that are not the config's.
    pub fn grown(
        cfg: &Config,
        params: &Params,
        to: &Growth,
        seed: u64,
    ) -> Result<(Config, Params)> {
        let larger = cfg.grown(to)?;
        let key = Key::new(seed, Purpose::Weights);
        let mut grown = Params::new(params.device(), Mode::Trainable);
        let (small, large) = (parts(cfg), parts(&larger));
        check_total(&large)?;
        for (index, part) in large.iter().enumerate() {
            // A new block's tensors are begun like those of the last block there is.
            let own = small.get(index);
            let like = own.or_else(|| small.iter().rev().find(|old| same_module(old, part)));
            let Some(like) = like else { continue };
            let old = numbers(&params.get(&like.name, &like.shape)?)?;
            let count = old.len().max(1) as f32;
            let stretch = (cfg.d_model as f32 / larger.d_model as f32).sqrt();
            let (init, scale) = match part.role {
                Role::Gain => (Init::Ones, stretch),
                Role::Embeds | Role::Writes => (Init::Zeros, 1.0),
                Role::Reads => {
                    let square = old.iter().map(|value| value * value).sum::<f32>() / count;
                    let std = square.sqrt();
                    (Init::Normal { std }, 1.0)
                }
            };
            grown.fresh(&part.name, &part.shape, init, key)?;
            let mut values = numbers(&grown.get(&part.name, &part.shape)?)?;
            if part.role == Role::Gain {
                let mean = old.iter().sum::<f32>() / count;
                values.fill(scale * mean);
            }
            if own.is_some() {
                // A gain is one row.
                let (from, width) = (row_width(like), row_width(part));
                for (old, row) in old.chunks(from).zip(values.chunks_mut(width)) {
                    for (value, old) in row.iter_mut().zip(old) {
                        *value = scale * old;
                    }
                }
            }
            let values = Tensor::from_vec(values, part.shape.as_slice(), params.device())?;
            grown.set(&part.name, &values)?;
        }
        Ok((larger, grown))
    }
}

/// Whether two tensors are the same module, of whatever block.
fn same_module(a: &Part, b: &Part) -> bool {
    let module = |part: &Part| part.name.rsplit('.').nth(1).map(str::to_owned);
    module(a) == module(b) && a.role == b.role
}

fn row_width(part: &Part) -> usize {
    part.shape.last().copied().unwrap_or(1).max(1)
}

fn numbers(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}
