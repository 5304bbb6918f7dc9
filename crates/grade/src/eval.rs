//! Benchmarks: a pack folder, a split and a model become a report.
//!
//! ```text
//!   Pack ─ items ─ spread evenly to `limit` ─► groups of `batch` ─► Mmada::*_many ─► graders ─► Report
//! ```
//!
//! An item draws its random numbers by its place in the list, so the scores do not depend on the
//! size of the groups.

mod pictures;
mod text;

use std::path::Path;

use mmada_data::picture::Picture;
use mmada_data::{DataError, Pack};
use mmada_model::run::Outcome;
use mmada_model::{Effort, Mmada, Overrides, Preset, Run};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::interval::Score;

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Benchmark {
    /// PSNR of pictures through the image tokenizer.
    Reconstruction,
    /// Captions of pictures.
    Caption,
    /// Group and subgroup of what pictures show.
    Kind,
    /// Questions about pictures.
    Vqa,
    /// Paintings: shapes judged on pixels, anything else by the training picture that is nearest.
    Paint,
    /// Worded problems: exact answer and format.
    Reasoning,
}

/// How to measure.
#[derive(Debug, Clone, PartialEq)]
pub struct EvalOptions {
    /// Use only this many items, spread evenly over the split.
    pub limit: Option<usize>,
    /// Pictures per prompt when painting is judged.
    pub samples: usize,
    /// Requests handed to the model at once.
    pub batch: usize,
    /// Seed of every random choice.
    pub seed: u64,
    /// What is sampled otherwise than the model does by itself; guidance, of paintings only.
    pub overrides: Overrides,
    /// How often a picture is looked at; `None` is the model's own.
    pub looks: Option<usize>,
    /// Examples kept in the report.
    pub examples: usize,
}

impl Default for EvalOptions {
    fn default() -> Self {
        Self {
            limit: None,
            samples: 8,
            batch: 64,
            seed: 0,
            overrides: Overrides::default(),
            looks: None,
            examples: 8,
        }
    }
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The benchmark.
    pub task: Benchmark,
    /// Name of the pack.
    pub data: String,
    /// The split.
    pub split: String,
    /// Items judged.
    pub n: usize,
    /// The numbers, the most telling first.
    pub scores: Vec<Score>,
    /// What sampling took; absent where nothing is sampled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// A few items, spread evenly.
    pub examples: Vec<Example>,
    /// Pictures: originals above reconstructions, or paintings, a prompt per line.
    #[serde(skip)]
    pub sheet: Option<Picture>,
    /// Paintings that are right and no copies, to learn from.
    #[serde(skip)]
    pub right: Vec<Right>,
}

/// A painting that was judged right: a line of training data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Right {
    /// The words it was painted from.
    pub prompt: String,
    /// What it shows, as judges say it.
    pub shows: String,
    /// What it looks like from afar, in words: one for each code of a square picture.
    pub sketch: String,
    /// Its codes, row by row.
    pub image: Vec<u32>,
}

/// What sampling took: the other side of a score.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// The sampler that was asked for; absent: the model's own.
    pub sampler: Option<Preset>,
    /// Forwards, counted as if every item had run alone.
    pub forwards: usize,
    /// Tokens decided.
    pub tokens: usize,
    /// Forwards of an item, on average.
    pub steps: f64,
    /// Tokens decided by a forward, on average.
    pub tokens_per_forward: f64,
    /// Rows computed for a token, on average: what a cache saves.
    pub rows_per_token: f64,
    /// Wall-clock time of the sampling steps, without encoding and decoding of pictures.
    pub seconds: f64,
}

/// One item of a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// What was asked, and about which item.
    pub input: String,
    /// What is right.
    pub expected: String,
    /// What the model gave.
    pub got: String,
    /// Whether that counts as right.
    pub is_right: bool,
}

/// Told after every step of a sampler: items done, those in progress in parts, and how many there are.
pub type OnProgress<'a> = &'a mut dyn FnMut(usize, usize);

/// What every benchmark is given.
struct Context<'a> {
    model: &'a Mmada,
    pack: &'a Pack,
    split: &'a str,
    options: &'a EvalOptions,
}

