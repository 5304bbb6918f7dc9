//! The image tokenizer at the smallest sizes: gradients, limits, wrong input.

use mmada_nn::magvit::{Coefficients, Config, Stack};
use mmada_nn::{ImageTokenizer, Mode, Params, quantizer};
use mmada_tensor::{Device, Tensor, Var};
use proptest::prelude::*;

const CPU: &Device = &Device::Cpu;

/// The smallest network with every part in it: f = 4, 5 bits, widths below 32.
fn tiny() -> Config {
    let stack = |ch_mult: &[usize], num_res_blocks: &[usize]| Stack {
        ch: 4,
        ch_mult: ch_mult.to_vec(),
        num_res_blocks: num_res_blocks.to_vec(),
    };
    Config {
        z_channels: 5,
        codebook_dim: 5,
        norm_groups: 2,
        encoder: stack(&[1, 1, 2], &[1, 1, 1]),
        decoder: stack(&[1, 2, 2], &[1, 1, 2]),
        ..Config::default()
    }
}

fn ramp(shape: (usize, usize, usize, usize)) -> Tensor {
    let count = shape.0 * shape.1 * shape.2 * shape.3;
    let values: Vec<f32> = (0..count).map(|i| (i as f32 * 0.37).sin()).collect();
    Tensor::from_vec(values, shape, CPU).unwrap()
}

#[test]
fn a_training_pass_reaches_every_weight() {
    let (params, tokenizer) = ImageTokenizer::init(&tiny(), 3, CPU).unwrap();
    let images = ramp((2, 3, 8, 12));
    let pass = tokenizer.forward_train(&images).unwrap();
    assert_eq!(pass.reconstruction.dims(), images.dims());
    assert_eq!(pass.z.dims(), [2, 5, 2, 3]);
    assert_eq!(pass.codes, tokenizer.encode_codes(&images).unwrap());
    let losses = tokenizer.quantizer_losses(&pass.z).unwrap();
    let loss = (pass.reconstruction - images)
        .unwrap()
        .sqr()
        .unwrap()
        .mean_all()
        .unwrap();
    let loss = (loss + losses.commitment)
        .unwrap()
        .add(&losses.entropy)
        .unwrap();
    let grads = loss.backward().unwrap();
    for (name, var) in params.vars() {
        let is_reached = grads.get(&var).is_some();
        assert_eq!(is_reached, !quantizer::is_buffer(&name), "{name}");
    }
}

/// The gradient of a weight in the encoder, through the whole network but the signs, agrees with
/// finite differences; so do the paths of down- and upsampling.
#[test]
fn gradients_agree_with_differences() {
    let (mut params, tokenizer) = ImageTokenizer::init(&tiny(), 5, CPU).unwrap();
    let images = ramp((1, 3, 8, 8));
    let latents = ramp((1, 5, 2, 2));
    let weigh = |y: Tensor| -> Tensor {
        let dims = y.dims4().unwrap();
        (y * ramp(dims)).unwrap().sum_all().unwrap()
    };
    let loss = || {
        let z = weigh(tokenizer.encode(&images).unwrap());
        (z + weigh(tokenizer.decode(&latents).unwrap())).unwrap()
    };
    let grads = loss().backward().unwrap();
    for name in [
        "encoder.conv_in.weight",
        "encoder.down.0.downsample.conv.weight",
        "encoder.mid.attn_1.q.weight",
        "decoder.post_quant_conv.bias",
        "decoder.up.2.upsample.conv.weight",
        "decoder.up.0.block.0.nin_shortcut.weight",
    ] {
        let var = params
            .vars()
            .into_iter()
            .find(|(n, _)| n == name)
            .unwrap()
            .1;
        let before = var.as_detached_tensor().copy().unwrap();
        let direction = (grads.get(&var).unwrap()
            / grads
                .get(&var)
                .unwrap()
                .sqr()
                .unwrap()
                .sum_all()
                .unwrap()
                .sqrt()
                .unwrap()
                .to_scalar::<f32>()
                .unwrap() as f64)
            .unwrap();
        let mut at = |step: f64| -> f64 {
            let moved = (&before + (&direction * step).unwrap()).unwrap();
            params.set(name, &moved).unwrap();
            f64::from(loss().to_scalar::<f32>().unwrap())
        };
        // Two central differences, extrapolated to a step of zero (Richardson).
        let mut slope = |step: f64| (at(step) - at(-step)) / (2.0 * step);
        let measured = (4.0 * slope(4e-3) - slope(8e-3)) / 3.0;
        at(0.0);
        let exact = (grads.get(&var).unwrap() * &direction)
            .unwrap()
            .sum_all()
            .unwrap();
        let exact = f64::from(exact.to_scalar::<f32>().unwrap());
        let gap = (measured - exact).abs() / exact.abs().max(1.0);
        assert!(gap < 1e-2, "{name}: {measured} and {exact}");
    }
}

