//! Benchmarks whose answers are pictures: reconstruction and painting.

use std::collections::{BTreeMap, BTreeSet};

use mmada_data::picture::Picture;
use mmada_data::sketch::sketch;
use mmada_data::{DataError, part};
use mmada_model::{Effort, PaintOptions, PaintRequest, TextOptions};

use super::{Benchmark, Context, Example, OnProgress, Report, Right, decode, spread};
use crate::drawing::Drawing;
use crate::error::{Error, Result};
use crate::grader::psnr;
use crate::interval::Score;
use crate::nearest::{Gallery, Nearest};

/// Pictures side by side on a sheet.
const COLUMNS: usize = 8;
/// Pixels between them.
const GAP: usize = 4;

pub(super) fn reconstruction(context: &Context, on_progress: OnProgress) -> Result<Report> {
    let items = context.items(context.pack.reconstruction(context.split)?)?;
    if items.is_empty() {
        return Err(context.nothing(Benchmark::Reconstruction, "pictures"));
    }
    let (mut values, mut pairs, mut examples) = (Vec::new(), Vec::new(), Vec::new());
    // No painting can be judged right more often than the shapes that the codes can hold.
    let mut kept = combinations(context).is_ok().then(Vec::new);
    // Pictures are kept for the sheet only.
    let every = items.len().div_ceil(COLUMNS);
    context.groups(&items, on_progress, |first, group, told| {
        let pictures = group.iter().map(|item| {
            let picture = decode(&item.id, &item.image)?;
            Ok(context.model.fitted(&picture))
        });
        let pictures = pictures.collect::<Result<Vec<_>>>()?;
        let seen = context.model.look(&pictures.iter().collect::<Vec<_>>())?;
        for (at, (original, seen)) in pictures.into_iter().zip(seen).enumerate() {
            let decoded = context.model.decode(&seen.codes, seen.grid)?;
            told(at as f64 / group.len() as f64);
            let value = psnr(&decoded, &original).unwrap_or(0.0);
            values.push(value);
            if let Some(kept) = &mut kept {
                let (before, after) = (Drawing::read(&original), Drawing::read(&decoded));
                kept.push((before.color, before.shape) == (after.color, after.shape));
            }
            examples.push(Example {
                input: group[at].id.clone(),
                expected: "the picture".to_owned(),
                got: format!("{value:.2} dB"),
                is_right: true,
            });
            if (first as usize + at).is_multiple_of(every) {
                pairs.push((original, decoded));
            }
        }
        Ok(())
    })?;
    let (originals, decoded): (Vec<Picture>, Vec<Picture>) = pairs.into_iter().unzip();
    let columns = originals.len();
    let mut scores = vec![Score::mean("psnr", &values)];
    scores.extend(kept.map(|kept| Score::share("drawing_kept", kept)));
    let report = context.report(Benchmark::Reconstruction, values.len(), scores, examples);
    Ok(Report {
        sheet: Some(sheet(&[originals, decoded].concat(), columns)?),
        ..report
    })
}

/// What a picture should show.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Wanted {
    prompt: String,
    color: String,
    shape: String,
}

/// Every prompt of the split once, `samples` pictures each, so that all weigh the same, however often
/// a caption occurs: combinations of colour and shape where the captions say them, else captions.
pub(super) fn paint(context: &Context, on_progress: OnProgress) -> Result<Report> {
    match combinations(context) {
        Err(Error::Nothing { .. }) => concepts(context, on_progress),
        prompts => shapes(context, &prompts?, on_progress),
    }
}

/// What was painted: the codes and the sketch of each painting, a sheet of the first of each prompt, what it took.
struct PaintedAll {
    codes: Vec<Vec<u32>>,
    sketches: Vec<String>,
    sheet: Picture,
    effort: Effort,
}

