//! The networks and their weight files.
//!
//! ```text
//!   Params        named tensors of one model, frozen or trainable; Hugging Face safetensors
//!   config        the sizes in config.json
//!   transformer   the bidirectional transformer of LLaDA and MMaDA
//!   cache         keys and values that outlive a forward
//!   magvit        the image tokenizer MAGVIT-v2, with its quantiser
//!   clip          how well a text fits a picture, a frozen judge; its parts are in layers
//!   atomic        files that appear whole or not at all
//! ```

pub mod atomic;
pub mod cache;
pub mod clip;
pub mod config;
pub mod error;
mod layers;
pub mod magvit;
pub mod params;
pub mod quantizer;
pub mod transformer;
mod weight_files;

pub use cache::Cache;
pub use clip::{Clip, ClipConfig};
pub use config::{Config, Sizes};
pub use error::{Error, Result};
pub use layers::Activation;
pub use magvit::ImageTokenizer;
pub use params::{Init, Mode, Params, SaveDtype, SaveOptions};
pub use transformer::Transformer;
