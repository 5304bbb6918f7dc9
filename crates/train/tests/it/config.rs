//! Run files: overrides, unknown keys, the shipped runs.

use std::path::PathBuf;

use mmada_train::RunConfig;
use mmada_train::config::{BatchSize, Init};

const RUN: &str = r#"
run = { name = "a", out = "out/a", steps = 10 }
model = { init = { from = "model" } }
objective = { kind = "denoise" }
lr = { peak = 1e-3 }
batch = { size = { sequences = 4 } }
[[data]]
name = "text"
kind = "jsonl"
paths = ["a.jsonl"]
views = [{ task = "text" }]
"#;

fn parse(overrides: &[&str]) -> mmada_train::Result<RunConfig> {
    let overrides: Vec<String> = overrides.iter().map(|item| (*item).to_owned()).collect();
    RunConfig::parse(RUN, &overrides)
}

fn check_refused(overrides: &[&str], expected: &[&str]) {
    let error = parse(overrides)
        .expect_err(&format!("{overrides:?}"))
        .to_string();
    for part in expected {
        assert!(error.contains(part), "{overrides:?}: {error}");
    }
}

#[test]
fn overrides_reach_everywhere() {
    let run = parse(&[
        "run.steps=7",
        "lr.peak=3e-4",
        "run.name=just words",
        "batch.size={tokens=100}",
        "data.0.weight=2.5",
        "optimizer.betas=[0.8, 0.9]",
        "objective.coefficients.paint=0.25",
        "ema.decay=0.99",
        "model.init.from=some/where",
    ])
    .unwrap();
    assert_eq!(
        (run.run.steps, run.lr.peak, run.run.name.as_str()),
        (7, 3e-4, "just words")
    );
    assert_eq!(run.batch.size, BatchSize::Tokens(100));
    assert_eq!(run.data[0].weight, 2.5);
    assert_eq!(run.optimizer.betas, (0.8, 0.9));
    assert_eq!(run.ema.unwrap().decay, 0.99);
    assert_eq!(run.model.init, Init::From(PathBuf::from("some/where")));
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_known_one() {
    check_refused(&["lr.peek=1"], &["peek", "did you mean `peak`?"]);
    check_refused(
        &["optimiser.clip=1"],
        &["optimiser", "did you mean `optimizer`?"],
    );
    check_refused(
        &["objective.corruption.shedule=\"linear\""],
        &["did you mean `schedule`?"],
    );
    check_refused(&["data.0.wieght=1"], &["did you mean `weight`?"]);
    check_refused(&["objective.kind=denoize"], &["did you mean `denoise`?"]);
    check_refused(&["run.qqqqqqqqqq=1"], &["qqqqqqqqqq"]);
    let error = RunConfig::parse(&RUN.replace("steps = 10", "stpes = 10"), &[]).unwrap_err();
    assert!(
        error.to_string().contains("did you mean `steps`?"),
        "{error}"
    );
    assert!(error.to_string().contains("line 2"), "{error}");
}

#[test]
fn overrides_that_make_no_sense_are_refused() {
    check_refused(&["run.steps"], &["key=value"]);
    check_refused(&["=3"], &["empty part"]);
    check_refused(&["run..steps=3"], &["empty part"]);
    check_refused(&["data.5.weight=1"], &["index below 1"]);
    check_refused(&["run.steps.more=1"], &["plain value"]);
    check_refused(&["run.steps=many"], &["steps"]);
    check_refused(&["run.steps=0"], &["run.steps"]);
    check_refused(&["batch.size.sequences=0"], &["batch.size"]);
    check_refused(
        &["batch.size.sequences=9000000000000000000"],
        &["batch.size"],
    );
    check_refused(&["batch.accumulate=0"], &["accumulate"]);
    check_refused(&["lr.peak=nan"], &["lr.peak"]);
    // What nothing can be sampled with would be found out when all is trained.
    for (setting, named) in [
        ("text.steps=0", "model.generation.text.steps"),
        ("paint.guidance=nan", "paint.guidance"),
        ("paint.guided=2.0", "paint.guided"),
        ("describe.commit={threshold=7.0}", "commit threshold"),
        ("paint.schedule={power=-1.0}", "schedule"),
        (
            "text.cache={uncertain={warm_up=0.1, share=0.1, refresh=1}}",
            "uncertain is for pictures",
        ),
        ("image.width=0", "image.width"),
    ] {
        check_refused(&[&format!("model.generation.{setting}")], &[named]);
    }
    for number in [
        "lr.floor_ratio=-1",
        "optimizer.betas=[0.9, 1.0]",
        "optimizer.betas=[1.0, 0.9]",
        "optimizer.eps=0",
        "optimizer.eps=1e-50",
        "optimizer.clip=nan",
        "optimizer.momentum=1",
        "optimizer.groups=[{names=[\"wte\"],weight_decay=-1}]",
        "optimizer.groups=[{names=[\"wte\"],weight_decay=0,lr_scale=-1}]",
        "ema.decay=-1",
        "objective.corruption.smallest_rate=nan",
        "objective.corruption.smallest_rate=0",
        "objective.coefficients.paint=-1",
    ] {
        let name = number.split(['=', '[']).next().unwrap();
        check_refused(&[number], &[name, "expected a number"]);
    }
    check_refused(
        &["objective.corruption.schedule={power=0}"],
        &["objective.corruption", "schedule"],
    );
    check_refused(
        &["objective.corruption.condition_dropout=1.5"],
        &["condition_dropout"],
    );
    for window in [
        "{length=99999999999, share=0.5}",
        "{length=8, ahead=99999999999, share=0.5}",
        "{length=8, share=1.5}",
        "{length=8, ahead=8, share=0.5, tiled=1.5}",
        "{length=8, share=0.5, tiled=0.5}",
        "{length=8, share=0.5, by_token=0.5}",
        "{length=8, ahead=8, share=0.5, tiled=0.5, by_token=-0.5}",
    ] {
        let setting = format!("objective.corruption.window={window}");
        check_refused(&[&setting], &["objective.corruption.window"]);
    }
    check_refused(&["data=[]"], &["[[data]]"]);
    check_refused(
        &["model.generation.descibe={steps=3}"],
        &["model.generation.descibe", "describe"],
    );
    check_refused(
        &["model.generation.image.looks={variants=65}"],
        &["model.generation.image.looks", "65"],
    );
    check_refused(&["model.init={config=\"c.json\"}"], &["model.tokenizer"]);
    let sizes = |more: &str| {
        format!(
            "model={{tokenizer='t',init={{sizes={{d_model=32,n_layers=2,n_heads=2,n_kv_heads=2,\
             mlp_hidden_size=48,max_sequence_length=64,weight_tying=false{more}}}}}}}"
        )
    };
    assert!(parse(&[&sizes("")]).is_ok());
    check_refused(
        &[&sizes(",dmodel=3")],
        &["model.init", "did you mean `d_model`?"],
    );
    check_refused(&["run.threads=100000000"], &["run.threads", "1024"]);
    check_refused(&["data.0.views=[]"], &["text", "one view"]);
    check_refused(&["data.0.weight=-1"], &["text", "weight"]);
}

/// Before anything is opened, as everything else that a run file says.
#[test]
fn reinforcement_that_makes_no_sense_is_refused() {
    for (setting, name) in [
        ("group=1", "objective.group"),
        ("updates=0", "objective.updates"),
        ("temperature=nan", "objective.temperature"),
        ("surrogate.kl=nan", "objective.surrogate"),
        ("surrogate.clip_high=-0.5", "objective.surrogate"),
        (
            "rewards={paint=[{grader='answer',weight=1.0}]}",
            "rewards.paint",
        ),
    ] {
        let setting = format!("objective.{setting}");
        check_refused(&["objective={kind='unigrpo'}", &setting], &[name]);
    }
    let tokens = "batch.size={tokens=100}";
    check_refused(&["objective={kind='unigrpo'}", tokens], &["batch.size"]);
}

/// What belongs to a transformer would be left aside in silence.
#[test]
fn an_image_tokenizer_has_no_parts_of_a_transformer() {
    let run = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../runs/tokenizer-image.toml"
    );
    for part in [
        "tokenizer=\"folder\"",
        "image_tokenizer=\"folder\"",
        "code_rows={keep=0.0, bits=1.0}",
        "generation={paint={steps=3}}",
    ] {
        let error = RunConfig::load(run.as_ref(), &[format!("model.{part}")]).unwrap_err();
        assert!(error.to_string().contains("remove them"), "{error}");
    }
}

