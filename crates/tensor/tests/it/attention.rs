//! Attention within segments of packed rows.

use mmada_tensor::ops::Heads;
use mmada_tensor::{Precision, Segment, composed, ops};

use crate::support::{check, normal, numbers};

fn check_case(name: &str, heads: Heads, c: usize, segments: &[Segment]) {
    let query_rows = segments.last().map_or(0, |s| s.queries.end);
    let key_rows = segments.iter().map(|s| s.keys.end).max().unwrap_or(0);
    let inputs = [
        normal(1, &[query_rows, heads.query * c]),
        normal(2, &[key_rows, heads.key_value * c]),
        normal(3, &[key_rows, heads.key_value * c]),
    ];
    check(
        name,
        4e-6,
        &inputs,
        &|t| ops::attention(&t[0], &t[1], &t[2], heads, segments),
        &|t| composed::attention(&t[0], &t[1], &t[2], heads, segments),
    );
}

/// Sequences of these lengths, every row attending to its whole sequence.
fn whole(lengths: &[usize]) -> Vec<Segment> {
    let mut start = 0;
    lengths
        .iter()
        .map(|length| {
            let rows = start..start + length;
            start = rows.end;
            Segment::new(rows.clone(), rows)
        })
        .collect()
}

#[test]
fn attention_matches_its_twin() {
    let plain = Heads {
        query: 4,
        key_value: 4,
    };
    let grouped = Heads {
        query: 6,
        key_value: 2,
    };
    let single = Heads {
        query: 3,
        key_value: 1,
    };
    check_case("one row", plain, 8, &whole(&[1]));
    check_case("odd lengths", plain, 48, &whole(&[3, 1, 17, 60, 101]));
    check_case("an empty segment", plain, 16, &whole(&[5, 0, 7]));
    check_case("grouped heads", grouped, 16, &whole(&[33, 2, 90]));
    check_case("one key-value head", single, 10, &whole(&[12, 31]));
    check_case("several tiles", grouped, 8, &whole(&[700, 40]));
}

#[test]
fn queries_may_be_fewer_than_keys() {
    let heads = Heads {
        query: 2,
        key_value: 2,
    };
    let segments = [
        Segment::new(0..3, 0..20),
        Segment::new(3..4, 20..57),
        Segment::new(4..90, 60..61),
    ];
    check_case("active rows against a cache", heads, 12, &segments);
}

/// Few enough to be multiplied one by one, with all that a segment can hide from them.
#[test]
fn few_queries_see_what_many_do() {
    let heads = Heads {
        query: 6,
        key_value: 2,
    };
    let segments = [
        Segment {
            hidden: Some(3),
            ..Segment::new(0..4, 0..29)
        },
        Segment {
            past: 29..62,
            hidden: Some(70),
            ..Segment::new(4..6, 62..81)
        },
        Segment {
            past: 2..40,
            rising: Some(5),
            ..Segment::new(6..9, 40..43)
        },
        Segment::new(9..10, 3..4),
    ];
    for c in [4, 20, 48] {
        check_case("few queries", heads, c, &segments);
    }
}

#[test]
fn segments_may_share_keys() {
    let heads = Heads {
        query: 4,
        key_value: 2,
    };
    let segments = [
        Segment::new(0..30, 0..40),
        Segment::new(30..50, 10..60),
        Segment::new(50..51, 0..5),
    ];
    check_case("shared keys", heads, 8, &segments);
}

#[test]
fn a_past_is_seen_before_the_keys() {
    let heads = Heads {
        query: 4,
        key_value: 2,
    };
    let after = |past, queries, keys| Segment {
        past,
        ..Segment::new(queries, keys)
    };
    // A prompt, what follows it, and three windows that share parts of both; then another.
    let segments = [
        Segment::new(0..9, 0..9),
        Segment::new(9..17, 0..17),
        after(0..9, 17..25, 17..25),
        after(0..17, 25..33, 25..33),
        after(3..17, 33..34, 33..34),
        Segment::new(34..40, 34..40),
        after(34..40, 40..41, 41..42),
    ];
    check_case("shared pasts", heads, 8, &segments);
    let hiding = Segment {
        hidden: Some(701),
        ..after(20..690, 700..750, 700..760)
    };
    let long = [Segment::new(0..700, 0..700), hiding];
    check_case("a long past, and a hidden key", heads, 8, &long);
    let x = normal(1, &[6, 8]);
    let single = Heads {
        query: 1,
        key_value: 1,
    };
    for past in [2..4, 1..5, 5..7] {
        let segment = Segment {
            past,
            ..Segment::new(0..6, 3..6)
        };
        let got = ops::attention(&x, &x, &x, single, std::slice::from_ref(&segment));
        assert!(got.is_err(), "{segment:?}");
    }
}

