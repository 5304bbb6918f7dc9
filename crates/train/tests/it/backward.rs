//! What a backward pass keeps: the same losses and weights in all ways, also after a stop.

use mmada_nn::LoraConfig;
use mmada_train::config::{Init, RunConfig};
use mmada_train::{Mode, optimizer};

use crate::runs::{stopped_at, train};
use crate::world::{World, metrics};

/// The lines of metrics and the bytes of the trained weights.
fn result(config: &RunConfig) -> (Vec<serde_json::Value>, Vec<u8>) {
    let folder = config.run.out.join("model");
    let names = ["model.safetensors", "adapter_model.safetensors"];
    let weights = names
        .iter()
        .find_map(|name| std::fs::read(folder.join(name)).ok());
    (metrics(&config.run.out), weights.unwrap())
}

/// A run in each way, and stopped after `stop` steps in the two that are not the plain one.
fn check(stop: u64, make: &dyn Fn(&str, &str) -> RunConfig) {
    let plain = make("keep", "keep");
    train(&plain, Mode::Fresh);
    let expected = result(&plain);
    for backward in ["recompute", "fused"] {
        let whole = make(backward, backward);
        train(&whole, Mode::Fresh);
        assert!(expected == result(&whole), "{backward}");
        let parts = make(&format!("{backward}-parts"), backward);
        assert!(stopped_at(&parts, stop).is_early);
        train(&parts, Mode::Resume);
        assert!(expected == result(&parts), "{backward}, resumed");
    }
}

/// What all three ways can do: one micro-batch, no clipping. Every gradient is in the log.
fn overrides(backward: &str) -> [String; 4] {
    [
        "log.parameters=true".to_owned(),
        format!("run.backward={backward}"),
        "batch.accumulate=1".to_owned(),
        "optimizer.clip=0".to_owned(),
    ]
}

#[test]
fn whole_models_are_trained_to_the_same_bits() {
    let world = World::new();
    check(3, &|out, backward| {
        let mut overrides = overrides(backward).to_vec();
        overrides.push("run.precision=bf16".to_owned());
        overrides.push("optimizer.code_bits.lr_scale=1.0".to_owned());
        let overrides: Vec<&str> = overrides.iter().map(String::as_str).collect();
        let mut config = world.denoise(out, &overrides);
        config.optimizer.groups = vec![optimizer::GroupConfig {
            names: vec!["blocks".to_owned()],
            weight_decay: 0.1,
            method: optimizer::Method::Muon,
            lr_scale: 2.0,
        }];
        config
    });
}

#[test]
fn adapters_and_reinforced_models_are_trained_to_the_same_bits() {
    let world = World::new();
    let first = world.denoise("first", &["run.steps=2"]);
    train(&first, Mode::Fresh);
    let base = world.path("first/model");
    let lora = LoraConfig {
        r: 4,
        alpha: 8.0,
        target_modules: ["q_proj", "ff_out"].map(str::to_owned).to_vec(),
    };
    check(3, &|out, backward| {
        let overrides = overrides(backward);
        let mut config = world.denoise(
            &format!("lora-{out}"),
            &overrides.each_ref().map(String::as_str),
        );
        config.model.init = Init::From(base.clone());
        config.model.lora = Some(lora.clone());
        config
    });
    // The run stops within a group.
    check(5, &|out, backward| {
        let overrides = overrides(backward);
        let overrides = overrides.each_ref().map(String::as_str);
        world.unigrpo(&format!("rl-{out}"), "first/model", &overrides)
    });
}

#[test]
fn several_micro_batches_are_recomputed_side_by_side() {
    let world = World::new();
    let [keep, recompute] = ["keep", "recompute"].map(|backward| {
        let config = world.denoise(backward, &[&format!("run.backward={backward}")]);
        assert_eq!((config.batch.accumulate, config.run.threads), (2, 2));
        train(&config, Mode::Fresh);
        result(&config)
    });
    assert!(keep == recompute);
}

#[test]
fn what_does_not_go_together_is_refused() {
    let world = World::new();
    for (make, items, word) in [
        (
            World::denoise as fn(&World, &str, &[&str]) -> RunConfig,
            &["optimizer.clip=0"][..],
            "batch.accumulate",
        ),
        (World::denoise, &["batch.accumulate=1"], "optimizer.clip"),
        (
            World::reconstruct,
            &["batch.accumulate=1"],
            "image tokenizer",
        ),
    ] {
        let text = toml::to_string(&make(&world, "refused", items)).unwrap();
        let fused = ["run.backward=fused".to_owned()];
        let error = RunConfig::parse(&text, &fused).unwrap_err().to_string();
        assert!(
            error.contains("run.backward") && error.contains(word),
            "{error}"
        );
    }
}
