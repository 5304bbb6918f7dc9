//! Paintings that were right, kept as data to train on.

use crate::support::{fails, json, mmada, said};

#[test]
fn what_was_right_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let captions =
        r#"{"image": "0.png", "caption": "a blue circle", "color": "blue", "shape": "circle"}"#;
    std::fs::write(dir.path().join("test_captions.jsonl"), captions).unwrap();
    let kept = dir.path().join("kept/right.jsonl");
    let eval = |task: &str| {
        let mut command = mmada();
        command.args([
            "eval",
            task,
            "--samples",
            "4",
            "--best-of",
            "1",
            "--json",
            "--data",
        ]);
        command.arg(dir.path());
        command
    };
    let paint = json(eval("paint").arg("--keep").arg(&kept));
    assert_eq!(paint["kept"], kept.to_str().unwrap());
    let score = &paint["reports"][0]["scores"][0];
    let right = (score["value"].as_f64().unwrap() * 4.0).round() as usize;
    let text = std::fs::read_to_string(&kept).unwrap();
    // The embedded model paints most circles as they should be.
    assert!(right > 0 && text.lines().count() == right, "{paint}");
    for line in text.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(
            (&line["prompt"], &line["shows"]),
            (&"a blue circle".into(), &"blue circle".into())
        );
        assert_eq!(line["image"].as_array().unwrap().len(), 64);
        let words: Vec<&str> = line["sketch"].as_str().unwrap().split(' ').collect();
        assert_eq!(words.len(), 64);
        assert!(
            words.iter().all(|word| ["white", "blue"].contains(word)) && words.contains(&"blue")
        );
    }
    fails(
        eval("vqa").arg("--keep").arg(&kept),
        2,
        &["--keep", "paint"],
    );
    // Scores are told where nothing can be kept.
    let said = said(eval("paint").args(["--keep", "/dev/full"]));
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert!(said.out.contains("\"scores\""), "{}", said.out);
}
