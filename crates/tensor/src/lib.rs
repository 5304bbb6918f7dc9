//! What every other crate computes with: tensors, packed rows, fused operations and randomness.
//!
//! ```text
//!   Rows, Want, Segment      packed batches: sequences laid end to end, never padded
//!   ops::{linear, attention, …}   one function per operation, with backward
//!   Precision                in what matrix products are computed
//!   PackedLinear             weights packed once, for inference
//!   recompute                activations computed twice rather than kept
//!   random::{Key, Stream}    every draw derives from (seed, step, example, purpose)
//!   cpu::Level               how much of the processor's instruction set is used
//!   process::prepare         what a program calls first, for speed
//! ```
//!
//! Each operation in [`ops`] has a twin in [`composed`], written with plain tensor operations.
//! The twin runs where no fused kernel exists (another device, another dtype) and is the
//! reference that the fused one is tested against.

mod check;
pub mod composed;
pub mod cpu;
pub mod error;
mod gemm;
mod kernels;
mod leave;
pub mod ops;
pub mod packed;
pub mod packed_linear;
pub mod peak;
pub mod precision;
pub mod process;
pub mod random;
pub mod recompute;
mod scratch;

pub use candle_core::{self as candle, D, DType, Device, IndexOp, Tensor, Var};
pub use error::{Error, Result};
pub use packed::{Recall, Rows, Segment, Want};
pub use packed_linear::{Normed, PackedLinear, Packing};
pub use precision::Precision;
pub use recompute::Activations;
