//! Model directories: saved, opened, checked, refused.

use std::borrow::Cow;

use mmada_model::{Defaults, Error, ImageParts, LoadOptions, Mmada, Numbers, Preset, TextOptions};
use mmada_nn::magvit::ImageTokenizer;
use mmada_nn::{Lora, LoraConfig, SaveDtype, SaveOptions, Transformer};
use mmada_tensor::{DType, Device, Packing, Tensor};
use mmada_tokens::Message;
use serde_json::{Value, json};

use crate::tiny;

fn saved() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    tiny::model()
        .save(dir.path(), &SaveOptions::default())
        .unwrap();
    dir
}

fn open(dir: &tempfile::TempDir) -> Result<Mmada, Error> {
    Mmada::open(dir.path(), &LoadOptions::default())
}

fn same_tensors(a: &Mmada, b: &Mmada) {
    assert!(a.params().names().eq(b.params().names()));
    for ((name, a), (_, b)) in a.params().iter().zip(b.params().iter()) {
        let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(values(a), values(b), "{name}");
    }
}

#[test]
fn a_saved_model_opens_again() {
    let (dir, model) = (saved(), tiny::model());
    for file in [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "generation_config.json",
        "image_tokenizer/config.json",
        "image_tokenizer/model.safetensors",
    ] {
        assert!(dir.path().join(file).is_file(), "{file}");
    }
    let opened = open(&dir).unwrap();
    opened.check().unwrap();
    same_tensors(&model, &opened);
    assert_eq!(opened.defaults(), model.defaults());
    assert_eq!(opened.vocab(), model.vocab());
    // Saving over an earlier model replaces it.
    opened.save(dir.path(), &SaveOptions::default()).unwrap();
    same_tensors(&model, &open(&dir).unwrap());
}

/// Checkpoints are published in bf16: a processor computes with them all the same, packed or not,
/// with and without a cache.
#[test]
fn half_precision_weights_answer() {
    let dir = tempfile::tempdir().unwrap();
    let half = SaveOptions {
        dtype: SaveDtype::BF16,
        ..SaveOptions::default()
    };
    tiny::model().save(dir.path(), &half).unwrap();
    let opened = |numbers| {
        let options = LoadOptions {
            numbers,
            ..LoadOptions::default()
        };
        Mmada::open(dir.path(), &options).unwrap()
    };
    let (computed, stored) = (opened(Numbers::Computed), opened(Numbers::Stored));
    let dtype = |model: &Mmada| model.params().iter().next().unwrap().1.dtype();
    assert_eq!(
        (dtype(&computed), dtype(&stored)),
        (DType::F32, DType::BF16)
    );
    for model in [computed, stored.packed(Packing::Int8).unwrap()] {
        for sampler in [Preset::Exact, Preset::Cached] {
            let options = TextOptions {
                length: 8,
                block: 4,
                steps: 8,
                ..TextOptions::default().under(sampler)
            };
            let reply = model.chat(&[Message::user("red")], &options).unwrap();
            let reply = reply.finish().unwrap().remove(0);
            assert!(!reply.ids.is_empty(), "{sampler:?}");
        }
    }
}

#[test]
fn a_model_in_memory_is_the_same() {
    let dir = saved();
    let file = |name: &str| std::fs::read(dir.path().join(name)).ok().map(Cow::Owned);
    let embedded = Mmada::from_files(file, &LoadOptions::default()).unwrap();
    same_tensors(&embedded, &open(&dir).unwrap());
    assert_eq!(embedded.defaults(), &tiny::defaults());
    let messages = [Message::user("12 + 30")];
    let ask = |model: &Mmada| {
        model
            .chat(&messages, &model.defaults().text)
            .unwrap()
            .finish()
            .unwrap()
    };
    assert_eq!(ask(&embedded), ask(&tiny::model()));
    let nothing = Mmada::from_files(|_| None, &LoadOptions::default());
    assert!(matches!(nothing, Err(Error::MissingFile { .. })));
}

#[test]
fn missing_and_malformed_files_are_named() {
    for (file, content, expected) in [
        ("config.json", None, "no config.json in"),
        ("tokenizer.json", None, "no tokenizer.json in"),
        (
            "generation_config.json",
            Some("{\"paint\": {\"stepps\": 3}}"),
            "stepps",
        ),
        (
            "generation_config.json",
            Some("{"),
            "generation_config.json",
        ),
        (
            "generation_config.json",
            Some("{\"image\": {\"looks\": {\"variants\": 0}}}"),
            "image.looks.variants is 0",
        ),
        (
            "generation_config.json",
            Some(
                "{\"image\": {\"looks\": {\"variants\": 2, \"figures\": {\"red\": [255, 0, 0]}}}}",
            ),
            "image.looks.figures",
        ),
        ("config.json", Some("[]"), "config.json"),
        ("image_tokenizer/config.json", Some("{\"chh\": 1}"), "chh"),
        ("model.safetensors", Some("no weights"), "model.safetensors"),
    ] {
        let dir = saved();
        let path = dir.path().join(file);
        match content {
            Some(content) => std::fs::write(path, content).unwrap(),
            None => std::fs::remove_file(path).unwrap(),
        }
        let message = open(&dir).unwrap_err().to_string();
        assert!(message.contains(expected), "{file}: {message}");
    }
}

