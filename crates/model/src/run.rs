//! A request in progress: an iterator of views, then the results.
//!
//! ```text
//!   Job, Job, Job … ──chunks of at most the row budget──► Sampler ──► View, View, View …
//!                                                             └─────► finish() ► outputs
//! ```
//!
//! A job draws its random numbers by its own number, so its result does not depend on the jobs
//! beside it.

use std::collections::VecDeque;
use std::ops::{Add, Range};
use std::time::Instant;

use mmada_data::picture::Picture;
use mmada_diffusion::{Canvas, Move, Sampler, SeededNoise};

use crate::denoiser::Network;
use crate::error::{Error, Result};
use crate::mmada::Mmada;
use crate::pictures::Grid;

/// What a finished canvas is turned into.
pub trait Outcome {
    /// The result handed to the caller.
    type Output;
    /// Reads the result off a canvas.
    fn read(&self, model: &Mmada, canvas: &Canvas) -> Result<Self::Output>;
    /// How many canvases in a row, this one being the first, are rivals for one result.
    fn rivals(&self) -> usize {
        1
    }
    /// Which of its rivals' results, in order, is kept.
    ///
    /// # Errors
    /// Those of comparing them.
    fn best(&self, _model: &Mmada, _rivals: &[Self::Output]) -> Result<usize> {
        Ok(0)
    }
    /// The positions a watcher looks at, and their grid if they are a picture.
    fn shown(&self) -> (Range<usize>, Option<Grid>);
}

/// A canvas to fill and what it is for.
#[derive(Debug, Clone)]
pub(crate) struct Job<O> {
    pub(crate) canvas: Canvas,
    /// Rows of a forward: the canvas, further looks at its picture, and its unconditional twin where it
    /// is guided.
    pub(crate) rows: usize,
    pub(crate) outcome: O,
}

/// One or more requests in progress. Iterate to watch; [`Run::finish`] for the results.
pub struct Run<'m, O> {
    model: &'m Mmada,
    seed: u64,
    outcomes: Vec<O>,
    waiting: VecDeque<Vec<Canvas>>,
    sampler: Option<Sampler<Network<'m>>>,
    finished: Vec<Canvas>,
    step: usize,
    total: usize,
    /// Share of its steps that the batch in progress has taken.
    share: f64,
    effort: Effort,
    has_failed: bool,
}

/// What sampling took so far, over all canvases of a run.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Effort {
    /// Steps of all canvases: as many forwards as if each had run alone.
    pub forwards: usize,
    /// Tokens decided.
    pub tokens: usize,
    /// Rows computed, those of guidance and of verification included.
    pub rows: usize,
    /// Wall-clock time of the steps.
    pub seconds: f64,
}

impl Add for Effort {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            forwards: self.forwards + other.forwards,
            tokens: self.tokens + other.tokens,
            rows: self.rows + other.rows,
            seconds: self.seconds + other.seconds,
        }
    }
}

/// The state after one denoising step.
#[derive(Debug, Clone)]
pub struct View {
    /// Which step, from 0.
    pub step: usize,
    /// Steps there will be at most.
    pub total: usize,
    /// What the step did, canvas by canvas; indices count all canvases of the run.
    pub moves: Vec<Move>,
    /// The canvases that are in progress together.
    pub canvases: Vec<Progress>,
}

/// A canvas in progress.
#[derive(Debug, Clone)]
pub struct Progress {
    /// Index among all canvases of the run.
    pub index: usize,
    /// Ids of the part that is being made, masks included.
    pub ids: Vec<u32>,
    /// Which of them are still masked.
    pub is_masked: Vec<bool>,
    /// The text so far, with [`MASK_GLYPH`] for every masked token; empty for pictures.
    pub text: String,
    /// Tokens across and down, for a picture.
    pub grid: Option<Grid>,
}

/// Stands for a masked token in [`Progress::text`].
pub const MASK_GLYPH: char = '░';

