//! Paintings that were right, kept as data to train on.

use crate::support::{fails, json, mmada};

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
        command.arg(dir.path()).arg("--keep").arg(&kept);
        command
    };
    let paint = json(&mut eval("paint"));
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
    }
    fails(&mut eval("vqa"), 2, &["--keep", "paint"]);
}
