//! The nearest training picture as a judge.

use std::path::Path;

use mmada_data::Pack;
use mmada_data::picture::Picture;
use mmada_grade::nearest::{Coverage, Gallery, Likeness};
use mmada_grade::{Case, Judge, Reply, Truth};

/// A text where a painting was wanted.
const TOLD: Case<'static> = Case {
    prompt: "night",
    shown: None,
    reply: Reply::Text("night"),
    truth: Truth::Text("night"),
};

fn flat(value: u8) -> Picture {
    Picture::new(32, 32, vec![value; 32 * 32 * 3]).unwrap()
}

#[test]
fn the_nearest_picture_names_what_is_painted() {
    let mut gallery = Gallery::default();
    assert!(gallery.is_empty() && gallery.nearest(&flat(0)).is_none());
    gallery.add("dark", flat(20));
    gallery.add("light", flat(220));
    let name = |value| gallery.nearest(&flat(value)).unwrap().name;
    assert_eq!(
        (name(0), name(119), name(121), name(255)),
        ("dark", "dark", "light", "light")
    );
    let entry = |value| gallery.nearest(&flat(value)).unwrap().entry;
    assert_eq!((entry(0), entry(119), entry(121)), (0, 0, 1));
    // (16 / 255)² is just below 0.004, (17 / 255)² is above.
    let is_copy = |value| gallery.nearest(&flat(value)).unwrap().is_copy;
    assert!(is_copy(36) && !is_copy(37));
    // A copy at another size is one too.
    let small = Picture::new(16, 16, vec![20; 16 * 16 * 3]).unwrap();
    let nearest = gallery.nearest(&small).unwrap();
    assert_eq!((nearest.name, nearest.is_copy), ("dark", true));
}

/// A pack of `caption, style, value` for each flat training picture.
fn pack(dir: &Path, drawings: &[(&str, Option<&str>, u8)]) -> Pack {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |name: String, content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, content).unwrap();
    };
    for (number, (caption, style, value)) in drawings.iter().enumerate() {
        add(format!("{number}.png"), &flat(*value).encode_png().unwrap());
        let mut fields = serde_json::json!({ "caption": caption });
        if let Some(style) = style {
            fields["style"] = (*style).into();
        }
        add(format!("{number}.json"), fields.to_string().as_bytes());
    }
    std::fs::write(dir.join("train-0.tar"), tar.into_inner().unwrap()).unwrap();
    Pack::open(dir).unwrap()
}

#[test]
fn likeness_grows_towards_the_own_and_away_from_the_other() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let packs = [
        pack(dirs[0].path(), &[("night", None, 0), ("dusk", None, 90)]),
        pack(
            dirs[1].path(),
            &[("snow", Some("flat"), 255), ("snow", Some("3d"), 170)],
        ),
    ];
    let judge = Likeness::of(&packs).unwrap();
    let grade = |prompt: &str, value: u8| {
        let picture = flat(value);
        let case = Case {
            prompt,
            shown: None,
            reply: Reply::Picture(&picture),
            truth: Truth::Unknown,
        };
        judge.judge(&[case]).remove(0).unwrap()
    };
    // 40 from night and 50 from dusk: 50² / (40² + 50²), and how near that is.
    let share = 2500.0 / (1600.0 + 2500.0);
    let nearness = |levels: f64| 0.03 / ((levels / 255.0).powi(2) + 0.03);
    assert!((grade("night", 40) - share * nearness(40.0)).abs() < 1e-5);
    assert!((grade(" dusk ", 40) - (1.0 - share) * nearness(50.0)).abs() < 1e-5);
    let rising = [70, 60, 50, 40, 30].map(|value| grade("night", value));
    assert!(rising.is_sorted(), "{rising:?}");
    // Any drawing of the caption counts, in whichever style it was asked for.
    assert_eq!(grade("flat style: snow", 200), grade("3d style: snow", 200));
    assert!(grade("flat style: snow", 200) > 0.4);
    // Copies, own or not, and what nobody knows.
    assert_eq!(grade("night", 5), 0.0);
    assert_eq!(grade("dusk", 5), 0.0);
    assert_eq!(grade("noon", 40), 0.0);
    // In words that no pack has the truth says what is shown; a copy at another size is one too.
    let told = |value: u8, side: usize, shows: &'static str| {
        let picture = Picture::new(side, side, vec![value; side * side * 3]).unwrap();
        let case = Case {
            prompt: "paint me a night",
            shown: None,
            reply: Reply::Picture(&picture),
            truth: Truth::Text(shows),
        };
        judge.judge(&[case]).remove(0).unwrap()
    };
    let side = flat(0).width();
    assert_eq!(told(40, side, "night"), grade("night", 40));
    assert_eq!(told(40, side, "noon"), 0.0);
    assert_eq!(told(40, 2 * side, "night"), grade("night", 40));
    assert_eq!(told(5, 2 * side, "night"), 0.0);
    assert_eq!(judge.judge(&[TOLD]), [Ok(0.0)]);
    let alone = Likeness::of(&[pack(dirs[0].path(), &[("night", None, 0)])]).unwrap();
    let picture = flat(40);
    let case = Case {
        reply: Reply::Picture(&picture),
        ..TOLD
    };
    assert_eq!(alone.judge(&[case]), [Ok(0.0)], "nothing to be told from");
}

