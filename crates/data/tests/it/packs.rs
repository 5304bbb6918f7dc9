//! The pack folders of the repository, and folders of the same layout never seen before.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use mmada_data::packs::{AnswerKind, PackTask, ReasoningItem};
use mmada_data::{DataError, Mixture, Pack, Source, Stores};

use crate::files::{gzip, samples, tar, write};

pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/data")).join(name)
}

pub(crate) fn pack(name: &str) -> Pack {
    Pack::open(data(name)).unwrap()
}

/// Examples of one pass over each ready-made source.
fn counts(pack: &Pack, split: &str) -> Vec<(String, usize)> {
    pack.sources(split)
        .unwrap()
        .iter()
        .map(|cfg| {
            let source = Source::open(cfg, Path::new("."), 1, &mut Stores::default()).unwrap();
            let mut once = source.iter_once();
            let count = once.by_ref().map(Result::unwrap).count();
            assert_eq!(once.skipped().count, 0, "{:?}", once.skipped());
            (cfg.name.clone(), count)
        })
        .collect()
}

fn check(pack_name: &str, split: &str, wanted: &[(&str, usize)]) {
    let wanted: Vec<(String, usize)> = wanted
        .iter()
        .map(|&(what, count)| (format!("{pack_name}-{what}"), count))
        .collect();
    assert_eq!(counts(&pack(pack_name), split), wanted);
}

#[test]
fn training_counts_are_those_of_the_readme() {
    check("emoji", "train", &[("paint", 6484), ("captions", 6484)]);
    check("animals", "train", &[("paint", 8616), ("captions", 8616)]);
    check(
        "shapes",
        "train",
        &[("paint", 3155), ("captions", 3155), ("questions", 38575)],
    );
    check("arithmetic", "train", &[("chat", 20000)]);
    check("reasoning", "train", &[("chat", 39856)]);
}

#[test]
fn emoji_and_animals_tests() {
    let emoji = pack("emoji");
    assert_eq!(
        emoji.splits(),
        [
            "test_seen_concept",
            "test_unseen_concept",
            "train",
            "validation"
        ]
    );
    assert_eq!(emoji.reconstruction("test").unwrap().count(), 875);
    assert_eq!(emoji.captions("test_seen_concept").unwrap().count(), 400);
    let items: Vec<_> = emoji
        .paint("test_unseen_concept")
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(items.len(), 475);
    let style = items[0].style.as_ref().unwrap();
    assert_eq!(
        items[0].prompt,
        format!("{style} style: {}", items[0].caption)
    );
    use PackTask::{Captions, Kinds, Paint, Reconstruction};
    assert_eq!(
        emoji.tasks("test").unwrap(),
        [Reconstruction, Captions, Kinds, Paint]
    );

    let animals = pack("animals");
    let items: Vec<_> = animals
        .captions("test")
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(items.len(), 700);
    assert!(items.iter().all(|item| item.fields.contains_key("label")));
    assert!(items.iter().all(|item| !item.image.bytes().is_empty()));
}

#[test]
fn shapes_tests() {
    let shapes = pack("shapes");
    let count = |kind: AnswerKind| {
        let items = shapes.questions("test").unwrap();
        items
            .filter(|item| item.as_ref().unwrap().kind == kind)
            .count()
    };
    assert_eq!(count(AnswerKind::YesNo), 5013);
    assert_eq!(count(AnswerKind::Open), 1789);
    let mut questions = shapes.questions("test").unwrap();
    assert!(questions.all(|item| !item.unwrap().question.contains("<image>")));

    assert_eq!(shapes.reconstruction("test").unwrap().count(), 700);
    assert_eq!(
        shapes.captions("test").unwrap().map(Result::unwrap).count(),
        554
    );
    // The pictures of this split are in the archives of both other splits.
    let composed: Vec<_> = shapes
        .captions("test_composition")
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(composed.len(), 500);
    let paint: Vec<_> = shapes
        .paint("test_composition")
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(paint.len(), 500);
    let held_out = ["yellow circle", "brown rectangle", "teal triangle"];
    for item in paint {
        let pair = format!("{} {}", item.color.unwrap(), item.shape.unwrap());
        assert!(held_out.contains(&&*pair), "{pair}");
        assert_eq!(item.prompt, format!("a {pair}"));
    }
    let trained = shapes.paint("train").unwrap().map(Result::unwrap);
    for item in trained {
        assert!(!held_out.iter().any(|pair| item.caption.ends_with(pair)));
    }
    use PackTask::{Captions, Paint, Questions, Reconstruction};
    assert_eq!(
        shapes.tasks("test").unwrap(),
        [Reconstruction, Captions, Questions, Paint]
    );
}

