//! A transformer packed for inference against the one it was made of.

use mmada_nn::{Config, Lora, LoraConfig, Params, Sizes, Transformer};
use mmada_tensor::{Device, Packing, Rows, Tensor, Want};

use crate::common::{small_sizes, values};

const CPU: Device = Device::Cpu;

fn init() -> (Config, Params, Transformer) {
    let sizes = Sizes {
        d_model: 64,
        ..small_sizes()
    };
    let cfg = Config::new(&sizes).unwrap();
    let (params, model) = Transformer::init(&cfg, 3, &CPU).unwrap();
    (cfg, params, model)
}

fn rows() -> Rows {
    Rows::pack([vec![1, 5, 9, 2, 9, 9], vec![7], vec![7, 7, 3, 9]])
}

/// The root mean square of the difference, as a share of that of `b`.
fn distance(a: &[f32], b: &[f32]) -> f32 {
    let square = |x: f32| x * x;
    let difference: f32 = a.iter().zip(b).map(|(a, b)| square(a - b)).sum();
    (difference / b.iter().copied().map(square).sum::<f32>()).sqrt()
}

#[test]
fn logits_are_near_those_of_f32() {
    let (cfg, _, model) = init();
    let rows = rows();
    let ids = cfg.embedding_size;
    let packings = [
        (Packing::F32, 1e-6),
        (Packing::Bf16, 0.02),
        (Packing::Int8, 0.04),
    ];
    for (packing, most) in packings {
        let packed = model.packed(packing).unwrap();
        assert_eq!(packed.packing(), Some(packing));
        for wanted in [(0..rows.len()).collect(), vec![2, 4, 9]] {
            for vocab in [0..ids, 3..ids - 2] {
                let want = Want {
                    rows: wanted.clone(),
                    vocab,
                };
                let exact = values(&model.logits(&rows, &want).unwrap());
                let logits = values(&packed.logits(&rows, &want).unwrap());
                let distance = distance(&logits, &exact);
                let is_rounded = distance > 0.0 || packing == Packing::F32;
                assert!(is_rounded && distance < most, "{packing:?}: {distance}");
            }
        }
    }
}

#[test]
fn a_packed_model_is_packed_once_and_an_adapter_is_part_of_it() {
    let (cfg, params, model) = init();
    let want = Want::new(0..rows().len(), 0..cfg.embedding_size);
    let logits = |model: &Transformer| values(&model.logits(&rows(), &want).unwrap());
    let packed = model.packed(Packing::Bf16).unwrap();
    assert_eq!(
        logits(&packed),
        logits(&packed.packed(Packing::Bf16).unwrap())
    );

    let lora = LoraConfig {
        r: 2,
        alpha: 4.0,
        target_modules: vec!["q_proj".to_owned(), "ff_out".to_owned()],
    };
    let lora = Lora::init(&lora, &cfg, "base", 1, &CPU).unwrap();
    for (_, var) in lora.params().vars() {
        let wave = (0..var.elem_count()).map(|i| (0.3 * i as f32).sin() * 0.2);
        let wave = Tensor::from_vec(wave.collect::<Vec<f32>>(), var.dims(), &CPU).unwrap();
        var.set(&wave).unwrap();
    }
    let adapted = Transformer::adapted(&cfg, &params, Some(&lora)).unwrap();
    let distance = distance(
        &logits(&adapted.packed(Packing::Bf16).unwrap()),
        &logits(&adapted),
    );
    assert!(distance < 0.02, "{distance}");
    assert_ne!(logits(&adapted), logits(&model));
}