#[test]
fn the_entropy_loss_is_finite_for_any_latent() {
    let coefficients = Coefficients::default();
    for value in [0.0f32, 1e-20, -3.0, 40.0, -1e4, 1e4] {
        let z = Var::from_tensor(&Tensor::full(value, (2, 3, 2, 2), CPU).unwrap()).unwrap();
        let losses = quantizer::losses(&z, &coefficients).unwrap();
        // One value everywhere: what is known of a bit is known on average too.
        let entropy = losses.entropy.to_scalar::<f32>().unwrap();
        assert!(entropy.abs() < 1e-6, "{value}: {entropy}");
        let grads = losses.entropy.backward().unwrap();
        let grad = grads.get(&z).unwrap().abs().unwrap().sum_all().unwrap();
        assert!(grad.to_scalar::<f32>().unwrap().is_finite(), "{value}");
    }
}

#[test]
fn same_seed_same_weights() {
    let weights = |seed| {
        let (params, _) = ImageTokenizer::init(&tiny(), seed, CPU).unwrap();
        let weight = params
            .get("decoder.conv_out.weight", &[3, 4, 3, 3])
            .unwrap();
        weight.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    assert_eq!(weights(1), weights(1));
    assert_ne!(weights(1), weights(2));
    assert!(weights(1).iter().all(|w| w.abs() <= 1.0 / 6.0));
}

#[test]
fn wrong_sizes_are_errors_that_say_so() {
    let (_, tokenizer) = ImageTokenizer::init(&tiny(), 0, CPU).unwrap();
    assert_eq!((tokenizer.factor(), tokenizer.codes()), (4, 32));
    for shape in [
        (1, 3, 8, 10),
        (1, 3, 6, 8),
        (1, 1, 8, 8),
        (0, 3, 8, 8),
        (1, 3, 0, 8),
    ] {
        let error = tokenizer.encode(&ramp(shape)).unwrap_err().to_string();
        assert!(error.contains("multiples of 4"), "{error}");
    }
    assert!(
        tokenizer
            .encode(&ramp((1, 3, 8, 8)).squeeze(0).unwrap())
            .is_err()
    );
    let decode = |codes: &[u32], h, w| tokenizer.decode_codes(&[codes.to_vec()], h, w);
    assert_eq!(decode(&[0, 31], 1, 2).unwrap().dims(), [1, 3, 4, 8]);
    for (codes, h, w, says) in [
        (&[0, 32][..], 1, 2, "below 2^5, got 32"),
        (&[0, u32::MAX], 1, 2, "below 2^5"),
        (&[0, 1], 2, 2, "2x2 = 4 codes per image, got 2"),
        (&[], 0, 0, "at least one image"),
        (&[0], usize::MAX, 2, "codes per image, got 1"),
    ] {
        let error = decode(codes, h, w).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    assert!(tokenizer.decode_codes(&[], 1, 1).is_err());
    assert!(
        tokenizer
            .decode_codes(&[vec![1, 2], vec![3]], 1, 2)
            .is_err()
    );
    assert!(tokenizer.quantize(&ramp((1, 4, 2, 2))).is_err());
}

#[test]
fn configs_are_checked() {
    let json = serde_json::to_value(tiny()).unwrap();
    let changed = |key: &str, value: serde_json::Value| {
        let mut json = json.clone();
        *key.split('.').fold(&mut json, |json, part| &mut json[part]) = value;
        Config::parse(&json.to_string())
    };
    assert_eq!(Config::parse(&json.to_string()).unwrap(), tiny());
    let published = Config::parse(r#"{"_class_name": "MAGVITv2", "_version": "1"}"#).unwrap();
    assert_eq!((published.factor(), published.encoder.ch), (16, 128));
    let many = serde_json::json!(vec![1; 40]);
    for (key, value) in [
        ("norm_group", 4.into()),
        ("norm_groups", 3.into()),
        ("norm_groups", 0.into()),
        ("z_channels", 6.into()),
        ("z_channels", 0.into()),
        ("double_z", true.into()),
        ("dropout", 0.5.into()),
        (
            "attn_resolutions",
            serde_json::json!([tiny().resolution / 2]),
        ),
        ("encoder.ch_mult", serde_json::json!([1, 1])),
        ("encoder.ch_mult", serde_json::json!([])),
        ("encoder.ch_mult", many.clone()),
        ("encoder.num_res_blocks", serde_json::json!([1, 0, 1])),
        (
            "encoder.num_res_blocks",
            serde_json::json!([1, 1, 1_000_000]),
        ),
        ("encoder.ch", (1u64 << 60).into()),
        ("encoder.widht", 3.into()),
        ("decoder.ch_mult", serde_json::json!([1, u64::MAX, 1])),
        ("quantizer.beta", (-1.0).into()),
    ] {
        let error = changed(key, value.clone()).unwrap_err().to_string();
        let is_told = error.contains("expected") && error.contains("image tokenizer");
        assert!(is_told, "{key} = {value}: {error}");
    }
    assert!(Config::parse("{").is_err());
}

#[test]
fn weights_of_another_model_are_refused() {
    let (params, _) = ImageTokenizer::init(&tiny(), 0, CPU).unwrap();
    let mut wider = tiny();
    wider.encoder.ch = 6;
    let error = ImageTokenizer::load(&wider, &params)
        .unwrap_err()
        .to_string();
    assert!(error.contains("encoder.conv_in.weight"), "{error}");
    let mut shorter = tiny();
    shorter.decoder.num_res_blocks = vec![1, 1, 1];
    let error = ImageTokenizer::load(&shorter, &params).unwrap_err();
    assert!(
        error.to_string().contains("decoder.up.2.block.1"),
        "{error}"
    );
    let empty = Params::new(CPU, Mode::Frozen);
    assert!(ImageTokenizer::load(&tiny(), &empty).is_err());
    // A codebook in another bit order would silently mean other pictures.
    let mut other = params.copied(Mode::Frozen).unwrap();
    let codebook = other.get("quantize.embedding", &[32, 5]).unwrap();
    other
        .set("quantize.embedding", &codebook.neg().unwrap())
        .unwrap();
    let error = ImageTokenizer::load(&tiny(), &other)
        .unwrap_err()
        .to_string();
    assert!(error.contains("quantize.embedding"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn codes_and_latents_are_inverse(bits in 1usize..20, h in 1usize..5, w in 1usize..5, seed: u32) {
        let code = |i: usize| (seed ^ (i as u32).wrapping_mul(0x9E37_79B9)) & ((1 << bits) - 1);
        let codes = vec![(0..h * w).map(code).collect::<Vec<_>>(); 2];
        let latents = quantizer::latents(&codes, (h, w), bits, CPU).unwrap();
        prop_assert_eq!(latents.dims(), [2, bits, h, w]);
        prop_assert_eq!(quantizer::codes(&latents).unwrap(), codes);
    }

    #[test]
    fn any_grid_goes_there_and_back(b in 1usize..3, h in 1usize..4, w in 1usize..4) {
        let (_, tokenizer) = ImageTokenizer::init(&tiny(), 1, CPU).unwrap();
        let f = tokenizer.factor();
        let images = ramp((b, 3, h * f, w * f));
        let codes = tokenizer.encode_codes(&images).unwrap();
        prop_assert!(codes.iter().all(|image| image.len() == h * w));
        let again = tokenizer.decode_codes(&codes, h, w).unwrap();
        prop_assert_eq!(again.dims(), images.dims());
        // An image is coded alike alone and in a batch.
        let first = tokenizer.encode_codes(&images.narrow(0, 0, 1).unwrap()).unwrap();
        prop_assert_eq!(&first[0], &codes[0]);
    }
}
