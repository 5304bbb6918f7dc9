//! Tests of diffusion: golden numbers of the original, the quirks decided one by one, and
//! properties that hold for any denoiser.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod caches;
mod commits;
mod conditions;
mod corruption;
mod fake;
mod golden;
mod golden_image;
mod golden_losses;
mod golden_schedules;
mod golden_text;
mod orders;
mod patches;
mod properties;
mod quirks_image;
mod quirks_text;
mod revisions;
mod tiles;
