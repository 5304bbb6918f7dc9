//! Benchmarks end to end, with a tiny random model on pack folders made for the test.

use std::path::Path;

use mmada_data::picture::Picture;
use mmada_grade::{Benchmark, Error, EvalOptions, Report, evaluate};
use mmada_model::{Mmada, Overrides, Preset, Think};

use crate::tiny;

/// A folder in the layout of the packs: four pictures, captions, questions, problems.
fn pack() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    std::fs::create_dir(dir.path().join("test_images")).unwrap();
    let (mut captions, mut talks) = (String::new(), Vec::new());
    for (i, color) in ["red", "blue", "red", "teal"].into_iter().enumerate() {
        let picture = Picture::new(16, 16, vec![60 * i as u8; 16 * 16 * 3]).unwrap();
        let name = format!("{i}.png");
        let png = picture.encode_png().unwrap();
        std::fs::write(dir.path().join("test_images").join(&name), png).unwrap();
        captions += &format!(
            "{{\"image\": \"{name}\", \"caption\": \"a {color} circle\", \"color\": \"{color}\", \"shape\": \"circle\"}}\n"
        );
        talks.push(format!(
            "{{\"id\": \"{i}\", \"image\": \"{name}\", \"conversations\": [\
             {{\"from\": \"human\", \"value\": \"<image>\\nwhat color?\"}}, {{\"from\": \"gpt\", \"value\": \"{color}\"}},\
             {{\"from\": \"human\", \"value\": \"is it red?\"}}, {{\"from\": \"gpt\", \"value\": \"no\"}}]}}"
        ));
    }
    write("test_captions.jsonl", &captions);
    write("test_conversations.json", &format!("[{}]", talks.join(",")));
    write(
        "test.jsonl",
        "{\"question\": \"1 + 1?\", \"answer\": \"2\", \"template\": \"sum\"}\n{\"question\": \"2 + 2?\", \"answer\": \"4\"}\n",
    );
    dir
}

fn run(model: &Mmada, dir: &Path, benchmark: Benchmark, options: &EvalOptions) -> Report {
    let mut seen = Vec::new();
    let mut on_progress = |done, total| seen.push((done, total));
    let mut report = evaluate(model, dir, "test", benchmark, options, &mut on_progress).unwrap();
    // Time is the one number that differs from run to run.
    if let Some(cost) = &mut report.cost {
        assert!(cost.seconds > 0.0);
        cost.seconds = 0.0;
    }
    let (done, total) = *seen.last().unwrap();
    assert!(seen[0].0 == 0 && done == total && total > 0);
    assert!(seen.is_sorted());
    report
}

#[test]
fn every_benchmark_reports_its_numbers() {
    let (model, dir) = (tiny::model(), pack());
    let options = EvalOptions {
        samples: 2,
        ..EvalOptions::default()
    };
    for (benchmark, n, names) in [
        (Benchmark::Reconstruction, 4, vec!["psnr", "drawing_kept"]),
        (Benchmark::Caption, 4, vec!["normalised", "exact"]),
        (Benchmark::Vqa, 8, vec!["overall", "yes_no", "open"]),
        // Three combinations, whatever their frequency, two pictures each.
        (
            Benchmark::Paint,
            6,
            vec![
                "both",
                "color",
                "shape",
                "no_counting_pixels",
                "connected",
                "one_color",
            ],
        ),
        (
            Benchmark::Reasoning,
            2,
            vec!["answer", "format", "answer/sum"],
        ),
    ] {
        let report = run(&model, dir.path(), benchmark, &options);
        assert_eq!(report.n, n, "{benchmark:?}");
        let got: Vec<&str> = report
            .scores
            .iter()
            .map(|score| score.name.as_str())
            .collect();
        assert_eq!(got, names);
        for score in &report.scores {
            assert!(
                score.low <= score.value && score.value <= score.high,
                "{score:?}"
            );
        }
        let has_sheet = matches!(benchmark, Benchmark::Reconstruction | Benchmark::Paint);
        assert_eq!(report.sheet.is_some(), has_sheet);
        assert!(!report.examples.is_empty());
        assert_eq!(
            report.cost.is_some(),
            benchmark != Benchmark::Reconstruction
        );
        // The size of the groups changes nothing.
        let single = EvalOptions {
            batch: 1,
            ..options.clone()
        };
        assert_eq!(run(&model, dir.path(), benchmark, &single), report);
        let json = serde_json::to_string(&report).unwrap();
        let read: Report = serde_json::from_str(&json).unwrap();
        assert_eq!(
            (read.task, read.n, read.examples),
            (report.task, n, report.examples)
        );
        assert_eq!(read.scores.len(), report.scores.len());
    }
}

