//! The image tokenizer against the original's numbers, its files, its limits, its gradients.

use std::collections::HashMap;
use std::path::PathBuf;

use mmada_nn::magvit::{Coefficients, Config, Stack};
use mmada_nn::{ImageTokenizer, Mode, Params, SaveOptions, quantizer};
use mmada_tensor::{DType, Device, Tensor, Var, candle};
use proptest::prelude::*;

const CPU: &Device = &Device::Cpu;

fn golden() -> PathBuf {
    let root = std::env::var_os("MMADA_GOLDEN").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden")),
        PathBuf::from,
    );
    root.join("magvit")
}

struct Case {
    tokenizer: ImageTokenizer,
    io: HashMap<String, Tensor>,
}

impl Case {
    fn load() -> Self {
        let (_, tokenizer) = ImageTokenizer::open(&golden(), CPU, Mode::Frozen).unwrap();
        let io = candle::safetensors::load(golden().join("io.safetensors"), CPU).unwrap();
        Self { tokenizer, io }
    }

    fn get(&self, key: &str) -> &Tensor {
        self.io.get(key).unwrap_or_else(|| panic!("no {key}"))
    }

    /// `PREFIX` of every `PREFIXsuffix` in the file.
    fn prefixes(&self, suffix: &str) -> Vec<&str> {
        let found: Vec<_> = self
            .io
            .keys()
            .filter_map(|k| k.strip_suffix(suffix))
            .collect();
        assert!(!found.is_empty(), "no case with {suffix}");
        found
    }

    /// Codes as lists; whatever the stored shape, the first axis is the batch.
    fn codes(&self, key: &str) -> Vec<Vec<u32>> {
        let codes = self.get(key).flatten_from(1).unwrap();
        codes.to_dtype(DType::U32).unwrap().to_vec2().unwrap()
    }
}

fn check(what: &str, got: &Tensor, expected: &Tensor, tolerance: f32) {
    assert_eq!(got.dims(), expected.dims(), "{what}");
    let gap = (got - expected)
        .unwrap()
        .abs()
        .unwrap()
        .flatten_all()
        .unwrap();
    let gap = gap.max(0).unwrap().to_scalar::<f32>().unwrap();
    assert!(gap <= tolerance, "{what}: differs by {gap}");
}

#[test]
fn golden_magvit_encodes_and_decodes() {
    let case = Case::load();
    for name in case.prefixes("_image") {
        let key = |part: &str| format!("{name}_{part}");
        let z = case.tokenizer.encode(case.get(&key("image"))).unwrap();
        check(&key("z"), &z, case.get(&key("z")), 1e-4);
        let (zq, codes) = case.tokenizer.quantize(&z).unwrap();
        check(&key("zq"), &zq, case.get(&key("zq")), 1e-6);
        assert_eq!(codes, case.codes(&key("codes")), "{name}");
        let direct = case
            .tokenizer
            .encode_codes(case.get(&key("image")))
            .unwrap();
        assert_eq!(direct, codes, "{name}");
        let (_, _, h, w) = z.dims4().unwrap();
        let pixels = case.tokenizer.decode_codes(&codes, h, w).unwrap();
        check(&key("decoded"), &pixels, case.get(&key("decoded")), 2e-4);
    }
    for name in case.prefixes("_codes_decoded") {
        let zq = case.get(&format!("{name}_codes_zq"));
        let (_, _, h, w) = zq.dims4().unwrap();
        let codes = case.codes(&format!("{name}_codes"));
        check(
            name,
            &case.tokenizer.latents(&codes, h, w).unwrap(),
            zq,
            0.0,
        );
        let pixels = case.tokenizer.decode_codes(&codes, h, w).unwrap();
        check(
            name,
            &pixels,
            case.get(&format!("{name}_codes_decoded")),
            2e-4,
        );
    }
}

