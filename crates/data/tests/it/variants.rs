//! Parts held out for validation, and altered pictures.

use std::collections::BTreeSet;
use std::path::Path;

use mmada_data::augment::{Alteration, Augment};
use mmada_data::picture::Picture;
use mmada_data::{Example, Pack, Source, SourceConfig, Stores};
use tempfile::TempDir;

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

/// 12x8, white from column `from` up to `to`, in rows 2..6.
fn bar(from: usize, to: usize) -> Picture {
    let is_white = |at: usize| (from..to).contains(&(at % 12)) && (2..6).contains(&(at / 12));
    let pixels = (0..12 * 8).flat_map(|at| [if is_white(at) { 255 } else { 0 }; 3]);
    Picture::new(12, 8, pixels.collect()).unwrap()
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
    let paint = "augment = { variants = 4, figures = { teal = [0, 128, 128], red = [255, 0, 0] } }";
    let mut colors = BTreeSet::new();
    for example in once(dir.path(), paint) {
        let picture = example.image.unwrap().picture().unwrap();
        let (figure, ground) = (picture.pixel(3, 3).unwrap(), picture.pixel(0, 0).unwrap());
        assert!(ground.iter().all(|&channel| channel >= 230), "{ground:?}");
        colors.insert(figure);
    }
    assert_eq!(colors, BTreeSet::from([[0, 128, 128], [255, 0, 0]]));
}

#[test]
fn a_figure_of_any_color_is_repainted() {
    // Blue on a tinted ground, with an edge halfway between the two.
    let (ground, edge, blue) = ([240, 250, 235], [120, 125, 245], [0, 0, 255]);
    let row: Vec<u8> = [ground, ground, edge, blue].concat();
    let picture = Picture::new(4, 2, row.repeat(2)).unwrap();
    let alteration = Alteration {
        paint: Some(([255, 165, 0], [255, 255, 255])),
        ..Alteration::default()
    };
    let repainted = alteration.apply(&picture).unwrap();
    let colors = [0, 1, 2, 3].map(|x| repainted.pixel(x, 1).unwrap());
    assert_eq!(colors, [[255; 3], [255; 3], [255, 210, 128], [255, 165, 0]]);
    // A picture of one colour is all ground.
    let even = Picture::new(2, 1, vec![7; 6]).unwrap();
    assert_eq!(alteration.apply(&even).unwrap().pixels(), [255; 6]);
}

#[test]
fn a_move_stops_before_the_edge_and_comes_before_the_mirror() {
    let moved = |shift: (isize, isize), is_mirrored: bool| {
        let alteration = Alteration {
            shift,
            is_mirrored,
            ..Alteration::default()
        };
        alteration.apply(&bar(3, 5)).unwrap()
    };
    assert!(moved((2, 0), false) == bar(5, 7));
    assert!(moved((-3, 0), false) == bar(0, 2));
    // Eight to the right would push it out: four do not.
    assert!(moved((8, 0), false) == bar(7, 9));
    assert!(moved((-3, 0), true) == bar(10, 12));
    assert!(moved((0, 0), true) == bar(7, 9));
    let (down, up) = (moved((0, 2), false), moved((0, -6), false));
    assert_eq!(down.pixel(3, 7), Some([255; 3]));
    assert_eq!(
        up.pixel(3, 0),
        Some([0; 3]),
        "three up is one too many, so one it is"
    );
    assert_eq!(up.pixel(3, 1), Some([255; 3]));
}

#[test]
fn pictures_are_made_smaller_and_turned_about_their_middle() {
    let warped = |shrink: u16, turn: i16| {
        let alteration = Alteration {
            shrink,
            turn,
            ..Alteration::default()
        };
        alteration.apply(&bar(4, 8)).unwrap()
    };
    // Half a turn takes each pixel to the opposite one.
    assert!(warped(0, 1800) == bar(4, 8));
    let alteration = Alteration {
        turn: 1800,
        ..Alteration::default()
    };
    assert!(alteration.apply(&bar(0, 3)).unwrap() == bar(9, 12));
    // Clockwise, so what was above the middle is to its right.
    let mut pixels = vec![0; 9 * 9 * 3];
    pixels[(9 + 4) * 3..][..3].fill(255);
    let above = Picture::new(9, 9, pixels).unwrap();
    let alteration = Alteration {
        turn: 900,
        ..Alteration::default()
    };
    let turned = alteration.apply(&above).unwrap();
    assert_eq!(turned.pixel(7, 4), Some([255; 3]));
    assert_eq!(turned.pixel(4, 1), Some([0; 3]));
    // Half the size is a quarter of the light.
    let light = |picture: &Picture| picture.pixels().iter().map(|&v| u64::from(v)).sum::<u64>();
    let (whole, half) = (light(&bar(4, 8)), light(&warped(500, 0)));
    assert!((whole / 5..whole / 3).contains(&half), "{half} of {whole}");
    assert_eq!(warped(500, 0).pixel(4, 2), Some([0; 3]));
}

#[test]
fn smaller_and_turned_variants_are_all_different() {
    let dir = bars();
    let more = "part = 'validation'\naugment = { variants = 8, shrink = 0.5, turn = 30.0 }";
    let examples = once(dir.path(), more);
    let images = examples.iter().map(|example| example.image.as_ref());
    let images: Vec<_> = images.map(Option::unwrap).collect();
    let ids: BTreeSet<u64> = images.iter().map(|image| image.id()).collect();
    let pictures: BTreeSet<Vec<u8>> = images
        .iter()
        .map(|image| image.picture().unwrap().pixels().to_vec())
        .collect();
    let altered = examples.len() / 8 * 7;
    assert!(ids.len() > altered, "{} of {}", ids.len(), examples.len());
    assert!(pictures.len() > altered, "{}", pictures.len());
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
