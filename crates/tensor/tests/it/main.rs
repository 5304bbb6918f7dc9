//! Fused operations against their composed twins, values and gradients; threads; randomness.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod attention;
mod halves;
mod layers;
mod levels;
mod loss;
mod optimizer;
mod packed;
mod packed_linear;
mod pictures;
mod precision;
mod random;
mod recompute;
mod support;
mod threads;
