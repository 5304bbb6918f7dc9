//! Where the golden numbers are, and the model that made them.

use std::collections::HashMap;
use std::path::PathBuf;

use mmada_diffusion::Denoiser;
use mmada_nn::{Config, Mode, Params, Transformer};
use mmada_tensor::{Device, Result, Rows, Tensor, Want, candle};
use serde::de::DeserializeOwned;
use serde_json::Value;

pub(crate) fn path(relative: &str) -> PathBuf {
    let inside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden");
    let root = std::env::var_os("MMADA_GOLDEN").map_or(PathBuf::from(inside), PathBuf::from);
    root.join(relative)
}

pub(crate) fn json(relative: &str) -> Value {
    serde_json::from_slice(&std::fs::read(path(relative)).unwrap()).unwrap()
}

pub(crate) fn tensors(relative: &str) -> HashMap<String, Tensor> {
    candle::safetensors::load(path(relative), &Device::Cpu).unwrap()
}

/// A field of a case, as a value.
pub(crate) fn get<T: DeserializeOwned>(case: &Value, key: &str) -> T {
    serde_json::from_value(case[key].clone()).unwrap_or_else(|e| panic!("{key}: {e}"))
}

/// The network as a denoiser.
pub(crate) struct Network(pub(crate) Transformer);

impl Network {
    pub(crate) fn load(relative: &str) -> Self {
        let dir = path(relative);
        let cfg = Config::load(&dir).unwrap();
        let params = Params::load(&dir, &Device::Cpu, None, Mode::Frozen).unwrap();
        Self(Transformer::load(&cfg, &params).unwrap())
    }
}

impl Denoiser for Network {
    fn logits(&mut self, rows: &Rows, want: &Want) -> Result<Tensor> {
        let logits = self.0.logits(rows, want);
        Ok(logits.map_err(candle::Error::wrap)?)
    }
}

/// Drops what an attention mask hides.
pub(crate) fn visible(ids: &[u32], attention: Option<&[u32]>) -> Vec<u32> {
    match attention {
        None => ids.to_vec(),
        Some(attention) => {
            let pairs = ids.iter().zip(attention);
            pairs
                .filter(|(_, sees)| **sees == 1)
                .map(|(&id, _)| id)
                .collect()
        }
    }
}
