//! Prompts, pictures and run files that cannot be used.

use std::fs;
use std::path::Path;

use crate::support::{self, fails, mmada, picture_file};

#[test]
fn empty_and_too_long_prompts() {
    let dir = tempfile::tempdir().unwrap();
    let model = support::model_dir(dir.path());
    let ask = |arguments: &[&str]| {
        let mut command = mmada();
        command.args(arguments).arg("--model").arg(&model);
        command
    };
    fails(
        &mut ask(&["chat", ""]),
        2,
        &["empty", "expected at least one word"],
    );
    fails(&mut ask(&["chat", " \n"]), 2, &["empty"]);
    let long = "word ".repeat(500);
    fails(&mut ask(&["chat", &long]), 2, &["tokens", "320", "shorten"]);
    let out = dir.path().join("p.png");
    let to = out.to_str().unwrap();
    fails(&mut ask(&["paint", &long, "-o", to]), 2, &["tokens", "320"]);
    fails(&mut ask(&["fill", "no gap"]), 2, &["gap", "___"]);
    fails(&mut ask(&["fill", "a [MASK:99999999999]"]), 2, &["gap"]);
    fails(
        &mut ask(&["chat", "hi", "--length", "4000000000"]),
        2,
        &["length", "320", "4000000000"],
    );
    fails(
        &mut ask(&["chat", "hi", "--temperature", "nan"]),
        2,
        &["temperature"],
    );
    let negative = &mut ask(&["paint", "hi", "-o", to, "--temperature", "-1"]);
    fails(negative, 2, &["temperature", "-1", "from 0"]);
    fails(
        &mut ask(&["paint", "hi", "-o", to, "--schedule", "pow-1"]),
        2,
        &["pow-1", "cosine", "pow2"],
    );
    assert!(!out.exists());
}

#[test]
fn impossible_sizes() {
    let dir = tempfile::tempdir().unwrap();
    let model = support::model_dir(dir.path());
    let paint = |size: &str| {
        let mut command = mmada();
        command
            .args(["paint", "a", "--size", size, "-o"])
            .arg(dir.path().join("p.png"));
        command.arg("--model").arg(&model);
        command
    };
    for size in ["banana", "64", "0x8", "8x-8", "8x8x8"] {
        fails(&mut paint(size), 2, &["--size", "WIDTHxHEIGHT", size]);
    }
    fails(&mut paint("30x32"), 2, &["multiples of 8", "30x32"]);
    fails(&mut paint("80000x80000"), 2, &["limit is 320"]);
    let picture = picture_file(dir.path(), 32, 32);
    let extend = |side: &str| {
        let mut command = mmada();
        command
            .arg("inpaint")
            .arg(&picture)
            .args(["--extend", side, "--model"])
            .arg(&model);
        command.current_dir(dir.path());
        command
    };
    for side in ["right", "right=", "sideways=8", "right=0", "right=-8"] {
        fails(&mut extend(side), 2, &["--extend", "right=32", side]);
    }
    fails(
        &mut extend("right=7"),
        2,
        &["multiples of 8", "left 0, right 7, up 0, down 0"],
    );
    let twice = &mut extend("right=8");
    fails(
        twice.args(["--extend", "right=16"]),
        2,
        &["right twice", "add"],
    );
    let neither = &mut mmada();
    neither.arg("inpaint").arg(&picture);
    fails(neither, 2, &["--mask", "--extend"]);
}

#[test]
fn files_that_are_no_pictures() {
    let dir = tempfile::tempdir().unwrap();
    let model = support::model_dir(dir.path());
    let describe = |name: &str| {
        let mut command = mmada();
        command
            .arg("describe")
            .arg(dir.path().join(name))
            .arg("--model")
            .arg(&model);
        command
    };
    fs::write(dir.path().join("text.png"), "not a picture at all").unwrap();
    fails(
        &mut describe("text.png"),
        1,
        &["text.png", "not a picture", "PNG, JPEG or WebP"],
    );
    fs::write(dir.path().join("empty.png"), "").unwrap();
    fails(
        &mut describe("empty.png"),
        1,
        &["empty.png", "expected a PNG"],
    );
    let whole = fs::read(picture_file(dir.path(), 64, 64)).unwrap();
    fs::write(dir.path().join("half.png"), &whole[..whole.len() / 2]).unwrap();
    fails(&mut describe("half.png"), 1, &["half.png", "truncated"]);
    fails(&mut describe("missing.png"), 1, &["missing.png"]);
    let seen = support::picture_file(dir.path(), 16, 16);
    let looked = &mut describe(seen.to_str().unwrap());
    fails(
        looked.args(["--looks", "65"]),
        2,
        &["looks", "1 to 64", "65"],
    );
    fails(
        &mut describe("."),
        2,
        &["expected a PNG, JPEG or WebP file"],
    );
}