#[test]
fn scores_stand_beside_what_they_cost() {
    let (model, dir) = (tiny::model(), pack());
    let cost = |benchmark, sampler| {
        let options = EvalOptions {
            samples: 2,
            overrides: Overrides {
                steps: Some(8),
                sampler,
                ..Overrides::default()
            },
            ..EvalOptions::default()
        };
        run(&model, dir.path(), benchmark, &options).cost.unwrap()
    };
    for benchmark in [Benchmark::Vqa, Benchmark::Paint, Benchmark::Reasoning] {
        let own = cost(benchmark, None);
        let exact = cost(benchmark, Some(Preset::Exact));
        assert_eq!((own.forwards, own.tokens), (exact.forwards, exact.tokens));
        let per_forward = exact.tokens as f64 / exact.forwards as f64;
        assert!((exact.tokens_per_forward - per_forward).abs() < 1e-9);
        assert!(exact.steps <= 8.0 && exact.sampler == Some(Preset::Exact));
        let cached = cost(benchmark, Some(Preset::Cached));
        assert!(cached.rows_per_token < exact.rows_per_token, "{cached:?}");
    }
}

#[test]
fn limits_spread_over_the_split() {
    let (model, dir) = (tiny::model(), pack());
    let options = EvalOptions {
        limit: Some(2),
        ..EvalOptions::default()
    };
    let report = run(&model, dir.path(), Benchmark::Reconstruction, &options);
    assert_eq!(report.n, 2);
    assert!(report.examples[0].input.contains('1') && report.examples[1].input.contains('3'));
}

#[test]
fn progress_is_told_within_a_group() {
    let (model, dir) = (tiny::model(), pack());
    let options = EvalOptions {
        overrides: Overrides {
            steps: Some(8),
            ..Overrides::default()
        },
        ..EvalOptions::default()
    };
    for benchmark in [
        Benchmark::Reconstruction,
        Benchmark::Caption,
        Benchmark::Vqa,
        Benchmark::Paint,
        Benchmark::Reasoning,
    ] {
        let mut within = Vec::new();
        let mut on_progress =
            |done, total| within.extend((0 < done && done < total).then_some(done));
        evaluate(
            &model,
            dir.path(),
            "test",
            benchmark,
            &options,
            &mut on_progress,
        )
        .unwrap();
        // All items are one group, and yet they are done bit by bit.
        assert!(!within.is_empty(), "{benchmark:?}");
    }
}

/// Same seed, other steps, temperature or guidance: other pictures.
#[test]
fn settings_reach_the_sampler() {
    let (model, dir) = (tiny::model(), pack());
    let paint = |options: &EvalOptions| run(&model, dir.path(), Benchmark::Paint, options).sheet;
    let base = EvalOptions {
        samples: 1,
        ..EvalOptions::default()
    };
    let usual = paint(&base);
    assert_eq!(paint(&base), usual);
    let with = |change: fn(&mut Overrides)| {
        let mut options = base.clone();
        change(&mut options.overrides);
        paint(&options)
    };
    assert_ne!(with(|wanted| wanted.steps = Some(1)), usual);
    assert_ne!(with(|wanted| wanted.temperature = Some(9.0)), usual);
    assert_ne!(with(|wanted| wanted.guidance = Some(9.0)), usual);
    assert_ne!(with(|wanted| wanted.best_of = Some(16)), usual);
    assert_ne!(with(|wanted| wanted.revisions = Some(3)), usual);
    // Colder codes are others; at 0 they no longer depend on the draws.
    assert_ne!(with(|wanted| wanted.token_temperature = Some(0.1)), usual);
    let coldest = with(|wanted| wanted.token_temperature = Some(0.0));
    assert_eq!(
        with(|wanted| wanted.token_temperature = Some(1e-6)),
        coldest
    );
}

#[test]
fn splits_and_folders_that_lack_something_are_refused() {
    let (model, dir) = (tiny::model(), pack());
    let options = EvalOptions::default();
    let eval = |dir: &Path, split: &str, benchmark| {
        evaluate(&model, dir, split, benchmark, &options, &mut |_, _| {}).unwrap_err()
    };
    assert!(matches!(
        eval(dir.path(), "validation", Benchmark::Vqa),
        Error::Data(_)
    ));
    assert!(matches!(
        eval(&dir.path().join("no"), "test", Benchmark::Vqa),
        Error::Data(_)
    ));
    std::fs::write(
        dir.path().join("test_captions.jsonl"),
        "{\"caption\": \"a dog\"}\n",
    )
    .unwrap();
    let error = eval(dir.path(), "test", Benchmark::Paint);
    assert!(matches!(error, Error::Nothing { .. }), "{error}");
}

