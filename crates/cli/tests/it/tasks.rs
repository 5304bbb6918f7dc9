//! What the commands give back on a tiny model.

use std::fs;

use crate::support::{self, FACTOR, SIDE, fails, json, mmada, picture_file, works};

fn size(path: &std::path::Path) -> (usize, usize) {
    let limits = mmada_data::picture::Limits::default();
    let picture = mmada_data::picture::Picture::decode(&fs::read(path).unwrap(), &limits).unwrap();
    (picture.width(), picture.height())
}

#[test]
fn chat_gives_one_json_object_and_the_same_text_again() {
    let dir = tempfile::tempdir().unwrap();
    let model = support::model_dir(dir.path());
    let chat = |extra: &[&str]| {
        let mut command = mmada();
        command
            .args(["chat", "What is 1 + 2?", "--temperature", "1", "--model"])
            .arg(&model)
            .args(extra);
        command
    };
    let answer = json(&mut chat(&["--json", "--seed", "3"]));
    assert_eq!(answer["task"], "chat");
    assert_eq!(answer["prompt"], "What is 1 + 2?");
    assert_eq!(answer["seed"], 3);
    assert!(answer["steps"].as_u64().unwrap() <= 8);
    assert!(answer["seconds"].is_number() && answer["answer"].is_string());
    let again = works(&mut chat(&["--seed", "3", "--watch"]));
    assert_eq!(again, works(&mut chat(&["--seed", "3"])));
    assert_eq!(
        again.trim_end_matches('\n'),
        answer["answer"].as_str().unwrap()
    );
    assert_ne!(again, works(&mut chat(&["--seed", "4"])));
}

#[test]
fn a_conversation_answers_line_by_line_and_forgets_what_is_too_long() {
    let dir = tempfile::tempdir().unwrap();
    let model = support::model_dir(dir.path());
    let mut command = mmada();
    command
        .args(["chat", "--json", "--system", "be kind", "--model"])
        .arg(&model);
    let out = works(command.write_stdin("one\n\ntwo\nthree\nfour\nfive\nsix\n"));
    let prompts: Vec<String> = out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["prompt"].to_string())
        .collect();
    assert_eq!(
        prompts,
        [
            "\"one\"",
            "\"two\"",
            "\"three\"",
            "\"four\"",
            "\"five\"",
            "\"six\""
        ]
    );
}

#[test]
fn describe_answers_and_completes() {
    let dir = tempfile::tempdir().unwrap();
    let model = support::model_dir(dir.path());
    let picture = picture_file(dir.path(), 50, 40);
    let describe = |extra: &[&str]| {
        let mut command = mmada();
        command
            .arg("describe")
            .arg(&picture)
            .args(extra)
            .arg("--model")
            .arg(&model);
        command
    };
    let answer = json(&mut describe(&["what is it?", "--json"]));
    assert_eq!(answer["prompt"], "what is it?");
    let completed = json(&mut describe(&["--answer", "a red [MASK:2].", "--json"]));
    assert!(completed["text"].as_str().unwrap().starts_with("a red "));
    assert_eq!(completed["gaps"].as_array().unwrap().len(), 1);
    let whole = works(&mut describe(&["--answer", "<think>[MASK:1]</think>red"]));
    assert!(whole.starts_with("<think>") && whole.contains("red"));
    assert_eq!(works(&mut describe(&[])), works(&mut describe(&[])));
}

/// `-o` of the commands that answer in words: the file holds what would have been printed.
#[test]
fn answers_go_to_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let model = support::model_dir(dir.path());
    let picture = picture_file(dir.path(), 32, 32);
    let picture = picture.to_str().unwrap();
    for arguments in [
        &["chat", "hi"][..],
        &["describe", picture],
        &["fill", "a ___."],
    ] {
        for extra in [&[][..], &["--show-thought"]] {
            if arguments[0] == "fill" && !extra.is_empty() {
                continue;
            }
            let ask = || {
                let mut command = mmada();
                command
                    .args(arguments)
                    .args(extra)
                    .arg("--model")
                    .arg(&model);
                command
            };
            let path = dir.path().join("new/answer.txt");
            let printed = works(&mut ask());
            assert_eq!(works(ask().arg("-o").arg(&path)), "");
            assert_eq!(fs::read_to_string(&path).unwrap(), printed);
            works(ask().arg("--json").arg("-o").arg(&path));
            let report: serde_json::Value =
                serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            assert_eq!(report["task"], arguments[0]);
            fails(
                ask().arg("-o").arg(dir.path()),
                2,
                &["expected a file, got a folder"],
            );
        }
    }
}

