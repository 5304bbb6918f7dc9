//! Thinking before painting: first the thought as text, then the picture under prompt and thought.
//!
//! ```text
//!   r2i bos PROMPT │ ? ? ? ? │ soi │ ? ? ? ? │ eoi      1. text sampler on the thought
//!   r2i bos PROMPT   thought   soi │ ? ? ? ? │ eoi      2. picture sampler on the picture
//! ```
//!
//! The original has the layout and its loss, but no inference of it.

use mmada_data::picture::Picture;
use mmada_tokens::{Sequence, SpanKind};

use crate::error::{Error, Result};
use crate::mmada::Mmada;
use crate::options::{PaintOptions, TextOptions};
use crate::paint::{PaintRequest, Painted, Painting, check_count};
use crate::pictures::Grid;
use crate::reply::{Text, TextReply};
use crate::run::{Effort, Outcome, Run, View};

/// A thought and a painting in progress. Iterate to watch both; [`ThinkPaint::finish`] for the
/// results.
pub struct ThinkPaint<'m> {
    model: &'m Mmada,
    sequences: Vec<Sequence>,
    /// What is to be painted, and the number of the request.
    requests: Vec<(String, u64)>,
    grid: Grid,
    options: PaintOptions,
    thoughts: Vec<TextReply>,
    /// What the thoughts took.
    thinking: Effort,
    phase: Phase<'m>,
}

enum Phase<'m> {
    Thinking(Run<'m, Text>),
    Painting(Run<'m, Painted>),
    Failed,
}

impl Mmada {
    /// Thinks about a prompt, then paints it, [`PaintOptions::count`] times: every rival from the thought, or half of them where
    /// [`PaintOptions::think`] says so.
    ///
    /// # Errors
    /// [`Error::Empty`] without a prompt; otherwise as [`Mmada::chat`] and [`Mmada::paint`].
    pub fn think_paint(
        &self,
        prompt: &str,
        thought: &TextOptions,
        options: &PaintOptions,
    ) -> Result<ThinkPaint<'_>> {
        let request = |example| PaintRequest { prompt, example };
        let requests: Vec<_> = check_count(options.count)?.map(request).collect();
        self.think_paint_many(&requests, thought, options)
    }

    /// Thinks about prompts and paints them in common forwards; `count` does not matter here.
    ///
    /// # Errors
    /// As [`Mmada::think_paint`].
    pub fn think_paint_many(
        &self,
        requests: &[PaintRequest],
        thought: &TextOptions,
        options: &PaintOptions,
    ) -> Result<ThinkPaint<'_>> {
        let grid = self.grid(options.width, options.height)?;
        self.check_length(thought.length)?;
        let sequence = |request: &PaintRequest| {
            if request.prompt.trim().is_empty() {
                return Err(Error::Empty { what: "the prompt" });
            }
            let words = self.defaults().to_think_about(request.prompt);
            let prompt = self.codec().prompt(&words)?;
            let sequence = self
                .layout()
                .think_paint_prompt(&prompt, thought.length, grid.len())?;
            // What cannot be painted is known before it is thought about.
            let words = request.prompt.trim();
            self.canvas_jobs(&sequence, words, grid, None, options, request.example)?;
            Ok(sequence)
        };
        let sequences = requests.iter().map(sequence).collect::<Result<Vec<_>>>()?;
        let jobs = sequences.iter().zip(requests).map(|(sequence, request)| {
            // What the sampler overlooks for speed is not meant, but how the model has learnt.
            let seen = match thought.ahead {
                Some(_) => without_picture(sequence),
                None => sequence.clone(),
            };
            self.answer_job(seen, thought, request.example)
        });
        let jobs = jobs.collect::<Result<_>>()?;
        Ok(ThinkPaint {
            model: self,
            sequences,
            requests: requests
                .iter()
                .map(|request| (request.prompt.trim().to_owned(), request.example))
                .collect(),
            grid,
            options: options.clone(),
            thoughts: Vec::new(),
            thinking: Effort::default(),
            phase: Phase::Thinking(Run::new(self, thought.seed, jobs)),
        })
    }

    /// Paints to the end as the options say, after thoughts or from the words alone: the thoughts, if any, the pictures,
    /// and what both took. `told` is as in [`ThinkPaint::finish_told`].
    ///
    /// # Errors
    /// As [`Mmada::think_paint`], or as [`Mmada::paint`].
    pub fn paintings(
        &self,
        requests: &[PaintRequest],
        thought: &TextOptions,
        options: &PaintOptions,
        told: &mut dyn FnMut(f64),
    ) -> Result<(Vec<TextReply>, Vec<Painting>, Effort)> {
        if options.thinks() {
            return self
                .think_paint_many(requests, thought, options)?
                .finish_told(told);
        }
        let run = self.paint_many(requests, options)?;
        let (paintings, effort) = run.finish_told(told)?;
        Ok((Vec::new(), paintings, effort))
    }
}

