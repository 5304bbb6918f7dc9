//! Curves of runs from their metrics.

use mmada_train::curves::{Spread, by_label, csv, read, smooth};

const LINES: &str = r#"{"step":2,"loss":0.5,"reward":1.0}
{"step":3,"loss":0.4}
{"step":4,"loss":null,"reward":2.0}
{"step":6,"loss":0.1,"reward":6.0}
{"step":8,"lo"#;

#[test]
fn lines_without_the_metric_are_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    std::fs::write(&path, LINES).unwrap();
    let rewards = [(2, 1.0), (4, 2.0), (6, 6.0)];
    assert_eq!(read(folder.path(), "reward").unwrap(), rewards);
    assert_eq!(read(&path, "reward").unwrap(), rewards);
    assert_eq!(read(&path, "loss").unwrap(), [(2, 0.5), (3, 0.4), (6, 0.1)]);
    let error = read(&path, "rewrad").unwrap_err().to_string();
    assert!(
        error.contains("rewrad") && error.contains("loss, reward, step"),
        "{error}"
    );
    std::fs::write(&path, "").unwrap();
    let error = read(&path, "reward").unwrap_err().to_string();
    assert!(error.contains("no line yet"), "{error}");
    let error = read(&folder.path().join("none"), "reward")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("none") && error.contains("run.out"),
        "{error}"
    );
}

#[test]
fn smoothing_looks_back() {
    let points = [(1, 1.0), (2, 3.0), (3, 8.0), (4, 1.0)];
    for (window, expected) in [
        (0, [1.0, 3.0, 8.0, 1.0]),
        (1, [1.0, 3.0, 8.0, 1.0]),
        (2, [1.0, 2.0, 5.5, 4.5]),
        (9, [1.0, 2.0, 4.0, 3.25]),
    ] {
        let smoothed = smooth(&points, window);
        assert_eq!(
            smoothed.iter().map(|point| point.1).collect::<Vec<_>>(),
            expected
        );
        assert!(smoothed.iter().map(|point| point.0).eq([1, 2, 3, 4]));
    }
}

#[test]
fn runs_of_a_label_are_a_mean_with_a_band() {
    let run = |label: &str, points: &[(u64, f64)]| (label.to_owned(), points.to_vec());
    let curves = by_label(&[
        run("b, long", &[(1, 1.0), (2, 4.0)]),
        run("a", &[(2, 5.0)]),
        run("b, long", &[(2, 2.0), (3, 7.0)]),
    ]);
    let labels: Vec<&str> = curves.iter().map(|curve| curve.label.as_str()).collect();
    assert_eq!(labels, ["b, long", "a"]);
    let middle = Spread {
        step: 2,
        mean: 3.0,
        low: 2.0,
        high: 4.0,
        runs: 2,
    };
    assert_eq!(curves[0].spreads[1], middle);
    let expected = "label,step,mean,low,high,runs\n\
                    \"b, long\",1,1,1,1,1\n\
                    \"b, long\",2,3,2,4,2\n\
                    \"b, long\",3,7,7,7,1\n\
                    a,2,5,5,5,1\n";
    assert_eq!(csv(&curves), expected);
}
