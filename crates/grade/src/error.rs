//! What can go wrong in a benchmark, or with a judge that is a network.

/// An error of a benchmark or a judge.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model.
    #[error(transparent)]
    Model(#[from] mmada_model::Error),
    /// A judge's network.
    #[error("a judge's network: {0}")]
    Network(#[source] mmada_nn::Error),
    /// A judge's tokenizer.
    #[error("a judge's tokenizer: {0}")]
    Tokenizer(#[from] mmada_tokens::Error),
    /// Options of an endpoint that make no sense.
    #[error("{0}")]
    Options(&'static str),
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

impl Error {
    /// A failed tensor operation of a judge.
    pub(crate) fn tensor(source: mmada_tensor::candle::Error) -> Self {
        Self::Network(source.into())
    }
}

/// The result of a benchmark or a judge.
pub type Result<T> = std::result::Result<T, Error>;
