//! The error of tensor work: what went wrong, what was expected, what was there.

/// What can go wrong below any model.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tensor library refused an operation.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// An operation was given tensors that do not fit together.
    #[error("{what}: expected {expected}, got {got}")]
    Shape {
        /// The operation and the argument.
        what: &'static str,
        /// The shape or size it needs.
        expected: String,
        /// The shape or size it was given.
        got: String,
    },
}

/// The result of tensor work.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A shape error in words.
    // Callers pass numbers and formatted strings alike; references would only add noise.
    #[allow(clippy::needless_pass_by_value)]
    pub fn shape(what: &'static str, expected: impl ToString, got: impl ToString) -> Self {
        Self::Shape {
            what,
            expected: expected.to_string(),
            got: got.to_string(),
        }
    }
}
