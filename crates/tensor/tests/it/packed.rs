//! Packed rows.

use mmada_tensor::{Rows, Segment};

#[test]
fn sequences_lie_end_to_end() {
    let mut rows = Rows::pack([vec![5u32, 6, 7], vec![], vec![8]]);
    assert_eq!(rows.push(&[9, 9]), 4..6);
    assert_eq!(rows.ids, [5, 6, 7, 8, 9, 9]);
    assert_eq!(rows.positions, [0, 1, 2, 0, 0, 1]);
    assert_eq!(rows.sequences, [0..3, 3..3, 3..4, 4..6]);
    assert_eq!((rows.len(), rows.is_empty()), (6, false));
    let last = Segment::new(4..6, 4..6);
    assert_eq!(rows.segments().last(), Some(&last));
}

#[test]
fn a_sequence_may_go_on_from_rows_before_it() {
    let mut rows = Rows::pack([vec![5u32]]);
    let prompt = rows.push(&[6, 7]);
    let block = rows.push_after(prompt.clone(), 2, &[8, 9]);
    let first = rows.push_after(prompt.clone(), 2, &[1, 1, 1]);
    let second = rows.push_after(prompt.start..block.end, 4, &[1]);
    assert_eq!(rows.positions, [0, 0, 1, 2, 3, 2, 3, 4, 4]);
    let after = |past, rows: std::ops::Range<usize>| Segment {
        past,
        ..Segment::new(rows.clone(), rows)
    };
    let expected = [
        Segment::new(0..1, 0..1),
        Segment::new(1..3, 1..3),
        Segment::new(3..5, 1..5),
        after(1..3, first),
        after(1..5, second),
    ];
    assert_eq!(rows.segments(), expected);
    assert_eq!(rows.segments().last().unwrap().seen(), 5);
}
