//! Thinking before painting, end to end.

use mmada_diffusion::CacheRule;
use mmada_model::{Defaults, Error, PaintOptions, TextOptions};

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