/// A header is enough to be refused; no pixel is allocated.
#[test]
fn a_picture_of_a_hundred_megapixels() {
    let dir = tempfile::tempdir().unwrap();
    let mut png = fs::read(picture_file(dir.path(), 8, 8)).unwrap();
    png[16..20].copy_from_slice(&10_000u32.to_be_bytes());
    png[20..24].copy_from_slice(&10_000u32.to_be_bytes());
    let crc = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&crc.to_be_bytes());
    let path = dir.path().join("large.png");
    fs::write(&path, png).unwrap();
    let parts = [
        "large.png",
        "too large",
        "expected at most",
        "10000x10000",
        "shrink",
    ];
    fails(mmada().arg("describe").arg(&path), 1, &parts);
    fails(
        mmada()
            .args(["inpaint", "--extend", "up=8"])
            .arg(&path)
            .current_dir(dir.path()),
        1,
        &parts,
    );
}

/// The checksum of PNG chunks.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| {
        if crc & 1 == 1 {
            0xedb8_8320 ^ (crc >> 1)
        } else {
            crc >> 1
        }
    };
    !bytes
        .iter()
        .fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
}

#[test]
fn masks_that_do_not_fit() {
    let dir = tempfile::tempdir().unwrap();
    let model = support::model_dir(dir.path());
    let picture = picture_file(dir.path(), 32, 32);
    let inpaint = |mask: &std::path::Path| {
        let mut command = mmada();
        command
            .arg("inpaint")
            .arg(&picture)
            .arg("--mask")
            .arg(mask)
            .arg("--model")
            .arg(&model);
        command.current_dir(dir.path());
        command
    };
    fails(
        &mut inpaint(&picture_file(dir.path(), 16, 16)),
        2,
        &["mask", "32x32", "16x16"],
    );
    let black = dir.path().join("black.png");
    let pixels = mmada_data::picture::Picture::new(32, 32, vec![0; 32 * 32 * 3]).unwrap();
    fs::write(&black, pixels.encode_png().unwrap()).unwrap();
    fails(
        &mut inpaint(&black),
        2,
        &["mask", "at least one edited pixel", "none"],
    );
    assert!(!dir.path().join("out/painting.png").exists());
}

#[test]
fn run_files_that_are_none() {
    let dir = tempfile::tempdir().unwrap();
    let run = support::run_file(dir.path(), 2);
    let text = fs::read_to_string(&run).unwrap();
    let broken = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let train = |path: &std::path::Path, extra: &[&str]| {
        let mut command = mmada();
        command.arg("train").arg(path).args(extra);
        command
    };
    let unknown = broken("unknown.toml", &text.replace("[lr]", "[lr]\npaek = 1.0"));
    fails(
        &mut train(&unknown, &[]),
        1,
        &["unknown.toml", "paek", "expected"],
    );
    let section = broken("section.toml", &format!("{text}\n[optimiser]\n"));
    fails(&mut train(&section, &[]), 1, &["section.toml", "optimiser"]);
    let no_toml = broken("no.toml", "this is { no toml");
    fails(&mut train(&no_toml, &[]), 1, &["no.toml"]);
    fails(
        &mut train(&dir.path().join("absent.toml"), &[]),
        1,
        &["absent.toml"],
    );
    // The file is sound; what was typed is not.
    for (wrong, part) in [
        ("run.stepz=3", "stepz"),
        ("run.steps=many", "steps"),
        ("steps", "key=value"),
        ("model.init.from=elsewhere", "the run makes two"),
    ] {
        fails(
            &mut train(&run, &[wrong]),
            2,
            &["run.toml, changed by", wrong, part],
        );
    }
    fails(&mut train(&unknown, &["run.stepz=3"]), 1, &["unknown.toml"]);
    assert!(!dir.path().join("out").exists());
}

