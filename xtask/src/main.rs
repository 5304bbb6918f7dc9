//! Checks of the house rules that a compiler cannot see. Run with `cargo xtask tidy`.
//!
//! Each rule is an invariant of ARCHITECTURE.md; a line it prints is `file:line: what, and what to do`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

/// Which of our crates each crate may use: arrows point down only.
const LAYERS: &[(&str, &[&str])] = &[
    ("tensor", &[]),
    ("tokens", &[]),
    ("nn", &["tensor"]),
    ("diffusion", &["tensor", "tokens"]),
    ("data", &["tensor", "tokens"]),
    ("model", &["nn", "diffusion", "tokens", "tensor", "data"]),
    (
        "grade",
        &["model", "data", "nn", "diffusion", "tensor", "tokens"],
    ),
    (
        "train",
        &[
            "model",
            "data",
            "grade",
            "nn",
            "diffusion",
            "tensor",
            "tokens",
        ],
    ),
];

/// Lines a source file may have before it is worth a second look.
const LONGEST_FILE: usize = 500;

fn main() -> ExitCode {
    match env::args().nth(1).as_deref() {
        Some("tidy") => tidy(),
        _ => {
            eprintln!("usage: cargo xtask tidy");
            ExitCode::from(2)
        }
    }
}

fn tidy() -> ExitCode {
    // Asked at run time: a build folder may have been copied from another checkout.
    let manifest = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| "xtask".into());
    let root = Path::new(&manifest).join("..");
    let mut problems = Vec::new();
    check_layers(&root, &mut problems);
    let mut files = Vec::new();
    for folder in ["crates", "xtask", "examples"] {
        collect(&root.join(folder), &mut files);
    }
    files.sort();
    for file in &files {
        let Ok(text) = fs::read_to_string(file) else {
            continue;
        };
        let name = file
            .strip_prefix(&root)
            .unwrap_or(file)
            .display()
            .to_string();
        check_file(&name, &text, &mut problems);
    }
    check_quirks(&root, &files, &mut problems);
    for problem in &problems {
        eprintln!("{problem}");
    }
    if problems.is_empty() {
        println!("tidy: {} files, all rules kept", files.len());
        ExitCode::SUCCESS
    } else {
        eprintln!("tidy: {} problems", problems.len());
        ExitCode::FAILURE
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                collect(&path, files);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Invariant: crates use only the crates below them. Test code may reach further.
fn check_layers(root: &Path, problems: &mut Vec<String>) {
    for (name, allowed) in LAYERS {
        let manifest = root.join("crates").join(name).join("Cargo.toml");
        let Ok(text) = fs::read_to_string(&manifest) else {
            problems.push(format!("crates/{name}/Cargo.toml: missing"));
            continue;
        };
        let mut in_dependencies = false;
        for (index, line) in text.lines().enumerate() {
            if line.starts_with('[') {
                in_dependencies = line.trim() == "[dependencies]";
            }
            let Some(used) = line.strip_prefix("mmada-") else {
                continue;
            };
            let used = used.split(['.', ' ', '=']).next().unwrap_or_default();
            if in_dependencies && !allowed.contains(&used) {
                problems.push(format!(
                    "crates/{name}/Cargo.toml:{}: `{name}` must not use `{used}`; move the code down or the wall",
                    index + 1
                ));
            }
        }
    }
}

/// Invariant: each quirk of the original is decided, and the tests named beside it exist.
fn check_quirks(root: &Path, files: &[PathBuf], problems: &mut Vec<String>) {
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    let is_test = |file: &&PathBuf| file.components().any(|part| part.as_os_str() == "tests");
    let tests: String = files
        .iter()
        .filter(is_test)
        .map(|file| read(file))
        .collect();
    let table = read(&root.join("docs/quirks.md"));
    let mut next = 1;
    for (index, line) in table.lines().enumerate() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, number, _, _, shown, _] = cells[..] else {
            continue;
        };
        let Ok(number) = number.parse::<u32>() else {
            continue;
        };
        let mut say = |what: String| problems.push(format!("docs/quirks.md:{}: {what}", index + 1));
        if number != next {
            say(format!("quirk {next} is missing"));
        }
        next = number + 1;
        for test in shown.split('`').skip(1).step_by(2) {
            if !tests.contains(&format!("fn {test}(")) {
                say(format!(
                    "no test is called {test}; name the one that shows it"
                ));
            }
        }
    }
    if next == 1 {
        problems.push("docs/quirks.md: expected a table of quirks, got none".to_owned());
    }
}

fn check_file(name: &str, text: &str, problems: &mut Vec<String>) {
    let is_test = name.contains("/tests/");
    let mut say = |line: usize, what: &str| problems.push(format!("{name}:{}: {what}", line + 1));

    let first = text
        .lines()
        .find(|line| !line.trim().is_empty() && !line.starts_with("#!["));
    if !first.is_some_and(|line| line.starts_with("//!")) {
        say(
            0,
            "a file opens with a `//!` paragraph that says what it is for",
        );
    }
    let lines = text.lines().count();
    if lines > LONGEST_FILE {
        say(
            lines,
            &format!("{lines} lines; split the file along its ideas"),
        );
    }
    for (index, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        if code.contains("feature =")
            && code.contains("cfg")
            && !name.starts_with("crates/tensor/")
            && !name.starts_with("xtask")
        {
            say(index, "device features are decided in `tensor` alone");
        }
        if has_word(code, "unsafe")
            && !name.starts_with("crates/tensor/src")
            && name != "crates/nn/src/weight_files.rs"
            && !name.starts_with("xtask")
        {
            say(
                index,
                "`unsafe` belongs to the kernels of `tensor` and to weight mapping",
            );
        }
        if !is_test
            && name != "crates/tokens/src/vocab.rs"
            && !name.starts_with("xtask")
            && has_token_id(code)
        {
            say(
                index,
                "token ids as numbers live in crates/tokens/src/vocab.rs",
            );
        }
        if !is_test
            && !name.starts_with("xtask")
            && (line.contains("FIXME") || line.contains("XXX"))
        {
            say(index, "finish it or write it down in LOG.md");
        }
        if line.ends_with(' ') || line.contains('\t') {
            say(index, "trailing space or tab");
        }
    }
}

fn has_word(code: &str, word: &str) -> bool {
    code.split(|c: char| !c.is_alphanumeric() && c != '_')
        .any(|part| part == word)
}

/// Whether a number of the published special-token range (126080 to 134655) stands in the code.
fn has_token_id(code: &str) -> bool {
    code.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter_map(|word| word.replace('_', "").parse::<u32>().ok())
        .any(|number| (126_080..134_656).contains(&number))
}
