//! The error of diffusion: a plan that cannot be carried out, or logits nobody can sample from.

/// What can go wrong while noising, sampling or computing a loss.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The denoiser or a tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] mmada_tensor::Error),
    /// A setting or an argument makes no sense.
    #[error("{what}: expected {expected}, got {got}; {hint}")]
    Setting {
        /// The setting.
        what: &'static str,
        /// What it may be.
        expected: String,
        /// What it was.
        got: String,
        /// What to try.
        hint: &'static str,
    },
    /// The model answered with NaN or infinity.
    #[error(
        "logits at position {position} of canvas {canvas}: expected finite numbers, got NaN or \
         infinity; the weights may be damaged, try another checkpoint or f32, or no token is allowed there"
    )]
    NotFinite {
        /// Index of the canvas in the batch.
        canvas: usize,
        /// Position on that canvas.
        position: usize,
    },
}

/// The result of diffusion work.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The error of a canvas in a batch that is a part, which begins at the canvas `first`.
    #[must_use]
    pub fn counted_from(mut self, first: usize) -> Self {
        if let Self::NotFinite { canvas, .. } = &mut self {
            *canvas += first;
        }
        self
    }

    /// A setting error in words.
    #[allow(clippy::needless_pass_by_value)] // Callers pass literals and numbers.
    pub fn setting(
        what: &'static str,
        expected: impl ToString,
        got: impl ToString,
        hint: &'static str,
    ) -> Self {
        Self::Setting {
            what,
            expected: expected.to_string(),
            got: got.to_string(),
            hint,
        }
    }
}
