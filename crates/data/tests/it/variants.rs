//! Parts held out for validation, and records with altered pictures.

use std::collections::BTreeSet;
use std::path::Path;

use mmada_data::augment::Augment;
use mmada_data::picture::Picture;
use mmada_data::{Example, Pack, Source, SourceConfig, Stores};
use tempfile::TempDir;

use crate::alterations::bar;
use crate::files::{tar, write};

fn asset(name: &str) -> Pack {
    let packs = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/data"));
    Pack::open(packs.join(name)).unwrap()
}

/// The numbers that the packs' README gives.
#[test]
fn packs_hold_out_what_their_readme_says() {
    let count = asset("shapes").captions("validation").unwrap().count();
    assert_eq!(count, 111);
    let asked = asset("shapes").questions("validation").unwrap();
    let pictures: BTreeSet<u64> = asked.map(|item| item.unwrap().image.id()).collect();
    assert_eq!(pictures.len(), 139);
    let count = asset("animals").captions("validation").unwrap().count();
    assert_eq!(count, 272);
    let count = asset("emoji").reconstruction("validation").unwrap().count();
    assert_eq!(count, 211);
    assert_eq!(asset("emoji").kinds("validation").unwrap().count(), 211);
    let count = asset("arithmetic").reasoning("validation").unwrap().count();
    assert_eq!(count, 638);
    // A file of that name goes before.
    let count = asset("reasoning").reasoning("validation").unwrap().count();
    assert_eq!(count, 900);
    for pack in ["shapes", "emoji"] {
        assert!(asset(pack).splits().contains(&"validation".to_owned()));
    }
}

/// One shard of 200 pictures, a light bar on a dark ground.
fn bars() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let png = bar(3, 5).encode_png().unwrap();
    let names: Vec<(String, String)> = (0..200)
        .map(|i| (format!("bar-{i}.png"), format!("bar-{i}.json")))
        .collect();
    let mut members: Vec<(&str, &[u8])> = Vec::new();
    for (image, json) in &names {
        members.push((image, &png));
        members.push((json, b"{\"label\": \"bar\"}"));
    }
    write(dir.path(), "bars.tar", tar(&members));
    dir
}

fn once(dir: &Path, more: &str) -> Vec<Example> {
    let toml = format!(
        "name = 'bars'\nkind = 'webdataset'\npaths = ['bars.tar']\n{more}\n\
         views = [{{ task = 'paint', prompt = 'a bar' }}]"
    );
    examples(dir, &toml)
}

/// All examples of a source.
fn examples(dir: &Path, toml: &str) -> Vec<Example> {
    let cfg: SourceConfig = toml::from_str(toml).unwrap();
    let source = Source::open(&cfg, dir, 1, &mut Stores::default()).unwrap();
    source.iter_once().map(Result::unwrap).collect()
}

/// A buffer that counted variants would hold three records of the two hundred here, whose variants
/// would follow each other.
#[test]
fn variants_of_a_record_lie_apart() {
    let dir = bars();
    let toml = "name = 'bars'\nkind = 'webdataset'\npaths = ['bars.tar']\nshuffle = 25\n\
                augment = { variants = 8, shift = 1 }\nviews = [{ task = 'paint', prompt = 'a bar' }]";
    let cfg: SourceConfig = toml::from_str(toml).unwrap();
    let mut source = Source::open(&cfg, dir.path(), 1, &mut Stores::default()).unwrap();
    let records: BTreeSet<String> = (0..50)
        .map(|_| {
            let name = source.next_example().unwrap().name;
            name.split('~').next().unwrap().to_owned()
        })
        .collect();
    assert!(records.len() > 20, "{records:?}");
}

#[test]
fn train_and_validation_are_all_and_share_nothing() {
    let dir = bars();
    let names = |more: &str| -> BTreeSet<String> {
        let examples = once(dir.path(), more);
        examples.into_iter().map(|example| example.name).collect()
    };
    let (train, held) = (names("part = 'train'"), names("part = 'validation'"));
    assert!(train.is_disjoint(&held) && !held.is_empty() && held.len() < 20);
    assert_eq!(names(""), train.union(&held).cloned().collect());
    // Variants stay with their record.
    let varied = once(
        dir.path(),
        "part = 'validation'\naugment = { variants = 3, shift = 1 }",
    );
    assert_eq!(varied.len(), 3 * held.len());
}

