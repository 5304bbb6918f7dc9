//! Adapters in training: what is saved, resumed and merged, for both kinds of objective.

use std::path::Path;

use mmada_model::{LoadOptions, Mmada, TextOptions};
use mmada_nn::lora::{ADAPTER_CONFIG, ADAPTER_MODEL};
use mmada_nn::{LoraConfig, Params};
use mmada_tensor::{DType, Device};
use mmada_tokens::Message;
use mmada_train::config::{Init, RunConfig};
use mmada_train::{Mode, Silent, run};

use crate::runs::{options, stopped_at, train};
use crate::world::{World, metrics};

/// The run with an adapter beside the model of a folder.
pub(crate) fn adapted(mut config: RunConfig, from: &Path) -> RunConfig {
    config.model.init = Init::From(from.to_path_buf());
    config.model.lora = Some(LoraConfig {
        r: 4,
        alpha: 8.0,
        target_modules: ["q_proj", "v_proj", "up_proj"].map(str::to_owned).to_vec(),
    });
    config
}

fn open(folder: &Path) -> Mmada {
    Mmada::open(folder, &LoadOptions::default()).unwrap()
}

fn bits(params: &Params) -> Vec<(String, Vec<u32>)> {
    let bits = params.iter().map(|(name, tensor)| {
        let values = tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap();
        let values = values.to_vec1::<f32>().unwrap();
        (
            name.to_owned(),
            values.into_iter().map(f32::to_bits).collect(),
        )
    });
    bits.collect()
}

#[test]
fn only_the_adapter_is_trained_and_saved() {
    let world = World::new();
    train(&world.denoise("first", &["run.steps=20"]), Mode::Fresh);
    let base = world.path("first/model");
    let before = bits(open(&base).params());
    let overrides = [
        "run.steps=40",
        "lr.peak=2e-2",
        "log.every=20",
        "ema.decay=0.5",
    ];
    let config = adapted(world.denoise("adapter", &overrides), &base);
    train(&config, Mode::Fresh);
    let losses: Vec<f64> = metrics(&config.run.out)
        .iter()
        .filter_map(|line| line["loss"].as_f64())
        .collect();
    assert!(losses[1] < losses[0], "{losses:?}");
    assert!(bits(open(&base).params()) == before, "the base has changed");

    let folder = config.run.out.join("model");
    let is_there = |file: &str| folder.join(file).is_file();
    assert!(is_there(ADAPTER_CONFIG) && is_there(ADAPTER_MODEL));
    assert!(!is_there("model.safetensors") && !is_there("config.json"));
    let model = open(&folder);
    assert!(bits(model.params()) == before && model.adapter().is_some());
    assert_eq!(model.trainable().len(), 2 * 3 * 2);

    // A merged model answers as the adapted one, and needs nothing else.
    let merged = model.merged().unwrap();
    let place = world.path("merged");
    merged.save(&place, &Default::default()).unwrap();
    let merged = open(&place);
    assert!(merged.adapter().is_none());
    let answer = |model: &Mmada| {
        let text = TextOptions {
            length: 8,
            block: 8,
            steps: 8,
            ..TextOptions::default()
        };
        let replies = model.chat(&[Message::user("coal")], &text).unwrap();
        replies.finish().unwrap()[0].ids.clone()
    };
    assert_eq!(answer(&merged), answer(&model));
    let plain = model.without_adapter().unwrap();
    assert!(plain.adapter().is_none() && bits(plain.params()) == before);
}

#[test]
fn runs_with_an_adapter_resume_to_the_same_bits() {
    let world = World::new();
    train(&world.denoise("first", &["run.steps=2"]), Mode::Fresh);
    let base = world.path("first/model");
    // The reinforced run stops within a group.
    let runs = |kind: &str| {
        let denoise = adapted(world.denoise(&format!("{kind}-sft"), &[]), &base);
        let reinforced = adapted(
            world.unigrpo(&format!("{kind}-rl"), "first/model", &[]),
            &base,
        );
        [denoise, reinforced]
    };
    for ((whole, parts), step) in runs("whole").into_iter().zip(runs("parts")).zip([3, 5]) {
        train(&whole, Mode::Fresh);
        assert!(stopped_at(&parts, step).is_early);
        train(&parts, Mode::Resume);
        assert_eq!(metrics(&whole.run.out), metrics(&parts.run.out));
        let tensors = |run: &RunConfig| bits(open(&run.run.out.join("model")).trainable());
        assert!(tensors(&whole) == tensors(&parts));
    }
}

#[test]
fn the_reference_is_the_model_without_its_adapter() {
    let world = World::new();
    train(&world.denoise("first", &["run.steps=2"]), Mode::Fresh);
    let base = world.path("first/model");
    let overrides = ["objective.surrogate.kl=0.1", "lr.peak=1e-2"];
    let config = adapted(world.unigrpo("rl", "first/model", &overrides), &base);
    train(&config, Mode::Fresh);
    let kl: Vec<f64> = metrics(&config.run.out)
        .iter()
        .filter_map(|line| line["kl"].as_f64())
        .collect();
    // Nothing has moved in the first step; later the policy has left the reference.
    assert!(kl[0].abs() < 1e-9 && kl[kl.len() - 1] > 1e-9, "{kl:?}");

    // An adapter is trained further as it is, and then the reference is where that run begins.
    let further = world.unigrpo("further", "rl/model", &overrides);
    train(&further, Mode::Fresh);
    let first = metrics(&further.run.out)[0]["kl"].as_f64().unwrap();
    assert!(first.abs() < 1e-9, "{first}");
    assert!(further.run.out.join("model").join(ADAPTER_MODEL).is_file());
    let twice = adapted(
        world.unigrpo("twice", "rl/model", &[]),
        &world.path("rl/model"),
    );
    let error = run(&twice, options(Mode::Fresh), &Silent).unwrap_err();
    assert!(error.to_string().contains("model.lora"), "{error}");
    let fresh = RunConfig {
        model: mmada_train::config::ModelSection {
            lora: twice.model.lora.clone(),
            ..world.denoise("fresh", &[]).model
        },
        ..world.denoise("fresh", &[])
    };
    let mut other = twice.clone();
    other.model.tokenizer = fresh.model.tokenizer.clone();
    let text = toml::to_string(&other).unwrap();
    let error = RunConfig::parse(&text, &[]).unwrap_err();
    assert!(
        error.to_string().contains("remove model.tokenizer"),
        "{error}"
    );
    let text = toml::to_string(&fresh).unwrap();
    let error = RunConfig::parse(&text, &[]).unwrap_err();
    assert!(error.to_string().contains("model.lora"), "{error}");
    assert_eq!(
        open(&base).params().device().location(),
        Device::Cpu.location()
    );
}