/// Runs a benchmark.
///
/// # Errors
/// A folder that is no pack, a split without the files or items needed, a broken item, and
/// whatever the model reports.
pub fn evaluate(
    model: &Mmada,
    pack: impl AsRef<Path>,
    split: &str,
    benchmark: Benchmark,
    options: &EvalOptions,
    on_progress: OnProgress,
) -> Result<Report> {
    let pack = Pack::open(pack)?;
    let context = Context {
        model,
        pack: &pack,
        split,
        options,
    };
    match benchmark {
        Benchmark::Reconstruction => pictures::reconstruction(&context, on_progress),
        Benchmark::Caption => text::caption(&context, on_progress),
        Benchmark::Kind => text::kind(&context, on_progress),
        Benchmark::Vqa => text::vqa(&context, on_progress),
        Benchmark::Paint => pictures::paint(&context, on_progress),
        Benchmark::Reasoning => text::reasoning(&context, on_progress),
    }
}

impl Benchmark {
    /// The name in reports and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reconstruction => "reconstruction",
            Self::Caption => "caption",
            Self::Kind => "kind",
            Self::Vqa => "vqa",
            Self::Paint => "paint",
            Self::Reasoning => "reasoning",
        }
    }
}

impl Context<'_> {
    /// All items, or `limit` of them, spread evenly.
    fn items<T>(
        &self,
        items: impl Iterator<Item = std::result::Result<T, DataError>>,
    ) -> Result<Vec<T>> {
        let items = items.collect::<std::result::Result<Vec<_>, _>>()?;
        Ok(match self.options.limit {
            Some(limit) => spread(items, limit),
            None => items,
        })
    }

    fn nothing(&self, benchmark: Benchmark, expected: &'static str) -> Error {
        Error::Nothing {
            task: benchmark.name(),
            data: self.pack.name(),
            split: self.split.to_owned(),
            expected,
            hint: format!("one of the splits {}", self.pack.splits().join(", ")),
        }
    }

    fn report(
        &self,
        task: Benchmark,
        n: usize,
        scores: Vec<Score>,
        examples: Vec<Example>,
    ) -> Report {
        Report {
            task,
            data: self.pack.name(),
            split: self.split.to_owned(),
            n,
            // Of a kind of item that was not among them nothing is known.
            scores: scores.into_iter().filter(|score| score.n > 0).collect(),
            cost: None,
            examples: spread(examples, self.options.examples),
            sheet: None,
            right: Vec::new(),
        }
    }

    /// The same with what sampling took.
    fn sampled(&self, report: Report, effort: Effort) -> Report {
        let per = |a: usize, b: usize| a as f64 / b.max(1) as f64;
        let cost = Cost {
            sampler: self.options.overrides.sampler,
            forwards: effort.forwards,
            tokens: effort.tokens,
            steps: per(effort.forwards, report.n),
            tokens_per_forward: per(effort.tokens, effort.forwards),
            rows_per_token: per(effort.rows, effort.tokens),
            seconds: effort.seconds,
        };
        Report {
            cost: Some(cost),
            ..report
        }
    }

    /// Calls `run` on groups of items; each call gets the number of its first item, and whom to tell
    /// of the share of the group that is done.
    fn groups<T>(
        &self,
        items: &[T],
        on_progress: OnProgress,
        mut run: impl FnMut(u64, &[T], &mut dyn FnMut(f64)) -> Result<()>,
    ) -> Result<()> {
        let mut done = 0;
        on_progress(0, items.len());
        for group in items.chunks(self.options.batch.max(1)) {
            let mut told = |share: f64| {
                let of_group = (share * group.len() as f64) as usize;
                on_progress(done + of_group.min(group.len()), items.len());
            };
            run(done as u64, group, &mut told)?;
            done += group.len();
            on_progress(done, items.len());
        }
        Ok(())
    }
}

/// Runs a group to its end and adds what it took.
fn finish<O: Outcome>(
    run: Run<'_, O>,
    effort: &mut Effort,
    told: &mut dyn FnMut(f64),
) -> Result<Vec<O::Output>> {
    let (outputs, taken) = run.finish_told(told)?;
    *effort = *effort + taken;
    Ok(outputs)
}

/// At most `limit` items at even distances, in order.
fn spread<T>(items: Vec<T>, limit: usize) -> Vec<T> {
    let n = items.len();
    if n <= limit {
        return items;
    }
    // Item i is taken when the running share of `limit` passes a whole number there.
    let is_taken = |i: usize| (i + 1) * limit / n > i * limit / n;
    let taken = items.into_iter().enumerate().filter(|(i, _)| is_taken(*i));
    taken.map(|(_, item)| item).collect()
}

/// The pixels of an item.
pub(crate) fn decode(item: &str, bytes: &mmada_data::ImageBytes) -> Result<Picture> {
    bytes.picture().map_err(|source| Error::Picture {
        item: item.to_owned(),
        source,
    })
}
