//! Charts of runs from the command line.

use std::fs;
use std::path::{Path, PathBuf};

use mmada_data::picture::{Limits, Picture};

use crate::support::{fails, files, json, mmada, works};

/// A run's folder with rewards that rise by `slope` at each of five steps.
fn a_run(parent: &Path, name: &str, slope: f64) -> PathBuf {
    let dir = parent.join(name);
    fs::create_dir_all(&dir).unwrap();
    let line = |step: u32| {
        format!(
            "{{\"step\":{step},\"reward\":{}}}\n",
            slope * f64::from(step)
        )
    };
    fs::write(
        dir.join("metrics.jsonl"),
        (1..=5).map(line).collect::<String>(),
    )
    .unwrap();
    dir
}

/// Pixels of the chart that are nearer to this colour than `reach` in every channel.
fn count(picture: &Picture, color: [u8; 3], reach: u8) -> usize {
    let near = |pixel: &&[u8]| pixel.iter().zip(color).all(|(a, b)| a.abs_diff(b) < reach);
    picture.pixels().chunks_exact(3).filter(near).count()
}

const BLUE: [u8; 3] = [0, 114, 178];
const RED: [u8; 3] = [213, 94, 0];

#[test]
fn several_runs_become_a_picture_and_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (a_run(dir.path(), "one", 1.0), a_run(dir.path(), "two", 3.0));
    let (png, table) = (dir.path().join("new/c.png"), dir.path().join("new/c.csv"));
    let labelled = |label: &str, run: &Path| format!("{label}={}", run.display());
    let draw = |runs: &[String]| {
        let mut command = mmada();
        command
            .arg("curves")
            .args(runs)
            .args(["--width", "400", "--height", "300"]);
        command.arg("-o").arg(&png).arg("--csv").arg(&table);
        command
    };
    let value = json(draw(&[labelled("a", &one), labelled("a", &two)]).arg("--json"));
    assert_eq!(value["last"][0]["mean"], 10.0);
    assert_eq!(value["last"][0]["runs"], 2);
    let text = fs::read_to_string(&table).unwrap();
    assert_eq!(text.lines().count(), 6, "{text}");
    assert_eq!(text.lines().nth(1), Some("a,1,2,1,3,2"));
    let picture =
        |path: &Path| Picture::decode(&fs::read(path).unwrap(), &Limits::default()).unwrap();
    let chart = picture(&png);
    assert_eq!((chart.width(), chart.height()), (400, 300));
    // A line, and the band around it, in the first colour; nothing in the second.
    let band = [204, 227, 240];
    assert!(count(&chart, BLUE, 40) > 300 && count(&chart, band, 4) > 5000);
    assert_eq!(count(&chart, RED, 40), 0);

    works(draw(&[labelled("a", &one), labelled("b", &two)]).args(["--smooth", "5"]));
    let chart = picture(&png);
    assert!(count(&chart, BLUE, 40) > 300 && count(&chart, RED, 40) > 300);
    let text = fs::read_to_string(&table).unwrap();
    assert_eq!(text.lines().last(), Some("b,5,9,9,9,1"));
    // Without a label the folder's name is one, all of it, and that of a file's folder.
    let dotted = a_run(dir.path(), "lr0.1", 2.0);
    let file = two.join("metrics.jsonl").display().to_string();
    works(&mut draw(&[dotted.display().to_string(), file]));
    let text = fs::read_to_string(&table).unwrap();
    assert!(text.contains("\nlr0.1,5,"), "{text}");
    assert!(text.contains("\ntwo,5,"), "{text}");
    works(&mut draw(&[one.display().to_string()]));
    assert!(
        fs::read_to_string(&table)
            .unwrap()
            .contains("one,5,5,5,5,1")
    );
}

/// One point, equal values, long names, many labels: a chart all the same.
#[test]
fn odd_curves_are_drawn_too() {
    let dir = tempfile::tempdir().unwrap();
    let png = dir.path().join("c.png");
    let flat = a_run(dir.path(), "flat", 0.0);
    let huge = a_run(dir.path(), "huge", 1e12);
    let single = a_run(dir.path(), "single", 1.0);
    fs::write(
        single.join("metrics.jsonl"),
        "{\"step\":7,\"reward\":-0.25}\n",
    )
    .unwrap();
    let long = format!(
        "{}={}",
        "ä label that is wider than the chart ".repeat(4),
        flat.display()
    );
    let many = (0..12).map(|number| format!("{number}={}", flat.display()));
    let beyond = a_run(dir.path(), "beyond", 0.0);
    fs::write(
        beyond.join("metrics.jsonl"),
        "{\"step\":1,\"reward\":1e17}\n",
    )
    .unwrap();
    let lists: [Vec<String>; 6] = [
        vec![beyond.display().to_string()],
        vec![flat.display().to_string()],
        vec![huge.display().to_string()],
        vec![single.display().to_string()],
        vec![long],
        many.collect(),
    ];
    for list in lists {
        let mut command = mmada();
        command
            .arg("curves")
            .args(&list)
            .args(["--width", "240", "--height", "160"]);
        works(command.arg("-o").arg(&png));
        let chart = Picture::decode(&fs::read(&png).unwrap(), &Limits::default()).unwrap();
        assert!(count(&chart, BLUE, 40) > 10, "{list:?}");
    }
}

#[test]
fn what_cannot_be_drawn_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let run = a_run(dir.path(), "run", 1.0);
    let before = files(dir.path());
    let draw = |arguments: &[&str]| {
        let mut command = mmada();
        command
            .current_dir(dir.path())
            .arg("curves")
            .args(arguments);
        command
    };
    let name = run.to_str().unwrap();
    for (arguments, code, parts) in [
        (&["none"][..], 1, &["none/metrics.jsonl", "run.out"][..]),
        (&[name, "--metric", "kl"], 1, &["kl", "reward, step"]),
        (&[name, "--smooth", "0"], 2, &["--smooth", "1"]),
        (&[name, "--width", "9"], 2, &["240x160", "9x480", "--width"]),
        (&[name, "--height", "100000"], 2, &["8192", "100000"]),
        (&[name, "-o", "c.svg"], 2, &["c.svg", ".png"]),
    ] {
        fails(&mut draw(arguments), code, parts);
    }
    assert_eq!(
        mmada().arg("curves").output().unwrap().status.code(),
        Some(2)
    );
    assert_eq!(files(dir.path()), before);
}
