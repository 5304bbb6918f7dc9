//! The one sampling loop: an iterator of steps over a batch of canvases.
//!
//! ```text
//!            ┌───────────────────────────────────────────────┐
//!   plan ────┤ candidates of every unfinished canvas          │
//!   pack ────┤ canvases and their unconditional twins, packed │  one forward
//!   denoise ─┤ logits of the candidate rows only              │
//!   commit ──┤ keep the surest                                │──► Step
//!            └───────────────────────────────────────────────┘
//! ```
//!
//! Watching, streaming, painting partial pictures and recording trajectories all consume this
//! iterator. A finished canvas leaves the batch and costs nothing more.

use mmada_tensor::{DType, Rows, Want};

use crate::canvas::{Canvas, Move};
use crate::denoiser::Denoiser;
use crate::error::{Error, Result};
use crate::noise::{Dice, Noise};
use crate::scores::{Logits, Scores};

/// One step of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Which step, from 0.
    pub index: usize,
    /// Steps the batch takes at most.
    pub total: usize,
    /// What happened to each canvas that took part.
    pub moves: Vec<Move>,
}

/// Unmasks a batch of canvases with one forward per step.
pub struct Sampler<D> {
    denoiser: D,
    canvases: Vec<Canvas>,
    noise: Box<dyn Noise>,
    index: usize,
    has_failed: bool,
}

impl<D: Denoiser> Sampler<D> {
    /// A sampler over canvases of any lengths and plans. A denoiser may be passed by `&mut`.
    ///
    /// Text and pictures may share a batch; the logits then span both ranges of the vocabulary.
    pub fn new(denoiser: D, canvases: Vec<Canvas>, noise: Box<dyn Noise>) -> Self {
        Self {
            denoiser,
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
        let batch = Batch::pack(&self.canvases);
        let logits = batch.denoise(&mut self.denoiser)?;
        let mut moves = Vec::with_capacity(batch.seats.len());
        for seat in &batch.seats {
            let canvas = &mut self.canvases[seat.canvas];
            let scores = Scores {
                logits: &logits,
                first: seat.first,
                guided: seat.guided,
                ids: canvas.vocab(),
            };
            let mut dice = Dice {
                noise: &mut *self.noise,
                example: canvas.number(seat.canvas),
                step: canvas.steps_taken() as u64,
            };
            let moved = canvas.advance(seat.canvas, &seat.candidates, &scores, &mut dice);
            moves.push(moved.map_err(|position| Error::NotFinite {
                canvas: seat.canvas,
                position,
            })?);
        }
        let step = Step {
            index: self.index,
            total: self.canvases.iter().map(Canvas::steps).max().unwrap_or(0),
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

/// One canvas in a packed forward.
struct Seat {
    canvas: usize,
    candidates: Vec<usize>,
    /// Wanted row of its first candidate.
    first: usize,
    /// The same in its unconditional sequence, and the scale.
    guided: Option<(usize, f32)>,
}

struct Batch {
    rows: Rows,
    want: Want,
    seats: Vec<Seat>,
}

impl Batch {
    fn pack(canvases: &[Canvas]) -> Self {
        let mut rows = Rows::default();
        let mut wanted = Vec::new();
        let mut seats = Vec::new();
        for (index, canvas) in canvases.iter().enumerate() {
            if canvas.is_finished() {
                continue;
            }
            let candidates = canvas.candidates();
            let start = rows.push(canvas.visible()).start;
            let first = wanted.len();
            wanted.extend(candidates.iter().map(|position| start + position));
            let guided = canvas.guidance().map(|guidance| {
                let twin = guidance.unconditional.twin(canvas.ids(), canvas.mask());
                let start = rows.push(&twin).start;
                let first = wanted.len();
                let places = candidates
                    .iter()
                    .map(|&p| guidance.unconditional.position(p));
                wanted.extend(places.map(|place| start + place));
                (first, guidance.scale)
            });
            seats.push(Seat {
                canvas: index,
                candidates,
                first,
                guided,
            });
        }
        let ranges = seats.iter().map(|seat| canvases[seat.canvas].vocab());
        let hull = ranges.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end));
        let hull = hull.unwrap_or(0..0);
        Self {
            rows,
            want: Want::new(wanted, hull.start as usize..hull.end as usize),
            seats,
        }
    }

    fn denoise(&self, denoiser: &mut impl Denoiser) -> Result<Logits> {
        let logits = denoiser.logits(&self.rows, &self.want)?;
        let expected = [self.want.rows.len(), self.want.vocab.len()];
        if logits.dims() != expected {
            let (expected, got) = (format!("{expected:?}"), format!("{:?}", logits.dims()));
            return Err(mmada_tensor::Error::shape("logits of the denoiser", expected, got).into());
        }
        let values = logits
            .to_dtype(DType::F32)
            .and_then(|logits| logits.flatten_all());
        let values = values.and_then(|values| values.to_vec1::<f32>());
        Ok(Logits {
            values: values.map_err(mmada_tensor::Error::from)?,
            vocab: self.want.vocab.start as u32..self.want.vocab.end as u32,
        })
    }
}
