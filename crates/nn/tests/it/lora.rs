//! LoRA: what an adapter changes, and its files in PEFT's layout.

use mmada_nn::lora::{ADAPTER_CONFIG, ADAPTER_MODEL, MODULES};
use mmada_nn::{Config, Error, Lora, LoraConfig, Mode, Params, Transformer};
use mmada_tensor::{DType, Device, Rows, Tensor, Want};
use serde_json::{Value, json};

use crate::common::{Golden, assert_close, small_sizes, values};

const CPU: Device = Device::Cpu;

fn model() -> (Config, Params) {
    let cfg = Config::new(&small_sizes()).unwrap();
    let (params, _) = Transformer::init(&cfg, 3, &CPU).unwrap();
    (cfg, params.frozen())
}

fn settings(modules: &[&str]) -> LoraConfig {
    LoraConfig {
        r: 3,
        alpha: 6.0,
        target_modules: modules.iter().map(|name| (*name).to_owned()).collect(),
    }
}

/// A new adapter whose B is no longer zero.
fn trained(cfg: &Config, modules: &[&str]) -> Lora {
    let lora = Lora::init(&settings(modules), cfg, "base", 5, &CPU).unwrap();
    for (index, (_, var)) in lora.params().vars().into_iter().enumerate() {
        let wave = |i: usize| (0.3 * i as f32 + index as f32).sin() * 0.2;
        let wave: Vec<f32> = (0..var.elem_count()).map(wave).collect();
        var.set(&Tensor::from_vec(wave, var.dims(), &CPU).unwrap())
            .unwrap();
    }
    lora
}

fn logits(cfg: &Config, params: &Params, lora: Option<&Lora>) -> Tensor {
    let model = Transformer::adapted(cfg, params, lora).unwrap();
    let rows = Rows::pack([vec![1, 5, 9, 2], vec![7, 7, 3]]);
    let want = Want::new(0..rows.len(), 0..cfg.embedding_size);
    model.logits(&rows, &want).unwrap()
}

#[test]
fn a_new_adapter_changes_nothing() {
    let (cfg, params) = model();
    let plain = logits(&cfg, &params, None);
    for modules in [&["q_proj"][..], &["up_proj"], &MODULES] {
        let lora = Lora::init(&settings(modules), &cfg, "base", 5, &CPU).unwrap();
        assert_eq!(lora.params().len(), 2 * modules.len() * cfg.n_layers);
        let adapted = logits(&cfg, &params, Some(&lora));
        // The same numbers; only the fused operations may round otherwise.
        assert_close("new adapter", &adapted, &plain, 1e-6);
        let zero = lora
            .params()
            .iter()
            .filter(|(_, t)| values(t).iter().all(|x| *x == 0.0));
        assert_eq!(zero.count(), modules.len() * cfg.n_layers);
    }
}

#[test]
fn merged_weights_give_what_the_adapter_gives() {
    let (cfg, params) = model();
    let plain = values(&logits(&cfg, &params, None));
    for module in MODULES
        .map(|module| vec![module])
        .into_iter()
        .chain([MODULES.to_vec()])
    {
        let lora = trained(&cfg, &module);
        let adapted = logits(&cfg, &params, Some(&lora));
        let moved = values(&adapted)
            .iter()
            .zip(&plain)
            .any(|(a, b)| (a - b).abs() > 1e-3);
        assert!(moved, "{module:?} changes nothing");
        let merged = lora.merge(&params).unwrap();
        assert_eq!(merged.len(), params.len());
        assert_close(
            &module.join(" "),
            &logits(&cfg, &merged, None),
            &adapted,
            1e-5,
        );
    }
    // The base is as it was.
    assert_eq!(values(&logits(&cfg, &params, None)), plain);
}

#[test]
fn gradients_flow_into_the_adapter_alone() {
    let (cfg, params) = model();
    let lora = trained(&cfg, &MODULES);
    let model = Transformer::adapted(&cfg, &params, Some(&lora)).unwrap();
    let rows = Rows::pack([vec![1, 5, 9, 2]]);
    let loss = |model: &Transformer| {
        let nll = model.nll(&rows, &[1, 3], &[4, 8]).unwrap();
        nll.sum_all().unwrap()
    };
    let grads = loss(&model).backward().unwrap();
    for (name, var) in lora.params().vars() {
        let grad = grads
            .get(&var)
            .unwrap_or_else(|| panic!("{name} has no gradient"));
        // The derivative is that of finite differences.
        let before = var.as_tensor().copy().unwrap();
        let mut probe = vec![0f32; var.elem_count()];
        probe[1] = 1e-2;
        let probe = Tensor::from_vec(probe, var.dims(), &CPU).unwrap();
        let moved = |sign: f64| {
            var.set(&(&before + (&probe * sign).unwrap()).unwrap())
                .unwrap();
            f64::from(loss(&model).to_scalar::<f32>().unwrap())
        };
        let slope = (moved(1.0) - moved(-1.0)) / 2e-2;
        var.set(&before).unwrap();
        let got = f64::from(values(grad)[1]);
        assert!(
            (got - slope).abs() < 2e-3 + 0.02 * slope.abs(),
            "{name}: {got}, {slope}"
        );
    }
    for (name, tensor) in params.iter() {
        assert!(!tensor.is_variable(), "{name} would be trained");
    }
}

