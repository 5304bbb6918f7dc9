//! Samplers by name on the command line.

use crate::support::{self, json, mmada, works};

#[test]
fn samplers_go_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let model = support::model_dir(dir.path());
    let help = works(mmada().args(["paint", "--help"]));
    for sampler in ["exact", "cached", "parallel", "verified", "fast", "turbo"] {
        assert!(help.contains(&format!("- {sampler}:")), "{help}");
        let mut chat = mmada();
        chat.args(["chat", "12 + 30 = ?", "--json", "--sampler", sampler]);
        assert!(json(chat.arg("--model").arg(&model))["steps"].is_u64());
        let mut paint = mmada();
        let out = dir.path().join(format!("{sampler}.png"));
        paint.args([
            "paint",
            "a red circle",
            "--steps",
            "4",
            "--sampler",
            sampler,
        ]);
        works(paint.arg("-o").arg(&out).arg("--model").arg(&model));
        assert!(out.is_file());
    }
    let bold = ["chat", "hi", "--commit", "threshold=0.5", "--json"];
    json(mmada().args(bold).arg("--model").arg(&model));
    for wrong in [["--commit", "threshold=7"], ["--sampler", "quick"]] {
        let output = mmada().args(["chat", "hi"]).args(wrong).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
}
