//! The networks and their weight files.
//!
//! ```text
//!   Params        named tensors of one model, frozen or trainable; Hugging Face safetensors
//!   config        the sizes in config.json
//!   transformer   the bidirectional transformer of LLaDA and MMaDA
//!   cache         keys and values that outlive a forward
//!   lora          low-rank changes learnt beside its matrices, in PEFT's layout
//!   magvit        the image tokenizer MAGVIT-v2, with its quantiser
//!   clip          how well a text fits a picture, a frozen judge; its parts are in layers
//!   image_reward  how much people would like a picture for a prompt, a frozen judge
//!   atomic        files that appear whole or not at all
//! ```

pub mod atomic;
pub mod cache;
pub mod clip;
pub mod config;
pub mod error;
pub mod image_reward;
mod layers;
pub mod lora;
pub mod magvit;
pub mod params;
pub mod quantizer;
pub mod transformer;
mod weight_files;

pub use cache::Cache;
pub use clip::{Clip, ClipConfig};
pub use config::{Config, Growth, Sizes};
pub use error::{Error, Result};
pub use image_reward::ImageReward;
pub use layers::Activation;
pub use lora::{Lora, LoraConfig};
pub use magvit::ImageTokenizer;
pub use params::{Init, Mode, Params, SaveDtype, SaveOptions};
pub use transformer::Transformer;
