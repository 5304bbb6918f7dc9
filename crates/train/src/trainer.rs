//! The training loop: the only one.
//!
//! ```text
//!   batches ──▶ loss ──▶ backward ──▶ sum over micro-batches ──▶ clip ──▶ weights ──▶ EMA
//!     │          └ side by side ┘                                         │
//!     └ data_time                     metrics ◀── samples ◀── checkpoint ◀┘   when due
//! ```
//!
//! Nothing here draws a random number or knows what is learnt; see [`Objective`].

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use mmada_nn::atomic;
use mmada_tensor::candle::backprop::GradStore;
use mmada_tensor::{Var, process};

use crate::checkpoint::{Checkpoints, TrainerState, optimizer_file};
use crate::claim::{Claim, MODEL, RUN};
use crate::clock::Clock;
use crate::config::RunConfig;
use crate::metrics::{Meter, MetricsFile, Record};
use crate::objective::{BatchLoss, Moment, Network, Objective};
use crate::optimizer::{Gradients, Norms, Optimizer};
use crate::report::{Event, Reporter};
use crate::tensorboard::{EventWriter, Payload};
use crate::workers::Workers;
use crate::{Error, Result, samples};

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Optimiser steps done.
    pub step: u64,
    /// Whether it was stopped before its last step.
    pub is_early: bool,
    /// The folder of the trained model; absent when stopped early.
    pub model: Option<PathBuf>,
    /// The newest checkpoint.
    pub checkpoint: PathBuf,
    /// The last line of metrics.
    pub last: Option<Record>,
}

/// One run in progress.
pub struct Trainer<'a, O: Objective> {
    config: &'a RunConfig,
    objective: O,
    parameters: Vec<(String, Var)>,
    optimizer: Optimizer,
    workers: Workers,
    state: TrainerState,
    /// Samples skipped before this process took over; going to a position in the data counts
    /// broken samples of the epoch again, which is taken off here.
    skipped_before: u64,
    checkpoints: Checkpoints,
    metrics: MetricsFile,
    events: EventWriter,
    clock: Clock,
    last: Option<Record>,
    reporter: &'a dyn Reporter,
    stop: Arc<AtomicBool>,
    /// Held as long as the run: two of them in one folder would overwrite each other's files.
    _lock: File,
}

impl<'a, O: Objective> Trainer<'a, O> {
    /// When resuming, goes to where the run stood.
    ///
    /// # Errors
    /// When the folder cannot be written, or its newest checkpoint does not fit.
    pub fn open(
        config: &'a RunConfig,
        mut objective: O,
        claim: Claim,
        stop: Arc<AtomicBool>,
        reporter: &'a dyn Reporter,
    ) -> Result<Self> {
        let out = &config.run.out;
        let Claim {
            lock,
            checkpoints,
            newest,
            ..
        } = claim;
        let parameters = objective.parameters();
        let mut optimizer = Optimizer::new(
            &parameters,
            &config.optimizer,
            config.ema.as_ref(),
            objective.code_tables().as_ref(),
        )?;
        let state = match newest {
            None => TrainerState {
                step: 0,
                seed: config.run.seed,
                skipped: 0,
                tokens: 0,
                meter: Meter::default(),
                data: objective.position()?,
            },
            Some((path, state)) => {
                check_seed(&path, &state, config)?;
                check_steps(&path, &state, config)?;
                objective.restore(&path)?;
                optimizer.load(&optimizer_file(&path), state.step)?;
                objective.seek(&state.data)?;
                state
            }
        };
        checkpoints.clean()?;
        let workers = Workers::new(config.run.threads, config.batch.accumulate)?;
        let resolved = config.resolved()?;
        // What adds a file comes first, what changes one last: a run that cannot begin loses nothing.
        let events = EventWriter::create(&out.join("tensorboard"), state.step)?;
        atomic::write_atomic(&out.join(RUN), |file| file.write_all(resolved.as_bytes()))?;
        let metrics = MetricsFile::open(&out.join("metrics.jsonl"), state.step)?;
        Ok(Self {
            metrics,
            events,
            clock: Clock::new(state.step),
            skipped_before: state.skipped.saturating_sub(objective.skipped().count),
            config,
            objective,
            parameters,
            optimizer,
            workers,
            state,
            checkpoints,
            last: None,
            reporter,
            stop,
            _lock: lock,
        })
    }

