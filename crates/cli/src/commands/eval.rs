//! `mmada eval`: scores of a model on data packs.

mod table;

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use mmada_data::Pack;
use mmada_data::packs::PackTask;
use mmada_data::picture::Picture;
use mmada_grade::{Benchmark, Error, EvalOptions, Report, Right, evaluate};
use mmada_model::{Mmada, Overrides, PaintOptions};
use serde_json::{Value, json};

use crate::args::{EvalArgs, EvalTask};
use crate::{output, packs, session, terminal, usage};

/// One benchmark on one split of one pack.
struct Entry<'a> {
    pack: &'a Pack,
    split: String,
    benchmark: Benchmark,
}

pub(crate) fn run(args: &EvalArgs) -> Result<()> {
    if let Some(path) = &args.output {
        output::prepare(path)?;
    }
    check_flags(args)?;
    output::prepare_answer(args.keep.as_deref())?;
    if let Some(keep) = &args.keep {
        output::check_apart("--keep", keep, ("that of --output", args.output.as_deref()))?;
    }
    let packs = packs::below(&args.data)?;
    let entries = entries(args, &packs)?;
    if entries.is_empty() {
        let known: Vec<String> = packs
            .iter()
            .map(|pack| format!("{}: {}", pack.name(), pack.splits().join(", ")))
            .collect();
        bail!(
            "eval: nothing below {} can be measured on the split {:?}; there are {}",
            args.data.display(),
            args.split,
            known.join("; ")
        );
    }
    let model = session::open(&args.model)?;
    check_order(args, &model.defaults().paint)?;
    let started = Instant::now();
    let mut reports = Vec::new();
    let measured = measure_all(&model, &entries, args, &mut reports);
    if reports.is_empty() {
        measured?;
        bail!(
            "eval: expected items that can be judged, got none; try the task {:?} on another pack",
            args.task
        );
    }
    let seconds = started.elapsed().as_secs_f64();
    let kept = write_kept(args, &reports);
    let sheet = write_sheet(args, &reports);
    // Scores that took minutes are told, whatever became of the files and of what came after them.
    let files = [&kept, &sheet].map(|file| file.as_ref().copied().unwrap_or_default());
    match args.json {
        true => output::json(&as_json(args, &reports, files, seconds))?,
        false => output::line(table::table(&reports))?,
    }
    kept.and(sheet)?;
    // Something was measured, so what is wrong is an item and not what was asked for.
    measured.or_else(|error| bail!("{error:#}"))
}

/// Measures one entry after the other, up to the first that fails.
fn measure_all(
    model: &Mmada,
    entries: &[Entry],
    args: &EvalArgs,
    reports: &mut Vec<Report>,
) -> Result<()> {
    for entry in entries {
        match measure(model, entry, args) {
            // A pack has the files, but not the items: captions without shapes, for one.
            Err(Error::Nothing { .. }) if entries.len() > 1 => {}
            report => reports.push(report.with_context(|| {
                let (task, pack) = (entry.benchmark.name(), entry.pack.name());
                format!("eval {task}, pack {pack}, split {}", entry.split)
            })?),
        }
    }
    Ok(())
}

/// Writes the sheet of pictures; returns where it is, if there is one.
fn write_sheet<'a>(args: &'a EvalArgs, reports: &[Report]) -> Result<Option<&'a Path>> {
    let Some(path) = args.output.as_deref() else {
        return Ok(None);
    };
    let sheets: Vec<Picture> = reports
        .iter()
        .filter_map(|report| report.sheet.clone())
        .collect();
    if sheets.is_empty() {
        output::note("eval: no picture was made, so no sheet is written");
        return Ok(None);
    }
    super::save(path, &Picture::grid(&sheets, 1, 8)?)?;
    Ok(Some(path))
}

/// Noise on the order of positions is refused where the sampler that was asked for, or that is
/// `own` to the model, fixes it.
fn check_order(args: &EvalArgs, own: &PaintOptions) -> Result<()> {
    let is_noise = args.task == EvalTask::Paint && args.temperature.is_some();
    session::check_order(&overrides(args).paint(own), &[("--temperature", is_noise)])
}

/// Pictures of a prompt: more than tell any two models apart.
const MOST_SAMPLES: usize = 4096;

/// Flags that would change nothing of what is measured are refused.
fn check_flags(args: &EvalArgs) -> Result<()> {
    if !(1..=MOST_SAMPLES).contains(&args.samples) {
        return Err(usage(format!(
            "--samples: expected 1 to {MOST_SAMPLES} pictures of a prompt, got {}",
            args.samples
        )));
    }
    check_order(args, &PaintOptions::default())?;
    if args.limit == Some(0) {
        return Err(usage("--limit: expected 1 or more items, got 0"));
    }
    let of_paintings = [
        ("--keep", args.keep.is_some()),
        ("--think", args.think.is_some()),
        ("--token-temperature", args.token_temperature.is_some()),
        ("--best-of", args.best_of.is_some()),
        ("--revisions", args.revisions.is_some()),
        (
            "--revision-temperature",
            args.revision_temperature.is_some(),
        ),
        ("--guidance", args.guidance.is_some()),
    ];
    let of_answers = [
        ("--commit", args.commit.is_some()),
        ("--block", args.block.is_some()),
        ("--ahead", args.ahead.is_some()),
    ];
    let of_looks = [("--looks", args.looks.is_some())];
    let of_sampling = [
        ("--steps", args.steps.is_some()),
        ("--temperature", args.temperature.is_some()),
        ("--sampler", args.sampler.is_some()),
    ];
    let of_sheets = [("--output", args.output.is_some())];
    let (others, tasks): (Vec<_>, _) = match args.task {
        EvalTask::All => return Ok(()),
        EvalTask::Paint => (
            [&of_answers[..], &of_looks].concat(),
            "one whose replies are texts",
        ),
        EvalTask::Reasoning => (
            [&of_paintings[..], &of_looks, &of_sheets].concat(),
            "one with pictures",
        ),
        EvalTask::Caption | EvalTask::Kind | EvalTask::Vqa => {
            ([&of_paintings[..], &of_sheets].concat(), "'paint'")
        }
        EvalTask::Reconstruction => (
            [&of_paintings[..], &of_answers, &of_looks, &of_sampling].concat(),
            "one whose replies are sampled",
        ),
    };
    match others.into_iter().find(|(_, is_given)| *is_given) {
        Some((flag, _)) => Err(usage(format!(
            "{flag}: expected a task that it changes, {tasks}; leave it out"
        ))),
        None => Ok(()),
    }
}

