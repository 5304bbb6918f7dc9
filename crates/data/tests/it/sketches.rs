//! Sketches: the colours of a picture's cells, in words.

use std::collections::BTreeMap;
use std::path::Path;

use mmada_data::picture::Picture;
use mmada_data::sketch::sketch;
use mmada_data::{Example, Source, SourceConfig, Stores};

use crate::files::{tar, write};

const WHITE: [u8; 3] = [255, 255, 255];
const RED: [u8; 3] = [221, 46, 68];
const SKY: [u8; 3] = [136, 201, 249];

/// The left half in one colour, the right in another.
fn halves(width: usize, height: usize, left: [u8; 3], right: [u8; 3]) -> Picture {
    let at = |x: usize| if 2 * x < width { left } else { right };
    let row = (0..width).flat_map(at).collect::<Vec<u8>>();
    Picture::new(width, height, row.repeat(height)).unwrap()
}

#[test]
fn cells_are_told_row_by_row() {
    let picture = halves(8, 6, WHITE, RED);
    assert_eq!(sketch(&halves(8, 6, RED, RED), 1, None), "red");
    assert_eq!(sketch(&picture, 2, None), "white red white red");
    let mut pixels = picture.pixels().to_vec();
    pixels[..8 * 3 * 3].fill(0);
    let picture = Picture::new(8, 6, pixels).unwrap();
    assert_eq!(sketch(&picture, 2, None), "black black white red");
}

/// Where more than half of a cell is figure; of two colours' mean another word may be the nearest.
#[test]
fn a_figure_is_told_in_its_own_word() {
    let from = |first: usize| {
        let at = |x: usize| if x < first { WHITE } else { RED };
        let row = (0..8).flat_map(at).collect::<Vec<u8>>();
        Picture::new(8, 1, row).unwrap()
    };
    let told = |first: usize, side: usize| sketch(&from(first), side, Some("brown"));
    assert_eq!(told(5, 2), "white brown white brown");
    assert_eq!(told(6, 2), "white white white white");
    assert_eq!(told(6, 4), ["white white white brown"; 4].join(" "));
    // Only ground: nothing is called the figure.
    let even = halves(4, 4, SKY, SKY);
    assert_eq!(sketch(&even, 2, Some("brown")), "teal teal teal teal");
}

/// What is smaller than the sketch, or no square, or cannot be divided, has as many cells.
#[test]
fn every_picture_has_all_cells() {
    for (width, height) in [(1, 1), (2, 7), (64, 64), (63, 5), (1, 300)] {
        for side in [1, 2, 5, 16] {
            let words = sketch(&halves(width, height, SKY, SKY), side, None);
            let words: Vec<&str> = words.split(' ').collect();
            assert_eq!(words, vec!["teal"; side * side], "{width} by {height}");
        }
    }
}

fn examples(dir: &Path, more: &str) -> Result<Vec<Example>, String> {
    let source = open(dir, more)?;
    source
        .iter_once()
        .map(|example| example.map_err(|error| error.to_string()))
        .collect()
}

fn first(dir: &Path, more: &str) -> Result<Example, String> {
    let next = open(dir, more)?.next_example();
    next.map_err(|error| error.to_string())
}

fn open(dir: &Path, more: &str) -> Result<Source, String> {
    let toml = format!(
        "name = 'flags'\nkind = 'webdataset'\npaths = ['flags.tar']\n{more}\n\
         views = [{{ task = 'think-paint', prompt = '{{label}}', thought = 'colors: {{sketch}}', where = {{ label = ['flag'] }} }}]"
    );
    let cfg: SourceConfig = toml::from_str(&toml).map_err(|error| error.to_string())?;
    Source::open(&cfg, dir, 1, &mut Stores::default()).map_err(|error| error.to_string())
}