#[test]
fn variants_are_the_picture_itself_and_others_like_it() {
    let dir = bars();
    let examples = once(
        dir.path(),
        "augment = { variants = 5, shift = 4, mirror = true }",
    );
    assert_eq!(examples.len(), 1000);
    let pictures = |examples: &[Example]| -> Vec<Picture> {
        let picture = |example: &Example| example.image.as_ref().unwrap().picture().unwrap();
        examples.iter().map(picture).collect()
    };
    let seen = pictures(&examples);
    for (index, picture) in seen.iter().enumerate() {
        let white = picture
            .pixels()
            .iter()
            .filter(|&&value| value == 255)
            .count();
        assert_eq!(white, 2 * 4 * 3, "nothing is pushed out");
        if index % 5 == 0 {
            assert!(*picture == bar(3, 5), "the first is the picture as it is");
        }
    }
    let different: BTreeSet<&[u8]> = seen.iter().map(Picture::pixels).collect();
    assert!(different.len() > 20, "{}", different.len());
    // Ids tell alterations apart, and only those.
    let ids = |examples: &[Example]| -> BTreeSet<u64> {
        let id = |example: &Example| example.image.as_ref().unwrap().id();
        examples.iter().map(id).collect()
    };
    assert!(ids(&examples).len() >= different.len());
    let again = once(
        dir.path(),
        "augment = { variants = 5, shift = 4, mirror = true }",
    );
    assert_eq!(ids(&again), ids(&examples));
    assert!(pictures(&again) == seen);
}

#[test]
fn silhouettes_are_repainted_on_a_pale_ground() {
    let dir = bars();
    let figures = "figures = { teal = [0, 128, 128], red = [255, 0, 0] }";
    let colors = |more: &str| -> [BTreeSet<[u8; 3]>; 2] {
        let paint = format!("augment = {{ variants = 4, {figures}{more} }}");
        let examples = once(dir.path(), &paint).into_iter();
        let pictures = examples.map(|example| example.image.unwrap().picture().unwrap());
        let seen: Vec<_> = pictures.collect();
        [(3, 3), (0, 0)].map(|(x, y)| seen.iter().map(|one| one.pixel(x, y).unwrap()).collect())
    };
    let [figures, grounds] = colors("");
    assert_eq!(figures, BTreeSet::from([[0, 128, 128], [255, 0, 0]]));
    assert!(grounds.iter().flatten().all(|&channel| channel >= 230));
    assert!(grounds.len() > 1, "another for each");
    let [same_figures, grounds] = colors(", ground = [250, 240, 255]");
    assert_eq!(same_figures, figures);
    assert_eq!(grounds, BTreeSet::from([[250, 240, 255]]));
}

#[test]
fn altered_variants_are_all_different() {
    let dir = bars();
    for ways in [
        "shrink = 0.5, turn = 30.0",
        "shear = 0.5, stretch = 0.5",
        "colors = 0.3",
        "erase = 1.0",
    ] {
        let more = format!("part = 'validation'\naugment = {{ variants = 8, {ways} }}");
        are_all_different(&once(dir.path(), &more), ways);
    }
}

fn are_all_different(examples: &[Example], ways: &str) {
    let images = examples.iter().map(|example| example.image.as_ref());
    let images: Vec<_> = images.map(Option::unwrap).collect();
    let ids: BTreeSet<u64> = images.iter().map(|image| image.id()).collect();
    let pictures: BTreeSet<Vec<u8>> = images
        .iter()
        .map(|image| image.picture().unwrap().pixels().to_vec())
        .collect();
    let altered = examples.len() / 8 * 7;
    assert!(
        ids.len() > altered,
        "{ways}: {} of {}",
        ids.len(),
        examples.len()
    );
    // A dark ground and a white bar have few shades, and a box may hide nothing.
    assert!(pictures.len() > altered / 2, "{ways}: {}", pictures.len());
}

