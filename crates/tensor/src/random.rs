//! Randomness, passed in: every draw derives from `(seed, step, example, purpose)`.
//!
//! The same key gives the same numbers whatever the number of threads, the batch or the worker,
//! so a single example of a long run can be replayed alone.

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a draw is for. Two purposes never share numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// Initial weights.
    Weights = 1,
    /// Order and choice of training data.
    Data = 2,
    /// The noise level `t` of a training example.
    NoiseLevel = 3,
    /// Which tokens the forward process masks.
    Corruption = 4,
    /// Dropping the condition for guidance.
    Dropout = 5,
    /// The token drawn at a position.
    Token = 6,
    /// Which positions are committed.
    Position = 7,
    /// Augmentation of pictures.
    Augment = 8,
    /// The draws of sampled completions, in reinforcement learning.
    Rollout = 9,
    /// Whether a training example's answer is masked as a whole.
    Blank = 10,
    /// Which tokens of a picture a training example is without.
    PatchDropout = 11,
}

/// The coordinates of a stream of random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Seed of the run or request.
    pub seed: u64,
    /// Training or denoising step.
    pub step: u64,
    /// Example, canvas or tensor within the step.
    pub example: u64,
    /// What the numbers are for.
    pub purpose: Purpose,
}

impl Key {
    /// A key at step 0, example 0.
    pub fn new(seed: u64, purpose: Purpose) -> Self {
        Self {
            seed,
            step: 0,
            example: 0,
            purpose,
        }
    }

    /// The same key at another step.
    pub fn step(self, step: u64) -> Self {
        Self { step, ..self }
    }

    /// The same key for another example.
    pub fn example(self, example: u64) -> Self {
        Self { example, ..self }
    }

    /// The stream of numbers at this key.
    pub fn stream(self) -> Stream {
        let mut bytes = [0u8; 32];
        let words = [self.seed, self.step, self.example, self.purpose as u64];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        Stream(ChaCha8Rng::from_seed(bytes))
    }
}

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// A uniform number in `[0, 1)` on the 24-bit grid.
    pub fn uniform(&mut self) -> f32 {
        (self.0.next_u32() >> 8) as f32 * (1.0 / (1u32 << 24) as f32)
    }

    /// A uniform number in `[0, 1)` on the 53-bit grid.
    pub fn uniform_f64(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// A standard normal number (Box and Muller).
    pub fn normal(&mut self) -> f32 {
        let radius = (-2.0 * (1.0 - self.uniform_f64()).ln()).sqrt();
        let angle = std::f64::consts::TAU * self.uniform_f64();
        (radius * angle.cos()) as f32
    }

    /// A uniform integer in `0..n`; 0 when `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.0.next_u64()) * n as u128) >> 64) as usize
    }

    /// Shuffles in place (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}
