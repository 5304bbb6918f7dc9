//! Training from the command line: dry runs, whole runs, Ctrl-C, resuming, tokenizers.

use std::path::Path;
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};

use crate::support::{self, files, json, mmada, press_ctrl_c, run_file, works};

#[test]
fn a_dry_run_prints_the_resolved_run_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let run = run_file(dir.path(), 4);
    let before = files(dir.path());
    let out =
        works(
            mmada()
                .arg("train")
                .arg(&run)
                .args(["lr.peak=0.25", "run.steps=7", "--dry-run"]),
        );
    let resolved: toml::Table = toml::from_str(&out).unwrap();
    assert_eq!(resolved["lr"]["peak"].as_float(), Some(0.25));
    assert_eq!(resolved["run"]["steps"].as_integer(), Some(7));
    assert!(resolved.contains_key("optimizer"), "{out}");
    let dry = ["run.steps=7", "--dry-run", "--json"];
    let value = json(mmada().arg("train").arg(&run).args(dry));
    assert_eq!(value["resolved"]["run"]["steps"], 7);
    assert_eq!(before, files(dir.path()));
}

#[test]
fn a_run_and_its_continuation() {
    let dir = tempfile::tempdir().unwrap();
    let run = run_file(dir.path(), 3);
    let first = json(mmada().arg("train").arg(&run).arg("--json"));
    assert_eq!(first["steps"], 3);
    assert_eq!(first["stopped_early"], false);
    let model = first["output"].as_str().unwrap();
    assert!(Path::new(model).join("model.safetensors").is_file());
    let more = works(
        mmada()
            .arg("train")
            .arg(&run)
            .args(["run.steps=5", "--resume"]),
    );
    assert_eq!(more.trim(), model);
    let metrics = std::fs::read_to_string(dir.path().join("out/metrics.jsonl")).unwrap();
    let steps: Vec<u64> = metrics
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["step"]
                .as_u64()
                .unwrap()
        })
        .collect();
    assert_eq!(steps, [1, 2, 3, 4, 5]);
    let elsewhere = dir.path().join("elsewhere");
    let out = format!("run.out={:?}", elsewhere.display().to_string());
    let mut command = mmada();
    command
        .arg("train")
        .arg(&run)
        .args([out.as_str(), "--resume"]);
    let said = support::said(&mut command);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.err.contains("from the beginning"), "{}", said.err);
}

/// Starts a run that would take very long and waits until it has done a few steps.
fn started(run: &Path, out: &Path) -> Child {
    let child = Process::new(assert_cmd::cargo::cargo_bin("mmada"))
        .arg("train")
        .arg(run)
        .args(["log.every=1", "run.name=\"odd one\""])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    let is_running =
        || std::fs::metadata(out.join("metrics.jsonl")).is_ok_and(|found| found.len() > 0);
    while !is_running() {
        assert!(
            begun.elapsed() < Duration::from_secs(120),
            "the run did not begin"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

#[test]
fn one_ctrl_c_saves_a_checkpoint_to_go_on_from() {
    let dir = tempfile::tempdir().unwrap();
    let (run, out) = (run_file(dir.path(), 1_000_000), dir.path().join("out"));
    let child = started(&run, &out);
    press_ctrl_c(&child);
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{err}");
    // As it would be typed: what was changed on the command line still is.
    let command = "--resume log.every=1 'run.name=\"odd one\"'";
    assert!(err.contains(command), "{err}");
    let names: Vec<String> = files(&out)
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    assert!(
        names.iter().any(|name| name.contains("checkpoints")),
        "{names:?}"
    );
    assert!(
        !names.iter().any(|name| name.contains(".partial")),
        "{names:?}"
    );
    let metrics = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    let done = metrics.lines().count() as u64;
    let resumed = json(
        mmada()
            .arg("train")
            .arg(&run)
            .arg(format!("run.steps={}", done + 2))
            .args(["--resume", "--json"]),
    );
    assert_eq!(resumed["steps"], done + 2);
    let metrics = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    assert_eq!(metrics.lines().count() as u64, done + 2);
}

/// The second Ctrl-C does not wait for the checkpoint; what has a real name is whole.
#[test]
fn two_ctrl_c_end_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (run, out) = (run_file(dir.path(), 1_000_000), dir.path().join("out"));
    let mut child = started(&run, &out);
    press_ctrl_c(&child);
    // The first may have ended it already.
    if child.try_wait().unwrap().is_none() {
        let _ = Process::new("kill")
            .args(["-INT", &child.id().to_string()])
            .stderr(Stdio::null())
            .status();
    }
    let pressed = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(pressed.elapsed() < Duration::from_secs(20));
    let resumed = json(
        mmada()
            .arg("train")
            .arg(&run)
            .args(["run.steps=2", "--resume", "--json"]),
    );
    assert!(resumed["steps"].as_u64().unwrap() >= 2);
}

#[test]
fn a_tokenizer_from_packs() {
    let dir = tempfile::tempdir().unwrap();
    support::pack(dir.path());
    let train = |name: &str| {
        let out = dir.path().join(name);
        let mut command = mmada();
        command
            .args(["train-tokenizer", "--size", "300", "--json", "-o"])
            .arg(&out);
        (json(command.arg("--data").arg(dir.path())), out)
    };
    let (report, out) = train("a");
    assert!(report["ids"].as_u64().unwrap() <= 300);
    let names: Vec<_> = files(&out)
        .iter()
        .map(|path| path.file_name().unwrap().to_owned())
        .collect();
    assert_eq!(
        names,
        [
            "chat_template.jinja",
            "tokenizer.json",
            "tokenizer_config.json"
        ]
    );
    let (_, again) = train("b");
    let read = |dir: &Path| std::fs::read(dir.join("tokenizer.json")).unwrap();
    assert_eq!(read(&out), read(&again));
}