#[test]
fn kinds_are_asked_for_and_concepts_are_recognised_by_training_pictures() {
    let (model, dir) = (tiny::model(), tempfile::tempdir().unwrap());
    for split in ["train", "test"] {
        let file = std::fs::File::create(dir.path().join(format!("{split}.tar"))).unwrap();
        let mut archive = tar::Builder::new(file);
        let mut add = |name: String, bytes: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, name, bytes).unwrap();
        };
        for (i, caption) in ["sun", "moon", "sun"].into_iter().enumerate() {
            let picture = Picture::new(16, 16, vec![90 * i as u8; 16 * 16 * 3]).unwrap();
            add(format!("{i}.png"), &picture.encode_png().unwrap());
            let fields = format!(
                "{{\"caption\": \"{caption}\", \"group\": \"sky\", \"subgroup\": \"lights\"}}"
            );
            add(format!("{i}.json"), fields.as_bytes());
        }
        archive.finish().unwrap();
    }
    let options = EvalOptions {
        samples: 3,
        ..EvalOptions::default()
    };
    let names = |report: &Report| -> Vec<String> {
        report
            .scores
            .iter()
            .map(|score| score.name.clone())
            .collect()
    };
    let kinds = run(&model, dir.path(), Benchmark::Kind, &options);
    assert_eq!(kinds.n, 3);
    assert_eq!(names(&kinds), ["group", "subgroup"]);
    assert_eq!(kinds.examples[0].expected, "sky: lights");
    // Two captions, three pictures each; every one is nearest to some training picture.
    let painted = run(&model, dir.path(), Benchmark::Paint, &options);
    assert_eq!(painted.n, 6);
    assert_eq!(names(&painted), ["recognised", "copies", "distinct"]);
    // Paintings that are drawn alike are of one pose: the first of three is new, and it alone.
    let overrides = Overrides {
        temperature: Some(0.0),
        token_temperature: Some(0.0),
        ..Overrides::default()
    };
    let alike = EvalOptions {
        overrides,
        ..options.clone()
    };
    let alike = run(&model, dir.path(), Benchmark::Paint, &alike);
    let distinct = |report: &Report| (report.scores[2].value * 6.0).round();
    assert_eq!(distinct(&alike), 2.0);
    let is_known = |name: &str| ["sun", "moon"].contains(&name);
    assert!(painted.examples.iter().all(|it| is_known(&it.got)));
    let right = painted
        .examples
        .iter()
        .filter(|it| it.got == it.expected)
        .count();
    assert_eq!(
        right,
        painted.examples.iter().filter(|it| it.is_right).count()
    );
    // What is right, and no copy, can be learnt from: its codes show it again.
    assert!(right > 0 && painted.right.len() <= right);
    for line in &painted.right {
        assert!(is_known(&line.shows) && line.prompt == line.shows);
        assert_eq!(line.image.len(), painted_codes(&model));
        assert_eq!(line.sketch.split(' ').count(), line.image.len());
    }
    let copies = painted.scores.iter().find(|score| score.name == "copies");
    let copies = (copies.unwrap().value * painted.n as f64).round() as usize;
    assert!(painted.right.len() + copies >= right);
}

/// Codes of a painting in the model's own size.
fn painted_codes(model: &Mmada) -> usize {
    let paint = &model.defaults().paint;
    model.grid(paint.width, paint.height).unwrap().len()
}

/// Thoughts are written first, and what they take is counted.
#[test]
fn paintings_can_be_thought_about() {
    let (model, dir) = (tiny::model(), pack());
    let options = |think| EvalOptions {
        samples: 2,
        overrides: Overrides {
            think: Some(think),
            ..Overrides::default()
        },
        ..EvalOptions::default()
    };
    let straight = run(&model, dir.path(), Benchmark::Paint, &options(Think::Never));
    let thought = run(
        &model,
        dir.path(),
        Benchmark::Paint,
        &options(Think::Always),
    );
    assert_eq!((straight.n, thought.n), (6, 6));
    let (before, after) = (straight.cost.unwrap(), thought.cost.unwrap());
    assert!(after.forwards > before.forwards && after.tokens > before.tokens);
    assert_ne!(straight.sheet, thought.sheet);
}