#[test]
fn data_that_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let model = support::model_dir(dir.path());
    let pack = support::pack(dir.path());
    let eval = |task: &str, data: &std::path::Path, split: &str| {
        let mut command = mmada();
        command
            .args(["eval", task, "--split", split, "--data"])
            .arg(data)
            .arg("--model")
            .arg(&model);
        command
    };
    fails(
        &mut eval("vqa", &dir.path().join("absent"), "test"),
        1,
        &["absent", "expected a folder"],
    );
    fails(
        &mut eval("vqa", &model, "test"),
        1,
        &["holds no data file", "SPLIT"],
    );
    fails(
        &mut eval("all", &pack, "valid"),
        1,
        &["valid", "test, train"],
    );
    for (setting, part) in [
        ("--steps=0", "steps"),
        ("--temperature=-1", "temperature"),
        ("--guidance=nan", "guidance"),
    ] {
        let mut wrong = eval("paint", &pack, "test");
        fails(wrong.arg(setting), 2, &[part, "expected"]);
    }
    let tokenizer = dir.path().join("tok");
    let mut train = mmada();
    train
        .args(["train-tokenizer", "--size", "100", "-o"])
        .arg(&tokenizer)
        .arg("--data")
        .arg(&pack);
    fails(&mut train, 2, &["100"]);
    let endless = [
        "train-tokenizer",
        "--size",
        "18446744073709551615",
        "-o",
        "x",
    ];
    fails(mmada().args(endless), 2, &["--size", "at most"]);
    assert!(support::files(&tokenizer).is_empty());
}

/// Flags that would change nothing are told so.
#[test]
fn flags_without_an_effect_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let picture = picture_file(dir.path(), 64, 64);
    let picture = picture.to_str().unwrap();
    for (flag, value) in [("--temperature", "2"), ("--anneal", "maskgit")] {
        let paint = ["paint", "a circle", "--sampler", "parallel", flag, value];
        fails(mmada().args(paint), 2, &[flag, "parallel"]);
        let inpaint = [
            "inpaint",
            picture,
            "--extend",
            "left=8",
            "--sampler",
            "turbo",
            flag,
            value,
        ];
        fails(mmada().args(inpaint), 2, &[flag, "turbo"]);
    }
    let thought = ["paint", "a circle", "--think", "--sampler", "turbo"];
    let noise = ["--temperature", "2"];
    fails(mmada().args(thought).args(noise), 2, &["--temperature"]);
    for flag in ["--best-of", "--guidance"] {
        let wordless = ["inpaint", picture, "--extend", "left=8", flag, "3"];
        fails(mmada().args(wordless), 2, &[flag, "prompt"]);
        fails(mmada().args(["paint", "", flag, "3"]), 2, &[flag, "prompt"]);
    }
    for (task, flag, value, word) in [
        ("reasoning", "--guidance", "2", "with pictures"),
        ("reasoning", "--looks", "2", "with pictures"),
        ("vqa", "--best-of", "2", "'paint'"),
        ("paint", "--commit", "threshold=0.9", "texts"),
        ("reconstruction", "--ahead", "8", "sampled"),
        ("paint", "--block", "4", "texts"),
        ("reconstruction", "--steps", "8", "sampled"),
        ("reconstruction", "--sampler", "fast", "sampled"),
        ("caption", "--output", "sheet.png", "'paint'"),
        ("paint", "--samples", "0", "1 to"),
        ("paint", "--samples", "1000000000000", "1 to"),
        ("vqa", "--limit", "0", "1 or more"),
    ] {
        fails(mmada().args(["eval", task, flag, value]), 2, &[flag, word]);
    }
    let fixed = ["eval", "paint", "--sampler", "turbo", "--temperature", "2"];
    fails(mmada().args(fixed), 2, &["--temperature", "turbo"]);
}

/// What was measured is told, also where a later pack holds something that cannot be asked.
#[test]
fn scores_outlive_a_broken_item() {
    let dir = tempfile::tempdir().unwrap();
    let model = support::model_dir(dir.path());
    let packs = dir.path().join("packs");
    support::pack(&packs);
    let long = "word ".repeat(4000);
    let problem = serde_json::json!({
        "messages": [{"role": "user", "content": long}, {"role": "assistant", "content": "<think>so</think>3"}],
        "answer": "3",
    });
    fs::create_dir(packs.join("zoo")).unwrap();
    fs::write(packs.join("zoo/test.jsonl"), format!("{problem}\n")).unwrap();
    let eval = |packs: &Path| {
        let mut command = mmada();
        command.args(["eval", "reasoning", "--data"]).arg(packs);
        support::said(command.arg("--model").arg(&model))
    };
    let said = eval(&packs);
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert!(
        said.out.contains("shapes  test   reasoning"),
        "{}",
        said.out
    );
    assert!(said.err.contains("pack zoo"), "{}", said.err);
    // Alone it may also be what was asked for, such as too long an answer.
    let said = eval(&packs.join("zoo"));
    assert_eq!(
        (said.code, said.out.as_str()),
        (Some(2), ""),
        "{}",
        said.err
    );
    assert!(said.err.contains("pack zoo"), "{}", said.err);
}
