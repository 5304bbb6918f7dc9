//! Masked diffusion over tokens: how a sequence is corrupted, what the loss is, and how a sampler
//! walks back. Algorithms here know a [`Denoiser`], never a network.

pub mod denoiser;

pub use denoiser::Denoiser;