/// Visible padding in front of the prompt, for checkpoints that were trained with it.
#[test]
fn pads_are_attended_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let model = support::model_dir(dir.path());
    let paint = |pads: &[&str]| {
        let path = dir.path().join("p.png");
        let mut command = mmada();
        command.args(["paint", "a red circle", "--size", "32x32", "-o"]);
        command.arg(&path).args(pads).arg("--model").arg(&model);
        (command, path)
    };
    let painted = |pads: &[&str]| {
        let (mut command, path) = paint(pads);
        works(&mut command);
        fs::read(path).unwrap()
    };
    assert_ne!(painted(&[]), painted(&["--attend-pads", "64"]));
    for pads in ["1", "4000000000"] {
        fails(
            &mut paint(&["--attend-pads", pads]).0,
            2,
            &["--attend-pads", pads],
        );
    }
    // Guidance would compare a row with pads and one without.
    let both = &mut paint(&["--attend-pads", "64", "--think"]).0;
    fails(both, 2, &["--attend-pads", "--think"]);
}

/// Published checkpoints keep the image tokenizer in a repository of its own.
#[test]
fn the_image_tokenizer_may_lie_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let model = support::model_dir(dir.path());
    let elsewhere = dir.path().join("elsewhere");
    let out = dir.path().join("p.png");
    let paint = |extra: &[&std::path::Path]| {
        let mut command = mmada();
        command
            .args(["paint", "a", "-o"])
            .arg(&out)
            .arg("--model")
            .arg(&model);
        for path in extra {
            command.arg("--image-tokenizer").arg(path);
        }
        command
    };
    works(&mut paint(&[]));
    let before = fs::read(&out).unwrap();
    fs::rename(model.join("image_tokenizer"), &elsewhere).unwrap();
    fails(&mut paint(&[]), 1, &["image tokenizer"]);
    works(&mut paint(&[&elsewhere]));
    assert_eq!(fs::read(&out).unwrap(), before);
    fails(&mut paint(&[&dir.path().join("no such")]), 2, &["no such"]);
}

/// Offline, `owner/name` is what the hub's cache holds.
#[test]
fn a_hub_id_is_found_in_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    let model = support::model_dir(dir.path());
    let repo = dir.path().join("home/hub/models--some--model");
    fs::create_dir_all(repo.join("refs")).unwrap();
    fs::create_dir_all(repo.join("snapshots")).unwrap();
    fs::write(repo.join("refs/main"), "abc").unwrap();
    fs::rename(&model, repo.join("snapshots/abc")).unwrap();
    for arguments in [
        &["chat", "hi", "--model", "some/model"][..],
        &["inspect", "some/model"],
    ] {
        let home = dir.path().join("home");
        works(mmada().args(arguments).env("HF_HOME", home));
    }
}

#[test]
fn fill_keeps_what_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let model = support::model_dir(dir.path());
    let mut command = mmada();
    command.args(["fill", "12 + [MASK] = ___.", "--gap", "3", "--json"]);
    command.arg("--model").arg(&model);
    let filled = json(&mut command);
    let text = filled["answer"].as_str().unwrap();
    assert!(text.starts_with("12 + ") && text.ends_with('.'), "{text}");
    assert_eq!(filled["gaps"].as_array().unwrap().len(), 2);
    // Of the second, one stands for the space before it.
    assert_eq!(filled["tokens"], 5);
    works(command.args(["--guidance", "2"]));
}

#[test]
fn paint_writes_the_same_bytes_for_the_same_seed() {
    let dir = tempfile::tempdir().unwrap();
    let model = support::model_dir(dir.path());
    let paint = |name: &str, seed: &str| {
        let path = dir.path().join("new/folder").join(name);
        let mut command = mmada();
        command
            .args([
                "paint",
                "a red circle",
                "--seed",
                seed,
                "--size",
                "40x24",
                "-o",
            ])
            .arg(&path);
        works(command.arg("--model").arg(&model));
        assert_eq!(size(&path), (40, 24));
        fs::read(path).unwrap()
    };
    let first = paint("a.png", "1");
    assert_eq!(first, paint("b.png", "1"));
    assert_ne!(first, paint("b.png", "2"));
}

