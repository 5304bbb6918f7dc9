//! The transformer behind the sampler's trait gives the original's logits.

use std::path::PathBuf;

use mmada_diffusion::Denoiser;
use mmada_model::{Error, LoadOptions, Mmada, Network};
use mmada_nn::{Config, Mode, Params, Transformer};
use mmada_tensor::{DType, Device, Rows, Tensor, Want, candle};

fn folder() -> PathBuf {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden");
    std::env::var_os("MMADA_GOLDEN")
        .unwrap_or_else(|| own.into())
        .into()
}

#[test]
fn golden_logits_come_through_the_denoiser() {
    let dir = folder().join("transformer");
    let config = Config::load(&dir).unwrap();
    let params = Params::load(&dir, &Device::Cpu, None, Mode::Frozen).unwrap();
    let transformer = Transformer::load(&config, &params).unwrap();
    let io = candle::safetensors::load(dir.join("io.safetensors"), &Device::Cpu).unwrap();
    let ids = io["unpadded_ids"]
        .to_dtype(DType::U32)
        .unwrap()
        .to_vec2::<u32>()
        .unwrap();
    let rows = Rows::pack(&ids);
    let want = Want::new(0..rows.len(), 0..config.embedding_size);
    let logits = Network::new(&transformer).logits(&rows, &want).unwrap();
    let expected = io["unpadded_logits"].flatten_to(1).unwrap();
    let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(logits.dims(), expected.dims());
    let apart = flat(&logits)
        .iter()
        .zip(flat(&expected))
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    assert!(apart < 2e-4, "{apart}");
}

#[test]
fn golden_transformer_folder_is_no_whole_model() {
    let opened = Mmada::open(folder().join("transformer"), &LoadOptions::default());
    assert!(matches!(
        opened,
        Err(Error::MissingFile {
            file: "tokenizer.json",
            ..
        })
    ));
}
