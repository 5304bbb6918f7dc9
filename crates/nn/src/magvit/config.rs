//! The sizes of an image tokenizer: its `config.json`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, Result, atomic, config};

/// The sizes of an image tokenizer. What a file leaves out is as in Show-o's published MAGVIT-v2
/// (f = 16, 13 bits), whose code has these numbers built in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Base width that the original's config names; encoder and decoder state their own.
    pub ch: usize,
    /// Channels of the images read.
    pub in_ch: usize,
    /// Channels of the images written.
    pub out_ch: usize,
    /// Channels of the latents, which are the bits of a code.
    pub z_channels: usize,
    /// The same number again, under the quantiser's name.
    pub codebook_dim: usize,
    /// Image side in training; the network itself takes any multiple of f.
    pub resolution: usize,
    /// Kept from the original, where it selects no level: attention is in the middle only.
    pub attn_resolutions: Vec<usize>,
    /// Dropout in residual blocks; only 0 is implemented (as published).
    pub dropout: f64,
    /// Whether the encoder predicts a variance; never here.
    pub double_z: bool,
    /// Groups of the group normalisation; each width must be a multiple.
    pub norm_groups: usize,
    /// The encoder's levels, finest first.
    pub encoder: Stack,
    /// The decoder's levels, finest first as in the encoder (they run in reverse).
    pub decoder: Stack,
    /// Coefficients of the quantiser's losses.
    pub quantizer: Coefficients,
    /// Keys that begin with an underscore (class name, library version); kept when saving.
    #[serde(flatten)]
    pub notes: BTreeMap<String, Value>,
}

/// The levels of encoder or decoder. Each level but the last halves the sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stack {
    /// Base width.
    pub ch: usize,
    /// Width of each level as a multiple of the base width.
    pub ch_mult: Vec<usize>,
    /// Residual blocks of each level.
    pub num_res_blocks: Vec<usize>,
}

/// Coefficients of the quantiser's losses.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Coefficients {
    /// Weight of the codebook side within the commitment loss.
    pub beta: f64,
    /// Factor of the entropy loss.
    pub entropy_multiplier: f64,
    /// Factor of the commitment loss.
    pub commit_loss_multiplier: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ch: 128,
            in_ch: 3,
            out_ch: 3,
            z_channels: 13,
            codebook_dim: 13,
            resolution: 256,
            attn_resolutions: vec![5],
            dropout: 0.0,
            double_z: false,
            norm_groups: 32,
            encoder: Stack {
                ch: 128,
                ch_mult: vec![1, 2, 2, 4, 4],
                num_res_blocks: vec![4, 3, 4, 3, 4],
            },
            decoder: Stack {
                ch: 128,
                ch_mult: vec![1, 1, 2, 2, 4],
                num_res_blocks: vec![4, 4, 3, 4, 3],
            },
            quantizer: Coefficients::default(),
            notes: BTreeMap::from([("_class_name".into(), "MAGVITv2".into())]),
        }
    }
}

impl Default for Coefficients {
    fn default() -> Self {
        Self {
            beta: 0.25,
            entropy_multiplier: 0.1,
            commit_loss_multiplier: 0.1,
        }
    }
}

/// Bounds that no sensible tokenizer exceeds, so that a hostile file cannot ask for more memory
/// than its weights have: levels, blocks per level, width of a level, bits.
const MAX: (usize, usize, usize, usize) = (8, 64, 1 << 14, 24);

/// Nor pictures of more pixels a side.
const LARGEST_SIDE: usize = 1 << 13;

const FILE: &str = "config.json";

