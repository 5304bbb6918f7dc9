//! Attention within segments of packed rows.

use mmada_tensor::ops::Heads;
use mmada_tensor::{Segment, composed, ops};

use crate::support::{check, normal};

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
            Segment {
                queries: rows.clone(),
                keys: rows,
            }
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
        Segment {
            queries: 0..3,
            keys: 0..20,
        },
        Segment {
            queries: 3..4,
            keys: 20..57,
        },
        Segment {
            queries: 4..90,
            keys: 60..61,
        },
    ];
    check_case("active rows against a cache", heads, 12, &segments);
}

#[test]
fn segments_may_share_keys() {
    let heads = Heads {
        query: 4,
        key_value: 2,
    };
    let segments = [
        Segment {
            queries: 0..30,
            keys: 0..40,
        },
        Segment {
            queries: 30..50,
            keys: 10..60,
        },
        Segment {
            queries: 50..51,
            keys: 0..5,
        },
    ];
    check_case("shared keys", heads, 8, &segments);
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
        let segment = Segment { queries, keys };
        assert!(ops::attention(&x, &x, &x, heads, &[segment]).is_err());
    }
}
