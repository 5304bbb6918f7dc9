//! All windows of an answer in one forward.

use std::collections::BTreeSet;

use mmada_diffusion::corruption::{Average, Scale, Weighting, Window};
use mmada_diffusion::{Corruption, Noised};
use mmada_tensor::random::{Key, Purpose, Stream};
use mmada_tensor::{Rows, Segment};
use mmada_tokens::{Sequence, SpanKind, Task};

const MASK: u32 = 999;

fn stream(example: u64) -> Stream {
    Key::new(3, Purpose::Corruption).example(example).stream()
}

/// Four tokens of prompt and an answer of eleven; ids are their positions.
fn chat() -> Sequence {
    let mut sequence = Sequence::new(Task::Chat);
    for (kind, ids) in [
        (SpanKind::Frame, 0..1),
        (SpanKind::Prompt, 1..4),
        (SpanKind::Answer, 4..11),
        (SpanKind::Tail, 11..15),
    ] {
        sequence.push(kind, &ids.collect::<Vec<u32>>());
    }
    sequence
}

fn tiling(length: usize, ahead: usize) -> Corruption {
    let window = Window {
        length,
        ahead: Some(ahead),
        share: 1.0,
        tiled: 1.0,
        by_token: 0.0,
    };
    Corruption {
        window: Some(window),
        ..Corruption::default()
    }
}

/// The positions of the windows, and of the targets.
fn check_pieces(noised: &Noised, length: usize, ahead: usize) -> (Vec<usize>, Vec<usize>) {
    let given = |piece: &&mmada_diffusion::Piece| piece.ids.start == piece.position;
    let clean = noised.pieces.iter().take_while(given).count();
    let (clean, windows) = noised.pieces.split_at(clean);
    assert_eq!(clean[0].ids, 0..4, "the prompt is one piece");
    // What is given are the windows but the last, as they are.
    assert_eq!(clean.len(), windows.len());
    for (block, window) in clean[1..].iter().zip(windows) {
        assert_eq!(block.position, window.position);
        assert_eq!(block.ids.len(), window.ids.len() - ahead);
    }
    let mut positions = Vec::new();
    for piece in noised.pieces.iter() {
        assert_eq!(piece.past, 0..piece.position);
        let ids = &noised.ids[piece.ids.clone()];
        let is_window = piece.ids.start != piece.position;
        let own = ids.len() - if is_window { ahead } else { 0 };
        assert!(own <= length || piece.position == 0);
        for (id, position) in ids[..own].iter().zip(piece.position..) {
            assert!(*id as usize == position || (is_window && *id == MASK));
        }
        assert!(ids[own..].iter().all(|id| *id == MASK));
        if is_window {
            positions.extend(piece.position..piece.position + own);
        }
    }
    let targets = noised.targets.iter();
    let targets = targets.map(|target| {
        assert_eq!(noised.ids[target.position], MASK);
        target.id as usize
    });
    (positions, targets.collect())
}

#[test]
fn every_token_is_in_one_window_and_knows_what_is_before_it() {
    let (mut firsts, mut learnt) = (BTreeSet::new(), [0; 15]);
    for example in 0..600 {
        let t = example as f32 / 600.0;
        let noised = tiling(4, 3).corrupt(&chat(), MASK, t, &mut stream(example));
        let (positions, targets) = check_pieces(&noised, 4, 3);
        assert_eq!(positions, (4..15).collect::<Vec<_>>());
        firsts.insert(noised.pieces[1].ids.len());
        // Each window is an example.
        assert_eq!(noised.share as usize, noised.pieces.len() / 2);
        for target in targets {
            learnt[target] += 1;
        }
    }
    assert_eq!(firsts, (1..=4).collect());
    // Rates are spread over the windows, so half of the tokens are learnt, wherever they are.
    assert_eq!(learnt[..4], [0; 4]);
    assert!(
        learnt[4..].iter().all(|n| (240..=360).contains(n)),
        "{learnt:?}"
    );
}

