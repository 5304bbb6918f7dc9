//! From a run file to a trained model: what the command line calls.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use mmada_tensor::Device;

use crate::claim::{Claim, Start};
use crate::config::{ObjectiveConfig, RunConfig};
use crate::denoise::Denoise;
use crate::objective::Objective;
use crate::reconstruct::Reconstruct;
use crate::report::Event;
use crate::trainer::{Summary, Trainer};
use crate::unigrpo::UniGrpo;
use crate::{Error, Reporter, Result};

/// What to do with a run file.
#[derive(Debug, Clone, Default)]
pub enum Mode {
    /// Only say what would be run.
    DryRun,
    /// Train from the beginning.
    #[default]
    Fresh,
    /// Continue from the newest checkpoint, or begin if there is none.
    Resume,
}

/// How a run is launched.
#[derive(Debug, Clone)]
pub struct LaunchOptions {
    /// What to do.
    pub mode: Mode,
    /// Where tensors live.
    pub device: Device,
    /// Set to end the run after the current step, with a checkpoint.
    pub stop: Arc<AtomicBool>,
}

impl Default for LaunchOptions {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            device: Device::Cpu,
            stop: Arc::default(),
        }
    }
}

/// What came of a launch.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The run with its defaults filled in, but for sampling settings, as TOML.
    Resolved(String),
    /// The run ended.
    Trained(Summary),
}

/// Reads a run file, applies `key=value` overrides and runs it.
///
/// # Errors
/// When the file is no run, or the run fails; see [`Error`].
pub fn launch(
    path: &Path,
    overrides: &[String],
    options: LaunchOptions,
    reporter: &dyn Reporter,
) -> Result<Outcome> {
    let config = RunConfig::load(path, overrides)?;
    run(&config, options, reporter)
}

/// Runs a run that is already a value.
///
/// # Errors
/// As [`launch`].
pub fn run(config: &RunConfig, options: LaunchOptions, reporter: &dyn Reporter) -> Result<Outcome> {
    let start = match options.mode {
        Mode::DryRun => return Ok(Outcome::Resolved(config.resolved()?)),
        Mode::Fresh => Start::Fresh,
        Mode::Resume => Start::Resume,
    };
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(config.run.threads)
        .build()
        .map_err(|error| Error::Config(format!("run.threads = {}: {error}", config.run.threads)))?;
    let LaunchOptions { device, stop, .. } = options;
    if !device.is_cpu() && (config.run.precision, config.run.backward) != Default::default() {
        let what = "run.precision and run.backward are of the processor; elsewhere factors are f32 and \
                    activations are kept";
        reporter.report(&Event::Warning(what));
    }
    let claim = Claim::new(config, start)?;
    let traces = claim.traces.clone();
    let summary = pool.install(|| match &config.objective {
        ObjectiveConfig::Denoise(settings) => {
            let objective = Denoise::open(config, settings, &device, reporter, &stop)?;
            train(config, objective, claim, stop, reporter)
        }
        ObjectiveConfig::UniGrpo(settings) => {
            let objective = UniGrpo::open(config, settings, &device, reporter, &stop)?;
            train(config, objective, claim, stop, reporter)
        }
        ObjectiveConfig::Reconstruct(terms) => {
            let objective = Reconstruct::open(config, terms, &device)?;
            train(config, objective, claim, stop, reporter)
        }
    });
    if summary.is_err() {
        traces.wipe();
    }
    Ok(Outcome::Trained(summary?))
}

fn train<O: Objective>(
    config: &RunConfig,
    objective: O,
    claim: Claim,
    stop: Arc<AtomicBool>,
    reporter: &dyn Reporter,
) -> Result<Summary> {
    Trainer::open(config, objective, claim, stop, reporter)?.run()
}
