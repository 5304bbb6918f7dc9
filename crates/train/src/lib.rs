//! Training: one loop, objectives as values, a run as a TOML file.
//!
//! ```text
//!   RUN.toml + key=value ──▶ RunConfig ──▶ Trainer ──▶ OUT/checkpoints/step-…  (resumable)
//!                                            │         OUT/model               (the result)
//!        Objective: what a batch is, ◀───────┤         OUT/metrics.jsonl, OUT/tensorboard
//!        and what its loss is                └───────▶ OUT/samples             (watch it learn)
//! ```

pub mod claim;
pub mod config;
pub mod launch;
pub mod trainer;

pub mod denoise;
pub mod objective;
pub mod reconstruct;
pub mod unigrpo;

pub mod codes;

pub mod checkpoint;
pub mod curves;
pub mod lr;
pub mod metrics;
pub mod optimizer;
pub mod report;
pub mod tensorboard;

mod clock;
pub mod error;
mod overrides;
mod samples;
mod start;
mod stock;
mod weights;
mod workers;

pub use config::RunConfig;
pub use error::{Error, Result};
pub use launch::{LaunchOptions, Mode, Outcome, launch, run};
pub use report::{Event, Reporter, Silent};
