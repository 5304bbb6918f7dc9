//! UniGRPO as whole runs on the tiny world: judges that fail, groups that teach nothing, resuming.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

use mmada_train::config::RunConfig;
use mmada_train::{Event, Mode, Reporter, run};
use serde_json::Value;

use crate::runs::{options, stopped_at, train};
use crate::tiny_clip;
use crate::world::{World, metrics};

/// What a judge of one's own does with a request.
#[derive(Clone, Copy)]
enum Act {
    /// Gives rewards by the length of the reply.
    Judge,
    /// Says this, whatever it was asked.
    Say(&'static str),
    /// Never answers.
    Hang,
    /// Breaks the connection off.
    Drop,
}

/// A judge that does these acts in turn, again and again; its address.
fn judge(acts: &'static [Act]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for (stream, act) in listener.incoming().zip(acts.iter().cycle()) {
            let mut stream = stream.unwrap();
            let answer = match act {
                Act::Drop => continue,
                Act::Hang => {
                    held.push(stream);
                    continue;
                }
                Act::Say(text) => {
                    asked(&stream);
                    (*text).to_owned()
                }
                Act::Judge => {
                    let body = asked(&stream);
                    let samples = body["samples"].as_array().unwrap().iter();
                    let rewards =
                        samples.map(|sample| sample["reply"].as_str().map_or(0, str::len));
                    serde_json::json!({"rewards": rewards.collect::<Vec<_>>()}).to_string()
                }
            };
            let head = format!(
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                answer.len()
            );
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    url
}

/// The body of a request.
fn asked(stream: &TcpStream) -> Value {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    serde_json::from_slice(&body).unwrap()
}

#[test]
fn a_judge_of_ones_own_may_fail_and_training_goes_on() {
    let world = World::new();
    train(&world.denoise("first", &["run.steps=2"]), Mode::Fresh);
    let url = judge(&[Act::Judge, Act::Judge, Act::Drop]);
    let overrides = [
        format!("objective.rewards.chat=[{{grader={url:?}}}]"),
        "objective.judges.endpoint={timeout=5.0, attempts=1, batch=4}".to_owned(),
        "samples.every=4".to_owned(),
    ];
    let overrides: Vec<&str> = overrides.iter().map(String::as_str).collect();
    let config = world.unigrpo("rl", "first/model", &overrides);
    train(&config, Mode::Fresh);
    let lines = metrics(&config.run.out);
    let seen = |name: &str| {
        lines
            .iter()
            .filter_map(|line| line[name].as_f64())
            .collect::<Vec<_>>()
    };
    assert_eq!(lines.len(), 7);
    assert!(
        seen("dropped_completions")
            .iter()
            .any(|share| *share > 0.0 && *share < 1.0)
    );
    assert!(!seen("reward/endpoint").is_empty());
    assert!(seen("entropy").iter().all(|entropy| *entropy > 0.0));
    assert!(seen("loss").iter().all(|loss| loss.is_finite()));
    let sheet = std::fs::read_to_string(config.run.out.join("samples/step-00000004.txt")).unwrap();
    assert!(
        sheet.contains("rollout: ") && sheet.contains("dropped"),
        "{sheet}"
    );
}

/// Hangs, nonsense and numbers that are none cost the completions, not the run.
#[test]
fn training_goes_on_without_a_single_verdict() {
    let world = World::new();
    train(&world.denoise("first", &["run.steps=2"]), Mode::Fresh);
    let of = |name: &str| std::fs::read(world.path(name).join("model.safetensors")).unwrap();
    let table: [(&str, &'static [Act]); 4] = [
        ("hangs", &[Act::Hang]),
        (
            "no-number",
            &[Act::Say("{\"rewards\": [NaN, NaN, NaN, NaN]}")],
        ),
        ("no-json", &[Act::Say("all of them are fine")]),
        (
            "mixed",
            &[Act::Hang, Act::Drop, Act::Say("{\"rewards\": [\"high\"]}")],
        ),
    ];
    for (name, acts) in table {
        let overrides = [
            format!("objective.rewards.chat=[{{grader={:?}}}]", judge(acts)),
            "objective.judges.endpoint={timeout=0.1, attempts=1, batch=32}".to_owned(),
            "run.steps=2".to_owned(),
        ];
        let overrides: Vec<&str> = overrides.iter().map(String::as_str).collect();
        let mut config = world.unigrpo(name, "first/model", &overrides);
        config.data.truncate(1);
        train(&config, Mode::Fresh);
        let lines = metrics(&config.run.out);
        assert_eq!(lines[0]["dropped_completions"], 1.0, "{name}");
        assert_eq!(lines[1]["loss"], 0.0, "{name}");
        assert!(lines.iter().all(|line| line.get("reward").is_none()));
        // Nothing was learnt, and nothing was broken.
        assert_eq!(of(&format!("{name}/model")), of("first/model"), "{name}");
    }
}

#[test]
fn paintings_are_judged_by_clip_and_by_pixels() {
    let world = World::new();
    train(&world.denoise("first", &["run.steps=2"]), Mode::Fresh);
    let clip = tiny_clip::folder();
    let overrides = [
        "objective.rewards.paint=[{grader=\"clip\", weight=0.1}, {grader=\"drawing\"}]".to_owned(),
        format!("objective.judges.clip={:?}", clip.path()),
        "samples.every=3".to_owned(),
        "run.steps=3".to_owned(),
    ];
    let overrides: Vec<&str> = overrides.iter().map(String::as_str).collect();
    let mut config = world.unigrpo("rl", "first/model", &overrides);
    config.data.remove(0);
    train(&config, Mode::Fresh);
    let first = &metrics(&config.run.out)[0];
    let number = |name: &str| first[name].as_f64().unwrap();
    assert!(number("reward/clip") > 0.0 && number("reward/clip") < 100.0);
    let reward = 0.1 * number("reward/clip") + number("reward/drawing");
    assert!((number("reward_t2i") - reward).abs() < 1e-6);
    assert_eq!(number("dropped_completions"), 0.0);
    let samples = config.run.out.join("samples");
    let sheet = std::fs::read_to_string(samples.join("step-00000003.txt")).unwrap();
    assert!(
        sheet.contains("circle\n  1.1  ") && sheet.contains(" (clip "),
        "{sheet}"
    );
    assert!(sheet.contains("  3.6  "), "{sheet}");
    assert!(samples.join("step-00000003-rollout.png").is_file());
}

#[test]
fn a_run_stopped_within_a_group_goes_on_to_the_same_bits() {
    let world = World::new();
    let first = world.denoise("first", &["run.steps=2"]);
    train(&first, Mode::Fresh);
    // Groups last three steps; the stop is after the first or second of one.
    let mixed = [
        "run.precision=\"bf16\"",
        "objective.dead_groups={replace=2}",
        "objective.masks=\"window\"",
        "objective.temperature=2.0",
        "objective.tempered=true",
    ];
    let tiled = ["objective.masks=\"windows\""];
    for (step, settings) in [(1, &[][..]), (5, &[]), (4, &mixed), (2, &tiled)] {
        let name = |part: &str| format!("{part}{step}");
        let whole = world.unigrpo(&name("whole"), "first/model", settings);
        let parts = world.unigrpo(&name("parts"), "first/model", settings);
        train(&whole, Mode::Fresh);
        assert!(stopped_at(&parts, step).is_early);
        train(&parts, Mode::Resume);
        assert_eq!(metrics(&whole.run.out), metrics(&parts.run.out));
    }
    let one = world.unigrpo("one", "first/model", &["run.threads=1"]);
    train(&one, Mode::Fresh);
    assert_eq!(metrics(&one.run.out), metrics(&world.path("whole1")));
    let lines = metrics(&one.run.out);
    for name in [
        "reward",
        "reward_std",
        "dead_groups",
        "kl",
        "clip_fraction",
        "reward/plain",
    ] {
        assert!(
            lines.iter().any(|line| line.get(name).is_some()),
            "{name}: {lines:?}"
        );
    }
}

/// A world whose model knows some of the facts: some groups are dead, others not.
pub(crate) fn half_learnt() -> World {
    let world = World::new();
    let steps = [
        "run.steps=200",
        "lr.peak=1e-2",
        "log.every=40",
        "checkpoint.every=0",
    ];
    train(&world.denoise("first", &steps), Mode::Fresh);
    world
}

/// The first line of a rollout of facts.
fn first_line(world: &World, name: &str, setting: &str) -> Value {
    let overrides = ["objective.group=2", "run.steps=1", setting];
    let mut config = world.unigrpo(name, "first/model", &overrides);
    config.data.truncate(1);
    train(&config, Mode::Fresh);
    metrics(&config.run.out).remove(0)
}

#[test]
fn dead_groups_are_kept_left_out_or_replaced() {
    let world = half_learnt();
    let line = |name: &str, value: &str| {
        first_line(&world, name, &format!("objective.dead_groups={value}"))
    };
    let kept = line("kept", "\"keep\"");
    let left_out = line("left-out", "\"leave_out\"");
    let replaced = line("replaced", "{replace=3}");
    let number = |line: &Value, name: &str| line[name].as_f64().unwrap();
    let dead = number(&kept, "dead_groups");
    assert!(dead > 0.0 && dead < 1.0, "{kept}");
    // All that was sampled is told, learnt from or not.
    assert_eq!(number(&left_out, "dead_groups"), dead);
    assert_eq!(number(&left_out, "reward"), number(&kept, "reward"));
    // What is seen in a step: the completions that were kept.
    let tokens = [&kept, &left_out, &replaced].map(|line| number(line, "num_tokens"));
    assert!(tokens[1] < tokens[0] && tokens[1] < tokens[2], "{tokens:?}");
}

/// Groups of paintings of sixteen codes each, as a checkpoint holds them.
#[test]
fn masks_are_own_or_shared_by_a_group() {
    let world = World::new();
    train(&world.denoise("first", &["run.steps=2"]), Mode::Fresh);
    let positions = |masks: &str| {
        let setting = format!("objective.masks={masks:?}");
        let overrides = ["objective.levels_in_all=4", "checkpoint.every=1", &setting];
        let mut config = world.unigrpo(masks, "first/model", &overrides);
        config.data.remove(0);
        let state = stopped_at(&config, 1).checkpoint.join("trainer_state.json");
        let state: Value = serde_json::from_slice(&std::fs::read(state).unwrap()).unwrap();
        let set = &state["data"]["rollouts"][0]["sets"][0];
        let estimates = set.as_array().unwrap().iter();
        let positions = estimates.map(|estimate| estimate["positions"].clone());
        positions.collect::<Vec<Value>>()
    };
    let is_one = |group: &[Value]| group.iter().all(|other| *other == group[0]);
    let (own, shared) = (positions("own"), positions("shared"));
    assert_eq!((own.len(), shared.len()), (18, 18));
    assert!(shared.chunks(6).all(is_one), "{shared:?}");
    assert!(!own.chunks(6).all(is_one), "{own:?}");
    assert!(!is_one(&shared), "{shared:?}");
}

/// Pictures are masked at levels of their own, if that is asked for; text stays as it was.
#[test]
fn levels_of_pictures_are_their_own_on_request() {
    let world = World::new();
    train(&world.denoise("first", &["run.steps=2"]), Mode::Fresh);
    let masked = |name: &str, setting: &[&str]| {
        let shared = [
            "objective.levels=random",
            "checkpoint.every=1",
            "data.1.weight=0.9",
        ];
        let overrides = [&shared, setting].concat();
        let config = world.unigrpo(name, "first/model", &overrides);
        let state = stopped_at(&config, 1).checkpoint.join("trainer_state.json");
        let state: Value = serde_json::from_slice(&std::fs::read(state).unwrap()).unwrap();
        let rollout = &state["data"]["rollouts"][0];
        let of = |estimate: &Value| estimate["positions"].as_array().unwrap().len();
        let sets = rollout["sets"].as_array().unwrap().iter();
        let counts = sets.flat_map(|set| set.as_array().unwrap().iter().map(of));
        counts.collect::<Vec<usize>>()
    };
    let alike = masked("alike", &[]);
    let full = masked("full", &["objective.picture_levels=full"]);
    assert_eq!(alike.len(), full.len());
    let pairs = || alike.iter().zip(&full);
    // Of the sixteen codes of a painting all; of answers as many as before.
    assert!(pairs().any(|(alike, full)| *alike < *full), "{alike:?}");
    assert!(
        pairs().all(|(alike, full)| alike == full || *full == 16),
        "{alike:?} {full:?}"
    );
    assert!(full.iter().any(|count| *count != 16), "{full:?}");
}

/// Text is measured at the temperature at which it was sampled, if that is asked for; pictures never.
#[test]
fn likelihoods_are_tempered_on_request() {
    let world = half_learnt();
    let estimates = |data: usize, tempered: bool| {
        let name = format!("{data}-{tempered}");
        let setting = format!("objective.tempered={tempered}");
        let overrides = ["objective.temperature=2.0", "checkpoint.every=1", &setting];
        let mut config = world.unigrpo(&name, "first/model", &overrides);
        config.data.swap(0, data);
        config.data.truncate(1);
        let state = stopped_at(&config, 1).checkpoint.join("trainer_state.json");
        let state: Value = serde_json::from_slice(&std::fs::read(state).unwrap()).unwrap();
        state["data"]["rollouts"][0]["sets"][0].clone()
    };
    let numbers = |set: &Value| -> Vec<f64> {
        let estimates = set.as_array().unwrap().iter();
        let old = estimates.flat_map(|estimate| estimate["old"].as_array().unwrap().clone());
        old.map(|value| value.as_f64().unwrap()).collect()
    };
    let (own, tempered) = (estimates(0, false), estimates(0, true));
    assert_eq!(own[0]["ids"], tempered[0]["ids"]);
    let (own, tempered) = (numbers(&own), numbers(&tempered));
    // At 2 a token that has most of the probability has less of it, an unlikely one more.
    let pairs = || own.iter().zip(&tempered);
    assert!(pairs().any(|(own, tempered)| own != tempered));
    assert!(pairs().all(|(own, tempered)| *own < -0.5 || tempered < own));
    assert!(pairs().all(|(own, tempered)| *own > -8.0 || tempered > own));
    assert_eq!(estimates(1, false), estimates(1, true));
}

/// The sampler is a value of the run; its name is refused if nobody has it.
#[test]
fn completions_are_sampled_as_named() {
    let world = half_learnt();
    let of = |sampler: &str| {
        let setting = format!("objective.sampler={sampler:?}");
        first_line(&world, sampler, &setting)
    };
    assert_ne!(of("exact")["entropy"], of("turbo")["entropy"]);
    let painted = |guidance: &str| {
        let setting = format!("objective.guidance={guidance}");
        let mut config = world.unigrpo(guidance, "first/model", &["run.steps=1", &setting]);
        config.data.remove(0);
        train(&config, Mode::Fresh);
        metrics(&config.run.out).remove(0)
    };
    assert_ne!(painted("0.0")["entropy"], painted("4.0")["entropy"]);
    let text = world.unigrpo("a", "first/model", &[]).resolved().unwrap();
    let error = RunConfig::parse(&text, &["objective.sampler=\"slow\"".to_owned()]).unwrap_err();
    assert!(error.to_string().contains("turbo"), "{error}");
}

#[test]
fn rewards_rise() {
    let world = half_learnt();
    let overrides = [
        "run.steps=90",
        "lr.peak=1e-3",
        "log.every=15",
        "checkpoint.every=0",
        "objective.surrogate.kl=0.0",
        "objective.temperature=1.0",
    ];
    let config = world.unigrpo("rl", "first/model", &overrides);
    train(&config, Mode::Fresh);
    let rewards: Vec<f64> = metrics(&config.run.out)
        .iter()
        .filter_map(|line| line["reward"].as_f64())
        .collect();
    let (first, last) = (rewards[0], rewards[rewards.len() - 1]);
    assert!(last > first + 0.1, "{rewards:?}");
}

/// A prompt without words, or with too many, is left out and counted; the run goes on.
#[test]
fn prompts_that_cannot_be_asked_are_left_out() {
    let world = World::new();
    train(&world.denoise("first", &["run.steps=2"]), Mode::Fresh);
    let line = |question: &str| {
        let messages = serde_json::json!([
            {"role": "user", "content": question},
            {"role": "assistant", "content": "blue"},
        ]);
        format!("{}\n", serde_json::json!({ "messages": messages }))
    };
    let lines = [line("sky"), line(" "), line(&"sky ".repeat(200))].concat();
    std::fs::write(world.path("odd.jsonl"), lines).unwrap();
    let mut config = world.unigrpo("rl", "first/model", &["run.steps=1"]);
    config.data.truncate(1);
    config.data[0].paths = vec![world.path("odd.jsonl").display().to_string()];
    train(&config, Mode::Fresh);
    let line = metrics(&config.run.out).remove(0);
    assert!(line["skipped_samples"].as_f64().unwrap() >= 2.0, "{line}");
}

/// A thought that fills its canvas leaves nothing for a tail; words and picture are one completion.
#[test]
fn pictures_that_are_thought_about_are_rolled_out() {
    let world = World::new();
    let long = ["run.steps=2", "model.init.sizes.max_sequence_length=400"];
    train(&world.denoise("first", &long), Mode::Fresh);
    let overrides = [
        "run.steps=1",
        "checkpoint.every=1",
        "objective.temperature=2.0",
        "model.generation.thought={length=4, block=4, steps=4}",
        "objective.rewards.think_paint=[{grader=\"color\"}, {grader=\"shape\"}]",
        "data.1.views=[{task=\"think-paint\", prompt=\"{caption} circle\", thought=\"{caption}\"}]",
    ];
    let mut config = world.unigrpo("rl", "first/model", &overrides);
    config.data.remove(0);
    let state = stopped_at(&config, 1).checkpoint.join("trainer_state.json");
    let state: Value = serde_json::from_slice(&std::fs::read(state).unwrap()).unwrap();
    let estimates = state["data"]["rollouts"][0]["sets"][0].as_array().unwrap();
    assert_eq!(estimates.len(), 18, "{state}");
}

/// Keeps what a run warns of.
#[derive(Default)]
pub(crate) struct Warned(pub(crate) std::sync::Mutex<Vec<String>>);

impl Reporter for Warned {
    fn report(&self, event: &Event<'_>) {
        if let Event::Warning(text) = event {
            self.0.lock().unwrap().push((*text).to_owned());
        }
    }
}

/// A judge that is not there costs every completion; whoever looks at the run is told why.
#[test]
fn why_completions_are_dropped_is_told() {
    let world = World::new();
    train(&world.denoise("first", &["run.steps=2"]), Mode::Fresh);
    let overrides = [
        "run.steps=1",
        "objective.rewards.chat=[{grader=\"http://127.0.0.1:9/\"}]",
        "objective.judges.endpoint={timeout=0.5, attempts=1, batch=32}",
    ];
    let mut config = world.unigrpo("rl", "first/model", &overrides);
    config.data.truncate(1);
    let warned = Warned::default();
    run(&config, options(Mode::Fresh), &warned).unwrap();
    let warnings = warned.0.into_inner().unwrap();
    let named = |text: &&String| text.contains("dropped: http://127.0.0.1:9/: ");
    assert!(warnings.iter().any(|text| named(&text)), "{warnings:?}");
}
