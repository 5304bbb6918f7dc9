//! Tests of the trainer, through its public interface.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod backward;
mod checkpoint;
mod claims;
mod code_bits;
mod code_rows;
mod config;
mod curves;
mod golden;
mod grow;
mod kill;
mod lora;
mod masks;
mod metrics;
mod optimizer;
mod pictures;
mod rollouts;
mod runs;
#[path = "../../../grade/tests/it/tiny_clip.rs"]
mod tiny_clip;
mod unigrpo;
mod world;