#[test]
fn senseless_numbers_are_refused() {
    for (variants, shift, shrink, turn, named) in [
        (0, 0, 0.0, 0.0, "augment.variants"),
        (65, 0, 0.0, 0.0, "augment.variants"),
        (usize::MAX, 0, 0.0, 0.0, "augment.variants"),
        (1, usize::MAX, 0.0, 0.0, "augment.shift"),
        (1, 0, 1.0, 0.0, "augment.shrink"),
        (1, 0, f32::NAN, 0.0, "augment.shrink"),
        (1, 0, 0.0, -1.0, "augment.turn"),
        (1, 0, 0.0, f32::INFINITY, "augment.turn"),
    ] {
        let augment = Augment {
            variants,
            shift,
            shrink,
            turn,
            ..Augment::default()
        };
        let error = augment.check().unwrap_err();
        assert!(error.contains(named), "{error}");
    }
    let unpainted: Augment = toml::from_str("variants = 2\nground = [255, 255, 255]").unwrap();
    let error = unpainted.check().unwrap_err();
    assert!(error.contains("augment.ground"), "{error}");
    for name in [
        "shrink", "grow", "stretch", "shear", "colors", "gray", "erase",
    ] {
        for share in ["-0.1", "1.5", "nan"] {
            let toml = format!("variants = 2\n{name} = {share}");
            let augment: Augment = toml::from_str(&toml).unwrap();
            let error = augment.check().unwrap_err();
            assert!(error.contains(&format!("augment.{name} is ")), "{error}");
        }
    }
}

/// What is tested was never shown: by the content of the picture files.
#[test]
fn no_picture_is_in_train_and_test() {
    for name in ["emoji", "animals", "shapes"] {
        let ids = |split: &str| -> BTreeSet<u64> {
            let items = asset(name).reconstruction(split).unwrap();
            items.map(|item| item.unwrap().image.id()).collect()
        };
        let (train, test) = (ids("train"), ids("test"));
        assert!(train.len() > 3000 && test.len() > 500);
        assert!(train.is_disjoint(&test), "{name}");
    }
}

/// What has no pixels here cannot be moved, and the reason is told.
#[test]
fn pictures_given_as_codes_are_not_altered() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        "codes.jsonl",
        "{\"image\": [1, 2], \"caption\": \"a\"}\n",
    );
    let config = serde_json::json!({
        "name": "codes", "kind": "jsonl", "paths": ["codes.jsonl"],
        "augment": {"variants": 2, "shift": 1},
        "views": [{"task": "paint", "prompt": "{caption}"}],
    });
    let config: SourceConfig = serde_json::from_value(config).unwrap();
    let mut source = Source::open(&config, dir.path(), 1, &mut Stores::default()).unwrap();
    let first = source.next_example().unwrap();
    let second = source.next_example().unwrap();
    // The variant that is the picture itself is left, epoch after epoch.
    assert_eq!(first.image.unwrap().codes(), second.image.unwrap().codes());
    let (_, reason) = source.skipped().last.back().unwrap();
    assert!(reason.contains("cannot be altered"), "{reason}");
}

