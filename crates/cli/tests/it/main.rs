//! The program from the outside: exit codes, standard output, messages, files.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs
)]

mod answers;
mod bad_input;
mod bench;
mod curves;
mod damaged_models;
mod doctor;
mod help;
mod keeping;
mod samplers;
mod saving;
mod support;
mod tasks;
mod thoughts;
mod training;
