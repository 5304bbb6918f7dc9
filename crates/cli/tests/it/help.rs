//! Help and completions.

use crate::support::{fails, mmada, said, works};

const COMMANDS: [&str; 16] = [
    "try",
    "chat",
    "describe",
    "paint",
    "fill",
    "inpaint",
    "train",
    "train-tokenizer",
    "curves",
    "merge",
    "eval",
    "bench",
    "explain",
    "inspect",
    "doctor",
    "completions",
];

#[test]
fn every_command_is_listed_and_has_an_example() {
    let all = works(mmada().arg("--help"));
    for command in COMMANDS {
        assert!(all.contains(command), "{command} is missing in {all}");
        let help = works(mmada().args([command, "--help"]));
        assert!(help.contains("Example"), "{help}");
        assert!(help.contains(&format!("  mmada {command}")), "{help}");
    }
}

/// The flags of every example are ones that its command knows: with `--help` behind them the
/// arguments before are still parsed.
#[test]
fn the_examples_parse() {
    for command in COMMANDS {
        let help = works(mmada().args([command, "--help"]));
        let examples = help
            .lines()
            .filter_map(|line| line.strip_prefix("  mmada "));
        for example in examples.filter(|line| line.starts_with(command)) {
            let words = words(example);
            let unknown = said(mmada().args(&words).arg("--no-such-flag"));
            assert_eq!(unknown.code, Some(2));
            assert!(
                unknown.err.contains("--no-such-flag"),
                "{example}: {}",
                unknown.err
            );
        }
    }
}

/// The quick examples do what they promise, from the folder that holds `assets` and `runs`.
#[test]
fn the_examples_work() {
    let root = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let dir = tempfile::tempdir().unwrap();
    for folder in ["assets", "runs"] {
        std::os::unix::fs::symlink(root.join(folder), dir.path().join(folder)).unwrap();
    }
    // Slow ones, and those that need what a run has left.
    let is_left_out =
        |command: &str| ["try", "eval", "bench", "train-tokenizer", "merge"].contains(&command);
    for command in COMMANDS.into_iter().filter(|command| !is_left_out(command)) {
        let help = works(mmada().args([command, "--help"]));
        let examples = help
            .lines()
            .filter_map(|line| line.strip_prefix("  mmada "));
        for example in examples.map(words) {
            if command != "train" || example.contains(&"--dry-run".to_owned()) {
                works(mmada().args(&example).current_dir(dir.path()));
            }
        }
    }
}

/// Splits a command line at spaces outside quotes, up to a comment or a redirection.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut is_quoted = false;
    for c in line.chars() {
        match c {
            '"' => is_quoted = !is_quoted,
            ' ' if !is_quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    let is_end = |word: &String| word == "#" || word == ">";
    words
        .into_iter()
        .take_while(|word| !is_end(word))
        .filter(|word| !word.is_empty())
        .collect()
}

#[test]
fn completions_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(works(mmada().args(["completions", shell])).contains("mmada"));
    }
}

#[test]
fn wrong_usage_is_code_2() {
    for arguments in [
        &["frobnicate"][..],
        &["paint"],
        &["chat", "--steps", "many"],
        &[],
    ] {
        assert_eq!(said(mmada().args(arguments)).code, Some(2), "{arguments:?}");
    }
    fails(
        mmada().args(["chat", "hi", "--device", "cuda"]),
        2,
        &["device", "--device cpu"],
    );
    fails(
        mmada().args(["chat", "hi", "--model", "no such"]),
        2,
        &["model", "owner/name"],
    );
    fails(
        mmada().args(["chat", "hi", "--model", "a/b"]),
        1,
        &["a/b", "HF_HUB_OFFLINE"],
    );
}