#[test]
fn targets_of_a_window_weigh_as_an_example_of_it() {
    let answer = |scale, average| Corruption {
        answer: Weighting { scale, average },
        ..tiling(4, 0)
    };
    for example in 0..50 {
        let mean = answer(Scale::One, Average::Learnable);
        let noised = mean.corrupt(&chat(), MASK, 0.5, &mut stream(example));
        for target in &noised.targets {
            let of_target = noised
                .pieces
                .iter()
                .find(|p| p.ids.contains(&target.position));
            let length = of_target.unwrap().ids.len() as f32;
            assert!((target.weight - 1.0 / length).abs() < 1e-6);
        }
        let sum = answer(Scale::One, Average::Targets);
        let noised = sum.corrupt(&chat(), MASK, 0.5, &mut stream(example));
        assert_eq!(noised.share, noised.targets.len() as f32);
        assert!(noised.targets.iter().all(|target| target.weight == 1.0));
    }
}

#[test]
fn rows_of_windows_share_their_past() {
    let noised = tiling(8, 2).corrupt(&chat(), MASK, 0.5, &mut stream(1));
    let mut rows = Rows::pack([[7, 7]]);
    assert_eq!(noised.push_onto(&mut rows), 2);
    assert_eq!(rows.ids[2..], noised.ids);
    for (piece, segment) in noised.pieces.iter().zip(&rows.segments()[1..]) {
        let own = piece.ids.start + 2..piece.ids.end + 2;
        assert_eq!(segment.queries, own);
        let is_given = piece.ids.start == piece.position;
        let seen = match is_given {
            true => Segment::new(own.clone(), 2..own.end),
            false => Segment {
                past: 2..2 + piece.position,
                ..Segment::new(own.clone(), own.clone())
            },
        };
        assert_eq!(*segment, seen);
        let first = piece.position as u32;
        assert_eq!(
            rows.positions[own.clone()],
            (first..first + own.len() as u32).collect::<Vec<_>>()
        );
    }
}

#[test]
fn what_has_no_place_is_left_out() {
    let whole = tiling(4, 5).corrupt(&chat(), MASK, 0.5, &mut stream(4));
    for longest in [15, 17] {
        let mut cut = whole.clone();
        cut.truncate(longest);
        assert!(cut.ids.len() < whole.ids.len());
        for (piece, before) in cut.pieces.iter().zip(&whole.pieces) {
            let kept = before.ids.len().min(longest - before.position);
            let ids = &whole.ids[before.ids.clone()][..kept];
            assert_eq!(&cut.ids[piece.ids.clone()], ids);
            assert_eq!(
                (piece.position, &piece.past),
                (before.position, &before.past)
            );
        }
        assert_eq!(cut.targets.len(), whole.targets.len());
        for (target, before) in cut.targets.iter().zip(&whole.targets) {
            assert_eq!((cut.ids[target.position], target.id), (MASK, before.id));
            assert_eq!(target.weight, before.weight);
        }
    }
    let mut all = whole.clone();
    all.truncate(20);
    assert_eq!(all, whole);
}

#[test]
fn tokens_are_learnt_each_from_all_before() {
    let mut corruption = tiling(4, 3);
    corruption.window.as_mut().unwrap().by_token = 1.0;
    let noised = corruption.corrupt(&chat(), MASK, 0.5, &mut stream(1));
    // Clean but for the last token, then a mask for each of the answer's.
    assert_eq!(noised.ids[..14], (0..14).collect::<Vec<u32>>());
    assert_eq!(noised.ids[14..], [MASK; 11]);
    let targets = noised.targets.iter();
    let targets: Vec<_> = targets.map(|it| (it.position, it.id, it.weight)).collect();
    let expected: Vec<_> = (0..11).map(|n| (14 + n as usize, 4 + n, 0.25)).collect();
    assert_eq!(targets, expected);
    // Eleven tokens weigh what windows of four do.
    assert_eq!(noised.share, 11.0 / 4.0);

    let mut rows = Rows::pack([[7, 7]]);
    assert_eq!(noised.push_onto(&mut rows), 2);
    assert_eq!(rows.positions[2..16], (0..14).collect::<Vec<u32>>());
    assert_eq!(rows.positions[16..], (4..15).collect::<Vec<u32>>());
    let rising = |rows: std::ops::Range<usize>, past| Segment {
        past: 2..past,
        rising: Some(4),
        ..Segment::new(rows.clone(), rows)
    };
    let prompt = Segment::new(2..6, 2..6);
    assert_eq!(
        rows.segments()[1..],
        [prompt, rising(6..16, 15), rising(16..27, 16)]
    );

    // An answer of one token has nothing that is given.
    let mut short = Sequence::new(Task::Chat);
    short.push(SpanKind::Prompt, &[0, 1]);
    short.push(SpanKind::Answer, &[2]);
    let noised = corruption.corrupt(&short, MASK, 0.5, &mut stream(1));
    assert_eq!(noised.ids, [0, 1, MASK]);
    assert_eq!((noised.pieces.len(), noised.targets.len()), (2, 1));

    // The others are cut into windows as ever.
    let count = (0..200).filter(|&example| {
        corruption.window.as_mut().unwrap().by_token = 0.5;
        let noised = corruption.corrupt(&chat(), MASK, 0.5, &mut stream(example));
        noised.pieces[1].is_rising
    });
    assert!((70..130).contains(&count.count()));
}

