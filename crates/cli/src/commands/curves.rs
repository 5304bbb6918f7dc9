//! `mmada curves`: metrics of runs as a chart and as CSV.

use std::path::{Path, PathBuf};

use anyhow::Result;
use mmada_train::curves::{self, Points};
use serde_json::json;

use crate::args::CurvesArgs;
use crate::{chart, output, usage};

pub(crate) fn run(args: &CurvesArgs) -> Result<()> {
    check(args)?;
    output::prepare(&args.output)?;
    output::prepare_answer(args.csv.as_deref())?;
    let csv = ("that of --csv", args.csv.as_deref());
    output::check_apart("--output", &args.output, csv)?;
    let files = [
        ("--output", Some(&args.output)),
        ("--csv", args.csv.as_ref()),
    ];
    for run in &args.runs {
        let metrics = curves::file(&named(run).1);
        for (flag, path) in files {
            if let Some(path) = path {
                output::check_apart(flag, path, ("the metrics of a run", Some(&metrics)))?;
            }
        }
    }
    let runs = args.runs.iter().map(|run| {
        let (label, folder) = named(run);
        let points = curves::read(&folder, &args.metric)?;
        Ok((label, curves::smooth(&points, args.smooth)))
    });
    let runs: Vec<(String, Points)> = runs.collect::<Result<_>>()?;
    let curves = curves::by_label(&runs);
    let picture = chart::draw(&args.metric, &curves, (args.width, args.height))?;
    super::save(&args.output, &picture)?;
    if let Some(path) = &args.csv {
        output::write(path, curves::csv(&curves).as_bytes())?;
    }
    if !args.json {
        return output::named(&args.output);
    }
    let last = curves.iter().filter_map(|curve| {
        let last = curve.spreads.last()?;
        Some(json!({
            "label": curve.label,
            "step": last.step,
            "mean": last.mean,
            "low": last.low,
            "high": last.high,
            "runs": last.runs,
        }))
    });
    output::json(&json!({
        "task": "curves",
        "metric": args.metric,
        "output": output::shown(&args.output),
        "csv": args.csv.as_ref().map(output::shown),
        "last": last.collect::<Vec<_>>(),
    }))
}

fn check(args: &CurvesArgs) -> Result<()> {
    let (width, height) = chart::SMALLEST;
    let sides = width..=LARGEST_SIDE;
    if !sides.contains(&args.width) || !(height..=LARGEST_SIDE).contains(&args.height) {
        return Err(usage(format!(
            "curves: expected a chart of {width}x{height} to {LARGEST_SIDE}x{LARGEST_SIDE} pixels, \
             got {}x{}; change --width and --height",
            args.width, args.height
        )));
    }
    match args.smooth {
        0 => Err(usage(
            "curves: expected --smooth 1 or more points, got 0; 1 smooths nothing",
        )),
        _ => Ok(()),
    }
}

/// The largest width and height, in pixels.
const LARGEST_SIDE: usize = 8192;

/// The label and the place of `LABEL=FOLDER`, or of a folder or file alone: its name is the label, and of
/// a run's `metrics.jsonl` that of its folder.
fn named(run: &str) -> (String, PathBuf) {
    match run.split_once('=') {
        Some((label, place)) if !Path::new(run).exists() => {
            (label.to_owned(), PathBuf::from(place))
        }
        _ => {
            let place = PathBuf::from(run);
            let is_metrics = place.ends_with("metrics.jsonl");
            let name = match (place.is_dir(), place.parent()) {
                (true, _) => place.file_name(),
                (false, Some(folder)) if is_metrics => folder.file_name(),
                (false, _) => place.file_stem(),
            };
            let name = name.map(|name| name.to_string_lossy());
            (name.map_or_else(|| run.to_owned(), Into::into), place)
        }
    }
}
