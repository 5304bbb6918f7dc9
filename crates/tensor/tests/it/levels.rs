//! Every kernel on lower instruction sets than this processor's: all tests of this binary run again,
//! in processes that are held low, and what the kernels give there is compared.

use std::process::Command;

use mmada_tensor::cpu::{self, Level};
use mmada_tensor::ops::{self, Heads};
use mmada_tensor::{Rows, Tensor};

use crate::support::{assert_close, normal, run};

/// What this process prints its numbers after.
const MARK: &str = "numbers:";

/// Runs tests of this binary in a process of this level; returns what it said.
fn at(level: Level, arguments: &[&str]) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    // What `process::prepare` would set; a test harness has threads before anybody could call it.
    let products = match level {
        Level::Portable => "scalar",
        Level::Avx2 => "fma",
        Level::Avx512 | Level::Amx => "auto",
    };
    command.env("GEMMKIT_REQUIRE_ISA", products);
    command.env(cpu::VARIABLE, level.name());
    let output = command.args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}: {said}", level.name());
    said
}

/// Values and gradients of kernels that round differently where there is no fused multiply-add.
fn some_numbers() -> Vec<f32> {
    let heads = Heads {
        query: 2,
        key_value: 2,
    };
    let rows = Rows::pack([vec![0u32; 7], vec![0; 12]]);
    let block = |t: &[Tensor]| {
        let n = ops::rms_norm(&t[0], &t[1], 1e-5)?;
        let mixed = ops::attention(&n, &n, &t[0], heads, &rows.segments())?;
        let hidden = ops::gated_linear(&mixed, &t[2], &t[2])?;
        ops::nll(&hidden, &t[3], &[3; 19])
    };
    let shapes: [&[usize]; 4] = [&[19, 40], &[40], &[24, 40], &[33, 24]];
    let inputs: Vec<Tensor> = (1..).zip(shapes).map(|(seed, s)| normal(seed, s)).collect();
    run(&inputs, &block).concat()
}

/// Not a test of its own: it shows the numbers to the process that asked.
#[test]
#[allow(clippy::print_stdout)]
fn numbers_of_this_level() {
    let bits = some_numbers().into_iter().map(f32::to_bits);
    let bits: Vec<String> = bits.map(|bits| bits.to_string()).collect();
    println!("{MARK}{}", bits.join(","));
}

#[test]
fn levels_differ_by_rounding_alone() {
    let here = some_numbers();
    let of = |level: Level| -> Vec<f32> {
        let said = at(
            level,
            &["--exact", "levels::numbers_of_this_level", "--nocapture"],
        );
        let line = said.lines().find_map(|line| line.split_once(MARK)).unwrap();
        let bits = line.1.split(',').map(|bits| bits.parse().unwrap());
        bits.map(f32::from_bits).collect()
    };
    let portable = of(Level::Portable);
    assert_close("portable", 1e-5, &portable, &here);
    if Level::found() >= Level::Avx2 {
        let avx2 = of(Level::Avx2);
        assert_close("avx2", 1e-5, &avx2, &here);
        assert_ne!(avx2, portable, "both levels ran the same code");
    }
}

#[test]
fn all_tests_hold_on_every_level_below() {
    // Those processes do not begin further ones.
    if std::env::var_os(cpu::VARIABLE).is_some() {
        return;
    }
    for level in Level::ALL
        .into_iter()
        .filter(|level| *level < Level::found())
    {
        let said = at(
            level,
            &["--skip", "levels::levels", "--skip", "levels::all"],
        );
        for test in [
            "attention_matches_its_twin",
            "the_level_is_what_was_asked_for",
        ] {
            assert!(said.contains(&format!("{test} ... ok")), "{said}");
        }
    }
}

#[test]
fn the_level_is_what_was_asked_for() {
    let expected = cpu::wanted().unwrap().unwrap_or(Level::found());
    assert_eq!(Level::current(), expected);
}
