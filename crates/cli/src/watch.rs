//! Runs a request to its end and shows it meanwhile.
//!
//! ```text
//!   --watch   step 7/16 ▓▓▓▓▓▓▓░░░░░░░░░   text with ░ for masks, pictures as half blocks
//!   else      a bar, once it has taken more than a second
//! ```

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use console::style;
use indicatif::ProgressBar;
use mmada_data::picture::Picture;
use mmada_model::run::Outcome;
use mmada_model::{Grid, MASK_GLYPH, Mmada, Progress, Run, ThinkPaint, View};

use crate::interrupt::Guard;
use crate::terminal::{self, Live};

/// Shorter work needs no bar.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a step stays on the screen at least, so that an eye can follow.
const FRAME: Duration = Duration::from_millis(40);
/// Pictures shown side by side.
const ABREAST: usize = 4;

/// Something that runs in steps and can show its pictures meanwhile.
pub(crate) trait Watched: Iterator<Item = mmada_model::Result<View>> {
    /// The picture as it would look with the present guesses.
    fn preview(&self, index: usize) -> mmada_model::Result<Option<Picture>>;
}

impl<O: Outcome> Watched for Run<'_, O> {
    fn preview(&self, index: usize) -> mmada_model::Result<Option<Picture>> {
        Run::preview(self, index)
    }
}

impl Watched for ThinkPaint<'_> {
    fn preview(&self, index: usize) -> mmada_model::Result<Option<Picture>> {
        ThinkPaint::preview(self, index)
    }
}

/// What is seen of a run in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sight {
    /// A bar, if it takes long.
    Bar,
    /// Every step; text disappears at the end, since the result follows.
    Steps,
}

impl Sight {
    /// As the flag says; without colours, as `NO_COLOR` asks for, there is nothing to watch.
    pub(crate) fn new(is_watched: bool) -> Self {
        match is_watched && terminal::is_interactive() && console::colors_enabled_stderr() {
            true => Self::Steps,
            false => Self::Bar,
        }
    }
}

/// Runs all steps, unless Ctrl-C ends them; returns how many there were.
pub(crate) fn drive(
    run: &mut impl Watched,
    model: &Mmada,
    what: &str,
    sight: Sight,
) -> Result<usize> {
    let guard = Guard::new();
    let mut screen = Screen {
        model,
        what,
        started: Instant::now(),
        shown: Instant::now(),
        bar: None,
        live: Live::default(),
        fresh: Fresh::default(),
    };
    let mut steps = 0;
    let driven = loop {
        if let Err(interrupted) = guard.check() {
            break Err(interrupted.into());
        }
        match run.next() {
            None => break Ok(()),
            Some(Err(error)) => break Err(error.into()),
            Some(Ok(view)) => {
                steps += 1;
                let shown = match sight {
                    Sight::Bar => screen.advance(&view),
                    Sight::Steps => screen.show(&view, run),
                };
                if shown.is_err() {
                    break shown;
                }
            }
        }
    };
    screen.close();
    driven.map(|()| steps)
}

struct Screen<'a> {
    model: &'a Mmada,
    what: &'a str,
    started: Instant,
    /// When the last step was shown.
    shown: Instant,
    bar: Option<ProgressBar>,
    live: Live,
    fresh: Fresh,
}

impl Screen<'_> {
    fn advance(&mut self, view: &View) -> Result<()> {
        let total = view.total as u64;
        if self.bar.is_none() && self.started.elapsed() > PATIENCE {
            let bar = terminal::bar(total, "steps").with_elapsed(self.started.elapsed());
            bar.set_message(self.what.to_owned());
            self.bar = Some(bar);
        }
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(view.step as u64 + 1);
        }
        Ok(())
    }

    fn show(&mut self, view: &View, run: &impl Watched) -> Result<()> {
        let done = view.step + 1;
        let mut frame = format!(
            "{} {done}/{} {}\n",
            self.what,
            view.total,
            gauge(done, view.total)
        );
        let mut pictures = Vec::new();
        for progress in &view.canvases {
            match progress.grid {
                None => {
                    frame.push_str(&self.text(progress));
                    frame.push('\n');
                }
                Some(grid) if pictures.len() < ABREAST => {
                    if let Some(picture) = run.preview(progress.index)? {
                        pictures.push(veiled(&picture, &progress.is_masked, grid)?);
                    }
                }
                Some(_) => {}
            }
        }
        if !pictures.is_empty() {
            let sheet = Picture::grid(&pictures, ABREAST, 2)?;
            let (columns, lines) = terminal::size();
            frame.push_str(&terminal::half_blocks(&sheet, columns - 1, lines - 3));
        }
        self.live.show(&frame);
        std::thread::sleep(FRAME.saturating_sub(self.shown.elapsed()));
        self.shown = Instant::now();
        Ok(())
    }

    /// Text so far: what this step decided stands out, masks are dim.
    fn text(&mut self, progress: &Progress) -> String {
        let is_fresh = self.fresh.next(progress);
        let kind = |at: usize| (progress.is_masked[at], is_fresh[at]);
        let positions: Vec<usize> = (0..progress.ids.len()).collect();
        let mut text = String::new();
        for run in positions.chunk_by(|&a, &b| kind(a) == kind(b)) {
            let ids = &progress.ids[run[0]..run[0] + run.len()];
            let decoded = || self.model.codec().tokenizer.decode(ids);
            let styled = match kind(run[0]) {
                (true, _) => style(MASK_GLYPH.to_string().repeat(ids.len())).dim(),
                (false, true) => style(decoded()).green().bold(),
                (false, false) => style(decoded()),
            };
            text.push_str(&styled.for_stderr().to_string());
        }
        text
    }

    /// Makes room for the result.
    fn close(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.live.clear();
    }
}

/// Remembers what was masked a step ago.
#[derive(Default)]
struct Fresh(HashMap<usize, Vec<bool>>);

impl Fresh {
    /// Which positions were decided by this step.
    fn next(&mut self, progress: &Progress) -> Vec<bool> {
        let before = self.0.insert(progress.index, progress.is_masked.clone());
        let was_masked = |at: usize| match &before {
            Some(before) => before.get(at).copied().unwrap_or(true),
            None => true,
        };
        let now = progress.is_masked.iter().enumerate();
        now.map(|(at, &is_masked)| was_masked(at) && !is_masked)
            .collect()
    }
}

fn gauge(done: usize, total: usize) -> String {
    const WIDTH: usize = 24;
    let full = (done * WIDTH / total.max(1)).min(WIDTH);
    format!("{}{}", "▓".repeat(full), "░".repeat(WIDTH - full))
}

/// The picture with a grey veil over the tokens that are still masked.
fn veiled(picture: &Picture, is_masked: &[bool], grid: Grid) -> Result<Picture> {
    const GREY: u16 = 110;
    let (width, height) = (picture.width(), picture.height());
    let mut pixels = picture.pixels().to_vec();
    for (at, pixel) in pixels.chunks_exact_mut(3).enumerate() {
        let (x, y) = (
            at % width * grid.width / width,
            at / width * grid.height / height,
        );
        if is_masked.get(y * grid.width + x).copied().unwrap_or(false) {
            for value in pixel {
                *value = ((u16::from(*value) + 3 * GREY) / 4) as u8;
            }
        }
    }
    Ok(Picture::new(width, height, pixels)?)
}