#[test]
fn the_resolved_run_is_the_same_run() {
    let run = parse(&["lr.warmup=3"]).unwrap();
    let resolved = run.resolved().unwrap();
    assert!(
        resolved.contains("weight_decay = 0.01"),
        "defaults are filled in: {resolved}"
    );
    assert_eq!(RunConfig::parse(&resolved, &[]).unwrap(), run);
}

#[test]
fn every_shipped_run_is_valid_and_every_line_explained() {
    let runs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../runs");
    let mut count = 0;
    let files = |folder: &str| std::fs::read_dir(folder).unwrap();
    for entry in files(runs).chain(files(&format!("{runs}/embedded"))) {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let run = RunConfig::load(&path, &[]).unwrap();
        assert_eq!(
            RunConfig::parse(&run.resolved().unwrap(), &[]).unwrap(),
            run
        );
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            let is_setting = line.contains('=');
            assert!(
                !is_setting || line.contains('#'),
                "{}: no comment on: {line}",
                path.display()
            );
        }
        count += 1;
    }
    assert!(count > 0);
}

#[test]
fn a_missing_file_is_named() {
    let error = RunConfig::load("no/such/run.toml".as_ref(), &[]).unwrap_err();
    assert!(error.to_string().contains("no/such/run.toml"), "{error}");
}
