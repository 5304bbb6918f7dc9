//! The error of working with a whole model: which part failed, or what was asked that cannot be.

/// What can go wrong with a model or a request to it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Networks or weight files.
    #[error(transparent)]
    Network(#[from] mmada_nn::Error),
    /// Tokenizer, chat template, layouts.
    #[error(transparent)]
    Tokens(#[from] mmada_tokens::Error),
    /// Sampling.
    #[error(transparent)]
    Diffusion(#[from] mmada_diffusion::Error),
    /// Pictures.
    #[error(transparent)]
    Picture(#[from] mmada_data::picture::PictureError),
    /// Tensors.
    #[error(transparent)]
    Tensor(#[from] mmada_tensor::Error),
    /// A file that a model directory must have is absent.
    #[error(
        "no {file} in {place}; expected a model directory with config.json, model.safetensors \
         and tokenizer.json"
    )]
    MissingFile {
        /// The file.
        file: &'static str,
        /// Where it was looked for.
        place: String,
    },
    /// A file of settings is malformed.
    #[error("{file}: {problem}; the defaults are used where a key or the file is left out")]
    Settings {
        /// The file.
        file: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// Two parts of the model do not belong together.
    #[error("{what}: expected {expected}, got {got}; {hint}")]
    Misfit {
        /// Which sizes disagree.
        what: &'static str,
        /// What one part asks for.
        expected: String,
        /// What the other has.
        got: String,
        /// What to try.
        hint: &'static str,
    },
    /// The request needs pictures, the model has no image tokenizer.
    #[error(
        "this model has no image tokenizer; expected image_tokenizer/config.json and \
         image_tokenizer/model.safetensors in its directory, or elsewhere (--image-tokenizer DIR)"
    )]
    NoImageTokenizer,
    /// A request without words where words are needed.
    #[error("{what} is empty; expected at least one word")]
    Empty {
        /// Which text.
        what: &'static str,
    },
    /// A request that makes no sense.
    #[error("{what}: expected {expected}, got {got}; {hint}")]
    Request {
        /// Which part of the request.
        what: &'static str,
        /// What would be accepted.
        expected: String,
        /// What was asked.
        got: String,
        /// What to try.
        hint: &'static str,
    },
}

/// The result of working with a model.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A request error in words.
    // By value, so that callers pass numbers and text alike.
    #[allow(clippy::needless_pass_by_value)]
    pub(crate) fn request(
        what: &'static str,
        expected: impl ToString,
        got: impl ToString,
        hint: &'static str,
    ) -> Self {
        Self::Request {
            what,
            expected: expected.to_string(),
            got: got.to_string(),
            hint,
        }
    }
}
