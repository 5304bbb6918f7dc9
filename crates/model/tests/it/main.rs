//! Tests of the whole model: directories, and every task end to end on a tiny random model.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod directory;
mod examples;
mod gaps;
mod golden;
mod pictures;
mod samplers;
mod text;
mod thinking;
mod tiny;
