//! Thinking before painting, end to end.

use mmada_diffusion::CacheRule;
use mmada_model::{Defaults, Error, PaintOptions, PaintRequest, Reading, TextOptions, Think};

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

/// Of two rivals one is painted after the thought and one without, and the one that is read best is kept.
#[test]
fn half_of_the_rivals_are_painted_after_a_thought() {
    let model = tiny::model();
    let (thought, words) = (&model.defaults().thought, "a circle");
    let mut kept_thoughtful = Vec::new();
    for seed in 0..12 {
        let rivals = |best_of: usize, think: Think| PaintOptions {
            best_of,
            think,
            seed,
            token_temperature: 1.0,
            ..options()
        };
        let think = |options: &PaintOptions| {
            let run = model.think_paint(words, thought, options).unwrap();
            run.finish().unwrap().1[0].codes.clone()
        };
        let after = think(&rivals(1, Think::Always));
        assert_eq!(
            after,
            think(&rivals(1, Think::Never)),
            "who asks for thoughts gets them"
        );
        // The second rival, as if it were a request of its own.
        let second = PaintRequest {
            prompt: words,
            example: 1 << 48,
        };
        let plain = model.paint_many(&[second], &rivals(1, Think::Never));
        let plain = plain.unwrap().finish().unwrap()[0].codes.clone();
        let readings = [&after, &plain].map(|codes| Reading { codes, words });
        let readings = model.readings(&readings).unwrap();
        let is_thoughtful = readings[0] >= readings[1];
        let best = if is_thoughtful { after } else { plain };
        assert_eq!(think(&rivals(2, Think::Half)), best);
        kept_thoughtful.push(is_thoughtful);
    }
    assert!(kept_thoughtful.contains(&true) && kept_thoughtful.contains(&false));
    let thoughtful = |best_of: usize, think: Think| {
        let options = PaintOptions {
            best_of,
            think,
            ..options()
        };
        options.thoughtful()
    };
    assert_eq!(thoughtful(4, Think::Never), 0);
    assert_eq!(
        (thoughtful(1, Think::Half), thoughtful(5, Think::Half)),
        (0, 2)
    );
    assert_eq!(thoughtful(4, Think::Always), 4);
}
