//! Model directories that are truncated, corrupt or hostile.

use std::fs;
use std::path::Path;

use crate::support::{self, fails, mmada, works};

const WEIGHTS: &str = "model.safetensors";

/// A model with one file changed by `damage`; chatting with it must fail and name all `parts`.
#[track_caller]
fn check(file: &str, damage: impl FnOnce(&mut Vec<u8>), parts: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let model = support::model_dir(dir.path());
    let mut bytes = fs::read(model.join(file)).unwrap();
    damage(&mut bytes);
    fs::write(model.join(file), bytes).unwrap();
    fails_to_open(&model, parts);
}

#[track_caller]
fn fails_to_open(model: &Path, parts: &[&str]) {
    fails(mmada().args(["chat", "hi", "--model"]).arg(model), 1, parts);
    fails(mmada().arg("inspect").arg(model), 1, parts);
}

/// Header and data of a weight file.
fn split(bytes: &[u8]) -> (serde_json::Value, Vec<u8>) {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (
        serde_json::from_slice(&bytes[8..8 + length]).unwrap(),
        bytes[8 + length..].to_vec(),
    )
}

fn join(header: &serde_json::Value, data: &[u8]) -> Vec<u8> {
    let header = header.to_string();
    [
        &(header.len() as u64).to_le_bytes(),
        header.as_bytes(),
        data,
    ]
    .concat()
}

/// The name of some tensor with two dimensions.
fn matrix(header: &serde_json::Value) -> String {
    let tensors = header.as_object().unwrap();
    let is_matrix =
        |tensor: &serde_json::Value| tensor["shape"].as_array().is_some_and(|s| s.len() == 2);
    tensors
        .iter()
        .find(|(_, tensor)| is_matrix(tensor))
        .unwrap()
        .0
        .clone()
}

#[test]
fn truncated_weights() {
    check(WEIGHTS, |bytes| bytes.truncate(bytes.len() / 2), &[WEIGHTS]);
    check(WEIGHTS, |bytes| bytes.truncate(5), &[WEIGHTS]);
    check(WEIGHTS, Vec::clear, &[WEIGHTS]);
    check(
        "image_tokenizer/model.safetensors",
        |bytes| bytes.truncate(999),
        &[WEIGHTS],
    );
}

#[test]
fn a_header_of_two_to_the_sixty_bytes() {
    check(
        WEIGHTS,
        |bytes| bytes[..8].copy_from_slice(&(1u64 << 60).to_le_bytes()),
        &[WEIGHTS],
    );
    check(
        WEIGHTS,
        |bytes| bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes()),
        &[WEIGHTS],
    );
}

#[test]
fn a_header_that_is_no_json() {
    check(WEIGHTS, |bytes| bytes[8..40].fill(b'x'), &[WEIGHTS]);
}

#[test]
fn overlapping_offsets() {
    let overlap = |bytes: &mut Vec<u8>| {
        let (mut header, data) = split(bytes);
        let tensors = header.as_object_mut().unwrap();
        let offsets: Vec<serde_json::Value> = tensors
            .values()
            .filter(|t| !t["data_offsets"].is_null())
            .map(|t| t["data_offsets"].clone())
            .collect();
        for tensor in tensors
            .values_mut()
            .filter(|t| !t["data_offsets"].is_null())
        {
            let start = offsets[0][0].as_u64().unwrap();
            let length = tensor["data_offsets"][1].as_u64().unwrap()
                - tensor["data_offsets"][0].as_u64().unwrap();
            tensor["data_offsets"] = serde_json::json!([start, start + length]);
        }
        *bytes = join(&header, &data);
    };
    check(WEIGHTS, overlap, &[WEIGHTS]);
}

#[test]
fn a_shape_that_is_not_the_configs() {
    let reshape = |bytes: &mut Vec<u8>| {
        let (mut header, data) = split(bytes);
        let name = matrix(&header);
        let count: u64 = header[&name]["shape"]
            .as_array()
            .unwrap()
            .iter()
            .map(|n| n.as_u64().unwrap())
            .product();
        header[&name]["shape"] = serde_json::json!([count]);
        *bytes = join(&header, &data);
    };
    check(WEIGHTS, reshape, &["expected", "got"]);
}

#[test]
fn a_dtype_that_does_not_fill_its_bytes() {
    let retype = |bytes: &mut Vec<u8>| {
        let (mut header, data) = split(bytes);
        let name = matrix(&header);
        header[&name]["dtype"] = serde_json::json!("F16");
        *bytes = join(&header, &data);
    };
    check(WEIGHTS, retype, &[WEIGHTS]);
}

#[test]
fn a_missing_tensor() {
    let rename = |bytes: &mut Vec<u8>| {
        let (mut header, data) = split(bytes);
        let name = matrix(&header);
        let tensors = header.as_object_mut().unwrap();
        let tensor = tensors.remove(&name).unwrap();
        tensors.insert(format!("{name}.elsewhere"), tensor);
        *bytes = join(&header, &data);
    };
    check(WEIGHTS, rename, &["expected"]);
}

