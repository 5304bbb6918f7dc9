//! Intervals against values computed elsewhere.

use mmada_grade::interval::{Interval, Score};

#[test]
fn wilson_has_the_published_values() {
    // Newcombe, Statistics in Medicine 17 (1998), table I, method 3 (Wilson, no correction).
    for (k, n, low, high) in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (29, 29, 0.8830, 1.0),
    ] {
        let interval = Interval::wilson(k, n);
        assert!((interval.low - low).abs() < 1e-4, "{k}/{n} {interval:?}");
        assert!((interval.high - high).abs() < 1e-4, "{k}/{n} {interval:?}");
    }
    assert_eq!(
        Interval::wilson(0, 0),
        Interval {
            low: 0.0,
            high: 1.0
        }
    );
}

#[test]
fn means_have_normal_intervals() {
    // s = 1.5811, s/√5 = 0.7071, times 1.959964 = 1.3859.
    let score = Score::mean("x", &[1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!((score.value, score.n), (3.0, 5));
    assert!((score.low - 1.614_096).abs() < 1e-5, "{score:?}");
    assert!((score.high - 4.385_904).abs() < 1e-5, "{score:?}");
    assert_eq!(Score::mean("x", &[]).n, 0);
    assert_eq!(Score::mean("x", &[7.0]).low, 7.0);
}

#[test]
fn shares_count() {
    let score = Score::share("x", [true, false, true, true]);
    assert_eq!((score.value, score.n), (0.75, 4));
    assert!(score.low < 0.75 && score.high > 0.75);
}
