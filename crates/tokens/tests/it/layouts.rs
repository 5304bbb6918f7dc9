//! Layouts by their own rules: spans, tails, limits.

use mmada_tokens::{Error, Layout, Padding, Sequence, SpanKind, Tail, Vocab};

use SpanKind::{Answer, Frame, Image, Pad, Prompt, Tail as Filler};

fn vocab() -> Vocab {
    Vocab::published()
}

fn layout() -> Layout {
    Layout::new(&vocab(), 64)
}

fn shape(row: &Sequence) -> Vec<(SpanKind, usize)> {
    row.spans
        .iter()
        .map(|span| (span.kind, span.range.len()))
        .collect()
}

fn image() -> Vec<u32> {
    (0..4).map(|code| vocab().image_id(code)).collect()
}

#[test]
fn every_layout_has_its_spans() {
    let layout = layout();
    let image = image();
    let rows = [
        (
            layout.paint(&[1, 2], &image),
            vec![(Frame, 2), (Prompt, 2), (Frame, 2), (Image, 4), (Frame, 1)],
        ),
        (
            layout.paint(&[], &image),
            vec![(Frame, 4), (Image, 4), (Frame, 1)],
        ),
        (
            layout.describe(&image, &[1, 2], &[3], Tail::One),
            vec![
                (Frame, 2),
                (Image, 4),
                (Frame, 2),
                (Prompt, 2),
                (Answer, 1),
                (Filler, 1),
            ],
        ),
        (
            layout.describe_prompt(&image, &[1, 2], 5),
            vec![(Frame, 2), (Image, 4), (Frame, 2), (Prompt, 2), (Answer, 5)],
        ),
        (
            layout.text(&[1, 2, 3], Tail::MultipleOf(4)),
            vec![(Frame, 1), (Answer, 3), (Filler, 1)],
        ),
        (
            layout.text(&[1, 2, 3], Tail::None),
            vec![(Frame, 1), (Answer, 3)],
        ),
        (
            layout.chat(&[1], &[2, 3], Tail::To(8)),
            vec![(Frame, 1), (Prompt, 1), (Answer, 2), (Filler, 6)],
        ),
        (
            layout.chat_prompt(&[1], 8),
            vec![(Frame, 1), (Prompt, 1), (Answer, 8)],
        ),
        (
            layout.think_paint(&[1], &[2, 3], &image, Tail::MultipleOf(2)),
            vec![
                (Frame, 2),
                (Prompt, 1),
                (Answer, 2),
                (Filler, 2),
                (Frame, 1),
                (Image, 4),
                (Frame, 1),
            ],
        ),
        (
            layout.think_paint_prompt(&[1], 3, 4),
            vec![
                (Frame, 2),
                (Prompt, 1),
                (Answer, 3),
                (Frame, 1),
                (Image, 4),
                (Frame, 1),
            ],
        ),
    ];
    for (row, expected) in rows {
        assert_eq!(shape(&row.unwrap()), expected);
    }
}

#[test]
fn spans_cover_every_position_once() {
    let layout = layout();
    let padded = layout.clone().with_padding(Padding::Original {
        max_text: 9,
        max_sequence: 20,
    });
    let header = vocab().special.end_header;
    for layout in [layout, padded] {
        for prompt in [vec![], vec![1, 2], vec![1, header]] {
            for row in [
                layout.paint(&prompt, &image()),
                layout.describe(&image(), &prompt, &[3, 4], Tail::One),
                layout.text(&prompt, Tail::One),
                layout.chat(&prompt, &[3, 4], Tail::One),
                layout.think_paint(&prompt, &[3, 4], &image(), Tail::One),
            ] {
                let row = row.unwrap();
                let covered: Vec<usize> = row
                    .spans
                    .iter()
                    .flat_map(|span| span.range.clone())
                    .collect();
                assert_eq!(covered, (0..row.ids.len()).collect::<Vec<_>>());
            }
        }
    }
}

#[test]
fn bos_is_never_doubled() {
    let bos = vocab().special.bos;
    assert_eq!(
        layout().chat(&[bos, 1], &[2], Tail::One).unwrap(),
        layout().chat(&[1], &[2], Tail::One).unwrap()
    );
    assert_eq!(
        layout().text(&[bos, 1], Tail::One).unwrap(),
        layout().text(&[1], Tail::One).unwrap()
    );
    assert_eq!(
        layout().paint(&[bos, 1], &[]).unwrap(),
        layout().paint(&[1], &[]).unwrap()
    );
}

#[test]
fn canvases_hold_masks() {
    let vocab = vocab();
    let row = layout().chat_prompt(&[1], 3).unwrap();
    let masked: Vec<usize> = row
        .positions(Answer)
        .filter(|&at| row.ids[at] == vocab.special.mask)
        .collect();
    assert_eq!(masked, vec![2, 3, 4]);
    // A half-given answer keeps what is given.
    let row = layout()
        .describe_canvas(&image(), &[1], &[7, vocab.special.mask])
        .unwrap();
    let answer: Vec<u32> = row.positions(Answer).map(|at| row.ids[at]).collect();
    assert_eq!(answer, vec![7, vocab.special.mask]);
}

#[test]
fn too_long_is_an_error_with_both_numbers() {
    let small = Layout::new(&vocab(), 8);
    let long: Vec<u32> = (0..100).collect();
    for row in [
        small.chat(&long, &[1], Tail::One),
        small.paint(&long, &[]),
        small.chat_prompt(&[1], usize::MAX),
        small.think_paint_prompt(&[1], 1, usize::MAX),
        small.chat(&[1], &[2], Tail::MultipleOf(usize::MAX)),
        small.describe(&image(), &[1], &long, Tail::To(5)),
    ] {
        match row.unwrap_err() {
            Error::TooLong { got, limit, .. } => assert!(got > limit),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn original_padding_pads_and_cuts() {
    let padded = layout().with_padding(Padding::Original {
        max_text: 6,
        max_sequence: 7,
    });
    let row = padded.paint(&[1], &image()).unwrap();
    assert_eq!(
        shape(&row),
        vec![
            (Pad, 3),
            (Frame, 2),
            (Prompt, 1),
            (Frame, 2),
            (Image, 4),
            (Frame, 1)
        ]
    );
    let long: Vec<u32> = (0..50).collect();
    assert_eq!(
        padded.paint(&long, &image()).unwrap().ids.len(),
        row.ids.len()
    );
    assert_eq!(padded.chat(&long, &[], Tail::One).unwrap().ids.len(), 7);
    // Generation is never padded.
    assert_eq!(
        padded.chat_prompt(&[1], 3).unwrap(),
        layout().chat_prompt(&[1], 3).unwrap()
    );
}
