//! A run's folder, before anything is written there: whose it is, and what it holds.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::checkpoint::{self, Checkpoints, TrainerState};
use crate::config::RunConfig;
use crate::{Error, Result};

/// What to do about an earlier run in the same folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// Begin; refuse a folder that holds checkpoints.
    #[default]
    Fresh,
    /// Continue from the newest complete checkpoint, or begin if there is none.
    Resume,
}

/// A run's folder that is this run's alone, for as long as the claim lasts.
#[derive(Debug)]
pub struct Claim {
    pub(crate) lock: File,
    pub(crate) checkpoints: Checkpoints,
    /// Where the run stood.
    pub(crate) newest: Option<(PathBuf, TrainerState)>,
    /// What to take away if the run does not begin.
    pub(crate) traces: Traces,
}

impl Claim {
    /// Claims a run's folder, before anything else is written there. A refused one is left as it was.
    ///
    /// # Errors
    /// When the folder cannot be written, is another process's, or holds what this run would
    /// overwrite: another run, or a model that no run has made or that this one begins with.
    pub fn new(config: &RunConfig, start: Start) -> Result<Self> {
        let out = &config.run.out;
        let traces = Traces::of(out);
        std::fs::create_dir_all(out).map_err(Error::file(out, "create the run's folder"))?;
        let lock = checkpoint::lock(out)?;
        let checkpoints = Checkpoints::new(out, config.checkpoint.keep);
        match check(config, start, &checkpoints) {
            Ok(newest) => Ok(Self {
                lock,
                checkpoints,
                newest,
                traces,
            }),
            Err(refused) => {
                traces.wipe();
                Err(refused)
            }
        }
    }
}

/// Where the run stood, if nothing is overwritten.
fn check(
    config: &RunConfig,
    start: Start,
    checkpoints: &Checkpoints,
) -> Result<Option<(PathBuf, TrainerState)>> {
    let out = &config.run.out;
    let newest = checkpoints.newest()?;
    if let (Start::Fresh, Some((path, _))) = (start, &newest) {
        let what = "the folder holds a run already; \
                    continue it with --resume or choose another run.out";
        return Err(Error::checkpoint(path, what));
    }
    let model = out.join(MODEL);
    if model.is_dir() && !out.join(RUN).is_file() {
        let what = "no run has made this model, and this run would replace it; \
                    choose another run.out";
        return Err(Error::checkpoint(&model, what));
    }
    if let (Start::Resume, None, true) = (start, &newest, model.is_dir()) {
        let what = "the run that made this model has ended, and no checkpoint of it is left to go on \
                    from; choose another run.out, or begin anew without --resume, which replaces it";
        return Err(Error::checkpoint(&model, what));
    }
    let from = config.model.init.folder();
    if from.is_some_and(|from| is_same(from, &model)) {
        let what = "the run begins with this model, and would replace it; \
                    choose another run.out";
        return Err(Error::checkpoint(&model, what));
    }
    Ok(newest)
}

/// What a claim alone adds to a folder.
#[derive(Debug, Clone)]
pub(crate) struct Traces {
    out: PathBuf,
    is_folder_new: bool,
    is_lock_new: bool,
}

impl Traces {
    fn of(out: &Path) -> Self {
        Self {
            out: out.to_path_buf(),
            is_folder_new: !out.exists(),
            is_lock_new: !out.join(checkpoint::LOCK).exists(),
        }
    }

    /// Takes it away again where nothing came of the claim; what else is in the folder stays.
    pub(crate) fn wipe(&self) {
        // What cannot be removed does no harm.
        if self.is_lock_new {
            let _ = std::fs::remove_file(self.out.join(checkpoint::LOCK));
        }
        if self.is_folder_new {
            let _ = std::fs::remove_dir(&self.out);
        }
    }
}

/// Whether two names lead to one folder that is there.
fn is_same(one: &Path, other: &Path) -> bool {
    let place = |path: &Path| path.canonicalize().ok();
    place(one).is_some_and(|one| place(other) == Some(one))
}

/// The finished model, in a run's folder.
pub(crate) const MODEL: &str = "model";
/// The run with its defaults filled in, but for sampling settings, in its folder.
pub(crate) const RUN: &str = "run.toml";
