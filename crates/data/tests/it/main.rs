//! The tests of `mmada-data`.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod alterations;
mod derived;
mod drawings;
mod files;
mod packs;
mod parquet;
mod picture;
mod readers;
mod sketches;
mod stream;
mod sums;
mod variants;
mod views;
