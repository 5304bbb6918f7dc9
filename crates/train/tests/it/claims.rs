//! What a run may not write over, what it does not fail for, and what would be left aside in silence.

use mmada_model::{LoadOptions, Mmada};
use mmada_train::config::{Init, RunConfig};
use mmada_train::{Mode, Silent, run};

use crate::lora::adapted;
use crate::rollouts::Warned;
use crate::runs::{options, stopped_at, train};
use crate::world::{World, metrics};

fn refused(config: &RunConfig) -> String {
    run(config, options(Mode::Fresh), &Silent)
        .unwrap_err()
        .to_string()
}

#[test]
fn a_model_that_no_run_made_is_not_replaced() {
    let world = World::new();
    let config = world.denoise("first", &["run.steps=1"]);
    let weights = config.run.out.join("model/model.safetensors");
    std::fs::create_dir_all(weights.parent().unwrap()).unwrap();
    std::fs::write(&weights, "of someone").unwrap();
    assert!(refused(&config).contains("no run has made"));
    assert_eq!(std::fs::read(&weights).unwrap(), b"of someone");
    // One of an earlier run, whose checkpoints are gone, is.
    std::fs::remove_dir_all(&config.run.out).unwrap();
    train(&config, Mode::Fresh);
    std::fs::remove_dir_all(config.run.out.join("checkpoints")).unwrap();
    train(&config, Mode::Fresh);
    // But not where the new run begins with it.
    std::fs::remove_dir_all(config.run.out.join("checkpoints")).unwrap();
    let further = adapted(config.clone(), &config.run.out.join("model"));
    let further = RunConfig {
        model: mmada_train::config::ModelSection {
            tokenizer: None,
            image_tokenizer: None,
            ..further.model
        },
        ..further
    };
    assert!(refused(&further).contains("begins with this model"));
    assert!(Mmada::open(config.run.out.join("model"), &LoadOptions::default()).is_ok());
}

/// Hours of training are not lost for a sheet that cannot be made.
#[test]
fn a_sheet_that_fails_is_told_and_the_run_goes_on() {
    let world = World::new();
    let nothing = ["run.steps=2", "samples.every=1", "samples.chat=[\"\"]"];
    let config = world.denoise("first", &nothing);
    let warned = Warned::default();
    run(&config, options(Mode::Fresh), &warned).unwrap();
    let warnings = warned.0.into_inner().unwrap();
    let count = warnings
        .iter()
        .filter(|text| text.contains("no sample sheet"));
    assert_eq!(count.count(), 2, "{warnings:?}");
    assert!(config.run.out.join("model/model.safetensors").is_file());
}

/// What a run does not say of sampling is as in the folder it begins with.
#[test]
fn sampling_settings_are_those_of_the_folder_but_for_what_is_named() {
    let world = World::new();
    let first = [
        "run.steps=1",
        "model.generation.text={length=24, block=8, steps=12}",
    ];
    train(&world.denoise("first", &first), Mode::Fresh);
    let named = ["run.steps=1", "model.generation.text.length=16"];
    let mut config = world.denoise("second", &named);
    config.model.init = Init::From(world.path("first/model"));
    train(&config, Mode::Fresh);
    let model = Mmada::open(config.run.out.join("model"), &LoadOptions::default()).unwrap();
    let text = &model.defaults().text;
    assert_eq!((text.length, text.block, text.steps), (16, 8, 12));
    assert_eq!(model.defaults().image.width, 16, "of the image tokenizer");
}