    /// Trains to the last step, or until asked to stop.
    ///
    /// # Errors
    /// When data, tensors or files fail, or the loss is no number any more.
    pub fn run(mut self) -> Result<Summary> {
        let steps = self.config.run.steps;
        self.reporter.report(&Event::Started {
            name: &self.config.run.name,
            first_step: self.state.step,
            steps,
            parameters: self
                .parameters
                .iter()
                .map(|(_, var)| var.elem_count())
                .sum(),
        });
        let mut saved = None;
        while self.state.step < steps && !self.is_asked_to_stop() {
            let (loss, lr) = self.step()?;
            let is_last = self.state.step == steps;
            self.tell(loss);
            if is_due(self.state.step, self.config.log.every, is_last) {
                self.log(lr)?;
            }
            let sheets = self.config.samples.every;
            if sheets > 0 && is_due(self.state.step, sheets, is_last) {
                // Weights that took hours are not lost for a picture of them.
                if let Err(error) = self.sample() {
                    let what = format!("no sample sheet at step {}: {error}", self.state.step);
                    self.reporter.report(&Event::Warning(&what));
                }
            }
            if is_due(self.state.step, self.config.checkpoint.every, is_last) {
                saved = Some(self.save()?);
            }
        }
        self.warn();
        let is_early = self.state.step < steps;
        let checkpoint = match saved {
            Some(path) if !is_early => path,
            _ => self.save()?,
        };
        let model = match is_early {
            true => None,
            false => Some(self.export()?),
        };
        self.metrics.sync()?;
        self.reporter.report(&Event::Ended {
            step: self.state.step,
            is_early,
        });
        Ok(Summary {
            step: self.state.step,
            is_early,
            model,
            checkpoint,
            last: self.last,
        })
    }

    /// One optimiser step; returns its loss and learning rate.
    fn step(&mut self) -> Result<(f64, f64)> {
        let began = Instant::now();
        let (config, step) = (self.config, self.state.step);
        let lr = config.lr.at(step, config.run.steps);
        let precision = config.run.precision;
        let begun = self.optimizer.begin(config.run.backward, lr)?;
        let mut gradients = Gradients::default();
        let mut mean = 0.0;
        let micro: Vec<usize> = (0..config.batch.accumulate).collect();
        for micro in micro.chunks(self.workers.count()) {
            let batches = self.fetch(micro)?;
            let network = self.objective.network();
            let share = 1.0 / config.batch.accumulate as f64;
            let passes = self.workers.map(&batches, |batch| {
                let pass = || pass(network, batch, share, step);
                precision.scope(|| begun.activations.clone().scope(pass))
            });
            for pass in passes {
                let (loss, value, grads) = pass?;
                gradients.add(&self.parameters, &grads)?;
                self.note(&loss, value);
                mean += value * share;
            }
        }
        let norms = precision.scope(|| self.optimizer.end(&begun, &gradients))?;
        self.note_norms(&norms);
        self.state.step += 1;
        self.clock.steps += 1;
        self.clock.batch += began.elapsed().as_secs_f64();
        Ok((mean, lr))
    }

    /// Draws micro-batches of the present step.
    fn fetch(&mut self, micro: &[usize]) -> Result<Vec<O::Batch>> {
        let fetching = Instant::now();
        let batches = micro.iter().map(|&micro| {
            self.objective.batch(Moment {
                seed: self.config.run.seed,
                step: self.state.step,
                micro,
                size: self.config.batch.size,
            })
        });
        let batches = batches.collect::<Result<_>>()?;
        self.clock.data += fetching.elapsed().as_secs_f64();
        Ok(batches)
    }

    /// Counts a micro-batch.
    fn note(&mut self, loss: &BatchLoss, value: f64) {
        let meter = &mut self.state.meter;
        for metric in &loss.metrics {
            meter.add(metric.name, metric.value, metric.weight);
        }
        meter.add("loss", value, 1.0);
        self.state.tokens += loss.tokens as u64;
        self.clock.tokens += loss.tokens as u64;
        self.clock.examples += loss.examples as u64;
    }

    fn note_norms(&mut self, norms: &Norms) {
        let meter = &mut self.state.meter;
        meter.add("grad_norm", norms.all, 1.0);
        if !self.config.log.parameters {
            return;
        }
        for ((name, var), norm) in self.parameters.iter().zip(&norms.each) {
            if let Some(norm) = norm {
                // The original's number (`log_grad_norm` of its training scripts).
                let value = norm * norms.scale / var.elem_count() as f64;
                meter.add(&format!("grad_norm/{name}"), value, 1.0);
            }
        }
    }

    fn tell(&self, loss: f64) {
        let steps = self.config.run.steps;
        let (began, first) = self.clock.began;
        let done = (self.state.step - first) as f64;
        let seconds = began.elapsed().as_secs_f64();
        self.reporter.report(&Event::Step {
            step: self.state.step,
            steps,
            loss,
            tokens_per_second: self.clock.tokens_per_second(),
            seconds_left: seconds / done * (steps - self.state.step) as f64,
        });
    }

