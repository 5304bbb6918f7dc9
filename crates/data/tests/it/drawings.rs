//! The further sets of emoji drawings: training concepts alone, and nothing like what is held out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use mmada_data::picture::{Limits, Picture};
use mmada_data::{Example, Part, Source, SourceConfig, Stores};

use crate::packs::data;

/// One drawing: what it is of, and how it looks.
struct Drawing {
    concept: String,
    style: String,
    caption: String,
    group: String,
    picture: Picture,
}

fn drawings(shards: &str, part: Option<Part>) -> Vec<Drawing> {
    let toml = format!(
        "name = 'drawings'\nkind = 'webdataset'\npaths = ['{}']\n\
         views = [{{ task = 'describe', prompt = '{{style}}', thought = '{{caption}}', answer = '{{hexcode}} {{group}}' }}]",
        data("emoji").join(shards).display(),
    );
    let cfg = SourceConfig {
        part,
        ..toml::from_str(&toml).unwrap()
    };
    let source = Source::open(&cfg, Path::new("."), 1, &mut Stores::default()).unwrap();
    let drawing = |example: Example| {
        let (concept, group) = example.answer.split_once(' ').unwrap();
        let image = example.image.unwrap();
        Drawing {
            concept: concept.to_owned(),
            group: group.to_owned(),
            style: example.prompt,
            caption: example.thought.unwrap(),
            picture: Picture::decode(image.bytes(), &Limits::default()).unwrap(),
        }
    };
    source
        .iter_once()
        .map(Result::unwrap)
        .map(drawing)
        .collect()
}

/// A picture's values in 0..1: of its pixels, or of squares of some pixels a side.
fn values(picture: &Picture, side: usize) -> Vec<f32> {
    let width = picture.width() / side;
    let mut sums = vec![0.0; width * (picture.height() / side) * 3];
    for (at, value) in picture.pixels().iter().enumerate() {
        let (pixel, channel) = (at / 3, at % 3);
        let (x, y) = (pixel % picture.width(), pixel / picture.width());
        let square = (y / side) * width + x / side;
        sums[square * 3 + channel] += f32::from(*value) / (255 * side * side) as f32;
    }
    sums
}

/// Mean squared error.
fn error(a: &[f32], b: &[f32]) -> f32 {
    let squares = a.iter().zip(b).map(|(a, b)| (a - b).powi(2));
    squares.sum::<f32>() / a.len() as f32
}

#[test]
fn further_drawings_show_training_concepts_and_nothing_held_out() {
    let train = drawings("train-*.tar.gz", None);
    let concepts: BTreeMap<&str, &str> = train
        .iter()
        .map(|drawing| (&*drawing.concept, &*drawing.caption))
        .collect();
    let mut held = drawings("test_*.tar.gz", None);
    held.extend(drawings("train-*.tar.gz", Some(Part::Validation)));
    assert_eq!(held.len(), 400 + 475 + 211);
    let held_styles: BTreeSet<(&str, &str)> = held
        .iter()
        .map(|drawing| (&*drawing.concept, &*drawing.style))
        .collect();

    let mut further = drawings("derived/more-*.tar.gz", None);
    further.extend(drawings("derived/mono-*.tar.gz", None));
    let mut styles: BTreeMap<&str, usize> = BTreeMap::new();
    for drawing in &further {
        *styles.entry(&drawing.style).or_default() += 1;
        let caption = concepts.get(&*drawing.concept);
        assert_eq!(caption, Some(&&*drawing.caption), "{}", drawing.caption);
        assert_ne!(drawing.group, "flags");
        // Older drawings, some of them hardly changed, or the same without colours.
        let siblings: &[&str] = match &*drawing.style {
            "noto-v1" | "noto-mono" => &["noto"],
            "fluent-mono" => &["fluent-flat", "fluent-3d"],
            "emojione-mono" => &["emojione"],
            _ => &[],
        };
        for style in siblings {
            let is_held = held_styles.contains(&(&*drawing.concept, style));
            assert!(!is_held, "{} is held out in {style}", drawing.caption);
        }
    }
    let counts = [
        ("emojione-mono", 809),
        ("fluent-mono", 1174),
        ("fxemoji", 777),
        ("noto-mono", 1112),
        ("noto-v1", 968),
        ("streamline", 663),
        ("symbola", 1003),
    ];
    assert_eq!(styles, BTreeMap::from(counts));

    // Means of squares are no farther apart than the pixels are.
    let looks = |drawing: &Drawing| (values(&drawing.picture, 4), values(&drawing.picture, 1));
    let held_looks: Vec<_> = held.iter().map(looks).collect();
    for drawing in &further {
        let (small, whole) = looks(drawing);
        for (held, (held_small, held_whole)) in held.iter().zip(&held_looks) {
            let least = match held.concept == drawing.concept {
                true => 0.01,
                false => 0.003,
            };
            let is_near = error(held_small, &small) < least && error(held_whole, &whole) < least;
            let names = (&drawing.caption, &drawing.style, &held.caption, &held.style);
            assert!(!is_near, "{names:?} are near duplicates");
        }
    }
}