/// Paints each prompt `samples` times; `judge` sees the pictures in order, and says what their figure is called.
fn paint_all<'a>(
    context: &Context,
    prompts: &[&str],
    on_progress: OnProgress,
    mut judge: impl FnMut(&Picture) -> Option<&'a str>,
) -> Result<PaintedAll> {
    let samples = context.options.samples.max(1);
    let each = repeated(context, prompts);
    let options = paint_options(context);
    let own = &context.model.defaults().thought;
    let thought = TextOptions {
        seed: context.options.seed,
        ..context.options.overrides.sampler_alone(own)
    };
    let mut effort = Effort::default();
    let (mut codes, mut sketches, mut shown) = (Vec::new(), Vec::new(), Vec::new());
    context.groups(&each, on_progress, |first, group, told| {
        let requests = group.iter().zip(first..);
        let requests = requests.map(|(prompt, example)| PaintRequest { prompt, example });
        let requests: Vec<_> = requests.collect();
        let (_, paintings, taken) = context
            .model
            .paintings(&requests, &thought, &options, told)?;
        effort = effort + taken;
        for painting in paintings {
            let figure = judge(&painting.picture);
            let side = painting.codes.len().isqrt();
            sketches.push(sketch(&painting.picture, side, figure));
            if codes.len() % samples < COLUMNS {
                shown.push(painting.picture);
            }
            codes.push(painting.codes);
        }
        Ok(())
    })?;
    Ok(PaintedAll {
        codes,
        sketches,
        sheet: sheet(&shown, samples.min(COLUMNS))?,
        effort,
    })
}

/// The report of paintings, with those that are right.
fn painted(
    context: &Context,
    all: PaintedAll,
    scores: Vec<Score>,
    examples: Vec<Example>,
    is_copy: impl Fn(usize) -> bool,
) -> Report {
    let paintings = all.codes.into_iter().zip(all.sketches);
    let right = examples.iter().zip(paintings).enumerate();
    let right = right.filter(|(at, (example, _))| example.is_right && !is_copy(*at));
    let right = right.map(|(_, (example, (image, sketch)))| Right {
        prompt: example.input.clone(),
        shows: example.expected.clone(),
        sketch,
        image,
    });
    let right = right.collect();
    let report = context.report(Benchmark::Paint, examples.len(), scores, examples);
    Report {
        sheet: Some(all.sheet),
        right,
        ..context.sampled(report, all.effort)
    }
}

/// Each of them as often as it is painted.
fn repeated<'a, T>(context: &Context, of: &'a [T]) -> Vec<&'a T> {
    let samples = context.options.samples.max(1);
    let each = of.iter();
    each.flat_map(|one| std::iter::repeat_n(one, samples))
        .collect()
}

/// Captions that say no colour and shape: the nearest training picture of the same captions tells
/// what was painted.
fn concepts(context: &Context, on_progress: OnProgress) -> Result<Report> {
    let mut prompts = BTreeMap::new();
    for item in context.pack.paint(context.split)? {
        let item = item?;
        prompts.entry(item.caption).or_insert(item.prompt);
    }
    let limit = context.options.limit.unwrap_or(usize::MAX);
    let prompts = spread(prompts.into_iter().collect(), limit);
    let names: BTreeSet<&str> = prompts.iter().map(|(name, _)| name.as_str()).collect();
    // A pack without training pictures is one with nothing to compare with.
    let gallery = match context.pack.captions(part::TRAIN) {
        Ok(_) => Gallery::of(
            context.pack,
            |caption| names.contains(caption),
            |picture| context.model.fitted(&picture),
        )?,
        Err(DataError::Pack { .. }) => Gallery::default(),
        Err(broken) => return Err(broken.into()),
    };
    if gallery.is_empty() {
        let expected = "captions that training pictures have, to recognise paintings by";
        return Err(context.nothing(Benchmark::Paint, expected));
    }
    let asked: Vec<&str> = prompts.iter().map(|(_, prompt)| prompt.as_str()).collect();
    let mut found = Vec::new();
    let all = paint_all(context, &asked, on_progress, |picture| {
        found.push(gallery.nearest(picture));
        None
    })?;
    let examples = repeated(context, &prompts).into_iter().zip(&found);
    let examples = examples.map(|((name, prompt), nearest)| Example {
        input: prompt.clone(),
        expected: name.clone(),
        got: nearest
            .map_or("nothing to compare with", |it| it.name)
            .to_owned(),
        is_right: nearest.is_some_and(|it| it.name == name),
    });
    let examples: Vec<Example> = examples.collect();
    let is_copy = |at: usize| found[at].is_some_and(|it| it.is_copy);
    let samples = context.options.samples.max(1);
    let is_new = |at: usize| {
        let earlier = &found[at - at % samples..at];
        let is_same =
            |it: &Option<Nearest<'_>>| it.map(|it| it.entry) == found[at].map(|it| it.entry);
        !earlier.iter().any(is_same)
    };
    let scores = vec![
        Score::share(
            "recognised",
            examples.iter().map(|example| example.is_right),
        ),
        Score::share("copies", (0..found.len()).map(is_copy)),
        // Paintings of a prompt that are nearest to a picture to which none before them was: those of one pose are few.
        Score::share("distinct", (0..found.len()).map(is_new)),
    ];
    Ok(painted(context, all, scores, examples, is_copy))
}

