//! The image tokenizer against the original's numbers and files.

use std::collections::HashMap;
use std::path::PathBuf;

use mmada_nn::magvit::Config;
use mmada_nn::{ImageTokenizer, Mode, SaveOptions};
use mmada_tensor::{DType, Device, Tensor, Var, candle};

const CPU: &Device = &Device::Cpu;

fn golden() -> PathBuf {
    crate::common::golden("magvit")
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
    // Several cases may have a square grid; the original's is the one that says so.
    let names = case.prefixes("_image");
    let named = names.iter().find(|name| **name == "sq");
    let square = named.or_else(|| names.iter().find(|name| side(name).2 == side(name).3));
    let square = square.unwrap();
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
