//! `mmada train`: a run file, with a bar while it runs.

use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use mmada_train::{Event, LaunchOptions, Mode, Outcome, Reporter, launch};
use serde_json::{Map, Value, json};

use crate::args::{DeviceArg, TrainArgs};
use crate::interrupt::{self, Guard};
use crate::{device, output, terminal};

pub(crate) fn run(args: &TrainArgs) -> Result<ExitCode> {
    let guard = Guard::new();
    let options = LaunchOptions {
        mode: match (args.dry_run, args.resume) {
            (true, _) => Mode::DryRun,
            (false, true) => Mode::Resume,
            (false, false) => Mode::Fresh,
        },
        device: device::open(args.device)?,
        stop: guard.flag(),
    };
    let watcher = Watcher {
        is_resumed: args.resume,
        ..Watcher::default()
    };
    let started = Instant::now();
    let outcome = launch(&args.run, &args.overrides, options, &watcher);
    watcher.clear();
    let summary = match outcome? {
        Outcome::Resolved(text) => {
            match args.json {
                true => output::json(&json!({
                    "task": "train",
                    "run": output::shown(&args.run),
                    "resolved": toml::from_str::<toml::Table>(&text)?,
                }))?,
                false => output::line(text.trim_end())?,
            }
            return Ok(ExitCode::SUCCESS);
        }
        Outcome::Trained(summary) => summary,
    };
    if args.json {
        let numbers = summary.last.iter().flat_map(|record| &record.values);
        let numbers: Map<String, Value> = numbers
            .map(|(name, value)| (name.clone(), json!(value)))
            .collect();
        output::json(&json!({
            "task": "train",
            "run": output::shown(&args.run),
            "steps": summary.step,
            "stopped_early": summary.is_early,
            "seconds": started.elapsed().as_secs_f64(),
            "output": summary.model.as_ref().map(output::shown),
            "checkpoint": output::shown(&summary.checkpoint),
            "metrics": numbers,
        }))?;
    } else if let Some(model) = &summary.model {
        output::line(model.display().to_string())?;
    }
    if summary.is_early {
        let device = match args.device {
            DeviceArg::Cpu => "",
            DeviceArg::Cuda => " --device cuda",
            DeviceArg::Metal => " --device metal",
        };
        output::note(format!(
            "stopped after step {}; go on with: mmada train{} --resume{}{}",
            summary.step,
            typed(&[args.run.display().to_string()]),
            device,
            typed(&args.overrides)
        ));
        return Ok(ExitCode::from(interrupt::EXIT_CODE));
    }
    Ok(ExitCode::SUCCESS)
}

/// Overrides as they would be typed: quoted where a shell would read more into them.
fn typed(overrides: &[String]) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./=+,:".contains(c);
    let quoted = |text: &String| match text.chars().all(is_plain) {
        true => format!(" {text}"),
        false => format!(" '{}'", text.replace('\'', "'\\''")),
    };
    overrides.iter().map(quoted).collect()
}

/// Shows a run: a bar on a terminal, a line now and then elsewhere.
#[derive(Default)]
struct Watcher {
    bar: Mutex<Option<ProgressBar>>,
    /// Whether the run was asked to go on.
    is_resumed: bool,
}

impl Watcher {
    fn clear(&self) {
        self.with(|bar| {
            if let Some(bar) = bar.take() {
                bar.finish_and_clear();
            }
        });
    }

    fn with(&self, act: impl FnOnce(&mut Option<ProgressBar>)) {
        // A bar is a picture only; one left by a panicking thread is as good as any.
        act(&mut self
            .bar
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner));
    }

    /// Replaces the bar.
    fn begin(&self, message: &str, done: u64, total: u64) {
        self.clear();
        let bar = terminal::bar(total, "");
        bar.set_position(done);
        bar.set_message(message.to_owned());
        self.with(|slot| *slot = Some(bar));
    }

    fn say(&self, text: &str) {
        self.with(|bar| match bar {
            Some(bar) if !bar.is_hidden() => bar.println(text),
            _ => output::note(text),
        });
    }
}

impl Reporter for Watcher {
    fn report(&self, event: &Event<'_>) {
        match event {
            Event::Started {
                name,
                first_step,
                steps,
                parameters,
            } => {
                self.clear();
                let from = match (first_step, self.is_resumed) {
                    (0, false) => String::new(),
                    (0, true) => ", from the beginning: there is no step to go on after".to_owned(),
                    (step, _) => format!(", going on after step {step}"),
                };
                let millions = *parameters as f64 / 1e6;
                self.say(&format!(
                    "{name}: {millions:.2} M parameters, {steps} steps{from}"
                ));
                self.begin("", *first_step, *steps);
                self.with(|bar| {
                    if let Some(bar) = bar {
                        bar.set_style(step_style());
                    }
                });
            }
            Event::Preparing { what, done, total } => self.with(|slot| {
                let bar = slot.get_or_insert_with(|| terminal::bar(*total as u64, ""));
                bar.set_length(*total as u64);
                bar.set_message((*what).to_owned());
                bar.set_position(*done as u64);
            }),
            Event::Step {
                step,
                loss,
                tokens_per_second,
                seconds_left,
                ..
            } => self.with(|bar| {
                if let Some(bar) = bar {
                    let left = terminal::clock(*seconds_left);
                    bar.set_message(format!(
                        "loss {loss:.4}  {tokens_per_second:.0} tokens/s  ETA {left}"
                    ));
                    bar.set_position(*step);
                }
            }),
            Event::Metrics(_) | Event::Ended { .. } => {}
            Event::Checkpoint(path) => self.say(&format!("checkpoint {}", path.display())),
            Event::Samples(path) => self.say(&format!("samples {}", path.display())),
            Event::Warning(text) => self.say(&format!("warning: {text}")),
            Event::Skipped { count, latest } => {
                for (name, reason) in *latest {
                    self.say(&format!("warning: left out {name}: {reason}"));
                }
                self.say(&format!("warning: {count} samples left out so far"));
            }
        }
    }
}

fn step_style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:32} {pos}/{len}  {msg}  {elapsed_precise}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}
