//! What can go wrong while a model is trained.

use std::path::{Path, PathBuf};

/// An error of training: what happened, what was expected, what to try.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A run file that does not describe a run.
    #[error("{0}")]
    Config(String),
    /// An override of the command line that does not fit the run file, which is sound by itself.
    #[error("{0}")]
    Override(String),
    /// A file that cannot be read or written.
    #[error("{path}: {doing}: {source}")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What was being done with it.
        doing: &'static str,
        /// The reason given by the system.
        source: std::io::Error,
    },
    /// A checkpoint that cannot be continued from.
    #[error("checkpoint {path}: {what}")]
    Checkpoint {
        /// The checkpoint's folder.
        path: PathBuf,
        /// What is wrong and what to try.
        what: String,
    },
    /// The loss or a gradient is no longer a number.
    #[error(
        "step {step}: {what} is {value}; lower `lr.peak`, lengthen `lr.warmup` or check the data"
    )]
    Diverged {
        /// The step.
        step: u64,
        /// Which quantity.
        what: String,
        /// Its value.
        value: f64,
    },
    /// An operation on tensors.
    #[error(transparent)]
    Tensor(#[from] mmada_tensor::Error),
    /// Data that cannot be read.
    #[error("data: {0}")]
    Data(String),
    /// A network or its files.
    #[error(transparent)]
    Network(#[from] mmada_nn::Error),
    /// A model, a tokenizer or their files.
    #[error("model: {0}")]
    Model(String),
}

/// The result of training work.
pub type Result<T> = std::result::Result<T, Error>;

impl From<mmada_tensor::candle::Error> for Error {
    fn from(error: mmada_tensor::candle::Error) -> Self {
        Self::Tensor(error.into())
    }
}

// By value, so that they can stand in `map_err`.
#[allow(clippy::needless_pass_by_value)]
impl Error {
    /// A file error, for `map_err`.
    pub(crate) fn file(path: &Path, doing: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File {
            path,
            doing,
            source,
        }
    }

    /// A checkpoint error.
    pub(crate) fn checkpoint(path: &Path, what: impl ToString) -> Self {
        Self::Checkpoint {
            path: path.to_path_buf(),
            what: what.to_string(),
        }
    }

    /// A model error from any error that can be shown.
    pub(crate) fn model(error: impl ToString) -> Self {
        Self::Model(error.to_string())
    }

    /// A data error from any error that can be shown.
    pub(crate) fn data(error: impl ToString) -> Self {
        Self::Data(error.to_string())
    }
}
