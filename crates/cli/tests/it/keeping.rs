//! Paintings that were right, kept as data to train on.

use crate::support::{self, fails, json, mmada};

#[test]
fn what_was_right_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let model = support::model_dir(dir.path());
    support::pack(dir.path());
    let kept = dir.path().join("kept/right.jsonl");
    let eval = |task: &str| {
        let mut command = mmada();
        command.args(["eval", task, "--samples", "40", "--steps", "2", "--json"]);
        command
            .arg("--data")
            .arg(dir.path())
            .arg("--model")
            .arg(&model);
        command.arg("--keep").arg(&kept);
        command
    };
    let paint = json(&mut eval("paint"));
    let report = &paint["reports"][0];
    let right = report["scores"][0]["value"].as_f64().unwrap() * report["n"].as_f64().unwrap();
    let lines = std::fs::read_to_string(&kept).unwrap();
    let lines: Vec<serde_json::Value> = lines
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), right.round() as usize);
    for line in &lines {
        assert!(
            line["prompt"].is_string() && line["image"].is_array(),
            "{line}"
        );
    }
    assert_eq!(paint["kept"], kept.to_str().unwrap());
    fails(&mut eval("vqa"), 2, &["--keep", "paint"]);
}
