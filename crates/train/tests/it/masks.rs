//! Where completions are masked to be scored.

use std::collections::BTreeSet;

use mmada_tensor::random::{Key, Purpose};
use mmada_tokens::{Sequence, SpanKind, Task};
use mmada_train::Mode;
use mmada_train::unigrpo::noise::{Masks, Noising, Thoughts};
use serde_json::Value;

use crate::runs::{stopped_at, train};
use crate::world::World;

fn noising(masks: Masks) -> Noising {
    Noising {
        mask: 99,
        masks,
        thoughts: Thoughts::Scored,
        prompt_rate: 0.0,
        block: 2,
        ahead: Some(2),
        canvas: 10,
        longest: 100,
    }
}

/// A question and an answer of these tokens.
fn answered(answer: &[u32]) -> Sequence {
    let mut row = Sequence::new(Task::Chat);
    row.push(SpanKind::Frame, &[1]);
    row.push(SpanKind::Prompt, &[2, 3, 4]);
    row.push(SpanKind::Answer, answer);
    row
}

#[test]
fn only_completions_are_noised() {
    let row = answered(&[5, 6, 7, 8]);
    for example in 0..100 {
        let mut stream = Key::new(3, Purpose::Corruption).example(example).stream();
        for masks in [Masks::Own, Masks::Shared, Masks::Unwritten] {
            for (level, count) in [(0, 1), (250, 1), (500, 2), (1000, 4)] {
                let noised = noising(masks).noise(&row, (level, 1000), &mut stream);
                assert_eq!(noised.ids[..4], [1, 2, 3, 4]);
                assert_eq!(noised.ids[8..], [99, 99]);
                assert_eq!(noised.positions.len(), count);
                for (position, target) in noised.positions.iter().zip(&noised.targets) {
                    assert_eq!((noised.ids[*position], row.ids[*position]), (99, *target));
                }
            }
        }
        // diffu-GRPO masks the prompt too, and scores the answer alone.
        let diffu = Noising {
            prompt_rate: 1.0,
            ahead: Some(0),
            ..noising(Masks::Own)
        };
        let noised = diffu.noise(&row, (1000, 1000), &mut stream);
        assert_eq!(noised.ids, [1, 99, 99, 99, 99, 99, 99, 99]);
        assert_eq!(noised.targets, [5, 6, 7, 8]);
    }
}

#[test]
fn masks_fall_where_they_are_said_to() {
    let text = answered(&[5, 6, 7, 8, 9, 10]);
    let mut picture = text.clone();
    picture.task = Task::Paint;
    picture.spans.last_mut().unwrap().kind = SpanKind::Image;
    let places = |masks, row: &Sequence| -> Vec<Vec<usize>> {
        let noised = (0..200).map(|example| {
            let mut stream = Key::new(3, Purpose::Corruption).example(example).stream();
            noising(masks)
                .noise(row, (500, 1000), &mut stream)
                .positions
        });
        noised.collect()
    };
    // Every place is as likely as every other, the last ones alone where nothing is written yet.
    let anywhere = places(Masks::Own, &text);
    for position in 4..10 {
        let count = anywhere
            .iter()
            .flatten()
            .filter(|p| **p == position)
            .count();
        assert!((70..130).contains(&count), "{position}: {count} of 200");
    }
    assert_eq!(places(Masks::Shared, &text), anywhere);
    assert_eq!(places(Masks::Unwritten, &picture), anywhere);
    assert_eq!(places(Masks::Unwritten, &text), vec![vec![7, 8, 9]; 200]);
    assert_eq!(places(Masks::Window, &picture), anywhere);
    assert_eq!(places(Masks::Window, &text), vec![vec![7, 8]; 200]);
}

/// A window is what a sampler of blocks sees next: all before it, masks behind it, nothing else.
#[test]
fn a_window_ends_the_row() {
    let row = answered(&[5, 6, 7, 8, 9, 10]);
    let mut stream = Key::new(3, Purpose::Corruption).stream();
    for (level, ids, targets) in [
        (0, vec![1, 2, 3, 4, 5, 6, 7, 8, 9, 99, 99, 99], vec![10]),
        (500, vec![1, 2, 3, 4, 5, 6, 7, 99, 99, 99, 99], vec![8, 9]),
        (1000, vec![1, 2, 3, 4, 99, 99, 99, 99], vec![5, 6]),
    ] {
        let noised = noising(Masks::Window).noise(&row, (level, 1000), &mut stream);
        assert_eq!((noised.ids, noised.targets), (ids, targets), "{level}");
    }
}

/// Masks behind a window end with the canvas, and where none are said fill it, as a sampler's do.
#[test]
fn masks_behind_a_window_end_with_the_canvas() {
    let row = answered(&[5, 6, 7, 8, 9, 10]);
    for (ahead, canvas, behind) in [
        (Some(2), 10, 2),
        (Some(2), 6, 1),
        (Some(2), 5, 0),
        (None, 10, 5),
        (Some(99), 10, 5),
        (None, 3, 0),
    ] {
        let noising = Noising {
            ahead,
            canvas,
            ..noising(Masks::Window)
        };
        let mut stream = Key::new(3, Purpose::Corruption).stream();
        let noised = noising.noise(&row, (500, 1000), &mut stream);
        assert_eq!(noised.targets, [8, 9]);
        assert_eq!(noised.ids.len(), 9 + behind, "{ahead:?} {canvas}");
    }
    // Other masks stand among what was written: nothing is said to be behind it.
    let unsaid = Noising {
        ahead: None,
        ..noising(Masks::Own)
    };
    let mut stream = Key::new(3, Purpose::Corruption).stream();
    assert_eq!(unsaid.noise(&row, (500, 1000), &mut stream).ids.len(), 10);
}

