//! A run killed at random instants and resumed has the same losses, to the last bit.
//!
//! The test program runs itself as the process that is killed.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mmada_tensor::random::{Key, Purpose};
use mmada_train::{LaunchOptions, Mode, RunConfig, Silent, launch};

use crate::world::{World, metrics};

const RUN: &str = "MMADA_TEST_RUN";

/// What the killed process does; not a test of its own.
#[test]
#[ignore = "run by the test below as a process of its own"]
fn child() {
    let Some(path) = std::env::var_os(RUN) else {
        return;
    };
    let options = LaunchOptions {
        mode: Mode::Resume,
        ..LaunchOptions::default()
    };
    launch(&PathBuf::from(path), &[], options, &Silent).unwrap();
}

fn spawn(path: &std::path::Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "kill::child", "--ignored"])
        .env(RUN, path);
    command
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

fn check(name: &str, whole: &RunConfig, killed: &RunConfig, world: &World) {
    let options = LaunchOptions::default();
    mmada_train::run(whole, options, &Silent).unwrap();

    let path = world.path(&format!("{name}.toml"));
    std::fs::write(&path, killed.resolved().unwrap()).unwrap();
    // SIGKILL, later and later, so that the run dies at start, in steps and in checkpoints.
    let mut stream = Key::new(std::process::id().into(), Purpose::Data).stream();
    let mut kills = 0;
    for attempt in 0..200 {
        let mut child = spawn(&path);
        let longest = 20 + 12 * attempt;
        std::thread::sleep(Duration::from_millis(stream.below(longest) as u64));
        child.kill().unwrap();
        let status = child.wait().unwrap();
        if status.success() {
            break;
        }
        kills += 1;
    }
    assert!(spawn(&path).wait().unwrap().success());
    assert!(kills > 0, "the run was never interrupted");
    assert_eq!(
        metrics(&whole.run.out),
        metrics(&killed.run.out),
        "{name} after {kills} kills"
    );
    let weights =
        |config: &RunConfig| std::fs::read(config.run.out.join("model/model.safetensors")).unwrap();
    assert!(
        weights(whole) == weights(killed),
        "{name}: the trained weights differ"
    );
}

#[test]
fn killed_and_resumed_is_never_stopped() {
    let world = World::new();
    let steps = ["run.steps=14", "log.every=2", "checkpoint.every=1"];
    check(
        "text",
        &world.denoise("a", &steps),
        &world.denoise("b", &steps),
        &world,
    );
    check(
        "pictures",
        &world.reconstruct("c", &steps),
        &world.reconstruct("d", &steps),
        &world,
    );
    // Groups last three steps, so most kills are within one.
    mmada_train::run(
        &world.denoise("first", &[]),
        LaunchOptions::default(),
        &Silent,
    )
    .unwrap();
    check(
        "rollouts",
        &world.unigrpo("e", "first/model", &steps),
        &world.unigrpo("f", "first/model", &steps),
        &world,
    );
}