/// Writes the paintings that were right, a line each; returns where they are, if they are wanted.
fn write_kept<'a>(args: &'a EvalArgs, reports: &[Report]) -> Result<Option<&'a Path>> {
    let Some(path) = args.keep.as_deref() else {
        return Ok(None);
    };
    let right: Vec<&Right> = reports.iter().flat_map(|report| &report.right).collect();
    let lines = right.iter().map(serde_json::to_string);
    let lines: Vec<String> = lines.collect::<Result<_, _>>()?;
    output::answer(Some(path), &lines.join("\n"))?;
    let kept = right.len();
    output::note(format!("eval: {kept} paintings kept in {}", path.display()));
    Ok(Some(path))
}

/// What is measured: the task on every pack that allows it, or everything.
fn entries<'a>(args: &EvalArgs, packs: &'a [Pack]) -> Result<Vec<Entry<'a>>> {
    let mut entries = Vec::new();
    for pack in packs {
        let entry = |split: &str, benchmark| Entry {
            pack,
            split: split.to_owned(),
            benchmark,
        };
        match benchmark(args.task) {
            // A single pack is measured even if it seems unfit: the error then says why.
            Some(wanted) => {
                if packs.len() == 1 || allowed(pack, &args.split)?.contains(&wanted) {
                    entries.push(entry(&args.split, wanted));
                }
            }
            None => {
                for split in finer_splits(pack, &args.split) {
                    let allowed = allowed(pack, &split)?;
                    entries.extend(
                        allowed
                            .into_iter()
                            .map(|benchmark| entry(&split, benchmark)),
                    );
                }
            }
        }
    }
    Ok(entries)
}

/// The split and those whose names go on from it: `test`, `test_composition`, …
fn finer_splits(pack: &Pack, split: &str) -> Vec<String> {
    let belongs = |name: &String| {
        name.strip_prefix(split)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['_', '-']))
    };
    pack.splits().into_iter().filter(belongs).collect()
}

fn allowed(pack: &Pack, split: &str) -> Result<Vec<Benchmark>> {
    let benchmark = |task| match task {
        PackTask::Reconstruction => Benchmark::Reconstruction,
        PackTask::Captions => Benchmark::Caption,
        PackTask::Kinds => Benchmark::Kind,
        PackTask::Questions => Benchmark::Vqa,
        PackTask::Paint => Benchmark::Paint,
        PackTask::Reasoning => Benchmark::Reasoning,
    };
    Ok(pack.tasks(split)?.into_iter().map(benchmark).collect())
}

fn benchmark(task: EvalTask) -> Option<Benchmark> {
    match task {
        EvalTask::Reconstruction => Some(Benchmark::Reconstruction),
        EvalTask::Caption => Some(Benchmark::Caption),
        EvalTask::Kind => Some(Benchmark::Kind),
        EvalTask::Vqa => Some(Benchmark::Vqa),
        EvalTask::Paint => Some(Benchmark::Paint),
        EvalTask::Reasoning => Some(Benchmark::Reasoning),
        EvalTask::All => None,
    }
}

/// What the flags want otherwise than the model.
fn overrides(args: &EvalArgs) -> Overrides {
    Overrides {
        sampler: args.sampler.map(|sampler| sampler.0),
        steps: args.steps,
        temperature: args.temperature,
        guidance: args.guidance,
        block: args.block,
        ahead: args.ahead,
        commit: args.commit,
        token_temperature: args.token_temperature,
        best_of: args.best_of,
        think: args.think.map(Into::into),
        revisions: args.revisions,
        revision_temperature: args.revision_temperature,
        ..Overrides::default()
    }
}

fn measure(model: &Mmada, entry: &Entry, args: &EvalArgs) -> mmada_grade::Result<Report> {
    let options = EvalOptions {
        limit: args.limit,
        samples: args.samples,
        seed: args.model.seed,
        overrides: overrides(args),
        looks: args.looks,
        ..EvalOptions::default()
    };
    let bar = terminal::bar(0, "items");
    bar.set_message(format!("{} {}", entry.pack.name(), entry.benchmark.name()));
    let mut on_progress = |done: usize, total: usize| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    };
    let report = evaluate(
        model,
        entry.pack.dir(),
        &entry.split,
        entry.benchmark,
        &options,
        &mut on_progress,
    );
    bar.finish_and_clear();
    report
}

/// `kept` and `sheet` are the files that were written.
fn as_json(
    args: &EvalArgs,
    reports: &[Report],
    [kept, sheet]: [Option<&Path>; 2],
    seconds: f64,
) -> Value {
    json!({
        "task": "eval",
        "data": output::shown(&args.data),
        "split": args.split,
        "model": session::name(&args.model),
        "seed": args.model.seed,
        "seconds": seconds,
        "output": sheet.map(output::shown),
        "kept": kept.map(output::shown),
        "reports": reports,
    })
}
