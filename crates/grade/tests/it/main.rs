//! Tests of the judges and of the benchmarks.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod answer;
mod clip;
mod drawing;
mod endpoint;
mod equality;
mod eval;
mod image_reward;
mod interval;
mod nearest;
#[path = "../../../model/tests/it/tiny.rs"]
mod tiny;
mod tiny_clip;