/// What is held out does not depend on the line that it stands in, nor on what a join adds.
#[test]
fn what_is_held_out_depends_on_the_record_alone() {
    let dir = tempfile::tempdir().unwrap();
    let numbers: Vec<u32> = (0..200).collect();
    let backward: Vec<u32> = numbers.iter().rev().copied().collect();
    let fields = [("question", "chat"), ("prompt", "chat"), ("text", "text")];
    for (field, task) in fields {
        let held_out = |numbers: &[u32], more: &str| -> BTreeSet<String> {
            let line =
                |n: &u32| format!("{{\"{field}\": \"word {n}\", \"answer\": \"word {n}\"}}\n");
            let lines: String = numbers.iter().map(line).collect();
            write(dir.path(), "lines.jsonl", lines);
            let view = match task {
                "text" => "task = 'text'".to_owned(),
                _ => format!("task = 'chat', prompt = '{{{field}}}', answer = '{{answer}}'"),
            };
            let toml = format!(
                "name = 'x'\nkind = 'jsonl'\npaths = ['lines.jsonl']\npart = 'validation'\n{more}\n\
                 views = [{{ {view} }}]"
            );
            let held_out = examples(dir.path(), &toml).into_iter();
            held_out.map(|example| example.answer).collect()
        };
        let held = held_out(&numbers, "");
        assert!(!held.is_empty() && held.len() < 20, "{field}: {held:?}");
        assert_eq!(held_out(&backward, ""), held, "{field}");
        // A picture that is joined would be what the record is about.
        let pictures = numbers
            .iter()
            .map(|n| format!("{{\"answer\": \"word {n}\", \"image\": \"same.png\"}}\n"));
        write(dir.path(), "pictures.jsonl", pictures.collect::<String>());
        let join = "join = { paths = ['pictures.jsonl'], on = 'answer' }";
        assert_eq!(held_out(&numbers, join), held, "{field}");
    }
}

/// All that is said of a picture is held out with it, whichever field names it.
#[test]
fn what_is_said_of_a_picture_is_held_out_with_it() {
    let dir = bars();
    let held_out = |field: &str, question: &str| -> BTreeSet<String> {
        let line = |n: usize| {
            let asked = format!("{{\"role\": \"user\", \"content\": \"{question}\"}}");
            let said = format!("{{\"role\": \"assistant\", \"content\": \"{n}\"}}");
            format!("{{\"{field}\": \"bar-{n}.png\", \"messages\": [{asked}, {said}]}}\n")
        };
        write(
            dir.path(),
            "said.jsonl",
            (0..200).map(line).collect::<String>(),
        );
        let toml = format!(
            "name = 'x'\nkind = 'jsonl'\npaths = ['said.jsonl']\nimages = 'bars.tar'\n\
             image_field = '{field}'\npart = 'validation'\nviews = [{{ task = 'describe', messages = 'messages' }}]"
        );
        let held_out = examples(dir.path(), &toml).into_iter();
        held_out.map(|example| example.answer).collect()
    };
    let held = held_out("image", "What is it?");
    assert!(!held.is_empty() && held.len() < 20, "{held:?}");
    assert_eq!(held_out("photo", "What is it?"), held);
    assert_eq!(held_out("photo", "Is it white?"), held);
}

/// A validation file of pictures is held out as a whole; nothing is held out of it once more.
#[test]
fn pictures_of_a_validation_file_are_all_measured() {
    let dir = tempfile::tempdir().unwrap();
    let png = bar(3, 5).encode_png().unwrap();
    let names: Vec<String> = (0..40).map(|i| format!("{i}.png")).collect();
    let members: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &png[..])).collect();
    write(dir.path(), "validation_images.tar", tar(&members));
    let pack = Pack::open(dir.path()).unwrap();
    assert_eq!(pack.reconstruction("validation").unwrap().count(), 40);
    // Sources of a split that is held out of the training shards are of that part.
    let sources = asset("animals").sources("validation").unwrap();
    assert!(
        sources
            .iter()
            .all(|source| source.part == Some(mmada_data::Part::Validation))
    );
    let sources = asset("animals").sources("train").unwrap();
    assert!(sources.iter().all(|source| source.part.is_none()));
}

/// A split may end in a number of its own, and is not lost among the shards of another.
#[test]
fn a_split_with_a_number_is_found_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    for (year, lines) in [("2024", 1), ("2025", 2)] {
        let line = "{\"question\": \"1 + 1?\", \"answer\": \"2\"}\n";
        write(
            dir.path(),
            &format!("test_{year}.jsonl"),
            line.repeat(lines),
        );
    }
    let pack = Pack::open(dir.path()).unwrap();
    let count = |split: &str| pack.reasoning(split).unwrap().count();
    assert_eq!(["test_2024", "test_2025", "test"].map(count), [1, 2, 3]);
}