impl Config {
    /// Reads and checks `config.json` of a folder.
    pub fn load(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE);
        Self::parse(&config::read_text(&path)?).map_err(|error| error.in_file(&path))
    }

    /// Reads and checks the text of a `config.json`.
    pub fn parse(json: &str) -> Result<Self> {
        let cfg: Self = serde_json::from_str(json)
            .map_err(|error| Error::config("", "the sizes of an image tokenizer", error))
            .map_err(Error::of_image_tokenizer)?;
        cfg.check()?;
        Ok(cfg)
    }

    /// Writes `config.json` into a folder.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self)
            .map_err(|error| Error::config("", "values that JSON can hold", error))?;
        atomic::write_atomic(&dir.join(FILE), |file| file.write_all(json.as_bytes()))
    }

    /// How many pixels a token is wide and high: 2^(levels - 1).
    pub fn factor(&self) -> usize {
        1 << (self.encoder.ch_mult.len().max(1) - 1)
    }

    /// Refuses sizes that the network cannot have.
    pub fn check(&self) -> Result<()> {
        self.check_values().map_err(Error::of_image_tokenizer)
    }

    fn check_values(&self) -> Result<()> {
        if let Some(key) = self.notes.keys().find(|key| !key.starts_with('_')) {
            return Err(Error::config(
                key,
                "only known keys, is it a typing error?",
                "this one",
            ));
        }
        let positive = [
            ("in_ch", self.in_ch, 64),
            ("out_ch", self.out_ch, 64),
            ("z_channels", self.z_channels, MAX.3),
            ("norm_groups", self.norm_groups, MAX.2),
            ("resolution", self.resolution, LARGEST_SIDE),
        ];
        for (key, got, most) in positive {
            if !(1..=most).contains(&got) {
                return Err(Error::config(key, format!("1 to {most}"), got));
            }
        }
        if self.codebook_dim != self.z_channels {
            let expected = format!("{}, as z_channels", self.z_channels);
            return Err(Error::config("codebook_dim", expected, self.codebook_dim));
        }
        if self.double_z || self.dropout != 0.0 {
            let got = format!("{} and {}", self.double_z, self.dropout);
            return Err(Error::config("double_z and dropout", "false and 0", got));
        }
        // Each level halves the side at which the original looks for attention, the first is whole.
        let levels = 0..self.encoder.ch_mult.len().min(MAX.0);
        let mut sides = levels.map(|level| self.resolution >> level);
        if let Some(side) = sides.find(|side| self.attn_resolutions.contains(side)) {
            let expected = "no side of a level: attention is in the middle only";
            return Err(Error::config("attn_resolutions", expected, side));
        }
        self.encoder.check("encoder", self.norm_groups)?;
        self.decoder.check("decoder", self.norm_groups)?;
        let (down, up) = (self.encoder.ch_mult.len(), self.decoder.ch_mult.len());
        if down != up {
            let expected = format!("{down} levels, as many as the encoder has");
            return Err(Error::config("decoder.ch_mult", expected, up));
        }
        self.quantizer.check()
    }
}

impl Stack {
    /// Width of a level.
    pub(super) fn width(&self, level: usize) -> usize {
        self.ch * self.ch_mult[level]
    }

    fn check(&self, name: &str, groups: usize) -> Result<()> {
        let levels = self.ch_mult.len();
        if !(1..=MAX.0).contains(&levels) {
            let key = format!("{name}.ch_mult");
            return Err(Error::config(key, format!("1 to {} levels", MAX.0), levels));
        }
        let blocks = &self.num_res_blocks;
        if blocks.len() != levels || blocks.iter().any(|n| !(1..=MAX.1).contains(n)) {
            let key = format!("{name}.num_res_blocks");
            let expected = format!("{levels} numbers from 1 to {}", MAX.1);
            return Err(Error::config(key, expected, format!("{blocks:?}")));
        }
        for base in self.ch_mult.iter().chain([&1]) {
            let width = self.ch.saturating_mul(*base);
            if !(1..=MAX.2).contains(&width) || !width.is_multiple_of(groups) {
                let key = format!("{name}.ch and {name}.ch_mult");
                let expected = format!(
                    "widths up to {} that norm_groups ({groups}) divides; set norm_groups lower",
                    MAX.2
                );
                return Err(Error::config(key, expected, width));
            }
        }
        Ok(())
    }
}

impl Coefficients {
    fn check(&self) -> Result<()> {
        let all = [
            self.beta,
            self.entropy_multiplier,
            self.commit_loss_multiplier,
        ];
        if all.iter().any(|c| !c.is_finite() || *c < 0.0) {
            return Err(Error::config(
                "quantizer",
                "finite numbers from 0 on",
                format!("{all:?}"),
            ));
        }
        Ok(())
    }
}
