//! The random numbers of sampling, passed in: every draw names what it is for, so a canvas draws
//! the same numbers alone, in any batch, and on any number of threads.

use mmada_tensor::random::{Key, Purpose};

/// The coordinates of one request for random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw {
    /// Number of the canvas ([`Canvas::example`](crate::Canvas::example), else its index).
    pub example: u64,
    /// Denoising step of that canvas, from 0.
    pub step: u64,
    /// Position on the canvas.
    pub position: usize,
    /// [`Purpose::Token`] or [`Purpose::Position`].
    pub purpose: Purpose,
}

/// A source of uniform numbers in `[0, 1)`. Double precision, because the tail of Gumbel noise
/// over a large vocabulary is cut off by the 24 bits of an f32.
pub trait Noise: Send {
    /// Fills `out`. The same draw gives the same numbers.
    fn uniforms(&mut self, draw: Draw, out: &mut [f64]);
}

/// The noise of a seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeededNoise(pub u64);

impl Noise for SeededNoise {
    fn uniforms(&mut self, draw: Draw, out: &mut [f64]) {
        // Position and step share one word of the key: both stay far below 2^32.
        let step = (draw.step << 32) | draw.position as u64;
        let key = Key::new(self.0, draw.purpose).example(draw.example);
        let mut stream = key.step(step).stream();
        out.fill_with(|| stream.uniform_f64());
    }
}

/// Standard Gumbel noise from a uniform number: `−ln(−ln u)`, both logarithms clamped at 1e-20 as
/// in the original's `sampling.py`, hence within `[−3.83, 46.05]`.
pub fn gumbel(uniform: f64) -> f64 {
    const SMALLEST: f64 = 1e-20;
    let inner = -uniform.max(SMALLEST).ln();
    -inner.max(SMALLEST).ln()
}

/// The noise of one canvas at one step.
pub(crate) struct Dice<'a> {
    pub(crate) noise: &'a mut dyn Noise,
    pub(crate) example: u64,
    pub(crate) step: u64,
}

impl Dice<'_> {
    pub(crate) fn fill(&mut self, position: usize, purpose: Purpose, out: &mut [f64]) {
        let draw = Draw {
            example: self.example,
            step: self.step,
            position,
            purpose,
        };
        self.noise.uniforms(draw, out);
    }

    pub(crate) fn one(&mut self, position: usize, purpose: Purpose) -> f64 {
        let mut out = [0.0];
        self.fill(position, purpose, &mut out);
        out[0]
    }
}
