//! Checkpoints that a power cut cannot spoil.
//!
//! ```text
//!   OUT/checkpoints/
//!     step-00000200/            complete: the rename below is the moment it comes into being
//!       …model files…           readable by any program that reads the model layout
//!       optimizer.safetensors   moments and averages
//!       trainer_state.json      step, data position, sums of unfinished metrics
//!     .step-00000400.partial/   being written; renamed when every file is on the disk
//!     latest                    names the newest; a convenience, the folder is the truth
//! ```

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use mmada_nn::atomic;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::metrics::Meter;
use crate::{Error, Result};

/// When checkpoints are written and how many are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointConfig {
    /// Steps between checkpoints; one more is written at the end. 0: only at the end.
    pub every: u64,
    /// How many of the newest are kept.
    pub keep: usize,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self {
            every: 500,
            keep: 2,
        }
    }
}

/// Everything a run needs to go on, besides tensors. Random numbers need no state: each derives
/// from the seed and the step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainerState {
    /// Optimiser steps done.
    pub step: u64,
    /// The run's seed; another one would be another run.
    pub seed: u64,
    /// Samples of the data left out as unreadable.
    pub skipped: u64,
    /// Tokens seen.
    pub tokens: u64,
    /// Sums since the last line of metrics.
    pub meter: Meter,
    /// Position in the data, as the objective described it.
    pub data: Value,
}

/// The checkpoints of one run.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    folder: PathBuf,
    keep: usize,
}

const STATE: &str = "trainer_state.json";
const OPTIMIZER: &str = "optimizer.safetensors";
/// Prefix of names that are not, or no longer, complete.
const HIDDEN: char = '.';

impl Checkpoints {
    /// The checkpoints below a run's folder. Creates nothing.
    pub fn new(run: &Path, keep: usize) -> Self {
        Self {
            folder: run.join("checkpoints"),
            keep: keep.max(1),
        }
    }

    /// Writes a checkpoint: `fill` puts the model files and the optimiser's into the folder it is
    /// given, at the path of [`optimizer_file`]. Older checkpoints beyond the number kept go away.
    ///
    /// # Errors
    /// Those of `fill`, or when the folder cannot be written. The earlier checkpoints are then
    /// untouched and the unfinished one is removed.
    pub fn write(
        &self,
        state: &TrainerState,
        fill: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let complete = self.folder.join(format!("step-{:08}", state.step));
        if complete.join(STATE).is_file() {
            // Written before an interruption; the run has come here again with the same numbers.
            return Ok(complete);
        }
        atomic::replace_dir(&complete, |folder| -> Result<()> {
            fill(folder)?;
            let text = serde_json::to_vec_pretty(state)
                .map_err(|error| Error::checkpoint(folder, error))?;
            Ok(atomic::write_atomic(&folder.join(STATE), |file| {
                file.write_all(&text)
            })?)
        })?;
        let name = name_of(&complete);
        atomic::write_atomic(&self.folder.join("latest"), |file| {
            file.write_all(name.as_bytes())
        })?;
        self.rotate()?;
        Ok(complete)
    }

    /// The newest complete checkpoint.
    ///
    /// # Errors
    /// When the folder cannot be listed, the newest state cannot be read, or all checkpoints have
    /// lost theirs.
    pub fn newest(&self) -> Result<Option<(PathBuf, TrainerState)>> {
        let Some((_, path)) = self.complete()?.pop() else {
            let mut left = list(&self.folder)?.into_iter();
            return match left.find(|path| name_of(path).starts_with("step-")) {
                Some(path) => {
                    let what = format!("{STATE} is missing; put it back, or remove the folder");
                    Err(Error::checkpoint(&path, what))
                }
                None => Ok(None),
            };
        };
        let file = path.join(STATE);
        let text = fs::read_to_string(&file).map_err(Error::file(&file, "read the state"))?;
        let state = serde_json::from_str(&text).map_err(|error| {
            let what = format!("{error}; remove this checkpoint to go on from an earlier one");
            Error::checkpoint(&file, what)
        })?;
        Ok(Some((path, state)))
    }

    /// Removes what an interrupted run left half-written.
    ///
    /// # Errors
    /// When the folder cannot be listed or a leftover cannot be removed.
    pub fn clean(&self) -> Result<()> {
        for path in list(&self.folder)? {
            if !name_of(&path).starts_with(HIDDEN) {
                continue;
            }
            let removed = if path.is_dir() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            removed.map_err(Error::file(&path, "remove what an interrupted run left"))?;
        }
        Ok(())
    }

    /// Complete checkpoints with their steps, oldest first.
    fn complete(&self) -> Result<Vec<(u64, PathBuf)>> {
        let mut found = Vec::new();
        for path in list(&self.folder)? {
            let name = name_of(&path);
            let digits = name.strip_prefix("step-").map(str::parse::<u64>);
            let Some(Ok(step)) = digits else {
                continue;
            };
            if path.join(STATE).is_file() {
                found.push((step, path));
            }
        }
        found.sort();
        Ok(found)
    }

    fn rotate(&self) -> Result<()> {
        let complete = self.complete()?;
        let surplus = complete.len().saturating_sub(self.keep);
        for (_, path) in complete.into_iter().take(surplus) {
            // Renamed first: a checkpoint that is half gone must not look complete.
            let discarded = path.with_file_name(format!("{HIDDEN}{}.old", name_of(&path)));
            fs::rename(&path, &discarded).map_err(Error::file(&path, "discard a checkpoint"))?;
            fs::remove_dir_all(&discarded)
                .map_err(Error::file(&discarded, "discard a checkpoint"))?;
        }
        Ok(())
    }
}

/// The file of a run's folder that its process holds.
pub(crate) const LOCK: &str = ".lock";

/// Keeps other processes from training in a run's folder, until the file is closed or the process
/// ends. File systems that know no locks are trusted.
///
/// # Errors
/// When one of them does, or the file cannot be made.
pub fn lock(run: &Path) -> Result<File> {
    let path = run.join(LOCK);
    let file = File::create(&path).map_err(Error::file(&path, "make the lock of the run"))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            let what = "another process is training here; wait for it, or choose another run.out";
            Err(Error::checkpoint(run, what))
        }
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
}

/// Where the optimiser's tensors lie within a checkpoint.
pub fn optimizer_file(checkpoint: &Path) -> PathBuf {
    checkpoint.join(OPTIMIZER)
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// The entries of a folder in the order of their names; none when it does not exist.
fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::file(folder, "list the folder")(error)),
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut paths: Vec<_> = paths
        .collect::<std::io::Result<_>>()
        .map_err(Error::file(folder, "list the folder"))?;
    paths.sort();
    Ok(paths)
}
