//! The one sampling loop: an iterator of steps over a batch of canvases.
//!
//! ```text
//!            ┌────────────────────────────────────────────────┐
//!   plan ────┤ candidates of every unfinished canvas           │
//!   pack ────┤ canvases, their conditions and twins, packed;   │  one forward
//!            │ with a cache rule the rows that it renews       │
//!   denoise ─┤ logits of the candidate rows only               │
//!   commit ──┤ keep the surest                                 │──► Step
//!            └────────────────────────────────────────────────┘
//! ```
//!
//! Watching, streaming, painting partial pictures and recording trajectories all consume this
//! iterator. A finished canvas leaves the batch and costs nothing more.

use crate::batch::{Batch, Memory};
use crate::canvas::{Canvas, Move};
use crate::denoiser::Denoiser;
use crate::error::{Error, Result};
use crate::noise::{Dice, Noise};

/// One step of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Which step, from 0.
    pub index: usize,
    /// Steps the batch takes at most.
    pub total: usize,
    /// Rows that the forward computed, those of unconditional twins and stand-ins included.
    pub rows: usize,
    /// What happened to each canvas that took part.
    pub moves: Vec<Move>,
}

/// Unmasks a batch of canvases with one forward per step.
pub struct Sampler<D> {
    denoiser: D,
    canvases: Vec<Canvas>,
    noise: Box<dyn Noise>,
    /// What is known of the denoiser's memory; absent where every step computes every row.
    memory: Option<Memory>,
    index: usize,
    has_failed: bool,
}

impl<D: Denoiser> Sampler<D> {
    /// A sampler over canvases of any lengths and plans. A denoiser may be passed by `&mut`.
    ///
    /// Text and pictures may share a batch; the logits then span both ranges of the vocabulary.
    pub fn new(denoiser: D, mut canvases: Vec<Canvas>, mut noise: Box<dyn Noise>) -> Self {
        for (index, canvas) in canvases.iter_mut().enumerate() {
            let mut dice = Dice {
                noise: &mut *noise,
                example: canvas.number(index),
                step: 0,
            };
            canvas.begin(&mut dice);
        }
        Self {
            denoiser,
            memory: Memory::of(&canvases),
            canvases,
            noise,
            index: 0,
            has_failed: false,
        }
    }

    /// The canvases as they are now, in the order given.
    pub fn canvases(&self) -> &[Canvas] {
        &self.canvases
    }

    /// Hands the canvases back, finished or not.
    pub fn into_canvases(self) -> Vec<Canvas> {
        self.canvases
    }

    /// Runs to the end.
    pub fn finish(mut self) -> Result<Vec<Canvas>> {
        for step in &mut self {
            step?;
        }
        Ok(self.canvases)
    }

    fn step(&mut self) -> Result<Step> {
        let batch = Batch::pack(&self.canvases, self.memory.as_mut());
        let logits = batch.denoise(&mut self.denoiser)?;
        let mut moves = Vec::with_capacity(batch.seats.len());
        for seat in &batch.seats {
            let canvas = &mut self.canvases[seat.canvas];
            let scores = seat.scores(canvas, &logits, self.memory.as_mut());
            let mut dice = Dice {
                noise: &mut *self.noise,
                example: canvas.number(seat.canvas),
                step: canvas.steps_taken() as u64,
            };
            let moved = canvas.advance(seat.canvas, &seat.asked, &scores, &mut dice);
            moves.push(moved.map_err(|position| Error::NotFinite {
                canvas: seat.canvas,
                position,
            })?);
        }
        let step = Step {
            index: self.index,
            total: self.canvases.iter().map(Canvas::steps).max().unwrap_or(0),
            rows: batch.rows(),
            moves,
        };
        self.index += 1;
        Ok(step)
    }
}

impl<D: Denoiser> Iterator for Sampler<D> {
    type Item = Result<Step>;

    /// The next step; `None` when every canvas is finished, and after an error.
    fn next(&mut self) -> Option<Self::Item> {
        if self.has_failed || self.canvases.iter().all(Canvas::is_finished) {
            return None;
        }
        let step = self.step();
        self.has_failed = step.is_err();
        Some(step)
    }
}
