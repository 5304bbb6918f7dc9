//! Pictures as codes: given by them, and files of them that runs share.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use mmada_model::{LoadOptions, Mmada, PaintOptions};
use mmada_train::{Event, Mode, Outcome, Reporter, Silent, run};
use serde_json::json;

use crate::runs::{options, train};
use crate::world::{World, metrics};

/// Pictures that are known by their codes are learnt as they are; codes of another tokenizer end the run.
#[test]
fn pictures_given_as_codes_are_learnt() {
    let world = World::new();
    let codes = world.path("codes.jsonl");
    let learn = |out: &str, line: &str, more: &[&str]| {
        std::fs::write(&codes, line).unwrap();
        let paths = format!("data.1.paths=[{codes:?}]");
        let views = "data.1.views=[{ task = \"paint\", prompt = \"{caption}\" }]";
        let overrides = [&[paths.as_str(), views, "data.0.weight=0"], more].concat();
        let config = world.denoise(out, &overrides);
        run(&config, options(Mode::Fresh), &Silent)
    };
    let grid = [9; 16];
    let line = format!("{}\n", json!({"image": grid, "caption": "red"}));
    let more = ["run.steps=60", "ema.decay=0", "lr.peak=1e-2"];
    let Outcome::Trained(summary) = learn("codes", &line, &more).unwrap() else {
        panic!("a dry run");
    };
    let model = Mmada::open(summary.model.unwrap(), &LoadOptions::default()).unwrap();
    let paint = PaintOptions {
        width: 16,
        height: 16,
        token_temperature: 0.0,
        guidance: 0.0,
        ..model.defaults().paint.clone()
    };
    let painted = model.paint("red", &paint).unwrap().finish().unwrap();
    assert_eq!(painted[0].codes, grid);
    for (name, image) in [("short", vec![9; 15]), ("high", vec![16; 16])] {
        let line = format!("{}\n", json!({"image": image, "caption": "red"}));
        let error = learn(name, &line, &[]).unwrap_err().to_string();
        assert!(error.contains("16 codes below 16"), "{error}");
    }
}

/// Runs share a file of codes as long as they have an encoder in common; it is never lost to another one.
#[test]
fn a_file_of_codes_is_shared_by_those_with_one_encoder() {
    let world = World::new();
    let from = format!(
        "model={{init={{from={:?}}}}}",
        world.path("image_tokenizer")
    );
    let decoder = [
        "objective.learnt=decoder",
        "objective.entropy=0",
        "objective.commitment=0",
    ];
    let of = |out: &str, more: &[&str]| {
        let config = world.reconstruct(out, &[&[from.as_str()], more].concat());
        run(&config, options(Mode::Fresh), &Silent).unwrap();
        world.path(out).join("model")
    };
    let (decoder, whole) = (of("decoder", &decoder), of("whole", &[]));
    let file = world.path("shared.bin");
    let shared = format!("objective.codes={file:?}");
    let encoded = |out: &str, tokenizer: &Path, more: &[&str]| {
        let tokenizer = format!("model.image_tokenizer={tokenizer:?}");
        let config = world.denoise(out, &[&[tokenizer.as_str()], more].concat());
        let told = Told::default();
        run(&config, options(Mode::Fresh), &told).map(|_| told.0.load(Ordering::Relaxed))
    };
    let own = world.path("image_tokenizer");
    // The fifth is no picture, and is tried again by every run.
    assert_eq!(encoded("a", &own, &[&shared]).unwrap(), 5);
    let before = std::fs::read(&file).unwrap();
    assert_eq!(encoded("b", &decoder, &[&shared]).unwrap(), 1);
    assert_eq!(std::fs::read(&file).unwrap(), before);
    let error = encoded("c", &whole, &[&shared]).unwrap_err().to_string();
    assert!(
        error.contains("shared.bin holds codes of another"),
        "{error}"
    );
    assert_eq!(std::fs::read(&file).unwrap(), before);
    // A damaged one is made anew.
    std::fs::write(&file, &before[..before.len() - 1]).unwrap();
    assert_eq!(encoded("d", &own, &[&shared]).unwrap(), 5);
    assert_eq!(std::fs::read(&file).unwrap(), before);
    // What was never one is not.
    std::fs::write(&file, "a dear letter").unwrap();
    let error = encoded("e", &own, &[&shared]).unwrap_err().to_string();
    assert!(error.contains("another kind of file"), "{error}");
    assert_eq!(std::fs::read(&file).unwrap(), b"a dear letter");
}