/// Like the other settings, these are bounded before they are read.
#[test]
fn sampling_settings_of_hostile_size_are_refused() {
    let dir = saved();
    let path = dir.path().join("generation_config.json");
    std::fs::write(&path, format!("{}{{}}", " ".repeat(1 << 20))).unwrap();
    let message = open(&dir).unwrap_err().to_string();
    assert!(
        message.contains("generation_config.json") && message.contains("at most"),
        "{message}"
    );
}

/// A number of image codes that is none would open the model as one without pictures.
#[test]
fn numbers_of_image_codes_that_are_none_are_refused() {
    let dir = saved();
    std::fs::remove_dir_all(dir.path().join("image_tokenizer")).unwrap();
    let path = dir.path().join("config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    let mut opened = |codes: Value| {
        config["codebook_size"] = codes;
        std::fs::write(&path, config.to_string()).unwrap();
        open(&dir)
    };
    assert_eq!(opened(json!(64)).unwrap().vocab().codes(), 64);
    assert_eq!(opened(json!(null)).unwrap().vocab().codes(), 0);
    for codes in [json!("64"), json!(1u64 << 33), json!(-64), json!(64.5)] {
        let message = opened(codes).unwrap_err().to_string();
        assert!(
            message.contains("codebook_size") && message.contains("an integer"),
            "{message}"
        );
    }
}

#[test]
fn keys_of_other_software_in_the_defaults_are_ignored() {
    let parsed = Defaults::parse(b"{\"eos_token_id\": 3, \"text\": {\"length\": 5}}").unwrap();
    assert_eq!(parsed.text.length, 5);
    assert_eq!(parsed.paint, Defaults::default().paint);
}

#[test]
fn nan_weights_are_found() {
    let (dir, model) = (saved(), tiny::model());
    let mut params = model.params().clone();
    let (name, tensor) = model.params().iter().nth(3).unwrap();
    let broken = (tensor * f64::NAN).unwrap();
    params.set(name, &broken).unwrap();
    params.save(dir.path(), &SaveOptions::default()).unwrap();
    let broken = open(&dir).unwrap();
    let message = broken.check().unwrap_err().to_string();
    assert!(
        message.contains(name) && message.contains("NaN"),
        "{message}"
    );
    // An adapter's weights are weights of the model.
    let cfg = LoraConfig {
        r: 2,
        alpha: 4.0,
        target_modules: vec!["q_proj".to_owned()],
    };
    let adapter = Lora::init(&cfg, model.config(), "base", 1, &Device::Cpu).unwrap();
    let (name, var) = adapter.params().vars().remove(0);
    var.set(&(var.as_tensor() * f64::NAN).unwrap()).unwrap();
    let adapted = model.with_adapter(adapter).unwrap();
    let message = adapted.check().unwrap_err().to_string();
    assert!(message.contains(&name), "{message}");
    // Sampling from it is an error, not a panic or an endless loop.
    let asked = broken
        .chat(&[Message::user("hello")], &broken.defaults().text)
        .unwrap();
    assert!(asked.finish().is_err());
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let image = |bits| {
        let cfg = tiny::image_config(bits);
        let (params, _) = ImageTokenizer::init(&cfg, 1, &Device::Cpu).unwrap();
        Some(ImageParts::new(&cfg, params).unwrap())
    };
    let codec = tiny::codec(64);
    let cfg = tiny::config(&codec);
    let (params, _) = Transformer::init(&cfg, 1, &Device::Cpu).unwrap();
    let build = |codec, image| Mmada::new(&cfg, params.clone(), codec, image, Defaults::default());
    assert!(build(codec.clone(), image(6)).is_ok());
    assert!(build(codec.clone(), None).is_ok());
    assert!(matches!(build(codec, image(5)), Err(Error::Misfit { .. })));
    assert!(matches!(
        build(tiny::codec(128), image(7)),
        Err(Error::Misfit { .. })
    ));
}

#[test]
fn folders_that_hold_something_else_are_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("thesis.tex"), "years of work").unwrap();
    assert!(
        tiny::model()
            .save(dir.path(), &SaveOptions::default())
            .is_err()
    );
    assert!(dir.path().join("thesis.tex").is_file());
    let file = dir.path().join("thesis.tex");
    assert!(
        tiny::model()
            .save(file.join("below"), &SaveOptions::default())
            .is_err()
    );
    // Nor is a file, which is no folder.
    let error = tiny::model()
        .save(&file, &SaveOptions::default())
        .unwrap_err();
    assert!(matches!(error, Error::Request { .. }), "{error}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "years of work");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}
