//! What can go wrong in a benchmark.

/// An error of a benchmark.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model.
    #[error(transparent)]
    Model(#[from] mmada_model::Error),
    /// The pack.
    #[error(transparent)]
    Data(#[from] mmada_data::DataError),
    /// A picture of the pack cannot be decoded, or a sheet cannot be drawn.
    #[error("{item}: {source}")]
    Picture {
        /// The item.
        item: String,
        /// Why.
        source: mmada_data::picture::PictureError,
    },
    /// The split has nothing that this benchmark can use.
    #[error("{task} on {data}, split {split}: expected {expected}, got none; try {hint}")]
    Nothing {
        /// The benchmark.
        task: &'static str,
        /// The pack.
        data: String,
        /// The split.
        split: String,
        /// What it needs.
        expected: &'static str,
        /// What to try.
        hint: String,
    },
}

/// The result of a benchmark.
pub type Result<T> = std::result::Result<T, Error>;
