//! Painting: a picture from words, of any size that the image tokenizer's factor divides.
//!
//! ```text
//!   t2i bos PROMPT eos soi │ ? ? ? ? │ eoi     canvas
//!   t2i bos        eos soi │ ? ? ? ? │ eoi     its unconditional twin, for guidance
//! ```

use std::ops::Range;

use mmada_data::picture::{Mask, Picture};
use mmada_diffusion::{Canvas, ImagePlan, Unconditional};
use mmada_tokens::{Sequence, SpanKind};

use crate::error::{Error, Result};
use crate::mmada::Mmada;
use crate::options::{Outside, PaintOptions};
use crate::pictures::Grid;
use crate::reading::Reading;
use crate::run::{Job, Outcome, Run};

/// A picture to paint.
#[derive(Debug, Clone, Copy)]
pub struct PaintRequest<'a> {
    /// What to paint; empty paints without a condition.
    pub prompt: &'a str,
    /// Number of the request for its random draws.
    pub example: u64,
}

/// A painted picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Painting {
    /// The pixels.
    pub picture: Picture,
    /// The image codes, row by row.
    pub codes: Vec<u32>,
    /// Their arrangement.
    pub grid: Grid,
}

/// Outcome of a picture canvas.
#[derive(Debug, Clone)]
pub struct Painted {
    pub(crate) span: Range<usize>,
    pub(crate) grid: Grid,
    /// Pixels to keep: a picture of the same size, and where it is painted over.
    pub(crate) base: Option<(Picture, Mask)>,
    /// What it is to be a picture of, and how many are painted to choose from.
    pub(crate) wish: (String, usize),
}

/// The most pictures of one prompt in one request.
const MAX_COUNT: usize = 1024;

/// The most that are painted for one picture.
const MAX_RIVALS: usize = 256;

impl Mmada {
    /// Paints [`PaintOptions::count`] pictures of a prompt, numbered from 0.
    ///
    /// # Errors
    /// [`Error::NoImageTokenizer`]; sizes that the factor does not divide; too long a prompt or
    /// too large a picture for the context.
    pub fn paint(&self, prompt: &str, options: &PaintOptions) -> Result<Run<'_, Painted>> {
        let examples = check_count(options.count)?;
        let requests: Vec<_> = examples
            .map(|example| PaintRequest { prompt, example })
            .collect();
        self.paint_many(&requests, options)
    }

    /// Paints one picture for each request in common forwards; `count` does not matter here.
    ///
    /// # Errors
    /// As [`Mmada::paint`].
    pub fn paint_many(
        &self,
        requests: &[PaintRequest],
        options: &PaintOptions,
    ) -> Result<Run<'_, Painted>> {
        let grid = self.grid(options.width, options.height)?;
        let image = self.layout().masks(grid.len());
        let mut jobs = Vec::new();
        for PaintRequest { prompt, example } in requests {
            jobs.extend(self.picture_jobs(prompt, &image, grid, None, options, *example)?);
        }
        Ok(Run::new(self, options.seed, jobs))
    }

    /// Jobs that paint the masked ids of `image` under a prompt: the rivals for one picture.
    pub(crate) fn picture_jobs(
        &self,
        prompt: &str,
        image: &[u32],
        grid: Grid,
        base: Option<(Picture, Mask)>,
        options: &PaintOptions,
        example: u64,
    ) -> Result<Vec<Job<Painted>>> {
        let words = prompt.trim();
        check_rivals(options.best_of)?;
        let sequence = self.layout().paint(&self.codec().text(words)?, image)?;
        // Without words both halves of guidance would be the same, and rivals had nothing to be read for.
        let options = match words {
            "" => &PaintOptions {
                guidance: 0.0,
                best_of: 1,
                ..options.clone()
            },
            _ => options,
        };
        self.canvas_jobs(&sequence, words, grid, base, options, example)
    }

    /// Jobs on a laid-out sequence, guided by painting without words: the rivals for one picture of
    /// what `words` say.
    pub(crate) fn canvas_jobs(
        &self,
        sequence: &Sequence,
        words: &str,
        grid: Grid,
        base: Option<(Picture, Mask)>,
        options: &PaintOptions,
        example: u64,
    ) -> Result<Vec<Job<Painted>>> {
        check_rivals(options.best_of)?;
        if options.best_of > 1 {
            // Before anything is painted: the rivals will have to be read.
            self.check_readable(grid.len(), words)?;
        }
        let span = sequence.span(SpanKind::Image).unwrap_or(0..0);
        let wordless = self.layout().paint(&[], &sequence.ids[span.clone()])?;
        let start = wordless
            .span(SpanKind::Image)
            .map_or(0, |image| image.start);
        let unconditional = Unconditional::Prefix {
            ids: wordless.ids[..start].to_vec(),
            shared_from: span.start,
        };
        let rules = options.rules();
        let plan = ImagePlan {
            width: grid.width,
            order: rules.order,
            cache: rules.cache,
            schedule: options.schedule,
            temperature: options.temperature,
            token_temperature: options.token_temperature,
            revisions: options.revisions,
            revision_temperature: options.revision_temperature,
            anneal: options.anneal,
            ..ImagePlan::new(span.clone(), self.vocab().image.clone(), options.steps)
        };
        let mask = self.vocab().special.mask;
        let canvas = Canvas::image(sequence.ids.clone(), mask, plan)?;
        let canvas = canvas
            .guided(options.guidance, unconditional)?
            .guided_for(rules.guided)?;
        let twin = if options.guidance == 0.0 {
            0
        } else {
            wordless.ids.len()
        };
        let outcome = Painted {
            span,
            grid,
            base,
            wish: (words.to_owned(), options.best_of),
        };
        let rival = |number: u64| Job {
            canvas: canvas.clone().example(example ^ (number << RIVAL_BITS)),
            rows: sequence.ids.len() + twin,
            outcome: outcome.clone(),
        };
        Ok((0..options.best_of as u64).map(rival).collect())
    }
}