#[test]
fn several_paintings_are_numbered_and_listed() {
    let dir = tempfile::tempdir().unwrap();
    let model = support::model_dir(dir.path());
    let path = dir.path().join("p.png");
    let paint = |extra: &[&str]| support::paint(&model, &path, extra);
    let out = works(&mut paint(&["--count", "2"]));
    let paths: Vec<&str> = out.lines().collect();
    assert_eq!(paths.len(), 2);
    assert!(paths[0].ends_with("p-1.png") && paths[1].ends_with("p-2.png"));
    assert!(!path.exists());
    let thought = json(&mut paint(&["--think", "--json"]));
    assert_eq!(thought["thoughts"].as_array().unwrap().len(), 1);
    assert_eq!(size(&path), (SIDE, SIDE));
}

#[test]
fn inpaint_leaves_the_rest_alone_and_extends() {
    let dir = tempfile::tempdir().unwrap();
    let model = support::model_dir(dir.path());
    let picture = picture_file(dir.path(), SIDE, SIDE);
    let mask = dir.path().join("mask.png");
    let half = (0..SIDE * SIDE).flat_map(|at| [if at % SIDE < SIDE / 2 { 255 } else { 0 }; 3]);
    let half = mmada_data::picture::Picture::new(SIDE, SIDE, half.collect()).unwrap();
    fs::write(&mask, half.encode_png().unwrap()).unwrap();
    let out = dir.path().join("out.png");
    let inpaint = || {
        let mut command = mmada();
        command
            .arg("inpaint")
            .arg(&picture)
            .arg("--model")
            .arg(&model)
            .arg("-o")
            .arg(&out);
        command
    };
    works(inpaint().arg("--mask").arg(&mask));
    let limits = mmada_data::picture::Limits::default();
    let read = |path| {
        let bytes = fs::read(path).unwrap();
        mmada_data::picture::Picture::decode(&bytes, &limits).unwrap()
    };
    let (before, after) = (read(&picture), read(&out));
    for y in 0..SIDE {
        for x in SIDE / 2..SIDE {
            assert_eq!(before.pixel(x, y), after.pixel(x, y));
        }
    }
    works(inpaint().args(["--extend", "right=16", "--extend", "up=8"]));
    assert_eq!(size(&out), (SIDE + 16, SIDE + FACTOR));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
}

#[test]
fn explain_tells_the_spans() {
    let dir = tempfile::tempdir().unwrap();
    let model = support::model_dir(dir.path());
    let picture = picture_file(dir.path(), SIDE, SIDE);
    for task in ["chat", "text", "describe", "paint", "think-paint"] {
        let explain = |extra: &[&str]| {
            let mut command = mmada();
            command.args(["explain", "a red circle", "--task", task]);
            if task == "describe" {
                command.arg("--image").arg(&picture);
            }
            command.args(extra).arg("--model").arg(&model);
            command
        };
        let plain = works(&mut explain(&[]));
        assert!(
            !plain.contains('\u{1b}') && plain.contains("frame "),
            "{plain}"
        );
        let value = json(&mut explain(&["--json"]));
        assert_eq!(value["layout"], task);
        let spans = value["spans"].as_array().unwrap();
        let ids: usize = spans
            .iter()
            .map(|span| span["ids"].as_array().unwrap().len())
            .sum();
        assert_eq!(value["length"], ids);
        assert_eq!(spans.last().unwrap()["end"], ids);
    }
    let mut command = mmada();
    command
        .args(["explain", "a red circle", "--image"])
        .arg(&picture);
    fails(
        command.arg("--model").arg(&model),
        2,
        &["--image", "describe"],
    );
}

