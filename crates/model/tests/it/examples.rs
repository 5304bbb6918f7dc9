//! The programs in `examples/` run as their first lines say.

use std::path::{Path, PathBuf};
use std::process::Command;

use mmada_data::picture::{Limits, Picture};
use mmada_nn::SaveOptions;

use crate::tiny;

/// The examples that cargo builds beside the tests.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    profile.join("examples").join(name)
}

fn output(name: &str, args: &[&Path]) -> String {
    let output = Command::new(example(name)).args(args).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_program_of_forty_lines_paints() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, picture) = (dir.path().join("model"), dir.path().join("out.png"));
    tiny::model()
        .save(&folder, &SaveOptions::default())
        .unwrap();
    let text = output("paint", &[&folder, Path::new("anything"), &picture]);
    assert!(text.trim_end().ends_with("0 tokens still masked"), "{text}");
    let painted = Picture::decode(&std::fs::read(picture).unwrap(), &Limits::default()).unwrap();
    let expected = tiny::defaults().paint;
    assert_eq!(
        (painted.width(), painted.height()),
        (expected.width, expected.height)
    );
}

#[test]
fn a_sampler_needs_no_network() {
    let text = output("sampler_without_a_network", &[]);
    assert_eq!(text.lines().last(), Some("0 1 2 3 4 5 6 7 8 9"));
    assert_eq!(
        text.lines().next().map(|line| line.matches('▒').count()),
        Some(8)
    );
}
