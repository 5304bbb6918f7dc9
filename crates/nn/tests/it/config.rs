//! `config.json`: read, checked, written back.

use mmada_nn::image_reward::MedConfig;
use mmada_nn::lora::{ADAPTER_CONFIG, Lora};
use mmada_nn::{ClipConfig, Config, Error, magvit};
use serde_json::{Value, json};

use crate::common::{golden, small_sizes};

fn golden_text() -> String {
    std::fs::read_to_string(golden("transformer/config.json")).unwrap()
}

/// Every key of a new config.
fn small() -> Value {
    Config::new(&small_sizes()).unwrap().to_json()
}

#[test]
fn golden_config_is_written_back_with_every_key() {
    let text = golden_text();
    let cfg = Config::parse(&text).unwrap();
    let original: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(cfg.to_json(), original);
    let keys = |v: &Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&cfg.to_json()), keys(&original));
    let again: Config = serde_json::from_value(serde_json::to_value(&cfg).unwrap()).unwrap();
    assert_eq!(again, cfg);
}

#[test]
fn config_with_wrong_values_is_refused_by_key() {
    for (key, value) in [
        ("architectures", json!(["LlamaForCausalLM"])),
        ("architectures", json!("MMadaModelLM")),
        ("d_model", json!(0)),
        ("d_model", json!(-4)),
        ("d_model", json!("32")),
        ("d_model", json!(1u64 << 60)),
        ("n_heads", json!(3)),
        ("n_heads", json!(null)),
        ("n_kv_heads", json!(0)),
        ("n_kv_heads", json!(1000)),
        ("n_layers", json!(1.5)),
        ("rms_norm_eps", json!("1e-5")),
        ("rms_norm_eps", json!(-1e-5)),
        ("rope_theta", json!(0)),
        ("max_sequence_length", json!(0)),
        ("weight_tying", json!("no")),
        ("alibi", json!(true)),
        ("rope", json!(false)),
        ("layer_norm_type", json!("default")),
        ("include_bias", json!(true)),
        ("include_qkv_bias", json!(true)),
        ("block_type", json!("sequential")),
        ("activation_type", json!("gelu")),
        ("scale_logits", json!(true)),
        ("input_emb_norm", json!(true)),
        ("attention_layer_norm", json!(true)),
    ] {
        let mut keys: Value = small();
        keys[key] = value.clone();
        match Config::parse(&keys.to_string()) {
            Err(Error::Config { key: named, .. }) => assert_eq!(&*named, key, "{value}"),
            other => panic!("{key} = {value}: {other:?}"),
        }
    }
    for key in [
        "architectures",
        "d_model",
        "n_heads",
        "n_layers",
        "rms_norm_eps",
        "rope_theta",
        "max_sequence_length",
        "weight_tying",
    ] {
        let mut keys: Value = small();
        keys.as_object_mut().unwrap().remove(key);
        let error = Config::parse(&keys.to_string()).unwrap_err().to_string();
        assert!(
            error.contains(key) && error.contains("no such key"),
            "{error}"
        );
    }
    for text in ["", "[]", "{", "{\"d_model\": 4} x"] {
        assert!(
            matches!(Config::parse(text), Err(Error::Config { .. })),
            "{text}"
        );
    }
}

#[test]
fn config_defaults_follow_the_original() {
    let mut keys: Value = small();
    let full = Config::parse(&keys.to_string()).unwrap();
    keys["unknown_to_everyone"] = json!({ "kept": true });
    keys["n_kv_heads"] = json!(null);
    keys["multi_query_attention"] = json!(null);
    keys["embedding_size"] = json!(null);
    keys["vocab_size"] = json!(77);
    keys["mlp_hidden_size"] = json!(null);
    keys["mlp_ratio"] = json!(3);
    let cfg = Config::parse(&keys.to_string()).unwrap();
    assert_eq!(cfg.n_kv_heads, full.n_heads);
    assert_eq!(cfg.embedding_size, 77);
    assert_eq!(cfg.mlp_hidden_size, 3 * full.d_model);
    assert_eq!(cfg.to_json()["unknown_to_everyone"]["kept"], json!(true));
    keys["multi_query_attention"] = json!(true);
    assert_eq!(Config::parse(&keys.to_string()).unwrap().n_kv_heads, 1);
}

#[test]
fn a_changed_field_is_what_is_written() {
    let mut cfg = Config::new(&small_sizes()).unwrap();
    cfg.set_key("mask_token_id", json!(39));
    assert_eq!(cfg.key("mask_token_id"), Some(&json!(39)));
    cfg.max_sequence_length = 99;
    let again = Config::parse(&cfg.to_json().to_string()).unwrap();
    assert_eq!(again.max_sequence_length, 99);
    assert_eq!(again.key("mask_token_id"), Some(&json!(39)));
}

#[test]
fn nulls_that_mean_the_default_are_written_back_as_nulls() {
    let mut keys = small();
    keys["n_kv_heads"] = Value::Null;
    let cfg = Config::parse(&keys.to_string()).unwrap();
    assert_eq!(cfg.n_kv_heads, cfg.n_heads);
    assert_eq!(cfg.to_json(), keys);
}

/// Files of several kinds are read alike: an error names the one it is about.
#[test]
fn an_error_names_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let load = |file: &str| match file {
        ADAPTER_CONFIG => Lora::settings(dir.path()).err(),
        _ => MedConfig::load(dir.path()).err(),
    };
    let no_width = json!({"hidden_size": 0, "intermediate_size": 1, "num_attention_heads": 1,
        "num_hidden_layers": 1, "max_position_embeddings": 1, "vocab_size": 1, "layer_norm_eps": 1});
    for (file, text) in [
        (ADAPTER_CONFIG, " ".repeat(1 << 20)),
        ("med_config.json", " ".repeat(1 << 20)),
        ("med_config.json", "{".to_owned()),
        ("med_config.json", no_width.to_string()),
    ] {
        std::fs::write(dir.path().join(file), text).unwrap();
        let message = load(file).unwrap().to_string();
        assert!(message.contains(file), "{message}");
        assert!(!message.contains("key \"\""), "{message}");
    }
    // Several folders have a `config.json`.
    let path = dir.path().join("config.json");
    let text = json!({"projection_dim": 0, "z_channels": 0}).to_string();
    std::fs::write(&path, text).unwrap();
    let errors = [
        Config::load(dir.path()).unwrap_err(),
        ClipConfig::load(dir.path()).unwrap_err(),
        magvit::Config::load(dir.path()).unwrap_err(),
    ];
    let named = path.display().to_string();
    for error in errors.map(|error| error.to_string()) {
        assert!(error.starts_with(&named), "{error}");
    }
}
