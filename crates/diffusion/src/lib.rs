//! Masked diffusion over tokens: how a sequence is corrupted, what the loss is, and how a sampler
//! walks back. Algorithms here know a [`Denoiser`], never a network.
//!
//! ```text
//!   clean ids ──corruption──► noised ids, targets ──loss──► one weighted cross-entropy
//!
//!   masked canvases ──sampler──► Step, Step, Step … ──► clean ids
//!                        │ plan → denoise → commit
//! ```

pub mod cache;
pub mod canvas;
pub mod commit;
pub mod corruption;
pub mod denoiser;
pub mod error;
pub mod guidance;
pub mod loss;
pub mod noise;
pub mod plan;
pub mod sampler;
pub mod schedule;

mod batch;
mod halton;
mod image;
mod scores;
mod text;

pub use cache::{CacheRule, Refresh};
pub use canvas::{Canvas, Decision, Move};
pub use commit::Commit;
pub use corruption::{Corruption, Noised, Piece, Target};
pub use denoiser::Denoiser;
pub use error::{Error, Result};
pub use guidance::{Guidance, Unconditional};
pub use loss::{Coefficients, Likelihood, Loss};
pub use noise::{Draw, Noise, SeededNoise};
pub use plan::{Allowed, Anneal, Count, Finish, ImagePlan, Order, Plan, Rest, Stop, TextPlan};
pub use sampler::{Sampler, Step};
pub use schedule::Schedule;
