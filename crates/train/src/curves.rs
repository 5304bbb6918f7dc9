//! Curves of finished or running runs, from their `metrics.jsonl`: one metric over the steps, several
//! runs of one label as a mean with a band.
//!
//! ```text
//!   LABEL, FOLDER ──read──▶ points of a run ──smooth──▶ ─┐
//!   LABEL, FOLDER ──read──▶ points of a run ──smooth──▶ ─┴▶ mean, lowest, highest at each step
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{Error, Result};

/// A metric of a run: optimiser steps and values, in order.
pub type Points = Vec<(u64, f64)>;

/// The runs of one label.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// What they have in common.
    pub label: String,
    /// Over the steps, in order.
    pub spreads: Vec<Spread>,
}

/// What the runs of a label say at a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Optimiser steps done.
    pub step: u64,
    /// The mean of the runs.
    pub mean: f64,
    /// The lowest of them.
    pub low: f64,
    /// The highest of them.
    pub high: f64,
    /// How many have a value here.
    pub runs: usize,
}

/// The file of metrics of a run, named by its folder or by that file.
pub fn file(run: &Path) -> PathBuf {
    match run.is_file() {
        true => run.to_path_buf(),
        false => run.join("metrics.jsonl"),
    }
}

/// Reads a metric of a run, named by its folder or by its file of metrics. Lines without it, and a line that is only half written yet, are
/// passed over.
///
/// # Errors
/// When there is no such file, or none of its lines has the metric.
pub fn read(run: &Path, metric: &str) -> Result<Points> {
    let path = file(run);
    let doing = "read the metrics of a run (its folder is run.out)";
    let text = std::fs::read_to_string(&path).map_err(Error::file(&path, doing))?;
    let mut known = BTreeSet::new();
    let mut points = Points::new();
    for line in text.lines() {
        let Ok(Value::Object(line)) = serde_json::from_str(line) else {
            continue;
        };
        let step = line.get("step").and_then(Value::as_u64);
        let value = line.get(metric).and_then(Value::as_f64);
        points.extend(step.zip(value));
        known.extend(line.into_iter().map(|(name, _)| name));
    }
    match points.is_empty() {
        false => Ok(points),
        true => Err(Error::Data(format!(
            "{}: expected the metric {metric:?}, got {}",
            path.display(),
            match known.is_empty() {
                true => "no line yet; wait for the first".to_owned(),
                false => known.into_iter().collect::<Vec<_>>().join(", "),
            }
        ))),
    }
}

/// The mean of each point and the `window - 1` before it.
pub fn smooth(points: &[(u64, f64)], window: usize) -> Points {
    let mean = |(index, &(step, _)): (usize, &(u64, f64))| {
        let start = (index + 1).saturating_sub(window.max(1));
        let seen = &points[start..=index];
        let sum: f64 = seen.iter().map(|(_, value)| value).sum();
        (step, sum / seen.len() as f64)
    };
    points.iter().enumerate().map(mean).collect()
}

/// One curve for each label, in the order in which labels first occur.
pub fn by_label(runs: &[(String, Points)]) -> Vec<Curve> {
    let mut curves: Vec<Curve> = Vec::new();
    for (label, _) in runs {
        if curves.iter().any(|curve| curve.label == *label) {
            continue;
        }
        let mut values: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
        let of_label = runs.iter().filter(|(other, _)| other == label);
        for (step, value) in of_label.flat_map(|(_, points)| points) {
            values.entry(*step).or_default().push(*value);
        }
        curves.push(Curve {
            label: label.clone(),
            spreads: values.into_iter().map(spread).collect(),
        });
    }
    curves
}

fn spread((step, values): (u64, Vec<f64>)) -> Spread {
    Spread {
        step,
        mean: values.iter().sum::<f64>() / values.len() as f64,
        low: values.iter().copied().fold(f64::INFINITY, f64::min),
        high: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        runs: values.len(),
    }
}

/// The curves as CSV, with a line of names.
pub fn csv(curves: &[Curve]) -> String {
    let mut text = "label,step,mean,low,high,runs\n".to_owned();
    for Curve { label, spreads } in curves {
        let label = match label.contains([',', '"', '\n']) {
            true => format!("\"{}\"", label.replace('"', "\"\"")),
            false => label.clone(),
        };
        for spread in spreads {
            let Spread {
                step,
                mean,
                low,
                high,
                runs,
            } = spread;
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{label},{step},{mean},{low},{high},{runs}");
        }
    }
    text
}
