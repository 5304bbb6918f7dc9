//! Whole runs on a tiny world: learning, stopping, resuming, threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mmada_model::{LoadOptions, Mmada, TextOptions};
use mmada_tokens::Message;
use mmada_train::config::RunConfig;
use mmada_train::trainer::Summary;
use mmada_train::{Event, LaunchOptions, Mode, Outcome, Reporter, Silent, run};

use crate::world::{FACTS, World, metrics};

pub(crate) fn options(mode: Mode) -> LaunchOptions {
    LaunchOptions {
        mode,
        ..LaunchOptions::default()
    }
}

pub(crate) fn train(config: &RunConfig, mode: Mode) -> Summary {
    match run(config, options(mode), &Silent).unwrap() {
        Outcome::Trained(summary) => summary,
        Outcome::Resolved(_) => panic!("a dry run"),
    }
}

/// Asks the run to stop after a step, as Ctrl-C does.
struct StopAt(u64, Arc<AtomicBool>);

impl Reporter for StopAt {
    fn report(&self, event: &Event<'_>) {
        if matches!(event, Event::Step { step, .. } if *step == self.0) {
            self.1.store(true, Ordering::Relaxed);
        }
    }
}

pub(crate) fn stopped_at(config: &RunConfig, step: u64) -> Summary {
    let stop = Arc::new(AtomicBool::new(false));
    let options = LaunchOptions {
        stop: stop.clone(),
        ..LaunchOptions::default()
    };
    match run(config, options, &StopAt(step, stop)).unwrap() {
        Outcome::Trained(summary) => summary,
        Outcome::Resolved(_) => panic!("a dry run"),
    }
}

