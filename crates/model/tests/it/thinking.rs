//! Thinking before painting, end to end.

use mmada_diffusion::CacheRule;
use mmada_model::{Error, PaintOptions, TextOptions};

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