/// All blocks of an answer at once, each as the sampler sees it; single tokens without masks ahead as
/// rows of one.
#[test]
fn windows_score_every_token() {
    let row = answered(&[5, 6, 7, 8, 9]);
    let noised = |block, ahead, canvas| {
        let noising = Noising {
            block,
            ahead,
            canvas,
            ..noising(Masks::Windows)
        };
        let mut stream = Key::new(3, Purpose::Corruption).stream();
        let noised = noising.noise(&row, (1, 1000), &mut stream);
        assert_eq!(noised.targets, [5, 6, 7, 8, 9]);
        let masked = noised.positions.iter().map(|&place| noised.ids[place]);
        assert!(masked.eq([99; 5]));
        noised
    };
    let pairs = noised(2, Some(2), 6);
    // Given but for the last block; two blocks with two masks ahead, and one where the canvas ends.
    assert_eq!(pairs.ids[..8], [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(pairs.positions, [8, 9, 12, 13, 16]);
    assert_eq!(pairs.ids.len(), 8 + 4 + 4 + 2);
    let asked = pairs.pieces[3..]
        .iter()
        .map(|it| (it.position, it.past.clone()));
    assert!(asked.eq([(4, 0..4), (6, 0..6), (8, 0..8)]));

    let single = noised(1, Some(0), 6);
    assert_eq!(single.ids[..8], [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(single.positions, [8, 9, 10, 11, 12]);
    assert!(single.pieces.last().unwrap().is_rising);
    let ahead = noised(1, Some(1), 6);
    assert_eq!(ahead.positions, [8, 10, 12, 14, 16]);
    assert_eq!(ahead.ids.len(), 8 + 5 * 2);

    // Pictures are masked anywhere, as in a window.
    let mut picture = row.clone();
    picture.task = Task::Paint;
    picture.spans.last_mut().unwrap().kind = SpanKind::Image;
    let of = |masks| {
        let mut stream = Key::new(3, Purpose::Corruption).stream();
        noising(masks).noise(&picture, (500, 1000), &mut stream)
    };
    assert_eq!(of(Masks::Windows), of(Masks::Window));
}

/// A thought that is given stands as it was written, and only the picture after it is scored.
#[test]
fn given_thoughts_are_not_scored() {
    let mut row = Sequence::new(Task::ThinkPaint);
    row.push(SpanKind::Prompt, &[2, 3]);
    row.push(SpanKind::Answer, &[4, 5, 6]);
    row.push(SpanKind::Frame, &[1]);
    row.push(SpanKind::Image, &[7, 8, 9, 10]);
    for (thoughts, scored) in [
        (Thoughts::Scored, &[4, 5, 6, 7, 8, 9, 10][..]),
        (Thoughts::Given, &[7, 8, 9, 10]),
    ] {
        for masks in [Masks::Own, Masks::Windows] {
            let noising = Noising {
                thoughts,
                ..noising(masks)
            };
            let mut stream = Key::new(3, Purpose::Corruption).stream();
            let all = noising.noise(&row, (1000, 1000), &mut stream);
            assert_eq!(all.targets, scored);
            let half = noising.noise(&row, (500, 1000), &mut stream);
            assert_eq!(half.targets.len(), scored.len().div_ceil(2));
            assert!(half.targets.iter().all(|target| scored.contains(target)));
        }
    }
}

/// The likeliest thought is the same for all of a group; only pictures are scored.
#[test]
fn thoughts_can_be_given() {
    let world = World::new();
    let long = ["run.steps=2", "model.init.sizes.max_sequence_length=400"];
    train(&world.denoise("first", &long), Mode::Fresh);
    let scored = |thoughts: &str| -> (usize, usize) {
        let thoughts_are = format!("objective.thoughts=\"{thoughts}\"");
        let overrides = [
            "run.steps=1",
            "checkpoint.every=1",
            "objective.temperature=9.0",
            "objective.levels=\"full\"",
            "model.generation.thought={length=4, block=4, steps=4, temperature=0.0}",
            "objective.rewards.think_paint=[{grader=\"color\"}, {grader=\"shape\"}]",
            "data.1.views=[{task=\"think-paint\", prompt=\"{caption} circle\", thought=\"{caption}\"}]",
            &thoughts_are,
        ];
        let mut config = world.unigrpo(thoughts, "first/model", &overrides);
        config.data.remove(0);
        let state = stopped_at(&config, 1).checkpoint.join("trainer_state.json");
        let state: Value = serde_json::from_slice(&std::fs::read(state).unwrap()).unwrap();
        let estimates = state["data"]["rollouts"][0]["sets"][0].as_array().unwrap();
        let masked = |estimate: &Value| estimate["positions"].as_array().unwrap().len();
        let rows: BTreeSet<String> = estimates.iter().map(|it| it["ids"].to_string()).collect();
        (estimates.iter().map(masked).max().unwrap(), rows.len())
    };
    let (pictures, rows) = scored("given");
    let (with_thoughts, _) = scored("scored");
    assert!(with_thoughts > pictures, "{with_thoughts} of {pictures}");
    // Fully masked, what is left of a row is its prompt and its thought: at most one for each prompt.
    assert!(rows <= 3, "{rows}");
}
