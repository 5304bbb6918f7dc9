//! The error of networks and weight files: what went wrong, expected, got, and what to try.

use std::path::{Path, PathBuf};

/// What can go wrong with a network or its files.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An operation on tensors failed.
    #[error(transparent)]
    Tensor(#[from] mmada_tensor::Error),
    /// The file system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, as a verb.
        action: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A weight file, or the set of them, is not what it should be.
    #[error("{file}: {problem}; {hint}")]
    WeightFile {
        /// The file or folder.
        file: String,
        /// What is wrong with it: expected and got.
        problem: String,
        /// What to try.
        hint: &'static str,
    },
    /// A tensor that the model needs is absent.
    #[error(
        "tensor {name:?}: expected shape {expected:?}, got no such tensor among {present}; \
         do config.json and the weights belong to the same model?"
    )]
    Missing {
        /// The name looked for.
        name: String,
        /// The shape it should have.
        expected: Vec<usize>,
        /// How many tensors there are.
        present: usize,
    },
    /// A tensor has another shape than the model's.
    #[error(
        "tensor {name:?}: expected shape {expected:?}, got {got:?}; \
         do config.json and the weights belong to the same model?"
    )]
    Shape {
        /// The tensor.
        name: String,
        /// The shape that the config asks for.
        expected: Vec<usize>,
        /// The shape found.
        got: Vec<usize>,
    },
    /// A value of a file of settings is absent, out of range or not implemented.
    #[error("{file}{}: expected {expected}, got {got}", of_key(key))]
    Config {
        /// The file, by its path where that is known.
        file: Box<str>,
        /// The key; empty: the whole file.
        key: Box<str>,
        /// What would be accepted.
        expected: Box<str>,
        /// What is there.
        got: String,
    },
    /// An argument of a forward pass does not fit the model.
    #[error("{what}: expected {expected}, got {got}")]
    Input {
        /// The argument.
        what: String,
        /// What would be accepted.
        expected: String,
        /// What was given.
        got: String,
    },
    /// A weight is NaN or infinite.
    #[error(
        "tensor {name:?}: expected finite numbers, got {value} at element {index}; \
         the weights are damaged or their training diverged, go back to an earlier checkpoint"
    )]
    NotFinite {
        /// The first such tensor by name.
        name: String,
        /// Flat index of its first such element.
        index: usize,
        /// NaN or an infinity.
        value: f32,
    },
}

/// The result of work with networks.
pub type Result<T> = std::result::Result<T, Error>;

impl From<mmada_tensor::candle::Error> for Error {
    fn from(error: mmada_tensor::candle::Error) -> Self {
        Self::Tensor(error.into())
    }
}

/// For code that networks call back, or that calls a network through a trait of tensors.
impl From<Error> for mmada_tensor::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Tensor(error) => error,
            other => mmada_tensor::candle::Error::wrap(other).into(),
        }
    }
}

impl Error {
    /// An input error in words.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "callers pass numbers and literals"
    )]
    pub fn input(what: impl ToString, expected: impl ToString, got: impl ToString) -> Self {
        Self::Input {
            what: what.to_string(),
            expected: expected.to_string(),
            got: got.to_string(),
        }
    }

    /// An error of a `config.json` in words.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "callers pass numbers and literals"
    )]
    pub fn config(key: impl ToString, expected: impl ToString, got: impl ToString) -> Self {
        Self::Config {
            file: "config.json".into(),
            key: key.to_string().into(),
            expected: expected.to_string().into(),
            got: got.to_string(),
        }
    }

    /// The same about the image tokenizer's `config.json` rather than the model's.
    pub(crate) fn of_image_tokenizer(self) -> Self {
        self.in_file(Path::new("config.json of the image tokenizer"))
    }

    /// The same about the settings in this file.
    pub(crate) fn in_file(mut self, path: &Path) -> Self {
        if let Self::Config { file, .. } = &mut self {
            *file = path.display().to_string().into();
        }
        self
    }

    /// Turns an I/O error on `path` into ours; `action` is a verb such as `"read"`.
    pub fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            path,
            action,
            source,
        }
    }
}

fn of_key(key: &str) -> String {
    match key {
        "" => String::new(),
        key => format!(", key {key:?}"),
    }
}
