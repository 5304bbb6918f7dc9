//! An objective: what a batch is and what its loss is. The loop around it is the same for all.

use std::path::Path;

use mmada_data::Skipped;
use mmada_data::picture::Picture;
use mmada_tensor::random::{Key, Purpose};
use mmada_tensor::{Tensor, Var};
use serde_json::Value;

use crate::Result;
use crate::config::{BatchSize, SamplesConfig};
use crate::optimizer::CodeTables;

/// What is trained, on what, and how wrong it is.
pub trait Objective {
    /// The examples of one micro-batch, ready for the network.
    type Batch: Send + Sync;

    /// What is trained.
    type Network: Network<Self::Batch>;

    /// The trainable tensors, by name, always in the same order.
    fn parameters(&self) -> Vec<(String, Var)>;

    /// Where among them the rows of image codes are, if there are any.
    fn code_tables(&self) -> Option<CodeTables> {
        None
    }

    /// Draws the next micro-batch. Random numbers derive from `at` alone.
    ///
    /// # Errors
    /// When the data cannot be read; single broken samples are skipped and counted.
    fn batch(&mut self, at: Moment) -> Result<Self::Batch>;

    /// The network, to run on a batch.
    fn network(&self) -> &Self::Network;

    /// Position in the data after the last batch.
    fn position(&self) -> Result<Value>;

    /// Goes to a position in the data.
    ///
    /// # Errors
    /// When the position belongs to other data.
    fn seek(&mut self, position: &Value) -> Result<()>;

    /// Samples of the data skipped as unreadable since the objective was opened: how many, and the
    /// names of the latest.
    fn skipped(&self) -> Skipped;

    /// What went wrong since it was last asked and did not stop the run, in words.
    fn warnings(&mut self) -> Vec<String> {
        Vec::new()
    }

    /// Writes the trained model in the layout that [`mmada_model`] or [`mmada_nn`] reads.
    ///
    /// # Errors
    /// When the folder cannot be written.
    fn save(&self, folder: &Path) -> Result<()>;

    /// Takes over the weights of a folder written by [`Objective::save`].
    ///
    /// # Errors
    /// When names or shapes differ.
    fn restore(&mut self, folder: &Path) -> Result<()>;

    /// What the model can do now, for a person to look at.
    ///
    /// # Errors
    /// When sampling fails.
    fn samples(&self, config: &SamplesConfig, seed: u64) -> Result<Sheet>;
}

/// A network that several threads run at once, each on a batch of its own.
pub trait Network<Batch>: Sync {
    /// The loss of a micro-batch, with gradient.
    ///
    /// # Errors
    /// When a tensor operation fails.
    fn loss(&self, batch: &Batch) -> Result<BatchLoss>;
}

/// Where in a run a micro-batch is.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Seed of the run.
    pub seed: u64,
    /// Optimiser steps done before.
    pub step: u64,
    /// Number of the micro-batch within the step.
    pub micro: usize,
    /// How much it holds.
    pub size: BatchSize,
}

impl Moment {
    /// The random numbers for the example number `index` of this micro-batch.
    pub fn key(&self, index: usize, purpose: Purpose) -> Key {
        // Micro-batches of one step are far enough apart never to share an example number.
        let example = (self.micro as u64) << 32 | index as u64;
        Key::new(self.seed, purpose)
            .step(self.step)
            .example(example)
    }

    /// Whether a micro-batch of this many examples and tokens is complete.
    pub fn is_full(&self, examples: usize, tokens: usize) -> bool {
        match self.size {
            BatchSize::Tokens(budget) => tokens >= budget,
            BatchSize::Sequences(count) => examples >= count,
        }
    }
}

/// A loss and what is logged of it.
#[derive(Debug)]
pub struct BatchLoss {
    /// Scalar, with gradient.
    pub total: Tensor,
    /// Numbers for the log.
    pub metrics: Vec<Metric>,
    /// Examples the network saw.
    pub examples: usize,
    /// Tokens the network saw; codes for an image tokenizer.
    pub tokens: usize,
}

/// A number for the log; the log shows the weighted mean between two lines.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metric {
    /// Its name, as upstream where upstream has it.
    pub name: &'static str,
    /// Its value.
    pub value: f64,
    /// Its weight in the mean.
    pub weight: f64,
}

/// A sample sheet.
#[derive(Debug, Default)]
pub struct Sheet {
    /// Panels: name and picture.
    pub pictures: Vec<(&'static str, Picture)>,
    /// Words; empty if there are none.
    pub text: String,
}
