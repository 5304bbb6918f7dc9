//! Reading golden folders and comparing numbers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use mmada_nn::{Config, Mode, Params, Sizes, Transformer};
use mmada_tensor::{DType, Device, Tensor};

/// A folder of the golden numbers, which `MMADA_GOLDEN` may point elsewhere.
pub(crate) fn golden(part: &str) -> PathBuf {
    let root = std::env::var_os("MMADA_GOLDEN").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden")),
        PathBuf::from,
    );
    root.join(part)
}

/// The tensors of one safetensors file.
pub(crate) struct Golden(BTreeMap<String, Tensor>);

impl Golden {
    pub(crate) fn read(path: &std::path::Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let params = Params::from_bytes(&bytes, &Device::Cpu, None, Mode::Frozen).unwrap();
        let tensors = params.iter().map(|(n, t)| (n.to_owned(), t.clone()));
        Self(tensors.collect())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    pub(crate) fn tensor(&self, name: &str) -> &Tensor {
        &self.0[name]
    }

    pub(crate) fn integers(&self, name: &str) -> Vec<Vec<i64>> {
        self.0[name].to_vec2().unwrap()
    }

    pub(crate) fn numbers(&self, name: &str) -> Vec<Vec<f32>> {
        self.0[name].to_vec2().unwrap()
    }

    pub(crate) fn ids(&self, name: &str) -> Vec<Vec<u32>> {
        let rows = self.integers(name);
        rows.iter()
            .map(|row| row.iter().map(|id| *id as u32).collect())
            .collect()
    }
}

/// The golden model.
pub(crate) fn golden_model(mode: Mode) -> (Params, Transformer) {
    let dir = golden("transformer");
    let cfg = Config::load(&dir).unwrap();
    let params = Params::load(&dir, &Device::Cpu, Some(DType::F32), mode).unwrap();
    let model = Transformer::load(&cfg, &params).unwrap();
    (params, model)
}

/// A model small enough for hundreds of forward passes.
pub(crate) fn small_sizes() -> Sizes {
    Sizes {
        d_model: 32,
        n_heads: 4,
        n_kv_heads: 2,
        n_layers: 2,
        mlp_hidden_size: 48,
        embedding_size: 40,
        max_sequence_length: 24,
        weight_tying: false,
    }
}

pub(crate) fn values(tensor: &Tensor) -> Vec<f32> {
    let flat = tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap();
    flat.to_vec1().unwrap()
}

/// Every number within `atol` of the expected one.
pub(crate) fn assert_close(what: &str, got: &Tensor, expected: &Tensor, atol: f32) {
    assert_eq!(
        got.elem_count(),
        expected.elem_count(),
        "{what}: number of elements"
    );
    let worst = values(got)
        .iter()
        .zip(values(expected))
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |worst, x| {
            if x.is_nan() {
                f32::INFINITY
            } else {
                f32::max(worst, x)
            }
        });
    assert!(
        worst <= atol,
        "{what}: off by {worst}, at most {atol} allowed"
    );
}

/// A number within `rtol` of the expected one.
pub(crate) fn assert_near(what: &str, got: f64, expected: f64, rtol: f64) {
    let error = (got - expected).abs();
    assert!(
        error <= rtol * expected.abs(),
        "{what}: got {got}, expected {expected}"
    );
}