#[test]
fn what_an_objective_does_not_know_is_refused() {
    let world = World::new();
    train(&world.denoise("first", &["run.steps=1"]), Mode::Fresh);
    let parse = |config: &RunConfig, more: &str| {
        let text = toml::to_string(config).unwrap();
        RunConfig::parse(&text, &[more.to_owned()])
    };
    let (rl, image) = (
        world.unigrpo("rl", "first/model", &[]),
        world.reconstruct("image", &[]),
    );
    for weight in [
        "data.0.views.0.loss_weight=2.0",
        "data.0.views.0.blank=0.5",
        "data.1.views=[{task=\"describe\", prompt=\"a\", answer=\"b\", patch_dropout=0.5}]",
        "data.1.views=[{task=\"think-paint\", prompt=\"a\", thought=\"b\", thought_share=0.5}]",
    ] {
        assert!(parse(&world.denoise("first", &[]), weight).is_ok());
        let error = parse(&rl, weight).unwrap_err().to_string();
        assert!(error.contains("loss_weight"), "{error}");
    }
    let error = parse(&image, "samples.chat=[\"hello\"]").unwrap_err();
    assert!(error.to_string().contains("samples.pictures"), "{error}");
    for (number, word) in [
        ("objective.temperature=-1", "temperature"),
        ("objective.guidance=nan", "guidance"),
        ("objective.updates=9000000000000000000", "updates"),
        ("batch.size={sequences=9000000000000000000}", "batch.size"),
    ] {
        let error = parse(&rl, number).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    let many = parse(&rl, "batch.accumulate=9000000000000000000").unwrap_err();
    assert!(many.to_string().contains("batch.accumulate"), "{many}");
    // An adapter's folder has no image tokenizer of its own.
    let mut other = adapted(
        world.unigrpo("lora", "first/model", &[]),
        &world.path("first/model"),
    );
    train(&image, Mode::Fresh);
    other.model.image_tokenizer = Some(image.run.out.join("model"));
    assert!(refused(&other).contains("model.image_tokenizer"));
}

/// Where nothing is compared with the reference, no divergence is told.
#[test]
fn no_divergence_is_told_that_was_not_measured() {
    let world = World::new();
    train(&world.denoise("first", &["run.steps=2"]), Mode::Fresh);
    for (kl, is_told) in [("0.0", false), ("0.1", true)] {
        let weight = format!("objective.surrogate.kl={kl}");
        let config = world.unigrpo(kl, "first/model", &["run.steps=3", &weight]);
        train(&config, Mode::Fresh);
        let lines = metrics(&config.run.out);
        assert_eq!(lines.iter().any(|line| line.get("kl").is_some()), is_told);
    }
}

/// What is refused, or fails before it begins, leaves no folder and no lock.
#[test]
fn a_refused_run_leaves_nothing() {
    let world = World::new();
    let nowhere = world.path("nowhere");
    let missing = format!("model.image_tokenizer={nowhere:?}");
    let config = world.denoise("first", &[&missing]);
    assert!(refused(&config).contains("runs/tokenizer-image.toml"));
    assert!(!config.run.out.exists());
    let of_someone = config.run.out.join("model");
    std::fs::create_dir_all(&of_someone).unwrap();
    refused(&config);
    assert!(of_someone.is_dir() && !config.run.out.join(".lock").exists());
}

/// Where the checkpoints of a finished run are gone, going on would begin anew and replace its model.
#[test]
fn a_finished_run_without_checkpoints_is_not_gone_on_with() {
    let world = World::new();
    let config = world.denoise("first", &["run.steps=1"]);
    train(&config, Mode::Fresh);
    std::fs::remove_dir_all(config.run.out.join("checkpoints")).unwrap();
    let error = run(&config, options(Mode::Resume), &Silent).unwrap_err();
    assert!(error.to_string().contains("no checkpoint"), "{error}");
    // Nor does one that cannot begin change what is there.
    let lines = std::fs::read(config.run.out.join("metrics.jsonl")).unwrap();
    std::fs::remove_dir_all(config.run.out.join("tensorboard")).unwrap();
    std::fs::write(config.run.out.join("tensorboard"), "in the way").unwrap();
    run(&config, options(Mode::Fresh), &Silent).unwrap_err();
    assert_eq!(
        std::fs::read(config.run.out.join("metrics.jsonl")).unwrap(),
        lines
    );
}

/// The reference of a run is the policy that it began with, also after a pause.
#[test]
fn a_run_does_not_go_on_beside_another_reference() {
    let world = World::new();
    let first = |more: &[&str]| world.denoise("first", &[&["run.steps=2"], more].concat());
    train(&first(&[]), Mode::Fresh);
    let config = world.unigrpo("rl", "first/model", &["run.steps=3"]);
    assert!(stopped_at(&config, 1).is_early);
    std::fs::remove_dir_all(world.path("first")).unwrap();
    train(&first(&["run.seed=9"]), Mode::Fresh);
    let error = run(&config, options(Mode::Resume), &Silent).unwrap_err();
    assert!(error.to_string().contains("model.init.from"), "{error}");
    std::fs::remove_dir_all(world.path("first")).unwrap();
    train(&first(&[]), Mode::Fresh);
    train(&config, Mode::Resume);
}