#[test]
fn arithmetic_tests() {
    let arithmetic = pack("arithmetic");
    let items: Vec<_> = arithmetic
        .reasoning("test")
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(items.len(), 500);
    let of = |name: &str| {
        let named = |item: &&_| {
            let item: &ReasoningItem = item;
            item.template.as_deref() == Some(name)
        };
        items.iter().filter(named).count()
    };
    assert_eq!(
        [of("chain_sum"), of("leg_counting"), of("basic_arithmetic")],
        [200, 150, 150]
    );
    assert!(items.iter().all(|item| item.answer.parse::<i64>().is_ok()));
    assert_eq!(arithmetic.reasoning("train").unwrap().count(), 20000);
    assert_eq!(arithmetic.tasks("test").unwrap(), [PackTask::Reasoning]);
}

fn problems(pack_name: &str, split: &str) -> Vec<ReasoningItem> {
    let items = pack(pack_name).reasoning(split).unwrap();
    items.collect::<Result<_, _>>().unwrap()
}

/// How many problems there are of each kind.
fn kinds(items: &[ReasoningItem]) -> BTreeMap<&str, usize> {
    let mut kinds = BTreeMap::new();
    for item in items {
        *kinds.entry(item.template.as_deref().unwrap()).or_default() += 1;
    }
    kinds
}

#[test]
fn reasoning_tests() {
    let reasoning = pack("reasoning");
    assert_eq!(
        reasoning.splits(),
        ["test", "test_unseen_kinds", "train", "validation"]
    );
    for split in reasoning.splits() {
        assert_eq!(reasoning.tasks(&split).unwrap(), [PackTask::Reasoning]);
    }
    let [train, validation, test, unseen] = ["train", "validation", "test", "test_unseen_kinds"]
        .map(|split| problems("reasoning", split));

    let of_train = kinds(&train);
    let fifty_each: BTreeMap<&str, usize> = of_train.keys().map(|&kind| (kind, 50)).collect();
    assert_eq!(of_train.len(), 18);
    assert!(of_train.values().all(|count| (581..=2500).contains(count)));
    assert_eq!(kinds(&validation), fifty_each);
    assert_eq!(kinds(&test), fifty_each);
    let of_unseen = kinds(&unseen);
    assert_eq!(
        of_unseen,
        ["gcd", "simple_geometry", "word_sequence_reversal"]
            .map(|kind| (kind, 50))
            .into()
    );
    assert!(of_unseen.keys().all(|kind| !of_train.contains_key(kind)));
}

#[test]
fn no_problem_is_in_two_splits() {
    let splits = [
        ("reasoning", "train"),
        ("reasoning", "validation"),
        ("reasoning", "test"),
        ("reasoning", "test_unseen_kinds"),
        ("arithmetic", "train"),
        ("arithmetic", "test"),
    ];
    let mut seen = BTreeMap::new();
    for (pack_name, split) in splits {
        for item in problems(pack_name, split) {
            let words: Vec<_> = item.question.split_whitespace().collect();
            let question = words.join(" ").to_lowercase();
            let other = seen.insert(question, (pack_name, split));
            assert_eq!(other, None, "{}: {}", item.id, item.question);
        }
    }
}

