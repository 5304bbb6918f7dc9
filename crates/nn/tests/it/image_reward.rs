//! ImageReward against numbers of another implementation, and what it refuses.

use mmada_nn::image_reward::{ImageReward, MedConfig};
use mmada_nn::{Error, Mode, Params};
use mmada_tensor::{DType, Device, Tensor};
use serde_json::Value;

use crate::common::assert_close;

/// Weights, pairs and rewards; how they were made is stated in the file.
fn cases() -> Value {
    serde_json::from_str(include_str!("../image_reward.json")).unwrap()
}

/// The tensor that the file's formula gives under this name.
fn made(name: &str, shape: &[usize], gain: f64, scale: f64) -> Tensor {
    let salt = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    let value = |i: u64| {
        let h = (i * 2_654_435_761 + (salt & 0xffff_ffff)) & 0xffff_ffff;
        let h = ((h ^ (h >> 15)) * 2_246_822_519) & 0xffff_ffff;
        (gain + scale * ((h >> 8) as f64 / 16_777_216.0 - 0.5)) as f32
    };
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count as u64).map(value).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn model(cases: &Value) -> (MedConfig, Params) {
    let mut params = Params::new(&Device::Cpu, Mode::Frozen);
    for (name, made_of) in cases["tensors"].as_object().unwrap() {
        let shape: Vec<usize> = serde_json::from_value(made_of["shape"].clone()).unwrap();
        let number = |key: &str| made_of[key].as_f64().unwrap();
        let tensor = made(name, &shape, number("gain"), number("scale"));
        params.insert(name, tensor).unwrap();
    }
    let cfg = serde_json::from_value(cases["med_config"].clone()).unwrap();
    (cfg, params)
}

#[test]
fn rewards_are_those_of_the_published_architecture() {
    let cases = cases();
    let (cfg, params) = model(&cases);
    let judge = ImageReward::load(&cfg, &params).unwrap();
    let side = cases["side"].as_u64().unwrap() as usize;
    assert_eq!(judge.side(), side);
    let (mut texts, mut pixels, mut rewards) = (Vec::new(), Vec::new(), Vec::new());
    for pair in cases["pairs"].as_array().unwrap() {
        texts.push(serde_json::from_value::<Vec<u32>>(pair["text"].clone()).unwrap());
        pixels.push(made(
            &format!("pixels {}", pair["pixels"]),
            &[3, side, side],
            0.0,
            4.0,
        ));
        rewards.push(pair["reward"].as_f64().unwrap() as f32);
    }
    assert!(
        rewards
            .windows(2)
            .all(|pair| (pair[0] - pair[1]).abs() > 0.01),
        "{rewards:?}"
    );
    let stacked = Tensor::stack(&pixels, 0).unwrap();
    let expected = Tensor::new(&rewards[..], &Device::Cpu).unwrap();
    let together = judge.rewards(&texts, &stacked).unwrap();
    assert_close("rewards", &together, &expected, 1e-3);
    for (index, text) in texts.iter().enumerate() {
        let pixels = stacked.narrow(0, index, 1).unwrap();
        let alone = judge.rewards(std::slice::from_ref(text), &pixels).unwrap();
        assert_close(
            "alone",
            &alone,
            &expected.narrow(0, index, 1).unwrap(),
            1e-4,
        );
    }
}

#[test]
fn a_saved_folder_opens_and_odd_ones_are_refused() {
    let cases = cases();
    let (cfg, params) = model(&cases);
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("med_config.json");
    params.save(dir.path(), &Default::default()).unwrap();
    assert!(matches!(
        ImageReward::open(dir.path(), &Device::Cpu),
        Err(Error::Io { .. })
    ));
    std::fs::write(&config, cases["med_config"].to_string()).unwrap();
    let judge = ImageReward::open(dir.path(), &Device::Cpu).unwrap();
    let pixels = Tensor::zeros((1, 3, 24, 24), DType::F32, &Device::Cpu).unwrap();
    assert!(judge.rewards(&[vec![2, 3]], &pixels).is_ok());
    for text in [vec![], vec![60], vec![1; 41]] {
        assert!(matches!(
            judge.rewards(&[text], &pixels),
            Err(Error::Input { .. })
        ));
    }
    assert!(judge.rewards(&[vec![2], vec![2]], &pixels).is_err());
    assert!(judge.rewards(&[], &pixels).is_err());
    std::fs::write(&config, "{\"hidden_size\": 48}").unwrap();
    assert!(ImageReward::open(dir.path(), &Device::Cpu).is_err());

    let odd = MedConfig {
        num_attention_heads: 5,
        ..cfg.clone()
    };
    assert!(matches!(
        ImageReward::load(&odd, &params),
        Err(Error::Config { .. })
    ));
    let shallow = MedConfig {
        num_hidden_layers: cfg.num_hidden_layers - 1,
        ..cfg.clone()
    };
    assert!(matches!(
        ImageReward::load(&shallow, &params),
        Err(Error::Config { .. })
    ));
    let name = "blip.visual_encoder.pos_embed";
    let mut cut = Params::new(&Device::Cpu, Mode::Frozen);
    for (other, tensor) in params.iter() {
        let tensor = if other == name {
            tensor.narrow(1, 0, 9).unwrap()
        } else {
            tensor.clone()
        };
        cut.insert(other, tensor).unwrap();
    }
    assert!(matches!(
        ImageReward::load(&cfg, &cut),
        Err(Error::Input { .. })
    ));
}