#[test]
fn a_training_picture_covers_one_painting_of_a_group() {
    let dir = tempfile::tempdir().unwrap();
    let drawings = [
        ("night", None, 40),
        ("night", None, 100),
        ("snow", None, 255),
    ];
    let judge = Coverage::of(&[pack(dir.path(), &drawings)]).unwrap();
    let grades = |paintings: &[(&str, u8)]| -> Vec<f64> {
        let pictures: Vec<Picture> = paintings.iter().map(|&(_, value)| flat(value)).collect();
        let cases = paintings.iter().zip(&pictures);
        let cases = cases.map(|((prompt, _), picture)| Case {
            prompt,
            shown: None,
            reply: Reply::Picture(picture),
            truth: Truth::Unknown,
        });
        let verdicts = judge.judge(&cases.collect::<Vec<_>>());
        verdicts.into_iter().map(Result::unwrap).collect()
    };
    let grade = |painted: f64, given: f64| {
        let mismatch = (painted - given).powi(2) / (painted * painted + given * given);
        (1.0 + 2.0 * 0.1 / (mismatch + 0.1)) / 3.0
    };
    let assert_near = |got: Vec<f64>, expected: &[f64]| {
        let is_near = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-5;
        assert!(
            got.len() == expected.len() && got.iter().zip(expected).all(is_near),
            "{got:?} {expected:?}"
        );
    };
    // Alone a painting has the best; what is recognised gains nothing by being unlike others.
    assert_near(grades(&[("night", 60)]), &[grade(60.0, 40.0)]);
    assert_near(grades(&[("night", 140)]), &[grade(140.0, 100.0)]);
    // Two of one kind share out both pictures, whatever their order; a third is left with none.
    assert_near(
        grades(&[("night", 62), ("night", 60)]),
        &[grade(62.0, 100.0), grade(60.0, 40.0)],
    );
    assert_near(
        grades(&[("night", 60), ("night", 125)]),
        &[grade(60.0, 40.0), grade(125.0, 100.0)],
    );
    let three = [("night", 60), ("night", 65), ("night", 125)];
    assert_near(
        grades(&three),
        &[grade(60.0, 40.0), 0.0, grade(125.0, 100.0)],
    );
    // Other captions take nothing away; what is nearer to another's picture has nothing.
    assert_near(
        grades(&[("night", 60), ("snow", 220)]),
        &[grade(60.0, 40.0), grade(220.0, 255.0)],
    );
    assert_near(grades(&[("snow", 155), ("night", 190)]), &[0.0, 0.0]);
    // A copy has nothing and what it copies is its own; what nobody knows has nothing either.
    assert_near(
        grades(&[("night", 45), ("night", 60), ("noon", 60)]),
        &[0.0, grade(60.0, 100.0), 0.0],
    );
    assert_eq!(judge.judge(&[TOLD]), [Ok(0.0)]);
}