#[test]
fn a_record_gains_the_sketch_of_its_picture_as_it_is_varied() {
    let dir = tempfile::tempdir().unwrap();
    let png = halves(8, 8, WHITE, RED).encode_png().unwrap();
    let flag: &[u8] = b"{\"label\": \"flag\"}";
    // What a view leaves out need not have a picture that can be read.
    let members: [(&str, &[u8]); 4] = [
        ("a.png", &png),
        ("a.json", flag),
        ("b.png", b"no picture"),
        ("b.json", b"{\"label\": \"other\"}"),
    ];
    write(dir.path(), "flags.tar", tar(&members));
    let made = examples(
        dir.path(),
        "sketch = 2\naugment = { variants = 16, mirror = true }",
    )
    .unwrap();
    assert_eq!(made.len(), 16);
    let thoughts: Vec<String> = made.iter().map(|example| example.response()).collect();
    assert_eq!(thoughts[0], "<think>colors: white red white red</think>");
    let mirrored = "<think>colors: red white red white</think>";
    assert!(
        thoughts.iter().any(|thought| thought == mirrored),
        "{thoughts:?}"
    );

    let called = examples(dir.path(), "sketch = 2\nfigure = 'label'").unwrap();
    let figure = "<think>colors: white flag white flag</think>";
    assert_eq!(called[0].response(), figure);

    let error = first(dir.path(), "sketch = 2\nfigure = 'color'").unwrap_err();
    assert!(error.contains("no text in the field \"color\""), "{error}");

    for (more, problem) in [
        ("figure = 'label'", "add 'sketch'"),
        ("sketch = 0", "sketch is 0"),
        ("sketch = 17", "1 to 16 cells"),
    ] {
        let error = examples(dir.path(), more).unwrap_err();
        assert!(error.contains(problem), "{error}");
    }
}

#[test]
fn codes_have_no_sketch() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("kept.jsonl"),
        "{\"prompt\": \"a\", \"image\": [1, 2]}\n",
    )
    .unwrap();
    let toml = "name = 'kept'\nkind = 'jsonl'\npaths = ['kept.jsonl']\nsketch = 5\n\
                views = [{ task = 'think-paint', prompt = '{prompt}', thought = '{sketch}' }]";
    let cfg: SourceConfig = toml::from_str(toml).unwrap();
    let mut source = Source::open(&cfg, dir.path(), 1, &mut Stores::default()).unwrap();
    let error = source.next_example().unwrap_err().to_string();
    assert!(error.contains("given as codes has no sketch"), "{error}");
}

/// `derived/afar.jsonl` says of a concept what is seen in one of its drawings, and in none that is held out.
#[test]
fn what_is_told_from_afar_is_what_is_seen() {
    const STYLES: [&str; 5] = ["twemoji", "fluent-flat", "noto", "emojione", "fluent-3d"];
    let pack = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../assets/data/emoji"
    ));
    let toml = "name = 'emoji'\nkind = 'webdataset'\npaths = ['train-*.tar.gz']\npart = 'train'\nsketch = 8\n\
                views = [{ task = 'think-paint', prompt = '{style}/{caption}', thought = '{sketch}' }]";
    let cfg: SourceConfig = toml::from_str(toml).unwrap();
    let source = Source::open(&cfg, pack, 1, &mut Stores::default()).unwrap();
    let mut seen: BTreeMap<String, BTreeMap<usize, String>> = BTreeMap::new();
    for example in source.iter_once() {
        let example = example.unwrap();
        let (style, caption) = example.prompt.split_once('/').unwrap();
        let style = STYLES.iter().position(|name| *name == style).unwrap();
        let sketches = seen.entry(caption.to_owned()).or_default();
        sketches.insert(style, example.thought.clone().unwrap());
    }
    let text = std::fs::read_to_string(pack.join("derived/afar.jsonl")).unwrap();
    let mut told = BTreeMap::new();
    for line in text.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let field = |name: &str| line[name].as_str().unwrap().to_owned();
        told.insert(field("caption"), field("afar"));
    }
    let plainest = seen.into_iter().map(|(caption, mut sketches)| {
        let (_, sketch) = sketches.pop_first().unwrap();
        (caption, sketch)
    });
    assert_eq!(told, plainest.collect());
    assert_eq!(told.len(), 1747);
}
