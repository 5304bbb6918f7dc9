//! Thinking before painting, end to end.

use mmada_diffusion::CacheRule;
use mmada_model::{Defaults, Error, PaintOptions, Reading, TextOptions, Think};

use crate::tiny;

fn options() -> PaintOptions {
    PaintOptions {
        seed: 3,
        ..tiny::defaults().paint
    }
}

#[test]
fn a_thought_comes_before_the_picture() {
    let model = tiny::model();
    let thought = &model.defaults().thought;
    let run = || model.think_paint("a circle", thought, &options()).unwrap();
    let mut watched = run();
    let mut phases = Vec::new();
    while let Some(view) = watched.next() {
        let is_picture = view.unwrap().canvases[0].grid.is_some();
        assert_eq!(watched.preview(0).unwrap().is_some(), is_picture);
        phases.push(is_picture);
    }
    assert!(phases.is_sorted() && phases.contains(&false) && phases.contains(&true));
    assert_eq!(watched.thoughts().len(), 1);
    let (thoughts, paintings) = watched.finish().unwrap();
    assert_eq!((thoughts.len(), paintings[0].picture.width()), (1, 16));
    assert_eq!(run().finish().unwrap(), (thoughts, paintings));
    assert!(matches!(
        model.think_paint(" ", thought, &options()),
        Err(Error::Empty { .. })
    ));
    // Known before the first step of the thought.
    for wrong in [
        PaintOptions {
            best_of: 0,
            ..options()
        },
        PaintOptions {
            steps: 0,
            ..options()
        },
        PaintOptions {
            guidance: 5000.0,
            ..options()
        },
    ] {
        assert!(model.think_paint("a circle", thought, &wrong).is_err());
    }
}

/// What looks only so many masks ahead does not see how large a picture is to come; what sees all does.
#[test]
fn a_thought_that_looks_no_further_is_the_same_for_every_size() {
    let model = tiny::model();
    let think = |thought: &TextOptions, width: usize| {
        let options = PaintOptions { width, ..options() };
        let run = model.think_paint("a circle", thought, &options).unwrap();
        let (thoughts, paintings) = run.finish().unwrap();
        assert_eq!(paintings[0].picture.width(), width);
        thoughts[0].ids.clone()
    };
    let own = model.defaults().thought.clone();
    let near = TextOptions {
        block: 1,
        ahead: Some(0),
        cache: Some(CacheRule::BlockCausal),
        ..own.clone()
    };
    assert_eq!(think(&near, 16), think(&near, 64));
    assert_ne!(think(&own, 16), think(&own, 64));
}

/// The original's instruction, unless the model's directory says another, or none.
#[test]
fn an_instruction_stands_before_what_is_thought_about() {
    let own = Defaults::default().to_think_about("a circle");
    assert!(own.starts_with("You should first think") && own.ends_with("\na circle"));
    let bare = Defaults::parse(br#"{ "instruction": "" }"#).unwrap();
    assert_eq!(bare.to_think_about("a circle"), "a circle");

    // And it is part of what the model sees.
    let think = |instruction: &str| {
        let defaults = Defaults {
            instruction: instruction.to_owned(),
            ..tiny::defaults()
        };
        let model = tiny::model().with_defaults(defaults);
        let thought = model.defaults().thought.clone();
        let run = model.think_paint("a circle", &thought, &options()).unwrap();
        run.finish().unwrap().0[0].ids.clone()
    };
    assert_ne!(think(""), think("12 + 30 = 42"));
}

/// Of four rivals two are painted after the thought and two without, and the one that is read best is kept, as if
/// all had been painted alone.
#[test]
fn half_of_the_rivals_are_painted_after_a_thought() {
    let model = tiny::model();
    let thought = &model.defaults().thought;
    let rivals = |best_of: usize, think: Think| PaintOptions {
        best_of,
        think,
        token_temperature: 1.0,
        ..options()
    };
    let words = "a circle";
    let think = |options: &PaintOptions| {
        let run = model.think_paint(words, thought, options).unwrap();
        run.finish().unwrap().1[0].codes.clone()
    };
    let half = think(&rivals(4, Think::Half));
    let plain = model.paint(words, &rivals(4, Think::Never)).unwrap();
    let plain = plain.finish().unwrap()[0].codes.clone();
    let (always, never) = (
        think(&rivals(4, Think::Always)),
        think(&rivals(4, Think::Never)),
    );
    assert_eq!(always, never, "who asks for thoughts gets them");
    // Two of each kind are among the four of that kind.
    let first_two = think(&rivals(2, Think::Always));
    let readings = |pictures: &[&Vec<u32>]| {
        let readings = pictures.iter().map(|codes| Reading { codes, words });
        model.readings(&readings.collect::<Vec<_>>()).unwrap()
    };
    let seen = readings(&[&half, &first_two, &plain, &always]);
    assert!(
        seen[0] >= seen[1],
        "no worse than the best of two after a thought"
    );
    assert!(
        seen[0] <= seen[2].max(seen[3]),
        "no better than the best of four of either kind"
    );
    assert!(rivals(2, Think::Half).thinks() && !rivals(1, Think::Half).thinks());
    assert!(!rivals(4, Think::Never).thinks() && rivals(1, Think::Always).thinks());
}