/// `debug_enc_down0_block1` names the part `encoder.down.0.block.1`, run on the case with a square
/// grid. What is stored may be a crop: of downsampling the bottom right corner (where the padding
/// shows), else the top left.
#[test]
fn golden_magvit_activations() {
    let case = Case::load();
    let mut seen: HashMap<String, Tensor> = HashMap::new();
    let mut keep = |name: &str, x: &Tensor| {
        let name = name.replace("encoder", "enc").replace("decoder", "dec");
        let short: String = name.replace('.', "_");
        seen.insert(short, x.clone());
    };
    let side = |name: &&str| case.get(&format!("{name}_z")).dims4().unwrap();
    let names = case.prefixes("_image");
    let square = names
        .iter()
        .find(|name| side(name).2 == side(name).3)
        .unwrap();
    case.tokenizer
        .encode_visited(case.get(&format!("{square}_image")), &mut keep)
        .unwrap();
    let (_, _, h, w) = side(square);
    let codes = case.codes(&format!("{square}_codes"));
    let zq = case.tokenizer.latents(&codes, h, w).unwrap();
    case.tokenizer.decode_visited(&zq, &mut keep).unwrap();
    // The file joins words and numbers: down0, block1, up4. Parts are compared without underscores
    // between them.
    let joined = |name: &str| name.replace('_', "");
    let seen: HashMap<String, Tensor> = seen.into_iter().map(|(k, x)| (joined(&k), x)).collect();
    let points: Vec<_> = case
        .io
        .iter()
        .filter(|(k, _)| k.starts_with("debug_"))
        .collect();
    assert!(!points.is_empty());
    for (key, expected) in points {
        let full = &seen[&joined(key.trim_start_matches("debug_"))];
        let (_, _, h, w) = full.dims4().unwrap();
        let (_, _, ch, cw) = expected.dims4().unwrap();
        let (top, left) = match key.ends_with("downsample") {
            true => (h - ch, w - cw),
            false => (0, 0),
        };
        let crop = full
            .narrow(2, top, ch)
            .unwrap()
            .narrow(3, left, cw)
            .unwrap();
        check(key, &crop, expected, 1e-4);
    }
}

#[test]
fn golden_magvit_quantizer_losses() {
    let case = Case::load();
    let z = Var::from_tensor(case.get("loss_z")).unwrap();
    let (zq, codes) = case.tokenizer.quantize(&z).unwrap();
    check("zq", &zq, case.get("loss_zq"), 1e-6);
    assert_eq!(codes, case.codes("loss_indices"));
    let losses = case.tokenizer.quantizer_losses(&z).unwrap();
    for (name, loss) in [
        ("quantizer", losses.commitment),
        ("entropy", losses.entropy),
    ] {
        let expected = case.get(&format!("loss_{name}")).reshape(()).unwrap();
        check(name, &loss, &expected, 1e-6);
        let grads = loss.backward().unwrap();
        let expected = case.get(&format!("loss_{name}_grad_z"));
        check(name, grads.get(&z).unwrap(), expected, 1e-6);
    }
}

/// Every tensor, the quantiser's buffers included, survives loading and saving bit for bit.
#[test]
fn golden_magvit_files_round_trip() {
    let dir = tempfile::tempdir().unwrap();
    let (params, tokenizer) = ImageTokenizer::open(&golden(), CPU, Mode::Trainable).unwrap();
    params.save(dir.path(), &SaveOptions::default()).unwrap();
    tokenizer.config().save(dir.path()).unwrap();
    assert_eq!(&Config::load(dir.path()).unwrap(), tokenizer.config());
    let load =
        |dir: PathBuf| candle::safetensors::load(dir.join("model.safetensors"), CPU).unwrap();
    let (before, after) = (load(golden()), load(dir.path().to_owned()));
    assert_eq!(before.len(), after.len());
    for (name, tensor) in before {
        let bytes = |t: &Tensor| {
            let mut bytes = Vec::new();
            t.write_bytes(&mut bytes).unwrap();
            (t.dtype(), t.dims().to_vec(), bytes)
        };
        assert_eq!(bytes(&tensor), bytes(&after[&name]), "{name}");
    }
    // The original's file name is read as well.
    let original = tempfile::tempdir().unwrap();
    for (from, to) in [("model", "pytorch_model"), ("config", "config")] {
        let end = if from == "config" {
            "json"
        } else {
            "safetensors"
        };
        let to = original.path().join(format!("{to}.{end}"));
        std::fs::copy(golden().join(format!("{from}.{end}")), to).unwrap();
    }
    ImageTokenizer::open(original.path(), CPU, Mode::Frozen).unwrap();
}

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
        assert!(error.contains("expected"), "{key} = {value}: {error}");
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