/// Nobody can sample from them, and `inspect` names the tensor.
#[test]
fn weights_that_are_not_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let model = support::model_dir(dir.path());
    let (header, mut data) = split(&fs::read(model.join(WEIGHTS)).unwrap());
    data.fill(0xff);
    fs::write(model.join(WEIGHTS), join(&header, &data)).unwrap();
    let out = dir.path().join("p.png");
    fails(
        mmada().args(["chat", "hi", "--model"]).arg(&model),
        1,
        &["finite", "NaN"],
    );
    fails(
        mmada()
            .args(["paint", "a", "-o"])
            .arg(&out)
            .arg("--model")
            .arg(&model),
        1,
        &["finite", "NaN"],
    );
    assert!(!out.exists());
    let inspected = support::said(mmada().arg("inspect").arg(&model));
    assert_eq!(inspected.code, Some(1));
    assert!(inspected.out.contains("NOT SOUND"), "{}", inspected.out);
    assert!(
        inspected.err.contains("model.transformer"),
        "{}",
        inspected.err
    );
}

#[test]
fn missing_shards_and_files() {
    let dir = tempfile::tempdir().unwrap();
    let model = support::model_dir(dir.path());
    let (header, _) = split(&fs::read(model.join(WEIGHTS)).unwrap());
    fs::remove_file(model.join(WEIGHTS)).unwrap();
    fails_to_open(&model, &["model.safetensors"]);
    let names = header
        .as_object()
        .unwrap()
        .keys()
        .filter(|name| *name != "__metadata__");
    let index = |shard: &str| {
        let map: serde_json::Map<_, _> = names
            .clone()
            .map(|name| (name.clone(), shard.into()))
            .collect();
        serde_json::json!({ "metadata": {}, "weight_map": map }).to_string()
    };
    let place = model.join("model.safetensors.index.json");
    fs::write(&place, index("model-00001-of-00002.safetensors")).unwrap();
    fails_to_open(&model, &["model-00001-of-00002.safetensors"]);
    fs::write(&place, index("../../secret.safetensors")).unwrap();
    fails_to_open(&model, &["secret.safetensors"]);
    fs::remove_file(model.join("tokenizer.json")).unwrap();
    fails_to_open(&model, &["no tokenizer.json", "expected a model directory"]);
    fs::remove_file(model.join("config.json")).unwrap();
    fails_to_open(&model, &["no config.json"]);
}

#[test]
fn settings_that_make_no_sense() {
    check("config.json", |bytes| bytes.truncate(20), &["config"]);
    check(
        "tokenizer.json",
        |bytes| bytes.truncate(200),
        &["tokenizer"],
    );
    check(
        "generation_config.json",
        |bytes| *bytes = b"{\"text\":{\"lenght\":3}}".to_vec(),
        &["lenght"],
    );
    check(
        "generation_config.json",
        |bytes| *bytes = b"{\"image\":{\"width\":1048576,\"height\":1048576}}".to_vec(),
        &["image.width", "1048576", "at most"],
    );
    for (settings, named) in [
        ("{\"text\":{\"length\":0}}", "text.length"),
        ("{\"text\":{\"temperature\":-1}}", "text.temperature"),
        ("{\"paint\":{\"best_of\":0}}", "paint.best_of"),
        ("{\"fill\":{\"gap\":0}}", "fill.gap"),
        ("{\"text\":{\"commit\":{\"threshold\":7.0}}}", "threshold"),
        ("{\"paint\":{\"schedule\":{\"power\":-1.0}}}", "power"),
        ("{\"image\":{\"width\":0}}", "image.width"),
    ] {
        let set = |bytes: &mut Vec<u8>| *bytes = settings.as_bytes().to_vec();
        check("generation_config.json", set, &[named]);
    }
    check(
        "chat_template.jinja",
        |bytes| *bytes = b"{% for".to_vec(),
        &["template"],
    );
    let huge = |bytes: &mut Vec<u8>| {
        let mut config: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        config["n_layers"] = serde_json::json!(1u64 << 40);
        *bytes = config.to_string().into_bytes();
    };
    check("config.json", huge, &["n_layers", "expected"]);
    // Keys that are at odds with what else is there.
    for (key, value) in [
        ("mask_token_id", serde_json::json!(1)),
        ("weight_tying", serde_json::json!(true)),
    ] {
        let set = |bytes: &mut Vec<u8>| {
            let mut config: serde_json::Value = serde_json::from_slice(bytes).unwrap();
            config[key] = value;
            *bytes = config.to_string().into_bytes();
        };
        check("config.json", set, &[key]);
    }
}

/// A model file is not a model directory.
#[test]
fn a_file_instead_of_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let model = support::model_dir(dir.path());
    let file = model.join(WEIGHTS);
    fails(
        mmada().args(["chat", "hi", "--model"]).arg(&file),
        2,
        &["expected a directory", "config.json"],
    );
    assert!(works(mmada().args(["chat", "hi", "--model"]).arg(&model)).ends_with('\n'));
}