#[test]
fn ready_made_sources_mix() {
    let mut configs = Vec::new();
    for name in ["emoji", "shapes", "arithmetic"] {
        configs.extend(pack(name).sources("train").unwrap());
    }
    for cfg in &mut configs {
        cfg.shuffle = 64;
    }
    let mut mixture = Mixture::open(&configs, Path::new("."), 3).unwrap();
    for _ in 0..200 {
        let example = mixture.next_example().unwrap();
        assert!(example.task == mmada_tokens::Task::Chat || example.image.is_some());
    }
    assert_eq!(mixture.skipped().count, 0);
}

#[test]
fn a_folder_never_seen() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "hidden/test.tar", samples("h", 4));
    let hidden = Pack::open(dir.path().join("hidden")).unwrap();
    assert_eq!(
        hidden.captions("test").unwrap().map(Result::unwrap).count(),
        4
    );

    // Shapes-like, test only, pictures in a folder, lists compressed.
    let root = dir.path().join("forms");
    write(&root, "test_images/1.png", "one");
    write(&root, "train_images.tgz", gzip(&tar(&[("2.png", b"two")])));
    let line = |image: u8, split: &str| {
        format!(
            "{{\"image\": \"{image}.png\", \"caption\": \"a red circle\", \"color\": \"red\", \"shape\": \"circle\", \"image_split\": \"{split}\"}}\n"
        )
    };
    let lines = line(1, "test") + &line(2, "train");
    write(
        &root,
        "test_composition_captions.jsonl.gz",
        gzip(lines.as_bytes()),
    );
    let list = "[{\"id\": \"1\", \"image\": \"1.png\", \"conversations\": [{\"from\": \"human\", \"value\": \"<image>\\nis it red?\"}, {\"from\": \"gpt\", \"value\": \"Yes\"}]}]";
    write(&root, "test_conversations.json", list);
    let forms = Pack::open(&root).unwrap();
    let composed: Vec<_> = forms
        .captions("test_composition")
        .unwrap()
        .map(|item| item.unwrap().image.bytes().to_vec())
        .collect();
    assert_eq!(composed, [b"one".to_vec(), b"two".to_vec()]);
    let asked: Vec<_> = forms
        .questions("test")
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(asked[0].kind, AnswerKind::YesNo);
    assert_eq!(asked[0].question, "is it red?");
    assert_eq!(forms.reconstruction("test").unwrap().count(), 1);

    write(
        dir.path(),
        "sums/exam.jsonl",
        "{\"question\": \"1+1\", \"answer\": 2}\nbroken\n",
    );
    let sums = Pack::open(dir.path().join("sums")).unwrap();
    let mut items = sums.reasoning("exam").unwrap();
    assert_eq!(items.next().unwrap().unwrap().answer, "2");
    let error = items.next().unwrap().unwrap_err();
    assert!(matches!(error, DataError::Sample { .. }), "{error}");
    assert!(error.to_string().contains("exam.jsonl:2"), "{error}");
}

#[test]
fn what_is_missing_is_said() {
    let error = pack("arithmetic")
        .questions("test")
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("test_conversations.json"), "{error}");
    assert!(error.contains("train.jsonl.zst"), "{error}");
    let error = pack("emoji").captions("nowhere").err().unwrap().to_string();
    assert!(error.contains("nowhere*.tar.gz"), "{error}");
    assert!(pack("emoji").sources("nowhere").is_err());
    let dir = tempfile::tempdir().unwrap();
    let error = Pack::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("SPLIT_conversations.json"), "{error}");
    assert!(Pack::open(dir.path().join("absent")).is_err());
    fs::write(dir.path().join("test.tar.gz"), "not an archive").unwrap();
    let broken = Pack::open(dir.path()).unwrap();
    let error = broken.captions("test").err().unwrap().to_string();
    assert!(error.contains("test.tar.gz"), "{error}");
}

/// A file that is there and cannot be read is an error, not an absent task.
#[test]
fn broken_files_are_not_absent_ones() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("test.tar.gz"), b"").unwrap();
    let error = Pack::open(dir.path()).unwrap().tasks("test").unwrap_err();
    assert!(error.to_string().contains("test.tar.gz"), "{error}");
    let nothing = Pack::open(dir.path()).unwrap().tasks("train").unwrap();
    assert_eq!(nothing, []);
}