/// What a thought sees that looks only so many masks ahead: nothing of the picture to come.
fn without_picture(sequence: &Sequence) -> Sequence {
    let end = sequence.span(SpanKind::Answer).map_or(0, |span| span.end);
    let mut seen = Sequence::new(sequence.task);
    for span in sequence.spans.iter().filter(|span| span.range.end <= end) {
        seen.push(span.kind, &sequence.ids[span.range.clone()]);
    }
    seen
}

impl<'m> ThinkPaint<'m> {
    /// Runs to the end: the thoughts, and the pictures.
    ///
    /// # Errors
    /// The first failure of any step.
    pub fn finish(self) -> Result<(Vec<TextReply>, Vec<Painting>)> {
        let (thoughts, paintings, _) = self.finish_told(&mut |_| {})?;
        Ok((thoughts, paintings))
    }

    /// Runs to the end; also says what both took together. `told` is as in [`Run::finish_told`], and half of what is done
    /// are the thoughts.
    ///
    /// # Errors
    /// As [`ThinkPaint::finish`].
    pub fn finish_told(
        mut self,
        told: &mut dyn FnMut(f64),
    ) -> Result<(Vec<TextReply>, Vec<Painting>, Effort)> {
        while let Some(view) = self.next() {
            view?;
            told(match &self.phase {
                Phase::Thinking(run) => run.done() / 2.0,
                Phase::Painting(run) => 0.5 + run.done() / 2.0,
                Phase::Failed => 0.0,
            });
        }
        match self.phase {
            Phase::Painting(run) => {
                let (paintings, painted) = run.finish_told(told)?;
                Ok((self.thoughts, paintings, self.thinking + painted))
            }
            Phase::Thinking(_) | Phase::Failed => {
                let hint = "report the error that the step gave";
                Err(Error::request("run", "no failed step", "one", hint))
            }
        }
    }

    /// The thoughts, once they are thought.
    pub fn thoughts(&self) -> &[TextReply] {
        &self.thoughts
    }

    /// See [`Run::preview`]; `None` while thinking.
    ///
    /// # Errors
    /// Those of the image tokenizer.
    pub fn preview(&self, index: usize) -> Result<Option<Picture>> {
        match &self.phase {
            Phase::Painting(run) => run.preview(index),
            Phase::Thinking(_) | Phase::Failed => Ok(None),
        }
    }

    /// From finished thoughts to the painting of their pictures.
    fn paint(&mut self, thinking: Run<'m, Text>) -> Result<Run<'m, Painted>> {
        self.thinking = thinking.effort();
        let canvases = thinking.into_canvases()?;
        let mut jobs = Vec::with_capacity(canvases.len());
        let requests = self.sequences.iter_mut().zip(&self.requests);
        for ((sequence, (words, example)), canvas) in requests.zip(&canvases) {
            let span = sequence.span(SpanKind::Answer).unwrap_or(0..0);
            let thought = Text::whole(span.clone()).read(self.model, canvas)?;
            sequence.ids[..canvas.ids().len()].copy_from_slice(canvas.ids());
            // What was drawn behind the end is no part of the thought: filler, as in training.
            let end = span.start + thought.ids.len();
            sequence.ids[end..span.end].fill(self.model.vocab().special.eos);
            self.thoughts.push(thought);
            let (grid, options) = (self.grid, &self.options);
            let rivals = self
                .model
                .canvas_jobs(sequence, words, grid, None, options, *example)?;
            // Those without a thought stand behind those with one.
            let thoughtful = match options.thoughtful() {
                0 => options.best_of,
                count => count,
            };
            jobs.extend(rivals.into_iter().take(thoughtful));
            if thoughtful < options.best_of {
                let image = self.model.layout().masks(grid.len());
                let others = self
                    .model
                    .picture_jobs(words, &image, grid, None, options, *example)?;
                jobs.extend(others.into_iter().skip(thoughtful));
            }
        }
        Ok(Run::new(self.model, self.options.seed, jobs))
    }
}

impl Iterator for ThinkPaint<'_> {
    type Item = Result<View>;

    /// The next step of the thought or the picture; step numbers start anew with the picture.
    fn next(&mut self) -> Option<Self::Item> {
        if let Phase::Thinking(run) = &mut self.phase {
            if let Some(view) = run.next() {
                if view.is_err() {
                    self.phase = Phase::Failed;
                }
                return Some(view);
            }
            let Phase::Thinking(run) = std::mem::replace(&mut self.phase, Phase::Failed) else {
                return None;
            };
            match self.paint(run) {
                Ok(run) => self.phase = Phase::Painting(run),
                Err(error) => return Some(Err(error)),
            }
        }
        match &mut self.phase {
            Phase::Painting(run) => run.next(),
            Phase::Thinking(_) | Phase::Failed => None,
        }
    }
}
