//! Places where nothing can be written: what was there stays, nothing half-written is left.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command as Process;

use mmada_data::picture::{Limits, Picture};
use mmada_nn::{Config, Lora, LoraConfig, Mode, Params, SaveOptions};
use mmada_tensor::Device;

use crate::support::{self, fails, mmada, works};

#[test]
fn a_folder_or_another_format_as_output() {
    let dir = tempfile::tempdir().unwrap();
    let model = support::model_dir(dir.path());
    let paint = |out: &Path| {
        let mut command = mmada();
        command
            .args(["paint", "a", "-o"])
            .arg(out)
            .arg("--model")
            .arg(&model);
        command
    };
    fails(
        &mut paint(dir.path()),
        2,
        &["expected a file, got a folder", "painting.png"],
    );
    fails(&mut paint(&dir.path().join("a.jpg")), 2, &["a.jpg", ".png"]);
    let file = support::picture_file(dir.path(), 8, 8);
    fails(
        &mut paint(&file.join("below/a.png")),
        1,
        &["cannot create the folder", "-o"],
    );
}

#[test]
fn a_full_device() {
    if !Path::new("/dev/full").exists() {
        println!("skipped: this system has no /dev/full");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let model = support::model_dir(dir.path());
    let mut command = mmada();
    command
        .args(["paint", "a", "-o", "/dev/full", "--model"])
        .arg(&model);
    fails(&mut command, 1, &["cannot write to /dev/full", "-o"]);
    assert!(!fs::metadata("/dev/full").unwrap().is_file());
}

/// Runs the program with a small file system of its own at `mount`; `None` where the system does
/// not let us make one.
fn on_small_disk(mount: &Path, prepare: &str, arguments: &[&str]) -> Option<std::process::Output> {
    let script = format!(
        "mount -t tmpfs -o size=64k none '{0}' || exit 77\ncd '{0}' || exit 77\n\
         printf old > old.png\n{prepare}\n\"$0\" \"$@\"\ncode=$?\n\
         echo; echo left: $(find . -type f ! -name filler | sort) $(cat old.png); exit $code",
        mount.display()
    );
    let output = Process::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .arg(assert_cmd::cargo::cargo_bin("mmada"))
        .args(arguments)
        .output()
        .ok()?;
    let failed_to_mount = output.status.code() == Some(77)
        || output.status.code() == Some(1) && output.stdout.is_empty();
    (!failed_to_mount).then_some(output)
}

#[track_caller]
fn leaves_nothing(prepare: &str, arguments: &[&str], message: &str) {
    let dir = tempfile::tempdir().unwrap();
    let Some(output) = on_small_disk(dir.path(), prepare, arguments) else {
        println!("skipped: no right to mount a small file system");
        return;
    };
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    assert!(err.contains(message) && err.contains("error: "), "{err}");
    assert!(
        out.trim_end().ends_with("left: ./old.png old"),
        "{out}{err}"
    );
}

const FULL: &str = "head -c 100000 /dev/zero > filler 2>/dev/null";
const READ_ONLY: &str = "mount -o remount,ro . || exit 77";

#[test]
fn a_painting_on_a_full_or_read_only_disk() {
    let dir = tempfile::tempdir().unwrap();
    let model = support::model_dir(dir.path());
    let model = model.to_str().unwrap();
    for (prepare, message) in [(FULL, "No space left"), (READ_ONLY, "Read-only")] {
        leaves_nothing(
            prepare,
            &["paint", "a", "--model", model, "-o", "new.png"],
            message,
        );
        leaves_nothing(
            prepare,
            &["paint", "a", "--model", model, "-o", "old.png"],
            message,
        );
    }
}

#[test]
fn a_tokenizer_on_a_full_or_read_only_disk() {
    let dir = tempfile::tempdir().unwrap();
    let pack = support::pack(dir.path());
    let arguments = [
        "train-tokenizer",
        "--size",
        "300",
        "--data",
        pack.to_str().unwrap(),
        "-o",
        "tokenizer",
    ];
    leaves_nothing(FULL, &arguments, "No space left");
    leaves_nothing(READ_ONLY, &arguments, "Read-only");
}

#[test]
fn a_run_on_a_full_or_read_only_disk() {
    let dir = tempfile::tempdir().unwrap();
    let run = support::run_file(dir.path(), 3);
    let arguments = ["train", run.to_str().unwrap(), "run.out=out"];
    let dir = tempfile::tempdir().unwrap();
    let Some(output) = on_small_disk(dir.path(), FULL, &arguments) else {
        println!("skipped: no right to mount a small file system");
        return;
    };
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    assert!(err.contains("No space left"), "{err}");
    assert!(!out.contains(".safetensors"), "{out}");
    leaves_nothing(READ_ONLY, &arguments, "Read-only");
}

#[test]
fn an_adapter_is_merged_into_its_model() {
    let dir = tempfile::tempdir().unwrap();
    let model = support::model_dir(dir.path());
    let settings = LoraConfig {
        r: 2,
        alpha: 4.0,
        target_modules: vec!["q_proj".to_owned()],
    };
    let config = Config::load(&model).unwrap();
    // Named from the adapter's own folder, so that both can be moved together.
    let lora = Lora::init(&settings, &config, "../model", 1, &Device::Cpu).unwrap();
    for (_, var) in lora.params().vars() {
        var.set(&var.ones_like().unwrap()).unwrap();
    }
    let (adapter, merged) = (dir.path().join("adapter"), dir.path().join("merged"));
    lora.save(&adapter).unwrap();
    works(mmada().arg("merge").arg(&adapter).arg(&merged));
    let weight = |folder: &Path| {
        let params = Params::load(folder, &Device::Cpu, None, Mode::Frozen).unwrap();
        let name = "model.transformer.blocks.0.q_proj.weight";
        let row = params.any(name, 2).unwrap().to_vec2::<f32>().unwrap();
        row[0][0]
    };
    // 4 / 2 · (1 · 1 + 1 · 1)
    assert!((weight(&merged) - weight(&model) - 4.0).abs() < 1e-5);
    let chat = |folder: &Path| works(mmada().args(["chat", "hello", "--model"]).arg(folder));
    assert_eq!(chat(&merged), chat(&adapter));
    fails(
        mmada().arg("merge").arg(&model).arg(&merged),
        2,
        &["adapter_config.json", "whole model"],
    );
    let before = weight(&model);
    for (taken, what) in [(&adapter, "the adapter"), (&model, "its model")] {
        fails(mmada().arg("merge").arg(&adapter).arg(taken), 2, &[what]);
    }
    assert!(weight(&model) == before && !adapter.join("config.json").exists());
    // Without a name the folder that the program runs in is not taken for it.
    let config = adapter.join("adapter_config.json");
    let named = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, named.replace("\"../model\"", "null")).unwrap();
    fails(
        mmada()
            .current_dir(&model)
            .arg("merge")
            .arg(&adapter)
            .arg(&merged),
        1,
        &["base_model_name_or_path"],
    );
    std::fs::write(&config, named).unwrap();
    std::fs::rename(&model, dir.path().join("elsewhere")).unwrap();
    fails(
        mmada().arg("merge").arg(&adapter).arg(&merged),
        1,
        &["base_model_name_or_path", "../model"],
    );
}