/// Where something follows the answer or nothing is before it, one window is learnt as ever.
#[test]
fn other_answers_are_not_tiled() {
    let mut before = chat();
    before.push(SpanKind::Frame, &[15]);
    let mut alone = Sequence::new(Task::Chat);
    alone.push(SpanKind::Answer, &(0..9).collect::<Vec<u32>>());
    for sequence in [before, alone] {
        let noised = tiling(4, 3).corrupt(&sequence, MASK, 0.5, &mut stream(2));
        assert!(noised.pieces.is_empty());
        assert_eq!(noised.share, 1.0);
    }
    // A share of none takes no number from the stream.
    let some = |tiled| {
        let mut corruption = tiling(4, 3);
        corruption.window.as_mut().unwrap().tiled = tiled;
        corruption.corrupt(&chat(), MASK, 0.5, &mut stream(9))
    };
    assert!(some(0.0).pieces.is_empty());
    let count = (0..200).filter(|&example| {
        let mut corruption = tiling(4, 3);
        corruption.window.as_mut().unwrap().tiled = 0.5;
        let noised = corruption.corrupt(&chat(), MASK, 0.5, &mut stream(example));
        !noised.pieces.is_empty()
    });
    assert!((70..130).contains(&count.count()));
}

/// A thought is learnt as it is written: as if no picture stood behind it.
#[test]
fn a_thought_sees_nothing_of_the_picture_to_come() {
    let plain = chat();
    let mut painted = Sequence::new(Task::ThinkPaint);
    for span in &plain.spans {
        painted.push(span.kind, &plain.ids[span.range.clone()]);
    }
    painted.push(SpanKind::Frame, &[15]);
    painted.push(SpanKind::Image, &[16, 17, 18, 19]);
    painted.push(SpanKind::Frame, &[20]);
    let by_token = |by_token: f32| {
        let mut corruption = tiling(4, 0);
        corruption.window = corruption
            .window
            .map(|window| Window { by_token, ..window });
        corruption
    };
    let (mut thoughts, mut pictures) = (0, 0);
    for example in 0..40 {
        let noised = by_token(1.0).corrupt(&painted, MASK, 0.5, &mut stream(example));
        match noised.targets.iter().all(|target| target.id < 15) {
            true => {
                let alone = by_token(1.0).corrupt(&plain, MASK, 0.5, &mut stream(example));
                assert_eq!((&noised.ids, &noised.pieces), (&alone.ids, &alone.pieces));
                let all: f32 = noised.targets.iter().map(|target| target.weight).sum();
                assert!(
                    (all - 1.0).abs() < 1e-5 && noised.share == 1.0,
                    "counts once"
                );
                thoughts += 1;
            }
            false => {
                assert!(noised.targets.iter().all(|target| target.id >= 15));
                assert_eq!(noised.ids.len(), painted.ids.len());
                pictures += 1;
            }
        }
        // In windows, too.
        let noised = by_token(0.0).corrupt(&painted, MASK, 0.5, &mut stream(example));
        let is_thought = noised.targets.iter().all(|target| target.id < 15);
        assert!(!is_thought || !noised.ids.contains(&16));
    }
    assert!(thoughts > 10 && pictures > 10, "{thoughts} {pictures}");
}
