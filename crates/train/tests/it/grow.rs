//! Runs that begin with a larger network around a model's weights.

use mmada_model::{LoadOptions, Mmada};
use mmada_nn::Growth;
use mmada_train::config::{GrowFrom, Init, RunConfig};
use mmada_train::{Mode, Silent, run};

use crate::lora::adapted;
use crate::runs::{options, stopped_at, train};
use crate::world::{World, metrics};

fn grown(mut config: RunConfig, world: &World) -> RunConfig {
    config.model.init = Init::Grow(GrowFrom {
        from: world.path("first/model"),
        to: Growth {
            d_model: Some(64),
            n_layers: Some(3),
            mlp_hidden_size: None,
        },
    });
    config
}

#[test]
fn a_grown_run_begins_where_the_small_model_is() {
    let world = World::new();
    train(&world.denoise("first", &["run.steps=20"]), Mode::Fresh);
    let overrides = ["run.steps=30", "log.every=1", "lr.peak=1e-2"];
    let mut small = world.denoise("small", &overrides);
    small.model.init = Init::From(world.path("first/model"));
    let large = grown(world.denoise("large", &overrides), &world);
    train(&small, Mode::Fresh);
    train(&large, Mode::Fresh);
    let losses = |run: &RunConfig| -> Vec<f64> {
        let lines = metrics(&run.run.out);
        lines
            .iter()
            .filter_map(|line| line["loss"].as_f64())
            .collect()
    };
    let (small, losses) = (losses(&small), losses(&large));
    let difference = (losses[0] - small[0]).abs();
    assert!(difference < 1e-3 * small[0], "{} {}", losses[0], small[0]);
    assert!(losses[29] < losses[0], "{losses:?}");
    let model = Mmada::open(large.run.out.join("model"), &LoadOptions::default()).unwrap();
    let config = model.config();
    assert_eq!([config.d_model, config.n_layers], [64, 3]);
}

#[test]
fn grown_runs_resume_to_the_same_bits() {
    let world = World::new();
    train(&world.denoise("first", &["run.steps=2"]), Mode::Fresh);
    let [whole, parts] = ["whole", "parts"].map(|name| grown(world.denoise(name, &[]), &world));
    train(&whole, Mode::Fresh);
    assert!(stopped_at(&parts, 3).is_early);
    train(&parts, Mode::Resume);
    assert_eq!(metrics(&whole.run.out), metrics(&parts.run.out));
}

#[test]
fn what_cannot_grow_is_refused() {
    let world = World::new();
    train(&world.denoise("base", &["run.steps=1"]), Mode::Fresh);
    let refusal = |config: &RunConfig| {
        let error = run(config, options(Mode::Fresh), &Silent).err();
        error.map(|error| error.to_string()).unwrap()
    };
    let tokenizer = grown(world.reconstruct("tokenizer", &[]), &world);
    assert!(refusal(&tokenizer).contains("is for transformers"));

    let adapter = world.denoise("first", &["run.steps=1"]);
    train(&adapted(adapter, &world.path("base/model")), Mode::Fresh);
    let whole = grown(world.denoise("larger", &[]), &world);
    assert!(refusal(&whole).contains("mmada merge"));

    let mut beside = whole;
    beside.model.lora = adapted(world.denoise("beside", &[]), &world.path("base"))
        .model
        .lora;
    let text = beside.resolved().unwrap();
    let error = RunConfig::parse(&text, &[]).unwrap_err().to_string();
    assert!(error.contains("model.lora needs"), "{error}");
}