/// What two models have learnt since the one they come from is added up.
#[test]
fn changes_of_models_are_added_up() {
    let dir = tempfile::tempdir().unwrap();
    let base = support::model_dir(dir.path());
    let name = "model.transformer.blocks.0.q_proj.weight";
    let moved = |folder: &str, by: f64| -> PathBuf {
        let folder = dir.path().join(folder);
        support::model()
            .save(&folder, &SaveOptions::default())
            .unwrap();
        let mut params = Params::load(&base, &Device::Cpu, None, Mode::Frozen).unwrap();
        let old = params.any(name, 2).unwrap();
        params.set(name, &(old + by).unwrap()).unwrap();
        params.save(&folder, &SaveOptions::default()).unwrap();
        folder
    };
    let (one, other, sum) = (
        moved("one", 1.0),
        moved("other", 0.25),
        dir.path().join("sum"),
    );
    let merge = |models: &[&PathBuf], output: &Path, base: Option<&PathBuf>| {
        let mut command = mmada();
        command.arg("merge").args(models).arg(output);
        command.args(
            base.map(|base| ["--base".as_ref(), base.as_os_str()])
                .into_iter()
                .flatten(),
        );
        command
    };
    works(&mut merge(&[&one, &other], &sum, Some(&base)));
    let mean = |folder: &Path, name: &str| {
        let params = Params::load(folder, &Device::Cpu, None, Mode::Frozen).unwrap();
        let tensor = params.any(name, 2).unwrap();
        tensor.mean_all().unwrap().to_scalar::<f32>().unwrap()
    };
    assert!((mean(&sum, name) - mean(&base, name) - 1.25).abs() < 1e-5);
    let half = dir.path().join("half");
    works(merge(&[&one, &other], &half, Some(&base)).args(["--scale", "0.5"]));
    assert!((mean(&half, name) - mean(&base, name) - 0.625).abs() < 1e-5);
    let scaled = |base, scale| {
        let mut command = merge(&[&one], &half, base);
        command.args(["--scale", scale]);
        command
    };
    fails(
        &mut scaled(Some(&base), "nan"),
        2,
        &["--scale", "finite", "NaN"],
    );
    // What is there stays where the sum overflows.
    let mut overflowing = merge(&[&one, &one], &half, Some(&base));
    fails(overflowing.args(["--scale", "3e38"]), 1, &["inf"]);
    assert!((mean(&half, name) - mean(&base, name) - 0.625).abs() < 1e-5);
    fails(&mut scaled(None, "0.5"), 2, &["--base"]);
    let unmoved = "model.transformer.blocks.0.k_proj.weight";
    assert_eq!(mean(&sum, unmoved), mean(&base, unmoved));
    works(mmada().args(["chat", "hello", "--model"]).arg(&sum));
    fails(
        &mut merge(&[&one, &other], &sum, None),
        2,
        &["2 models", "--base"],
    );
    for taken in [&one, &base] {
        fails(
            &mut merge(&[&one, &other], taken, Some(&base)),
            2,
            &["would replace"],
        );
    }
    // Another network was not trained from the base.
    let deeper = dir.path().join("deeper");
    support::model_of(3)
        .save(&deeper, &SaveOptions::default())
        .unwrap();
    let what = ["blocks.2", "trained from one"];
    fails(
        &mut merge(&[&one, &deeper], &dir.path().join("none"), Some(&base)),
        1,
        &what,
    );
}