/// A rival's number is above those of requests.
const RIVAL_BITS: u32 = 48;

/// Numbers of so many pictures.
pub(crate) fn check_count(count: usize) -> Result<Range<u64>> {
    if (1..=MAX_COUNT).contains(&count) {
        return Ok(0..count as u64);
    }
    let expected = format!("1 to {MAX_COUNT}");
    Err(Error::request(
        "number of pictures",
        expected,
        count,
        "paint in several runs",
    ))
}

fn check_rivals(count: usize) -> Result<()> {
    if (1..=MAX_RIVALS).contains(&count) {
        return Ok(());
    }
    let expected = format!("1 to {MAX_RIVALS}");
    Err(Error::request(
        "number to choose the best of",
        expected,
        count,
        "8 is many",
    ))
}

/// What is kept of the original, as the options say.
pub(crate) fn base(picture: Picture, mask: Mask, outside: Outside) -> Option<(Picture, Mask)> {
    match outside {
        Outside::Original => Some((picture, mask)),
        Outside::Decoded => None,
    }
}

impl Outcome for Painted {
    type Output = Painting;

    fn read(&self, model: &Mmada, canvas: &Canvas) -> Result<Painting> {
        let codes = canvas.codes().ok_or_else(|| {
            let hint = "run it to the end first";
            Error::request("picture", "a finished canvas", "masked positions", hint)
        })?;
        let mut picture = model.decode(&codes, self.grid)?;
        if let Some((original, mask)) = &self.base {
            picture = composite(original, &picture, mask)?;
        }
        Ok(Painting {
            picture,
            codes,
            grid: self.grid,
        })
    }

    fn rivals(&self) -> usize {
        self.wish.1
    }

    fn best(&self, model: &Mmada, rivals: &[Painting]) -> Result<usize> {
        if rivals.len() < 2 {
            return Ok(0);
        }
        let readings: Vec<_> = rivals
            .iter()
            .map(|painting| Reading {
                codes: &painting.codes,
                words: &self.wish.0,
            })
            .collect();
        let readings = model.readings(&readings)?;
        let best =
            (0..rivals.len()).max_by(|&a, &b| readings[a].total_cmp(&readings[b]).then(b.cmp(&a)));
        Ok(best.unwrap_or(0))
    }

    fn shown(&self) -> (Range<usize>, Option<Grid>) {
        (self.span.clone(), Some(self.grid))
    }
}

/// Painted pixels where the mask says so, the original's elsewhere, to the bit.
fn composite(original: &Picture, painted: &Picture, mask: &Mask) -> Result<Picture> {
    let pixels = original
        .pixels()
        .chunks_exact(3)
        .zip(painted.pixels().chunks_exact(3));
    let pixels = pixels
        .zip(mask.is_edited())
        .flat_map(|((original, painted), &is_edited)| {
            let pixel = if is_edited { painted } else { original };
            [pixel[0], pixel[1], pixel[2]]
        });
    Ok(Picture::new(
        painted.width(),
        painted.height(),
        pixels.collect(),
    )?)
}
