//! What a run writes down about itself: `metrics.jsonl`, one line per logged step.
//!
//! ```text
//!   Meter    sums between two log lines; part of the checkpoint, so a resumed run averages alike
//!     ↓
//!   Record   step, loss, step_loss_t2i, lr, grad_norm, avg_masking_rate, … (upstream's names;
//!            with log.parameters also grad_norm/PARAMETER)
//!     ↓
//!   metrics.jsonl   and TensorBoard
//! ```

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Error, Result};

/// Weighted means of named quantities, to the last bit independent of when a run was interrupted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Meter {
    /// Name to bits of (sum of weight · value, sum of weight): numbers in JSON would be rounded.
    sums: BTreeMap<String, (u64, u64)>,
}

impl Meter {
    /// Adds a value.
    pub fn add(&mut self, name: &str, value: f64, weight: f64) {
        let entry = self.sums.entry(name.to_owned()).or_default();
        let sum = f64::from_bits(entry.0) + value * weight;
        let total = f64::from_bits(entry.1) + weight;
        *entry = (sum.to_bits(), total.to_bits());
    }

    /// The means so far, in the order of the names; what was never weighed is left out.
    pub fn means(&self) -> impl Iterator<Item = (&str, f64)> {
        let totals = self.sums.iter().map(|(name, (sum, total))| {
            (name.as_str(), f64::from_bits(*sum), f64::from_bits(*total))
        });
        totals
            .filter(|(_, _, total)| *total > 0.0)
            .map(|(name, sum, total)| (name, sum / total))
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.sums.clear();
    }
}

/// One line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Optimiser steps done.
    pub step: u64,
    /// Named numbers, in the order in which they are written.
    pub values: Vec<(String, f64)>,
}

impl Record {
    /// The value of this name.
    pub fn get(&self, name: &str) -> Option<f64> {
        let found = self.values.iter().find(|(key, _)| key == name)?;
        Some(found.1)
    }

    fn to_line(&self) -> String {
        let mut line = Map::new();
        line.insert("step".to_owned(), Value::from(self.step));
        for (name, value) in &self.values {
            line.insert(name.clone(), Value::from(*value));
        }
        let mut line = Value::Object(line).to_string();
        line.push('\n');
        line
    }
}

/// The open `metrics.jsonl` of a run.
#[derive(Debug)]
pub struct MetricsFile {
    file: File,
    path: PathBuf,
}

impl MetricsFile {
    /// Opens the file of a run that stands at `step`: what follows the last line of that step or an
    /// earlier one is cut off, since an interrupted run wrote it after its last checkpoint.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn open(path: &Path, step: u64) -> Result<Self> {
        let bytes = match std::fs::read(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::file(path, "read the metrics")(error));
            }
            read => read.unwrap_or_default(),
        };
        let (mut end, mut kept) = (0, 0);
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            end += line.len();
            let is_whole = line.ends_with(b"\n");
            if is_whole && step_of(line).is_some_and(|line| line <= step) {
                kept = end;
            }
        }
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .map_err(Error::file(path, "open the metrics"))?;
        file.set_len(kept as u64)
            .map_err(Error::file(path, "cut the metrics back to the checkpoint"))?;
        Ok(Self {
            file,
            path: path.to_path_buf(),
        })
    }

    /// Appends a line.
    ///
    /// # Errors
    /// When the file cannot be written, for example on a full disk.
    pub fn write(&mut self, record: &Record) -> Result<()> {
        self.file
            .write_all(record.to_line().as_bytes())
            .map_err(Error::file(&self.path, "write a line of metrics"))
    }

    /// Waits until the lines are on the disk.
    ///
    /// # Errors
    /// When the system cannot.
    pub fn sync(&self) -> Result<()> {
        self.file
            .sync_data()
            .map_err(Error::file(&self.path, "flush the metrics"))
    }
}

fn step_of(line: &[u8]) -> Option<u64> {
    let value: Value = serde_json::from_slice(line).ok()?;
    value.get("step")?.as_u64()
}