/// No file of a call replaces another of its files.
#[test]
fn files_of_one_call_are_kept_apart() {
    let dir = tempfile::tempdir().unwrap();
    let model = support::model_dir(dir.path());
    let picture = support::picture_file(dir.path(), 16, 16);
    let (bytes, one) = (fs::read(&picture).unwrap(), dir.path().join("one.png"));
    let extended = |out: &Path| {
        let mut command = mmada();
        command.arg("inpaint").arg(&picture).arg("-o").arg(out);
        command.args(["--extend", "right=8", "--model"]).arg(&model);
        command
    };
    fails(&mut extended(&picture), 2, &["--output", "the picture"]);
    assert_eq!(fs::read(&picture).unwrap(), bytes);
    works(&mut extended(&one));
    let mut describe = mmada();
    describe
        .arg("describe")
        .arg(&picture)
        .arg("-o")
        .arg(&picture);
    fails(
        describe.arg("--model").arg(&model),
        2,
        &["--output", "the picture"],
    );
    assert_eq!(fs::read(&picture).unwrap(), bytes);
    let metrics = dir.path().join("metrics.jsonl");
    fs::write(&metrics, "{\"step\": 1, \"loss\": 2.0}\n").unwrap();
    for run in [&metrics, &dir.path().to_path_buf()] {
        let mut curves = mmada();
        curves.arg("curves").arg(run).args(["--metric", "loss"]);
        curves.arg("-o").arg(dir.path().join("c.png")).arg("--csv");
        fails(curves.arg(&metrics), 2, &["--csv", "the metrics of a run"]);
    }
    assert!(fs::read_to_string(&metrics).unwrap().contains("2.0"));
    let mut curves = mmada();
    curves
        .arg("curves")
        .arg(dir.path())
        .args(["--metric", "loss", "--csv"]);
    fails(
        curves.arg(&one).arg("-o").arg(&one),
        2,
        &["--output", "--csv"],
    );
    let mut eval = mmada();
    eval.args(["eval", "paint", "--data"])
        .arg(dir.path())
        .arg("--keep");
    fails(
        eval.arg(&one).arg("-o").arg(&one),
        2,
        &["--keep", "--output"],
    );
    // A tokenizer in a model's folder would be another one than the model was trained with.
    let mut tokenizer = mmada();
    tokenizer
        .args(["train-tokenizer", "-o"])
        .arg(&model)
        .arg("--data");
    fails(tokenizer.arg(dir.path()), 2, &["without a model"]);
}