#[test]
fn files_are_those_of_peft_and_come_back_the_same() {
    let (cfg, params) = model();
    let lora = trained(&cfg, &["v_proj", "ff_out"]);
    let dir = tempfile::tempdir().unwrap();
    lora.save(dir.path()).unwrap();
    let file = Golden::read(&dir.path().join(ADAPTER_MODEL));
    let names: Vec<&str> = file.iter().map(|(name, _)| name).collect();
    let first = "base_model.model.model.transformer.blocks.0.ff_out.lora_A.weight";
    assert_eq!((names.len(), names[0]), (8, first));
    assert_eq!(file.tensor(first).dims(), [3, 48]);
    let text = std::fs::read_to_string(dir.path().join(ADAPTER_CONFIG)).unwrap();
    let keys: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&keys["peft_type"], &keys["r"]),
        (&json!("LORA"), &json!(3))
    );
    assert_eq!(keys["lora_alpha"], json!(6.0));
    assert_eq!(keys["base_model_name_or_path"], json!("base"));

    let again = Lora::load(dir.path(), &cfg, &CPU, Mode::Trainable).unwrap();
    assert_eq!(again.config(), lora.config());
    assert_eq!(again.params().vars().len(), 8);
    let got = logits(&cfg, &params, Some(&again));
    assert_eq!(values(&got), values(&logits(&cfg, &params, Some(&lora))));
}

#[test]
fn settings_that_are_not_implemented_are_refused() {
    let good = json!({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"],
                      "lora_dropout": 0.1, "modules_to_save": null, "rank_pattern": {}});
    let (cfg, base) = LoraConfig::parse(&good.to_string()).unwrap();
    assert_eq!((cfg.r, cfg.alpha, base), (4, 8.0, None));
    for (key, value) in [
        ("peft_type", json!("IA3")),
        ("use_dora", json!(true)),
        ("init_lora_weights", json!("pissa_niter_16")),
        ("alora_invocation_tokens", json!([3])),
        ("r", json!(8.7)),
        ("bias", json!("all")),
        ("rank_pattern", json!({"q_proj": 2})),
        ("modules_to_save", json!(["wte"])),
        ("r", json!(0)),
        ("r", json!("4")),
        ("r", json!(1e9)),
        ("lora_alpha", json!(-1)),
        ("target_modules", json!(".*proj")),
        ("target_modules", json!([])),
        ("target_modules", json!(["wte"])),
        ("target_modules", json!([3])),
    ] {
        let mut bad = good.clone();
        bad[key] = value.clone();
        let error = LoraConfig::parse(&bad.to_string()).unwrap_err();
        assert!(error.to_string().contains(key), "{key} = {value}: {error}");
    }
    let mut all = good;
    all["target_modules"] = json!("all-linear");
    assert_eq!(
        LoraConfig::parse(&all.to_string())
            .unwrap()
            .0
            .target_modules,
        MODULES
    );
    assert!(LoraConfig::parse("[]").is_err());
}

#[test]
fn adapters_of_other_models_are_refused() {
    let (cfg, _) = model();
    let dir = tempfile::tempdir().unwrap();
    trained(&cfg, &["q_proj"]).save(dir.path()).unwrap();
    let mut sizes = small_sizes();
    sizes.n_layers = 1;
    let shallow = Config::new(&sizes).unwrap();
    let load = |cfg: &Config| Lora::load(dir.path(), cfg, &CPU, Mode::Frozen);
    assert!(matches!(load(&shallow), Err(Error::Input { .. })));
    sizes.n_layers = 3;
    assert!(matches!(
        load(&Config::new(&sizes).unwrap()),
        Err(Error::Missing { .. })
    ));
    sizes.d_model = 64;
    assert!(matches!(
        load(&Config::new(&sizes).unwrap()),
        Err(Error::Shape { .. })
    ));
    std::fs::write(dir.path().join(ADAPTER_MODEL), b"junk").unwrap();
    assert!(matches!(load(&cfg), Err(Error::WeightFile { .. })));
    assert_eq!(
        trained(&cfg, &["q_proj"]).params().vars()[0].1.dtype(),
        DType::F32
    );
}