    /// Writes a line of metrics and begins a new mean.
    fn log(&mut self, lr: f64) -> Result<()> {
        let step = self.state.step;
        let skipped = self.note_skipped();
        let mut values = vec![];
        values.extend(
            self.state
                .meter
                .means()
                .map(|(name, mean)| (name.to_owned(), mean)),
        );
        let per_step = 1.0 / self.clock.steps.max(1) as f64;
        for (name, value) in [
            ("lr", lr),
            ("tokens_per_second", self.clock.tokens_per_second()),
            ("samples/sec/gpu", self.clock.examples_per_second()),
            ("data_time", self.clock.data * per_step),
            ("batch_time", self.clock.batch * per_step),
            ("num_tokens", self.state.tokens as f64),
            ("skipped_samples", skipped as f64),
        ] {
            values.push((name.to_owned(), value));
        }
        if let Some(bytes) = process::peak_memory() {
            values.push(("peak_memory_bytes".to_owned(), bytes as f64));
        }
        let record = Record { step, values };
        self.metrics.write(&record)?;
        let scalars = record
            .values
            .iter()
            .map(|(name, value)| (name.clone(), *value as f32));
        self.events
            .write(step, Payload::Scalars(scalars.collect()))?;
        self.reporter.report(&Event::Metrics(&record));
        self.warn();
        self.last = Some(record);
        self.state.meter.clear();
        self.clock.restart();
        Ok(())
    }

    /// Tells what went wrong since the last time and did not stop the run.
    fn warn(&mut self) {
        for warning in self.objective.warnings() {
            self.reporter.report(&Event::Warning(&warning));
        }
    }

    /// Counts the samples left out so far, and tells the names of new ones.
    fn note_skipped(&mut self) -> u64 {
        let mut skipped = self.objective.skipped();
        let count = self.skipped_before + skipped.count;
        let new = count.saturating_sub(self.state.skipped) as usize;
        if new > 0 {
            let latest = skipped.last.make_contiguous();
            self.reporter.report(&Event::Skipped {
                count,
                latest: &latest[latest.len().saturating_sub(new)..],
            });
        }
        self.state.skipped = count;
        count
    }

    /// Writes a sample sheet.
    fn sample(&mut self) -> Result<()> {
        let began = Instant::now();
        let (config, step) = (self.config, self.state.step);
        let objective = &self.objective;
        let sheet = self
            .optimizer
            .with_average(|| objective.samples(&config.samples, config.run.seed))?;
        for path in samples::write(
            &config.run.out.join("samples"),
            step,
            &sheet,
            &mut self.events,
        )? {
            self.reporter.report(&Event::Samples(&path));
        }
        // Sampling is no training: the speeds that are logged leave it out.
        self.clock.since += began.elapsed();
        Ok(())
    }

    fn save(&mut self) -> Result<PathBuf> {
        let began = Instant::now();
        self.metrics.sync()?;
        self.state.data = self.objective.position()?;
        self.note_skipped();
        let path = self.checkpoints.write(&self.state, |folder| {
            self.objective.save(folder)?;
            self.optimizer.save(&optimizer_file(folder))
        })?;
        self.reporter.report(&Event::Checkpoint(&path));
        // Nor is this training.
        self.clock.since += began.elapsed();
        Ok(path)
    }

    /// Writes the result: the averaged weights where there is an average.
    fn export(&self) -> Result<PathBuf> {
        let path = self.config.run.out.join(MODEL);
        let objective = &self.objective;
        self.optimizer
            .with_average(|| atomic::replace_dir(&path, |folder| objective.save(folder)))?;
        Ok(path)
    }

    fn is_asked_to_stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// A micro-batch through the network and back: its loss, also as a number, and the gradients of
/// `share` of it.
fn pass<B>(
    network: &impl Network<B>,
    batch: &B,
    share: f64,
    step: u64,
) -> Result<(BatchLoss, f64, GradStore)> {
    let loss = network.loss(batch)?;
    let value = f64::from(loss.total.to_scalar::<f32>()?);
    if !value.is_finite() {
        let what = "the loss".to_owned();
        return Err(Error::Diverged { step, what, value });
    }
    let grads = (&loss.total * share)?.backward()?;
    Ok((loss, value, grads))
}

fn check_seed(path: &Path, state: &TrainerState, config: &RunConfig) -> Result<()> {
    if state.seed == config.run.seed {
        return Ok(());
    }
    let what = format!(
        "it was written with run.seed = {}, the run file says {}, whose random numbers differ; set it \
         back, or choose another run.out",
        state.seed, config.run.seed
    );
    Err(Error::checkpoint(path, what))
}

/// The model of fewer steps than were taken is not there any more.
fn check_steps(path: &Path, state: &TrainerState, config: &RunConfig) -> Result<()> {
    if state.step <= config.run.steps {
        return Ok(());
    }
    let what = format!(
        "it is of step {}, the run file says run.steps = {}; raise it, or choose another run.out",
        state.step, config.run.steps
    );
    Err(Error::checkpoint(path, what))
}

fn is_due(step: u64, every: u64, is_last: bool) -> bool {
    is_last || (every > 0 && step.is_multiple_of(every))
}