#[test]
fn a_stopped_run_goes_on_as_if_it_never_stopped() {
    let world = World::new();
    // Lines of metrics are means over three steps, so one is unfinished at the stop.
    for (whole, parts) in [
        (
            world.denoise("a", &["log.every=3"]),
            world.denoise("b", &["log.every=3"]),
        ),
        (
            world.reconstruct("c", &["log.every=3"]),
            world.reconstruct("d", &["log.every=3"]),
        ),
    ] {
        train(&whole, Mode::Fresh);
        let summary = stopped_at(&parts, 5);
        assert!(summary.is_early && summary.model.is_none());
        assert_eq!(summary.step, 5);
        let summary = train(&parts, Mode::Resume);
        assert!(!summary.is_early);
        assert_eq!(metrics(&whole.run.out), metrics(&parts.run.out));
        let weights = |config: &RunConfig| {
            std::fs::read(config.run.out.join("model/model.safetensors")).unwrap()
        };
        assert!(
            weights(&whole) == weights(&parts),
            "the trained weights differ"
        );
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let world = World::new();
    for make in [World::denoise, World::reconstruct] {
        let runs = [1, 2].map(|threads| {
            let threads = format!("run.threads={threads}");
            let config = make(
                &world,
                &format!("{threads}{:p}", make as *const ()),
                &[&threads, "run.steps=2"],
            );
            train(&config, Mode::Fresh);
            metrics(&config.run.out)
        });
        assert_eq!(runs[0], runs[1]);
    }
}

#[test]
fn a_folder_with_a_run_is_not_begun_anew() {
    let world = World::new();
    let config = world.reconstruct("a", &["run.steps=1"]);
    train(&config, Mode::Fresh);
    // What another run is writing there is left alone by one that is refused.
    let unfinished = config.run.out.join("checkpoints/.step-00000009.partial");
    std::fs::create_dir(&unfinished).unwrap();
    let error = run(&config, options(Mode::Fresh), &Silent)
        .unwrap_err()
        .to_string();
    assert!(error.contains("--resume") && unfinished.is_dir(), "{error}");
    // A finished run resumes to its end at once.
    assert_eq!(train(&config, Mode::Resume).step, 1);
    assert!(!unfinished.exists());
    let other = world.reconstruct("a", &["run.seed=6"]);
    let error = run(&other, options(Mode::Resume), &Silent)
        .unwrap_err()
        .to_string();
    assert!(error.contains("run.seed"), "{error}");
}

#[test]
fn a_dry_run_writes_nothing() {
    let world = World::new();
    let config = world.reconstruct("a", &[]);
    let outcome = run(&config, options(Mode::DryRun), &Silent).unwrap();
    assert!(matches!(outcome, Outcome::Resolved(text) if text.contains("[objective]")));
    assert!(!config.run.out.exists());
}

#[test]
fn a_run_writes_all_it_promises() {
    let world = World::new();
    let overrides = [
        "samples={every=3, pictures=4, paint=[\"red\"], chat=[\"sky\"], describe=[\"colour?\"]}",
        "model.generation={image={width=16,height=16}, paint={width=16,height=16,steps=3,think=\"always\"}, \
         thought={length=4,block=4,steps=2}, text={length=8,block=8,steps=4}, describe={length=8,block=8,steps=4}}",
        "log.parameters=true",
        "model.init.sizes.max_sequence_length=400",
    ];
    let config = world.denoise("a", &overrides);
    let summary = train(&config, Mode::Fresh);
    let out = &config.run.out;
    for file in [
        "run.toml",
        "codes.bin",
        "model/config.json",
        "model/tokenizer.json",
        "model/image_tokenizer/model.safetensors",
        "checkpoints/latest",
        "checkpoints/step-00000006/optimizer.safetensors",
        "checkpoints/step-00000006/trainer_state.json",
        "samples/step-00000003.txt",
        "samples/step-00000006-paintings.png",
        "samples/step-00000006-pictures.png",
    ] {
        assert!(out.join(file).is_file(), "{file}");
    }
    let told = std::fs::read_to_string(out.join("samples/step-00000006.txt")).unwrap();
    assert!(told.contains("\n  thought: "), "{told}");
    let lines = metrics(out);
    assert_eq!(lines.len(), 6);
    let last = summary.last.unwrap();
    for name in [
        "loss",
        "lr",
        "grad_norm",
        "grad_norm/model.transformer.blocks.0.q_proj.weight",
        "avg_masking_rate",
        "tokens_per_second",
        "samples/sec/gpu",
        "data_time",
        "batch_time",
    ] {
        assert!(last.get(name).is_some_and(f64::is_finite), "{name}");
    }
    let tells_memory = last
        .get("peak_memory_bytes")
        .is_some_and(|bytes| bytes > 1e6);
    assert_eq!(tells_memory, cfg!(target_os = "linux"));
    let has = |name: &str| lines.iter().any(|line| line.get(name).is_some());
    assert!(has("step_loss_t2i") && has("step_loss_mmu") && has("step_loss_chat"));
    assert!(
        last.get("skipped_samples").unwrap() > 0.0,
        "the broken picture is counted"
    );
    let events = std::fs::read_dir(out.join("tensorboard")).unwrap();
    let events: Vec<u8> = events
        .flat_map(|file| std::fs::read(file.unwrap().path()).unwrap())
        .collect();
    for tag in ["Generated images", "Understanding images", "step_loss_t2i"] {
        let is_there = events.windows(tag.len()).any(|part| part == tag.as_bytes());
        assert!(is_there, "{tag}");
    }
    Mmada::open(summary.model.unwrap(), &LoadOptions::default()).unwrap();
}

/// Remembers the names of samples left out.
#[derive(Default)]
struct LeftOut(std::sync::Mutex<Vec<String>>);

impl Reporter for LeftOut {
    fn report(&self, event: &Event<'_>) {
        if let Event::Skipped { count, latest } = event {
            let mut names = self.0.lock().unwrap();
            names.extend(
                latest
                    .iter()
                    .map(|(name, reason)| format!("{name}: {reason}")),
            );
            assert_eq!(names.len() as u64, *count);
        }
    }
}

#[test]
fn samples_left_out_are_told_by_name() {
    let world = World::new();
    for config in [world.denoise("a", &[]), world.reconstruct("b", &[])] {
        let told = LeftOut::default();
        run(&config, options(Mode::Fresh), &told).unwrap();
        let names = told.0.into_inner().unwrap();
        assert!(!names.is_empty());
        assert!(
            names
                .iter()
                .all(|name| name.starts_with("pictures.jsonl:") && name.contains("cannot")),
            "{names:?}"
        );
    }
}

/// Encoding the pictures takes minutes on real data; a stop does not wait for it.
#[test]
fn a_stop_while_pictures_are_encoded_is_heeded_and_made_up_for() {
    let world = World::new();
    let (whole, parts) = (world.denoise("a", &[]), world.denoise("b", &[]));
    train(&whole, Mode::Fresh);
    let stopped = LaunchOptions {
        stop: Arc::new(AtomicBool::new(true)),
        ..LaunchOptions::default()
    };
    let outcome = run(&parts, stopped, &Silent).unwrap();
    assert!(matches!(outcome, Outcome::Trained(summary) if summary.is_early && summary.step == 0));
    let codes = |config: &RunConfig| std::fs::read(config.run.out.join("codes.bin")).unwrap();
    assert!(codes(&parts).len() < codes(&whole).len());
    train(&parts, Mode::Resume);
    assert_eq!(codes(&parts), codes(&whole));
    assert_eq!(metrics(&whole.run.out), metrics(&parts.run.out));
}

/// All windows of an answer beside each other: more rows for the same examples, fewer of them token by
/// token, and a run that goes on to the same bits.
#[test]
fn windows_beside_each_other_are_learnt() {
    let world = World::new();
    let tiled = |run: &str, share: f32, by_token: f32| {
        let window =
            format!("{{length=2, ahead=2, share=1.0, tiled={share}, by_token={by_token}}}");
        let setting = format!("objective.corruption.window={window}");
        world.denoise(run, &[&setting, "run.steps=4", "log.every=1"])
    };
    let (single, cut) = (tiled("a", 0.0, 0.0), tiled("d", 1.0, 0.0));
    let (whole, parts) = (tiled("b", 1.0, 0.5), tiled("c", 1.0, 0.5));
    train(&single, Mode::Fresh);
    train(&cut, Mode::Fresh);
    train(&whole, Mode::Fresh);
    assert!(stopped_at(&parts, 2).is_early);
    train(&parts, Mode::Resume);
    assert_eq!(metrics(&whole.run.out), metrics(&parts.run.out));
    let of_first = |config: &RunConfig, name: &str| {
        let line = metrics(&config.run.out).remove(0);
        line[name]
            .as_f64()
            .unwrap_or_else(|| panic!("{name} in {line}"))
    };
    let rate = of_first(&whole, "avg_masking_rate");
    assert!(rate > 0.0 && rate <= 1.0, "{rate}");
    let tokens = |config: &RunConfig| of_first(config, "num_tokens");
    assert!(tokens(&cut) > tokens(&single));
    assert!(tokens(&cut) > tokens(&whole));
}

/// Pictures that are encoded as they are needed are kept for later runs, too.
#[test]
fn codes_that_were_needed_are_kept() {
    let world = World::new();
    let codes = |run: &str, overrides: &[&str]| {
        let config = world.denoise(run, overrides);
        train(&config, Mode::Fresh);
        std::fs::read(config.run.out.join("codes.bin")).unwrap()
    };
    let all = codes("a", &[]);
    let needed = codes("b", &["objective.precompute=as_needed"]);
    // A mark, whose they are and a checksum are no picture yet.
    assert!(needed.len() > 8 + 8 + 4 && needed.len() <= all.len());
}

#[test]
fn eight_examples_are_learnt_by_heart() {
    let world = World::new();
    let overrides = [
        "run.steps=500",
        "log.every=50",
        "checkpoint.every=0",
        "batch={size={sequences=8}, accumulate=1}",
        "lr={peak=5e-3, warmup=20, floor_ratio=0.02}",
        "objective.corruption.smallest_rate=0.1",
        "data.1.weight=0",
        "ema.decay=0.95",
    ];
    let config = world.denoise("a", &overrides);
    let summary = train(&config, Mode::Fresh);
    let nll = summary.last.unwrap().get("nll_chat").unwrap();
    assert!(nll < 0.15, "mean negative log-likelihood {nll}");
    let model = Mmada::open(summary.model.unwrap(), &LoadOptions::default()).unwrap();
    let options = TextOptions {
        length: 16,
        block: 16,
        steps: 16,
        ..TextOptions::default()
    };
    for (question, answer) in FACTS {
        let messages = [Message::user(question)];
        let replies = model.chat(&messages, &options).unwrap().finish().unwrap();
        assert_eq!(
            replies[0].text,
            format!("<think>I know</think>{answer}"),
            "{question}"
        );
    }
}

#[test]
fn pictures_are_reconstructed_better_and_better() {
    let world = World::new();
    let config = world.reconstruct(
        "a",
        &["run.steps=60", "log.every=20", "batch.size.sequences=4"],
    );
    train(&config, Mode::Fresh);
    let psnr: Vec<f64> = metrics(&config.run.out)
        .iter()
        .map(|line| line["psnr"].as_f64().unwrap())
        .collect();
    assert!(psnr.last() > psnr.first(), "{psnr:?}");
    assert!(
        config
            .run
            .out
            .join("samples/step-00000060-reconstructions.png")
            .is_file()
    );
}

/// Of the same pictures and weights.
#[test]
fn the_terms_of_the_pixel_loss_add_up() {
    let world = World::new();
    let loss = |name: &str, terms: &str| -> f64 {
        // Absolute is 1 where nothing is said.
        let absolute = if terms.contains("absolute") {
            ""
        } else {
            "absolute=0.0, "
        };
        let objective = format!("objective={{kind='reconstruct', {absolute}{terms}}}");
        let config = world.reconstruct(name, &["run.steps=1", &objective]);
        train(&config, Mode::Fresh);
        metrics(&config.run.out)[0]["pixel_loss"].as_f64().unwrap()
    };
    let terms = ["absolute", "squared", "edges"];
    let [absolute, squared, edges] = terms.map(|term| loss(term, &format!("{term}=1.0")));
    // The mean of squares is at least the square of the mean.
    assert!(squared >= absolute * absolute && edges > 0.0);
    let all = loss("all", "absolute=1.0, squared=2.0, edges=4.0");
    let sum = absolute + 2.0 * squared + 4.0 * edges;
    assert!((all / sum - 1.0).abs() < 1e-5, "{all} {sum}");
}

/// The share of learnable tokens that is masked, step by step, over questions about facts.
fn masking_rates(world: &World, name: &str, overrides: &[&str]) -> Vec<f64> {
    let common = [
        "run.steps=8",
        "batch={size={sequences=24}, accumulate=1}",
        "data.1.weight=0",
        "checkpoint.every=0",
    ];
    let config = world.denoise(name, &[overrides, &common].concat());
    train(&config, Mode::Fresh);
    let rates: Vec<f64> = metrics(&config.run.out)
        .iter()
        .map(|record| record["avg_masking_rate"].as_f64().unwrap())
        .collect();
    assert_eq!(rates.len(), 8);
    rates
}

#[test]
fn spread_noise_levels_have_the_same_mean_and_less_noise() {
    let world = World::new();
    let scatter = |levels: &str| {
        let rates = masking_rates(&world, levels, &[&format!("objective.levels=\"{levels}\"")]);
        (rates.iter().map(|rate| (rate - 0.5).powi(2)).sum::<f64>() / 8.0).sqrt()
    };
    let (independent, spread) = (scatter("independent"), scatter("spread"));
    assert!(
        spread < 0.6 * independent,
        "spread {spread}, independent {independent}"
    );
}

#[test]
fn a_share_of_answers_is_blank() {
    let world = World::new();
    let mean = |blank: &str| {
        let views = format!("data.0.views=[{{task=\"chat\", blank={blank}}}]");
        masking_rates(&world, blank, &[&views]).iter().sum::<f64>() / 8.0
    };
    assert_eq!(mean("1.0"), 1.0);
    let half = mean("0.5");
    assert!(
        (half - 0.75).abs() < 0.05,
        "half are blank, half as ever: {half}"
    );
    let (none, never) = (mean("0.0"), masking_rates(&world, "never", &[]));
    assert_eq!(
        none,
        never.iter().sum::<f64>() / 8.0,
        "blank = 0 changes nothing"
    );
}

/// A window's masks ahead end with the context, in pretraining and in rollouts.
#[test]
fn masks_ahead_end_with_the_context() {
    let world = World::new();
    let window = "objective.corruption.window={length=4, ahead=200, share=1.0}";
    train(
        &world.denoise("first", &["run.steps=2", window]),
        Mode::Fresh,
    );
    let text = "model.generation.text={length=8, block=8, steps=8, ahead=200}";
    let overrides = ["run.steps=1", "objective.masks=window", text];
    train(&world.unigrpo("rl", "first/model", &overrides), Mode::Fresh);
}

#[test]
fn an_image_tokenizer_is_not_trained_without_pictures() {
    let world = World::new();
    let mut config = world.reconstruct("image", &[]);
    config.data = world.denoise("text", &[]).data;
    config.data.truncate(1);
    let error = run(&config, options(Mode::Fresh), &Silent).unwrap_err();
    assert!(error.to_string().contains("no picture in"), "{error}");
}

/// The completions of a checkpoint are noised once for each update: no other number goes on from it.
#[test]
fn other_updates_do_not_resume() {
    let world = World::new();
    train(&world.denoise("first", &["run.steps=2"]), Mode::Fresh);
    let of = |updates: &str| world.unigrpo("rl", "first/model", &[updates]);
    assert!(stopped_at(&of("objective.updates=2"), 1).is_early);
    let error = run(&of("objective.updates=3"), options(Mode::Resume), &Silent).unwrap_err();
    assert!(error.to_string().contains("objective.updates"), "{error}");
    train(&of("objective.updates=2"), Mode::Resume);
}

/// The model of step 1 is not in the checkpoint of step 2.
#[test]
fn fewer_steps_than_were_taken_do_not_resume() {
    let world = World::new();
    train(&world.denoise("first", &["run.steps=2"]), Mode::Fresh);
    let fewer = world.denoise("first", &["run.steps=1"]);
    let error = run(&fewer, options(Mode::Resume), &Silent).unwrap_err();
    assert!(error.to_string().contains("run.steps = 1"), "{error}");
    train(&world.denoise("first", &["run.steps=2"]), Mode::Resume);
}

#[test]
fn two_runs_do_not_share_a_folder() {
    let world = World::new();
    let config = world.denoise("first", &["run.steps=2"]);
    std::fs::create_dir_all(&config.run.out).unwrap();
    let other = mmada_train::checkpoint::lock(&config.run.out).unwrap();
    for mode in [Mode::Fresh, Mode::Resume] {
        let error = run(&config, options(mode), &Silent).unwrap_err();
        assert!(error.to_string().contains("another process"), "{error}");
    }
    drop(other);
    train(&config, Mode::Fresh);
}
