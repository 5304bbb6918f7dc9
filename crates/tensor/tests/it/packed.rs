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
