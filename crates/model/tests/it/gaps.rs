//! How gaps are written.

use mmada_model::gaps::{Piece, parse};

fn text(text: &str) -> Piece {
    Piece::Text(text.to_owned())
}

#[test]
fn gaps_are_found() {
    let gap = Piece::Gap;
    for (written, expected) in [
        ("12 + 30 = ___.", vec![text("12 + 30 ="), gap(9), text(".")]),
        (" ___", vec![gap(9)]),
        ("a  ___", vec![text("a  "), gap(8)]),
        ("a [MASK:8]", vec![text("a "), gap(8)]),
        ("______", vec![gap(8)]),
        ("a__b", vec![text("a__b")]),
        ("[MASK:3] and [MASK]", vec![gap(3), text(" and "), gap(1)]),
        ("[MASKED] [mask]", vec![text("[MASKED] [mask]")]),
        ("é___é", vec![text("é"), gap(8), text("é")]),
        ("", vec![]),
    ] {
        assert_eq!(parse(written, 8, 100).unwrap(), expected, "{written}");
    }
    for refused in [
        "[MASK:0]",
        "[MASK:101]",
        "[MASK:99999999999999999999999]",
        "[MASK:x]",
        "[MASK:]",
    ] {
        assert!(parse(refused, 8, 100).is_err(), "{refused}");
    }
    assert!(parse("___", 0, 100).is_err());
}
