//! How a run tells of its progress. The trainer never prints; whoever launches it listens.

use std::path::Path;

use crate::metrics::Record;

/// Something that happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// The run begins, or continues after `first_step` finished steps.
    Started {
        /// The run's name.
        name: &'a str,
        /// Steps already done.
        first_step: u64,
        /// Steps in all.
        steps: u64,
        /// Trainable numbers.
        parameters: usize,
    },
    /// A stage before training, such as turning pictures into codes.
    Preparing {
        /// What is being prepared.
        what: &'a str,
        /// How many are done.
        done: usize,
        /// How many there are.
        total: usize,
    },
    /// One optimiser step is done.
    Step {
        /// Steps done so far, this one included.
        step: u64,
        /// Steps in all.
        steps: u64,
        /// Loss of this step.
        loss: f64,
        /// Tokens (of an image tokenizer: codes) per second since the last line of metrics.
        tokens_per_second: f64,
        /// Expected seconds to the end.
        seconds_left: f64,
    },
    /// A line of metrics was written.
    Metrics(&'a Record),
    /// A checkpoint was written.
    Checkpoint(&'a Path),
    /// A sample sheet was written.
    Samples(&'a Path),
    /// Samples of the data were unreadable and left out.
    Skipped {
        /// How many so far, over all epochs.
        count: u64,
        /// `(name, reason)` of those left out since the last such event; of many, the latest.
        latest: &'a [(String, String)],
    },
    /// Something went wrong that does not stop the run.
    Warning(&'a str),
    /// The run reached its last step, or was asked to stop.
    Ended {
        /// Steps done.
        step: u64,
        /// Whether it stopped before the last step because it was asked to.
        is_early: bool,
    },
}

/// Listens to a run.
pub trait Reporter: Sync {
    /// Takes note of an event.
    fn report(&self, event: &Event<'_>);
}

/// Listens to nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Reporter for Silent {
    fn report(&self, _: &Event<'_>) {}
}