impl<'m, O: Outcome> Run<'m, O> {
    pub(crate) fn new(model: &'m Mmada, seed: u64, jobs: Vec<Job<O>>) -> Self {
        let (canvases, outcomes): (Vec<_>, Vec<_>) = jobs
            .into_iter()
            .map(|job| ((job.canvas, job.rows), job.outcome))
            .unzip();
        let waiting = chunks(canvases, model.row_budget());
        let steps = |chunk: &Vec<Canvas>| chunk.iter().map(Canvas::steps).max().unwrap_or(0);
        Self {
            model,
            seed,
            outcomes,
            total: waiting.iter().map(steps).sum(),
            waiting,
            sampler: None,
            finished: Vec::new(),
            step: 0,
            share: 0.0,
            effort: Effort::default(),
            has_failed: false,
        }
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// The first failure of any step; after one was yielded, that there was one.
    pub fn finish(self) -> Result<Vec<O::Output>> {
        Ok(self.finish_told(&mut |_| {})?.0)
    }

    /// Runs to the end; also says what that took. After every step `told` hears the share of the
    /// canvases that is done, with those in progress in parts.
    ///
    /// # Errors
    /// As [`Run::finish`].
    pub fn finish_told(mut self, told: &mut dyn FnMut(f64)) -> Result<(Vec<O::Output>, Effort)> {
        self.run_out(told)?;
        let mut pairs = self.outcomes.iter().zip(&self.finished);
        let mut kept = Vec::new();
        while let Some((first, canvas)) = pairs.next() {
            let mut rivals = vec![first.read(self.model, canvas)?];
            for (outcome, canvas) in pairs.by_ref().take(first.rivals() - 1) {
                rivals.push(outcome.read(self.model, canvas)?);
            }
            kept.push(rivals.swap_remove(first.best(self.model, &rivals)?));
        }
        Ok((kept, self.effort))
    }

    fn run_out(&mut self, told: &mut dyn FnMut(f64)) -> Result<()> {
        if self.has_failed {
            let hint = "report the error that the step gave";
            return Err(Error::request("run", "no failed step", "one", hint));
        }
        while let Some(moves) = self.advance() {
            moves?;
            told(self.done());
        }
        Ok(())
    }

    /// The share of the canvases that is done, with those in progress in parts.
    pub(crate) fn done(&self) -> f64 {
        let in_progress = self.sampler.as_ref();
        let in_progress = in_progress.map_or(0, |sampler| sampler.canvases().len());
        let done = self.finished.len() as f64 + self.share * in_progress as f64;
        done / self.outcomes.len().max(1) as f64
    }

    /// What sampling took so far.
    pub fn effort(&self) -> Effort {
        self.effort
    }

    /// The picture as it would look with the present guesses, and where there is none, with the code
    /// decided before; `None` for text, for a canvas that is not begun and before the first step.
    ///
    /// # Errors
    /// Those of the image tokenizer.
    pub fn preview(&self, index: usize) -> Result<Option<Picture>> {
        let first = self.finished.len();
        let canvas = self.sampler.as_ref().map(|sampler| sampler.canvases());
        let in_progress = index.checked_sub(first).and_then(|at| canvas?.get(at));
        let (Some(canvas), Some(outcome)) = (
            in_progress.or_else(|| self.finished.get(index)),
            self.outcomes.get(index),
        ) else {
            return Ok(None);
        };
        let (span, Some(grid)) = outcome.shown() else {
            return Ok(None);
        };
        let ids = canvas.completed();
        let codes = ids[span].iter().map(|&id| self.model.vocab().code(id));
        let Some(first) = codes.clone().flatten().next() else {
            return Ok(None);
        };
        let codes = codes.scan(first, |before, code| {
            *before = code.unwrap_or(*before);
            Some(*before)
        });
        let codes: Vec<u32> = codes.collect();
        self.model.decode(&codes, grid).map(Some)
    }

    /// How many canvases there are.
    pub fn len(&self) -> usize {
        self.outcomes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.outcomes.is_empty()
    }

    /// The finished canvases, for a run that goes on from them.
    pub(crate) fn into_canvases(mut self) -> Result<Vec<Canvas>> {
        self.run_out(&mut |_| {})?;
        Ok(self.finished)
    }

    /// Takes the next step; its moves count the canvases of the whole run. `None` when everything
    /// is finished, and after an error.
    fn advance(&mut self) -> Option<Result<Vec<Move>>> {
        if self.has_failed {
            return None;
        }
        let started = Instant::now();
        let step = loop {
            let sampler = match &mut self.sampler {
                Some(sampler) => sampler,
                None => {
                    let noise = Box::new(SeededNoise(self.seed));
                    let canvases = self.waiting.pop_front()?;
                    let sampler = Sampler::new(self.model.network(), canvases, noise);
                    self.sampler.insert(sampler)
                }
            };
            if let Some(step) = sampler.next() {
                break step;
            }
            let finished = self.sampler.take().map(Sampler::into_canvases);
            self.finished.extend(finished.into_iter().flatten());
        };
        let first = self.finished.len();
        Some(match step {
            Err(error) => {
                self.has_failed = true;
                Err(error.counted_from(first).into())
            }
            Ok(mut step) => {
                for moved in &mut step.moves {
                    moved.canvas += first;
                    self.effort.forwards += 1;
                    self.effort.tokens += moved.committed.len();
                    self.effort.tokens -= moved.revoked.len();
                }
                self.share = (step.index + 1) as f64 / step.total.max(1) as f64;
                self.effort.rows += step.rows;
                self.effort.seconds += started.elapsed().as_secs_f64();
                self.step += 1;
                Ok(step.moves)
            }
        })
    }

    fn view(&self, moves: Vec<Move>) -> View {
        let first = self.finished.len();
        let canvases = self.sampler.as_ref().map_or(&[][..], Sampler::canvases);
        let canvases = canvases.iter().enumerate();
        let progress = |(at, canvas): (usize, &Canvas)| {
            let index = first + at;
            let (span, grid) = self.outcomes[index].shown();
            let ids = canvas.ids()[span].to_vec();
            let mask = self.model.vocab().special.mask;
            let text = match grid {
                Some(_) => String::new(),
                None => self.model.text_so_far(&ids),
            };
            Progress {
                index,
                is_masked: ids.iter().map(|&id| id == mask).collect(),
                ids,
                text,
                grid,
            }
        };
        View {
            step: self.step - 1,
            total: self.total,
            moves,
            canvases: canvases.map(progress).collect(),
        }
    }
}

impl<O: Outcome> Iterator for Run<'_, O> {
    type Item = Result<View>;

    /// The next step; `None` when everything is finished, and after an error.
    fn next(&mut self) -> Option<Self::Item> {
        let moves = self.advance()?;
        Some(moves.map(|moves| self.view(moves)))
    }
}

/// Groups what has so many rows, in order, so that a forward has at most `budget` (one item at least).
pub(crate) fn chunks<T>(items: Vec<(T, usize)>, budget: usize) -> VecDeque<Vec<T>> {
    let mut chunks: VecDeque<Vec<T>> = VecDeque::new();
    let mut rows = 0;
    for (item, cost) in items {
        match chunks.back_mut() {
            Some(chunk) if rows + cost <= budget => {
                rows += cost;
                chunk.push(item);
            }
            _ => {
                rows = cost;
                chunks.push_back(vec![item]);
            }
        }
    }
    chunks
}
