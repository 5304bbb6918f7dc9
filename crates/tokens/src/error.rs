//! What can go wrong between text and ids. Every message says what, expected, got and what to try.

use std::path::{Path, PathBuf};

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried: `read`, `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason given by the system.
        source: std::io::Error,
    },
    /// A file is larger than any real one of its kind.
    #[error(
        "{path} has {got} bytes, expected at most {limit}; is this really a tokenizer or template?"
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        got: u64,
        /// The most that is read.
        limit: u64,
    },
    /// The tokenizer file, or a call into it, failed.
    #[error(
        "tokenizer: {0}; expected a tokenizer.json as the Hugging Face tokenizers library writes it"
    )]
    Tokenizer(String),
    /// Special tokens that the tokenizer should name are absent.
    #[error(
        "the tokenizer has no tokens named {}; \
         train one with `mmada train-tokenizer`, or use the tokenizer.json of the checkpoint",
        .0.join(", ")
    )]
    MissingTokens(Vec<String>),
    /// Training a tokenizer needs room for every byte and every special token.
    #[error(
        "a tokenizer of {got} tokens is too small; the bytes and special tokens alone are {least}"
    )]
    VocabTooSmall {
        /// The size that was asked for.
        got: usize,
        /// The least that works.
        least: usize,
    },
    /// A vocabulary whose ranges or ids contradict each other.
    #[error("vocabulary: {0}; check the sizes in config.json against the tokenizer")]
    Vocab(String),
    /// The chat template is wrong or refuses the messages.
    #[error("chat template: {0}")]
    Template(String),
    /// A role that a template must not be given.
    #[error(
        "role {0:?} is not a name; expected letters, digits, `_` or `-`, such as user or assistant"
    )]
    Role(String),
    /// A sequence does not fit.
    #[error("{what} is {got} tokens long, the limit is {limit}; {hint}")]
    TooLong {
        /// Which part.
        what: &'static str,
        /// Its length in tokens.
        got: usize,
        /// The most that fits.
        limit: usize,
        /// What to try.
        hint: &'static str,
    },
}

impl Error {
    pub(crate) fn read(path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            action: "read",
            path: path.to_path_buf(),
            source,
        }
    }

    pub(crate) fn write(path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            action: "write",
            path: path.to_path_buf(),
            source,
        }
    }
}

impl From<tokenizers::Error> for Error {
    fn from(error: tokenizers::Error) -> Self {
        Self::Tokenizer(error.to_string())
    }
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
