//! Where a run's weights begin.

use std::path::{Path, PathBuf};

use mmada_nn::Growth;
use serde::{Deserialize, Serialize};

/// The first weights of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Init {
    /// Those of a model folder.
    From(PathBuf),
    /// Those of a model folder in a larger network, which computes the same at first.
    Grow(GrowFrom),
    /// Random ones, sizes as in a `config.json`.
    Config(PathBuf),
    /// Random ones, sizes as written here.
    Sizes(toml::Table),
}

impl Init {
    /// The model folder that the weights come from, if they do.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::From(folder) => Some(folder),
            Self::Grow(growth) => Some(&growth.from),
            Self::Config(_) | Self::Sizes(_) => None,
        }
    }
}

/// A model and what of it grows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrowFrom {
    /// Folder of the model.
    pub from: PathBuf,
    /// The larger sizes.
    pub to: Growth,
}

/// First rows of image codes: `keep` times the row there is, plus one random vector for each bit of
/// the code, added or taken away as the bit says. Codes that differ in one bit look alike (the
/// quantiser is lookup-free), and then begin alike; training may move each row as it likes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeRows {
    /// Factor of the row there is.
    pub keep: f32,
    /// Length of the bits' sum, as a share of the mean length of the rows there are.
    pub bits: f32,
}