/// A picture smaller than a token would never fill a batch.
#[test]
fn pictures_hold_whole_tokens() {
    let world = World::new();
    let multiple = "a multiple of 4 pixels";
    for (side, expected) in [
        ("2", multiple),
        ("18", multiple),
        ("0", "1 to 8192"),
        ("1099511627776", "1 to 8192"),
    ] {
        let resolution = format!("model.init.sizes.resolution={side}");
        let config = world.reconstruct(side, &[&resolution]);
        let error = run(&config, options(Mode::Fresh), &Silent).unwrap_err();
        let error = error.to_string();
        assert!(error.contains(expected), "{error}");
    }
}

/// How many pictures were to be encoded.
#[derive(Default)]
struct Told(AtomicUsize);

impl Reporter for Told {
    fn report(&self, event: &Event<'_>) {
        if let Event::Preparing { total, .. } = event {
            self.0.store(*total, Ordering::Relaxed);
        }
    }
}

/// Of what is painted after a thought, a view says how often the thought is learnt; else the run does.
#[test]
fn a_view_has_its_own_share_of_thoughts() {
    let world = World::new();
    let losses = |name: &str, of_view: &str, of_run: &str| -> Vec<String> {
        let views = format!(
            "data.1.views=[{{ task = \"think-paint\", prompt = \"{{caption}}\", thought = \"{{caption}}\"{of_view} }}]"
        );
        let share = format!("objective.corruption.thought_share={of_run}");
        let sizes = "batch={size={sequences=8}, accumulate=1}";
        let tail = "objective.tail={think_paint=8}";
        let short = "model.generation={instruction=\"\"}";
        let overrides = [
            "run.steps=4",
            "data.0.weight=0",
            &views,
            &share,
            sizes,
            tail,
            short,
        ];
        let config = world.denoise(name, &overrides);
        run(&config, options(Mode::Fresh), &Silent).unwrap();
        let records = metrics(&config.run.out);
        records
            .iter()
            .map(|record| record["loss"].to_string())
            .collect()
    };
    let thoughts = losses("thoughts", "", "1.0");
    assert_eq!(
        losses("own-thoughts", ", thought_share = 1.0", "0.0"),
        thoughts
    );
    let pictures = losses("pictures", "", "0.0");
    assert_eq!(
        losses("own-pictures", ", thought_share = 0.0", "1.0"),
        pictures
    );
    assert_ne!(thoughts, pictures);
}

/// Questions about pictures cost less without some of the pictures' tokens, and cost and say the same with
/// all of them.
#[test]
fn patch_dropout_makes_rows_shorter() {
    let world = World::new();
    let first = |name: &str, more: &str| {
        let view = format!(
            "data.1.views=[{{task=\"describe\", prompt=\"colour?\", answer=\"{{caption}}\"{more}}}]"
        );
        let overrides = [
            "run.steps=1",
            "batch={size={sequences=24}, accumulate=1}",
            "data.0.weight=0",
            "checkpoint.every=0",
            view.as_str(),
        ];
        let config = world.denoise(name, &overrides);
        train(&config, Mode::Fresh);
        let line = metrics(&config.run.out).remove(0);
        ["loss", "num_tokens"].map(|name| line[name].as_f64().unwrap())
    };
    let (plain, whole) = (first("plain", ""), first("whole", ", patch_dropout=0.0"));
    assert_eq!(plain, whole);
    let [loss, tokens] = first("less", ", patch_dropout=1.0");
    assert!(loss.is_finite() && loss != whole[0], "{loss}");
    assert!(tokens < whole[1], "{tokens} tokens of {}", whole[1]);
}
