//! Files and folders that appear whole or not at all.

use std::fs;
use std::io;
use std::path::Path;

use mmada_nn::Error;
use mmada_nn::atomic::{recover_dir, replace_dir, stage, write_atomic};

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<String> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_failed_write_leaves_the_old_file_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.json");
    write_atomic(&path, |w| w.write_all(b"old")).unwrap();
    let outcome = write_atomic(&path, |w| {
        w.write_all(b"half of the new")?;
        Err(io::Error::from(io::ErrorKind::StorageFull))
    });
    let text = outcome.unwrap_err().to_string();
    assert!(
        text.contains("state.json") && text.contains("storage"),
        "{text}"
    );
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(names(dir.path()), ["state.json"]);
    drop(stage(&path, |w| w.write_all(b"never committed")).unwrap());
    assert_eq!(names(dir.path()), ["state.json"]);
    write_atomic(&path, |w| w.write_all(b"new")).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
}

#[test]
fn where_nothing_can_be_written_the_error_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), b"").unwrap();
    for path in [
        dir.path().join("file/inside"),
        dir.path().join("absent/inside"),
    ] {
        let error = write_atomic(&path, |w| w.write_all(b"x")).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
        assert!(error.to_string().contains("inside"), "{error}");
    }
    assert!(write_atomic(Path::new("/"), |_| Ok(())).is_err());
}

#[test]
fn a_folder_is_replaced_whole_or_kept() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("deep/model");
    let fill = |text: &'static str| {
        move |dir: &Path| -> Result<(), Error> {
            write_atomic(&dir.join(text), |w| w.write_all(text.as_bytes()))
        }
    };
    replace_dir(&model, fill("one")).unwrap();
    assert_eq!(names(&model), ["one"]);
    replace_dir(&model, fill("two")).unwrap();
    assert_eq!(names(&model), ["two"]);
    let failing = |dir: &Path| -> Result<(), Error> {
        fs::write(dir.join("three"), b"").unwrap();
        Err(Error::input("a", "b", "c"))
    };
    assert!(replace_dir(&model, failing).is_err());
    assert_eq!(names(&model), ["two"]);
    assert_eq!(names(model.parent().unwrap()), ["model"]);
}

#[test]
fn a_replacement_killed_between_its_renames_is_undone() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("model");
    fs::create_dir(dir.path().join(".model.old")).unwrap();
    fs::write(dir.path().join(".model.old/kept"), b"").unwrap();
    fs::create_dir(dir.path().join(".model.partial")).unwrap();
    recover_dir(&model).unwrap();
    assert_eq!(names(&model), ["kept"]);
    // What exists is left alone, and so is what lies beside it, until it is replaced.
    fs::create_dir(dir.path().join(".model.old")).unwrap();
    recover_dir(&model).unwrap();
    recover_dir(".".as_ref()).unwrap();
    assert_eq!(names(&model), ["kept"]);
    assert!(dir.path().join(".model.old").exists());
    replace_dir(&model, |_| Ok::<(), Error>(())).unwrap();
    assert_eq!(names(dir.path()), ["model"]);
    recover_dir(&dir.path().join("never")).unwrap();
}
