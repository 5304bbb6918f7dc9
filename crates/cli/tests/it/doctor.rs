//! What the program says of the machine, and what it may be told to leave unused.

use crate::support::{fails, json, mmada, works};

#[test]
fn the_level_of_the_kernels_is_shown_and_can_be_lowered() {
    let doctor = || {
        let mut command = mmada();
        command.arg("doctor");
        command
    };
    let found = json(doctor().arg("--json"))["cpu_level"].clone();
    assert_eq!(found["used"], found["found"]);
    let low = json(doctor().arg("--json").env("MMADA_CPU", "portable"));
    assert_eq!(low["cpu_level"]["used"], "portable");
    assert_eq!(low["self_test"]["passed"], true);
    assert!(works(doctor().env("MMADA_CPU", "portable")).contains("portable"));
    fails(
        doctor().env("MMADA_CPU", "quick"),
        2,
        &["MMADA_CPU", "portable", "quick"],
    );
}