#[test]
fn inspect_lists_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let model = support::model_dir(dir.path());
    let value = json(mmada().args(["inspect", "--tensors", "--json"]).arg(&model));
    assert_eq!(value["sound"], true);
    assert_eq!(value["layers"], 2);
    assert_eq!(value["image_tokenizer"]["codes"], 16);
    assert_eq!(value["image_tokenizer"]["pixels_per_token"], FACTOR);
    let counted: u64 = value["tensors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| {
            t["shape"]
                .as_array()
                .unwrap()
                .iter()
                .map(|n| n.as_u64().unwrap())
                .product::<u64>()
        })
        .sum();
    let image = value["image_tokenizer"]["parameters"].as_u64().unwrap();
    assert_eq!(counted, value["parameters"].as_u64().unwrap() + image);
    assert!(works(mmada().arg("inspect").arg(&model)).contains("special ids"));
}

#[test]
fn eval_measures_what_a_pack_allows() {
    let dir = tempfile::tempdir().unwrap();
    let model = support::model_dir(dir.path());
    support::pack(dir.path());
    let sheet = dir.path().join("sheet.png");
    let eval = |task: &str, extra: &[&str]| {
        let mut command = mmada();
        command
            .args(["eval", task, "--samples", "1", "--steps", "2", "--data"])
            .arg(dir.path());
        command.args(extra).arg("--model").arg(&model);
        command
    };
    let all = json(&mut eval("all", &["--json", "-o", sheet.to_str().unwrap()]));
    let tasks: Vec<&str> = all["reports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|report| report["task"].as_str().unwrap())
        .collect();
    assert_eq!(
        tasks,
        ["reconstruction", "caption", "vqa", "paint", "reasoning"]
    );
    assert!(sheet.is_file());
    let cost = |sampler: &str| {
        let value = json(&mut eval("vqa", &["--json", "--sampler", sampler]));
        let cost = value["reports"][0]["cost"].clone();
        assert_eq!(cost["sampler"], sampler);
        assert!(cost["seconds"].as_f64().unwrap() > 0.0);
        assert!(cost["tokens_per_forward"].as_f64().unwrap() >= 1.0);
        cost["rows_per_token"].as_f64().unwrap()
    };
    assert!(cost("turbo") < cost("exact"));
    // A block takes one step at least.
    let steps = |block: &str| {
        let value = json(&mut eval("vqa", &["--json", "--block", block]));
        value["reports"][0]["cost"]["steps"].as_f64().unwrap()
    };
    assert!(steps("1") > steps("64"));
    let table = works(&mut eval("vqa", &["--limit", "2"]));
    assert!(table.contains("steps an item"), "{table}");
    assert!(
        table.contains("95 % interval") && table.contains("yes_no"),
        "{table}"
    );
}

#[test]
fn the_embedded_model_is_there_and_works() {
    let value = json(mmada().args(["doctor", "--json"]));
    assert_eq!(value["self_test"]["passed"], true);
    assert!(works(mmada().arg("inspect")).contains("embedded"));
    let dir = tempfile::tempdir().unwrap();
    let out = works(mmada().args(["try", "-o"]).arg(dir.path().join("try")));
    assert!(
        out.contains("sheet.png") && out.contains("Next: mmada"),
        "{out}"
    );
    for name in ["thing.png", "painting.png", "repainted.png", "sheet.png"] {
        assert!(size(&dir.path().join("try").join(name)).0 > 0);
    }
}

/// Ctrl-C between two steps, and while the program waits for a message.
#[test]
fn ctrl_c_is_code_130_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let model = support::model_dir(dir.path());
    let paint = [
        "paint",
        "a",
        "--count",
        "1024",
        "--size",
        "64x64",
        "--steps",
        "64",
        "-o",
        "out/p.png",
    ];
    for arguments in [&paint[..], &["chat"]] {
        let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin("mmada"))
            .args(arguments)
            .arg("--model")
            .arg(&model)
            .current_dir(dir.path())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // `wait` would close the input, and a conversation that ends is a success.
        let input = child.stdin.take();
        std::thread::sleep(std::time::Duration::from_millis(700));
        support::press_ctrl_c(&child);
        assert_eq!(child.wait().unwrap().code(), Some(130), "{arguments:?}");
        drop(input);
    }
    assert!(support::files(&dir.path().join("out")).is_empty());
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin("mmada"))
        .args(["completions", "bash"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}
