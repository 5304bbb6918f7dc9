//! Benchmarks: what every workload reports, under every sampler, and what is refused.

use serde_json::Value;

use crate::support::{fails, json, mmada, works};

const SHAPE: &str = "d=32,layers=2,heads=2,mlp=48,vocab=128";

fn bench(task: &str, arguments: &[&str]) -> Value {
    let mut command = mmada();
    command.args(["bench", task, "--repeat", "3", "--json"]);
    json(command.args(arguments))
}

fn number(report: &Value, key: &str) -> f64 {
    report[key]
        .as_f64()
        .unwrap_or_else(|| panic!("{key}: {report}"))
}

/// The numbers that every report has, and that they agree with each other.
fn check(report: &Value) {
    let [low, median, high] =
        ["seconds_min", "seconds", "seconds_max"].map(|key| number(report, key));
    assert!(0.0 < low && low <= median && median <= high, "{report}");
    let (tokens, forwards) = (number(report, "tokens"), number(report, "forwards"));
    let is = |key: &str, expected: f64| (number(report, key) / expected - 1.0).abs() < 1e-9;
    assert!(is("tokens_per_forward", tokens / forwards), "{report}");
    assert!(is("tokens_per_second", tokens / median), "{report}");
    assert!(number(report, "rows") >= tokens.min(forwards), "{report}");
    assert!(
        (0.0..1.0).contains(&number(report, "share_of_peak")),
        "{report}"
    );
    assert!(number(report, "peak_memory_bytes") > 1e6, "{report}");
}

#[test]
fn every_workload_reports_on_random_weights() {
    let report = bench("forward", &["--shape", SHAPE, "--tokens", "40"]);
    check(&report);
    assert_eq!(
        (number(&report, "forwards"), number(&report, "rows")),
        (1.0, 40.0)
    );

    for sampler in ["exact", "verified", "fast"] {
        for (task, tokens) in [("text", "64"), ("image", "16")] {
            let sizes = ["--shape", SHAPE, "--tokens", tokens, "--sampler", sampler];
            let report = bench(task, &sizes);
            check(&report);
            assert_eq!(
                (&report["bench"], &report["sampler"]),
                (&task.into(), &sampler.into())
            );
        }
    }
    let exact = bench("text", &["--shape", SHAPE, "--tokens", "64"]);
    assert_eq!(number(&exact, "tokens_per_forward"), 1.0);
    assert_eq!(exact["sampler"], "exact");
    let cached = bench(
        "text",
        &["--shape", SHAPE, "--tokens", "64", "--sampler", "cached"],
    );
    assert!(number(&cached, "rows") < number(&exact, "rows"));
    // Prompt and first mask, then every token beside the next mask.
    let causal = ["--shape", SHAPE, "--tokens", "64", "--block-causal", "1"];
    let causal = bench("text", &causal);
    check(&causal);
    assert_eq!(number(&causal, "rows"), 32.0 + 1.0 + 63.0 * 2.0);

    for backward in ["keep", "recompute", "fused"] {
        let sizes = ["--shape", SHAPE, "--tokens", "256", "--backward", backward];
        let report = bench("train", &sizes);
        check(&report);
        assert_eq!(
            (&report["backward"], number(&report, "rows")),
            (&backward.into(), 256.0)
        );
    }
}

#[test]
fn the_embedded_model_is_measured_too() {
    for (task, more) in [
        ("forward", &[][..]),
        ("text", &["--tokens", "8", "--steps", "2"]),
        (
            "image",
            // No square.
            &["--tokens", "20", "--steps", "2", "--sampler", "fast"],
        ),
        ("train", &["--tokens", "128", "--precision", "bf16"]),
    ] {
        check(&bench(task, more));
    }
}

#[test]
fn flags_of_other_workloads_are_refused() {
    for (task, flag, value, word) in [
        ("train", "--sampler", "fast", "text or image"),
        ("text", "--backward", "fused", "train"),
        ("text", "--repeat", "0", "1 to"),
        ("text", "--repeat", "10000000000000000000", "1 to"),
        ("text", "--matrix", "8,8", "linear"),
        ("linear", "--shape", SHAPE, "--matrix"),
        ("text", "--guidance", "2", "image"),
        ("image", "--block-causal", "1", "text"),
        ("text", "--block-causal", "0", "1 to"),
        ("train", "--steps", "2", "text or image"),
        (
            "text",
            "--shape",
            "d=32,layers=1,heads=2,mlp=32,vocab=2",
            "vocab",
        ),
        (
            "text",
            "--shape",
            "d=32,layers=1,heads=3,mlp=32,vocab=64",
            "heads",
        ),
        ("text", "--shape", "d=32,layers=two", "layers=two"),
        ("forward", "--tokens", "9000000000000000000", "1 to 512"),
        ("text", "--tokens", "18446744073709551615", "1 to"),
        ("train", "--tokens", "18446744073709551615", "1 to"),
        ("linear", "--matrix", "3037000500,6074001000", "at most"),
        ("linear", "--tokens", "9000000000000000000", "1 to"),
        ("forward", "--tokens", "0", "1 to"),
        (
            "forward",
            "--shape",
            "d=100000,layers=1000,heads=1,mlp=10,vocab=8",
            "parameters",
        ),
    ] {
        fails(mmada().args(["bench", task, flag, value]), 2, &[flag, word]);
    }
    let both = ["bench", "forward", "--tokens", "8", "--shape", SHAPE];
    let named = ["--model", "nowhere"];
    fails(mmada().args(both).args(named), 2, &["--shape", "--model"]);
    // What the environment names is not what was asked for here.
    works(mmada().args(both).env("MMADA_MODEL", "nowhere"));
    let none = ["bench", "text", "--steps", "0"];
    fails(mmada().args(none), 2, &["steps", "at least 1"]);
}
