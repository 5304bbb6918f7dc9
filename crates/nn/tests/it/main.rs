//! Tests of the networks and their weight files.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod atomic;
mod cache;
mod clip;
mod common;
mod config;
mod grow;
mod image_reward;
mod lora;
mod losses;
mod magvit;
mod magvit_tiny;
mod packed;
mod params;
mod recompute;
mod transformer;
mod weight_files;