/// What only `--save` or a model brings is replaced; anything else in the folder is not lost.
#[test]
fn folders_with_more_than_a_model_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let model = support::model_dir(dir.path());
    let config = Config::load(&model).unwrap();
    let settings = LoraConfig {
        r: 2,
        alpha: 4.0,
        target_modules: vec!["q_proj".to_owned()],
    };
    let lora = Lora::init(&settings, &config, "../model", 1, &Device::Cpu).unwrap();
    let (adapter, kept) = (dir.path().join("adapter"), dir.path().join("kept"));
    lora.save(&adapter).unwrap();
    works(mmada().arg("merge").arg(&adapter).arg(&kept));
    fs::write(kept.join("README.md"), "mine").unwrap();
    fails(
        mmada().arg("merge").arg(&adapter).arg(&kept),
        2,
        &["README.md", "nothing else"],
    );
    let bench = |folder: &Path| {
        let mut command = mmada();
        let shape = "d=16,layers=1,heads=1,mlp=16,vocab=32";
        command.args([
            "bench", "forward", "--shape", shape, "--tokens", "8", "--save",
        ]);
        command.arg(folder);
        command
    };
    fails(&mut bench(&kept), 2, &["--save", "something else"]);
    let saved = dir.path().join("saved");
    let image = model.join("image_tokenizer");
    fails(&mut bench(&image), 2, &["--save", "something else"]);
    works(&mut bench(&saved));
    works(&mut bench(&saved));
    assert_eq!(fs::read_to_string(kept.join("README.md")).unwrap(), "mine");
}

/// A model that a killed run was just replacing, and one that is named by a dot.
#[test]
fn a_model_is_found_under_odd_names() {
    let dir = tempfile::tempdir().unwrap();
    let model = support::model_dir(dir.path());
    let old = model.with_file_name(".model.old");
    fs::rename(&model, &old).unwrap();
    works(mmada().arg("inspect").arg(&model));
    assert!(model.is_dir() && !old.exists());
    works(mmada().args(["inspect", "."]).current_dir(&model));
}

#[cfg(unix)]
#[test]
fn links_and_odd_names_as_output() {
    use std::os::unix::ffi::OsStrExt as _;
    let dir = tempfile::tempdir().unwrap();
    let model = support::model_dir(dir.path());
    let paint = |out: &Path| {
        let mut command = mmada();
        command.args(["paint", "a", "--json", "-o"]).arg(out);
        command.arg("--model").arg(&model);
        command
    };
    let folder = dir.path().join("new").join("");
    fails(&mut paint(&folder), 2, &["expected a file, got a folder"]);
    assert!(!folder.exists());
    let (link, target) = (dir.path().join("link.png"), dir.path().join("target.png"));
    fs::write(&target, "old").unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    works(&mut paint(&link));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_ne!(fs::read(&target).unwrap(), b"old");
    let odd = dir.path().join(std::ffi::OsStr::from_bytes(b"\xff.png"));
    let report = support::json(&mut paint(&odd));
    let name = report["output"][0].as_str().unwrap();
    assert!(name.ends_with("\u{fffd}.png"), "{name}");
    assert!(odd.is_file());
}

/// The picture is all that a file gets that standard output leads to.
#[test]
fn a_picture_on_standard_output_stays_whole() {
    let dir = tempfile::tempdir().unwrap();
    let model = support::model_dir(dir.path());
    let place = dir.path().join("picture.png");
    let status = Process::new(assert_cmd::cargo::cargo_bin("mmada"))
        .args(["paint", "a", "-o", "/dev/stdout", "--model"])
        .arg(&model)
        .stdout(fs::File::create(&place).unwrap())
        .status();
    assert!(status.unwrap().success());
    let bytes = fs::read(&place).unwrap();
    assert!(Picture::decode(&bytes, &Limits::default()).is_ok());
    assert!(bytes.ends_with(b"IEND\xaeB`\x82"), "nothing follows it");
    let mut several = mmada();
    several.args(["paint", "a", "-n", "2", "-o", "/dev/null", "--model"]);
    fails(several.arg(&model), 2, &["/dev/null", "--count"]);
}
