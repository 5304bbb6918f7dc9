//! What can go wrong with files of data. A broken *sample* is not an error but a count
//! ([`crate::record::Skipped`]); a broken *shard* is one, and names the shard.

use std::path::PathBuf;

/// An error of the readers, sources, mixtures and packs.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A `[[data]]` table that cannot be meant as it stands.
    #[error("data source '{name}': {reason}")]
    Config {
        /// Name of the source.
        name: String,
        /// What is wrong and what to try.
        reason: String,
    },
    /// A path, glob or brace pattern that no file answers to.
    #[error("no file matches '{pattern}' (looked in {root}); relative paths start at that folder")]
    NoFiles {
        /// The pattern as written.
        pattern: String,
        /// Where relative patterns start.
        root: PathBuf,
    },
    /// A shard that cannot be read to its end: missing, truncated, or of another format.
    #[error("broken shard {path}: {reason}")]
    Shard {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        reason: String,
    },
    /// A broken sample, where skipping it in silence would change a result (evaluation).
    #[error("broken sample {name}: {reason}")]
    Sample {
        /// Shard and key of the sample.
        name: String,
        /// Why it cannot be used.
        reason: String,
    },
    /// A whole pass over a source gave no example.
    #[error("data source '{name}' yields no example; {hint}")]
    Empty {
        /// Name of the source.
        name: String,
        /// The last reasons for skipping, or that all were filtered out.
        hint: String,
    },
    /// A saved position that belongs to other data.
    #[error("cannot resume the data position: {reason}")]
    Resume {
        /// What differs.
        reason: String,
    },
    /// A pack folder without the files that a task needs.
    #[error("data pack {path}: {wanted}; looked for {looked_for}; the folder holds: {found}")]
    Pack {
        /// The folder.
        path: PathBuf,
        /// What is missing.
        wanted: String,
        /// The names tried.
        looked_for: String,
        /// The names present (at most a dozen).
        found: String,
    },
}

impl DataError {
    pub(crate) fn shard(path: impl Into<PathBuf>, reason: impl std::fmt::Display) -> Self {
        Self::Shard {
            path: path.into(),
            reason: format!("{reason}"),
        }
    }
}
