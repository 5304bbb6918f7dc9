//! Checkpoints: atomic, rotated, and honest about what went wrong.

use std::fs;
use std::path::Path;

use mmada_train::checkpoint::{Checkpoints, TrainerState};
use mmada_train::metrics::Meter;
use mmada_train::{Error, Result};
use serde_json::json;

fn state(step: u64) -> TrainerState {
    let mut meter = Meter::default();
    meter.add("loss", 0.1 + 0.2, 1.0);
    TrainerState {
        step,
        seed: 1,
        skipped: 2,
        tokens: 3,
        meter,
        data: json!({"drawn": step}),
    }
}

fn fill(folder: &Path) -> Result<()> {
    fs::write(folder.join("weights"), b"numbers").unwrap();
    Ok(())
}

fn names(run: &Path) -> Vec<String> {
    let entries = fs::read_dir(run.join("checkpoints")).unwrap();
    let mut names: Vec<_> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn keeps_the_newest_and_points_at_the_last() {
    let run = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::new(run.path(), 2);
    assert!(checkpoints.newest().unwrap().is_none());
    for step in [2, 4, 10, 6] {
        checkpoints.write(&state(step), fill).unwrap();
    }
    assert_eq!(
        names(run.path()),
        ["latest", "step-00000006", "step-00000010"]
    );
    let (path, newest) = checkpoints.newest().unwrap().unwrap();
    assert_eq!(newest, state(10));
    assert!(path.join("weights").is_file());
    let latest = fs::read_to_string(run.path().join("checkpoints/latest")).unwrap();
    assert_eq!(latest, "step-00000006");
}

/// A folder without its state is no checkpoint: it is written when the run comes there again.
#[test]
fn one_without_its_state_is_written_again() {
    let run = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::new(run.path(), 2);
    let path = checkpoints.write(&state(4), fill).unwrap();
    fs::remove_file(path.join("trainer_state.json")).unwrap();
    let error = checkpoints.newest().unwrap_err().to_string();
    assert!(error.contains("trainer_state.json"), "{error}");
    assert_eq!(checkpoints.write(&state(4), fill).unwrap(), path);
    assert_eq!(checkpoints.newest().unwrap().unwrap().1, state(4));
}

#[test]
fn a_failed_write_leaves_the_older_one_and_no_trace() {
    let run = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::new(run.path(), 2);
    checkpoints.write(&state(2), fill).unwrap();
    let failed = checkpoints.write(&state(4), |folder| {
        fill(folder)?;
        Err(Error::Data("the disk is full".to_owned()))
    });
    assert!(failed.unwrap_err().to_string().contains("full"));
    assert_eq!(names(run.path()), ["latest", "step-00000002"]);
    assert_eq!(checkpoints.newest().unwrap().unwrap().1.step, 2);
}

#[test]
fn what_an_interrupted_run_left_is_ignored_and_removed() {
    let run = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::new(run.path(), 2);
    checkpoints.write(&state(2), fill).unwrap();
    for leftover in [".step-00000004.partial", ".step-00000001.old"] {
        let folder = run.path().join("checkpoints").join(leftover);
        fs::create_dir(&folder).unwrap();
        fill(&folder).unwrap();
    }
    // Without its state a folder is not complete, whatever its name.
    fs::create_dir(run.path().join("checkpoints/step-00000009")).unwrap();
    assert_eq!(checkpoints.newest().unwrap().unwrap().1.step, 2);
    checkpoints.clean().unwrap();
    assert_eq!(
        names(run.path()),
        ["latest", "step-00000002", "step-00000009"]
    );
}

#[test]
fn a_damaged_state_is_named() {
    let run = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::new(run.path(), 2);
    let path = checkpoints.write(&state(2), fill).unwrap();
    fs::write(path.join("trainer_state.json"), "{\"step\": 2").unwrap();
    let error = checkpoints.newest().unwrap_err();
    assert!(error.to_string().contains("trainer_state.json"), "{error}");
}

#[test]
fn a_place_that_cannot_be_written_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    // A file where the run's folder should be: refused for every user, root included.
    let run = folder.path().join("run");
    fs::write(&run, b"").unwrap();
    let error = Checkpoints::new(&run, 2)
        .write(&state(2), fill)
        .unwrap_err();
    assert!(error.to_string().contains("checkpoints"), "{error}");
    // A device that is always full stands for a full disk.
    if Path::new("/dev/full").exists() {
        let run = folder.path().join("full");
        let failed = Checkpoints::new(&run, 2).write(&state(2), |folder| {
            let file = folder.join("weights");
            std::os::unix::fs::symlink("/dev/full", &file).unwrap();
            fs::write(&file, b"numbers").map_err(|source| Error::File {
                path: file,
                doing: "write",
                source,
            })
        });
        assert!(failed.unwrap_err().to_string().contains("weights"));
        assert_eq!(names(&run), Vec::<String>::new());
    }
}