/// Coloured shapes, judged on their pixels.
fn shapes(context: &Context, prompts: &[Wanted], on_progress: OnProgress) -> Result<Report> {
    let asked: Vec<&str> = prompts
        .iter()
        .map(|wanted| wanted.prompt.as_str())
        .collect();
    let wanted = repeated(context, prompts);
    let mut drawings: Vec<Drawing> = Vec::new();
    let all = paint_all(context, &asked, on_progress, |picture| {
        let color = wanted.get(drawings.len()).map(|it| it.color.as_str());
        drawings.push(Drawing::read_as(picture, color.unwrap_or_default()));
        color
    })?;
    let examples = wanted.iter().zip(&drawings);
    let examples = examples.map(|(wanted, drawing)| Example {
        input: wanted.prompt.clone(),
        expected: format!("{} {}", wanted.color, wanted.shape),
        got: match (drawing.color, drawing.shape) {
            (Some(color), Some(shape)) => format!("{color} {shape}"),
            _ => "no shape".to_owned(),
        },
        is_right: wanted.is_shown_by(drawing),
    });
    let (examples, scores) = (examples.collect(), paint_scores(&wanted, &drawings));
    Ok(painted(context, all, scores, examples, |_| false))
}

/// The model's own options with what the caller wants otherwise.
fn paint_options(context: &Context) -> PaintOptions {
    let own = &context.model.defaults().paint;
    PaintOptions {
        seed: context.options.seed,
        ..context.options.overrides.paint(own)
    }
}

/// The distinct combinations of the split, at most `limit` of them.
fn combinations(context: &Context) -> Result<Vec<Wanted>> {
    let mut combinations = BTreeSet::new();
    for item in context.pack.paint(context.split)? {
        let item = item?;
        if let (Some(color), Some(shape)) = (item.color, item.shape) {
            let prompt = item.prompt;
            combinations.insert(Wanted {
                prompt,
                color,
                shape,
            });
        }
    }
    if combinations.is_empty() {
        return Err(context.nothing(Benchmark::Paint, "captions with colour and shape"));
    }
    let limit = context.options.limit.unwrap_or(usize::MAX);
    Ok(spread(combinations.into_iter().collect(), limit))
}

fn paint_scores(wanted: &[&Wanted], drawings: &[Drawing]) -> Vec<Score> {
    let share = |name: &str, holds: &dyn Fn(&Wanted, &Drawing) -> bool| {
        Score::share(name, wanted.iter().zip(drawings).map(|(w, d)| holds(w, d)))
    };
    vec![
        share("both", &Wanted::is_shown_by),
        share("color", &|w, d| d.color == Some(w.color.as_str())),
        share("shape", &|w, d| d.shape == Some(w.shape.as_str())),
        share("no_counting_pixels", &|_, d| d.counting == 0),
        share("connected", &|_, d| d.is_connected()),
        share("one_color", &|_, d| d.is_one_color()),
    ]
}

impl Wanted {
    fn is_shown_by(&self, drawing: &Drawing) -> bool {
        drawing.color == Some(self.color.as_str()) && drawing.shape == Some(self.shape.as_str())
    }
}

fn sheet(pictures: &[Picture], columns: usize) -> Result<Picture> {
    Picture::grid(pictures, columns, GAP).map_err(|source| Error::Picture {
        item: "sheet".to_owned(),
        source,
    })
}