/// Rows that each see what is before them and themselves: as if each were a segment of its own.
#[test]
fn a_past_may_rise_from_query_to_query() {
    let heads = Heads {
        query: 4,
        key_value: 2,
    };
    let rising = |past, first, rows: std::ops::Range<usize>| Segment {
        past,
        rising: Some(first),
        ..Segment::new(rows.clone(), rows)
    };
    // A prompt; tokens that see each other from left to right; masks in the place of these and one more.
    let segments = [
        Segment::new(0..9, 0..9),
        rising(0..14, 9, 9..15),
        rising(0..15, 9, 15..22),
        rising(2..3, 0, 22..24),
        Segment::new(24..30, 24..30),
    ];
    check_case("rising pasts", heads, 8, &segments);
    let mut long = vec![Segment::new(0..5, 0..5)];
    long.push(rising(0..704, 5, 5..705));
    check_case("several tiles", heads, 8, &long);

    let one = |past, row: usize| Segment {
        past,
        ..Segment::new(row..row + 1, row..row + 1)
    };
    let mut alone = vec![Segment::new(0..9, 0..9)];
    alone.extend((9..15).map(|row| one(0..row, row)));
    alone.extend((15..22).map(|row| one(0..row - 6, row)));
    alone.extend([one(0..0, 22), one(2..3, 23), Segment::new(24..30, 24..30)]);
    let [q, k, v] = [(1, 32), (2, 16), (3, 16)].map(|(seed, width)| normal(seed, &[30, width]));
    let run = |segments: &[Segment]| numbers(&ops::attention(&q, &k, &v, heads, segments).unwrap());
    for (a, b) in run(&segments).into_iter().zip(run(&alone)) {
        assert!((a - b).abs() < 2e-6, "{a} {b}");
    }
    // Part of the queries see what they saw.
    let [_, _, masks, ..] = &segments;
    let part = masks.part(2, 0..3);
    let some = q.narrow(0, 17, 3).unwrap();
    let got = numbers(&ops::attention(&some, &k, &v, heads, &[part]).unwrap());
    for (a, b) in got.into_iter().zip(&run(&segments)[17 * 32..]) {
        assert!((a - b).abs() < 2e-6, "{a} {b}");
    }

    let x = normal(1, &[6, 8]);
    let single = Heads {
        query: 1,
        key_value: 1,
    };
    let whole = Segment::new(0..6, 0..6);
    let odd = |past, first, keys| Segment {
        past,
        rising: Some(first),
        keys,
        ..whole.clone()
    };
    for segment in [
        odd(0..4, 0, 0..6),
        odd(0..5, 1, 0..6),
        odd(0..5, 0, 0..5),
        odd(0..9, 0, 0..6),
    ] {
        let got = ops::attention(&x, &x, &x, single, std::slice::from_ref(&segment));
        assert!(got.is_err(), "{segment:?}");
    }
    assert!(ops::attention(&x, &x, &x, single, &[odd(0..5, 0, 0..6)]).is_ok());
}

#[test]
fn segments_must_cover_the_queries() {
    let heads = Heads {
        query: 1,
        key_value: 1,
    };
    let x = normal(1, &[6, 4]);
    for (queries, keys) in [
        (0..5, 0..6),
        (1..6, 0..6),
        (0..6, 0..7),
        (0..6, 3..3),
        (0..7, 0..6),
    ] {
        let segment = Segment::new(queries, keys);
        assert!(ops::attention(&x, &x, &x, heads, &[segment]).is_err());
    }
}

#[test]
fn a_query_does_not_see_its_hidden_key() {
    let heads = Heads {
        query: 4,
        key_value: 2,
    };
    let hiding = |queries, keys, hidden| Segment {
        hidden: Some(hidden),
        ..Segment::new(queries, keys)
    };
    let segments = [
        Segment::new(0..5, 0..9),
        hiding(5..8, 0..12, 2),
        hiding(8..9, 12..14, 13),
        hiding(9..400, 12..500, 40),
    ];
    check_case("hidden keys", heads, 8, &segments);
    // What is hidden has no influence at all.
    let run = |value: f32| {
        let [q, k, v] = [1, 2, 3].map(|seed| normal(seed, &[3, 8]));
        let loud = (normal(9, &[1, 8]) * f64::from(value)).unwrap();
        for x in [&k, &v] {
            ops::put_rows(x, &loud, &[1]).unwrap();
        }
        let q = q.narrow(0, 0, 1).unwrap();
        let heads = Heads {
            query: 1,
            key_value: 1,
        };
        numbers(&ops::attention(&q, &k, &v, heads, &[hiding(0..1, 0..3, 1)]).unwrap())
    };
    for precision in [Precision::F32, Precision::Bf16] {
        let [soft, loud] = [1.0, 50.0].map(|value| precision.scope(|| run(value)));
        assert_eq!(soft, loud, "{precision:?}");
    }
    let [q, k] = [1, 2].map(|seed| normal(seed, &[2, 8]));
    for (queries, keys, hidden) in [(0..2, 0..2, 1), (0..2, 1..2, 1), (0..2, 1..2, 0)] {
        let heads = Heads {
            query: 1,
            key_value: 1,
        };
        let segment = hiding(queries, keys, hidden);
        let got = ops::attention(&q, &k, &k, heads, std::slice::from_ref(&segment));
        assert!(got.is_err(), "{segment:?}");
    }
}

#[test]
fn rows_are_put_where_they_belong() {
    let places = [4, 0, 2];
    let fused = normal(1, &[5, 3]);
    let composed = normal(1, &[5, 3]);
    let rows = normal(2, &[3, 3]);
    ops::put_rows(&fused, &rows, &places).unwrap();
    composed::put_rows(&composed, &rows, &places).unwrap();
    assert_eq!(numbers(&fused), numbers(&composed));
    let (before, after) = (numbers(&normal(1, &[5, 3])), numbers(&fused));
    for (row, place) in places.into_iter().enumerate() {
        assert_eq!(after[place * 3..][..3], numbers(&rows)[row * 3..][..3]);
    }
    for place in [1, 3] {
        assert_eq!(after[place * 3..][..3], before[place * 3..][..3]);
    }
    assert!(ops::put_rows(&fused, &rows, &[0, 1]).is_err());
    assert!(ops::put_rows(&fused, &rows, &[0, 1, 5]).is_err());
    assert!(ops::put_rows(&fused, &rows, &[0, 1, 0]).is_err());
}
