//! Thoughts before paintings.

use crate::support::{self, fails, json, mmada, said};

/// All rivals, half of them or none are painted after a thought; who did not ask for it does not read it.
#[test]
fn it_is_said_when_a_painting_is_thought_about() {
    let dir = tempfile::tempdir().unwrap();
    let model = support::model_dir(dir.path());
    let path = dir.path().join("p.png");
    let paint = |extra: &[&str]| support::paint(&model, &path, extra);
    let thoughts = |flags: &[&str]| {
        let told = json(paint(flags).arg("--json"));
        told["thoughts"].as_array().unwrap().len()
    };
    for (flags, expected) in [
        (&["--best-of", "2"][..], 0),
        (&["--best-of", "2", "--think"], 1),
        (&["--best-of", "2", "--think=half"], 1),
        (&["--best-of", "1", "--think=half"], 0),
        (&["--best-of", "2", "--think=never"], 0),
    ] {
        assert_eq!(thoughts(flags), expected, "{flags:?}");
    }
    fails(&mut paint(&["--think=often"]), 2, &["--think", "always"]);

    // What the model's directory says holds where no flag does.
    let file = model.join("generation_config.json");
    let mut settings: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    settings["paint"]["think"] = "half".into();
    settings["paint"]["best_of"] = 2.into();
    std::fs::write(&file, settings.to_string()).unwrap();
    assert_eq!(thoughts(&[]), 1);
    assert_eq!(thoughts(&["--think=never"]), 0);
    assert_eq!(thoughts(&["--best-of", "1"]), 0);
    let (unasked, asked) = (said(&mut paint(&[])), said(&mut paint(&["--think"])));
    assert!(!unasked.err.contains("thought:"), "{}", unasked.err);
    assert!(asked.err.contains("thought:"), "{}", asked.err);
    // Nothing can be thought about no words.
    let mut wordless = mmada();
    wordless.args(["paint", "", "-o"]).arg(&path);
    let told = json(wordless.arg("--json").arg("--model").arg(&model));
    assert!(told["thoughts"].as_array().unwrap().is_empty());
}
