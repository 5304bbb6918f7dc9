//! The sizes in CLIP's `config.json`.

use std::path::Path;

use serde::Deserialize;

use crate::{Error, Result};

/// Sizes of both towers, as `config.json` states them; what it leaves out has the defaults of the
/// library that writes it. Keys that do not change the network are ignored.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct ClipConfig {
    /// The text tower.
    pub text_config: TextConfig,
    /// The picture tower.
    pub vision_config: VisionConfig,
    /// Width of the space in which both meet.
    pub projection_dim: usize,
}

/// Sizes of the text tower.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct TextConfig {
    /// Width.
    pub hidden_size: usize,
    /// Hidden width of the feed-forward part.
    pub intermediate_size: usize,
    /// Heads.
    pub num_attention_heads: usize,
    /// Blocks.
    pub num_hidden_layers: usize,
    /// Most ids of a text.
    pub max_position_embeddings: usize,
    /// Ids.
    pub vocab_size: usize,
    /// `quick_gelu` or `gelu`.
    pub hidden_act: String,
    /// Added to variances.
    pub layer_norm_eps: f64,
    /// The id at which a text is pooled. 2 is an old mistake in published files, and means the
    /// highest id of the text.
    pub eos_token_id: u32,
}

/// Sizes of the picture tower.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct VisionConfig {
    /// Width.
    pub hidden_size: usize,
    /// Hidden width of the feed-forward part.
    pub intermediate_size: usize,
    /// Heads.
    pub num_attention_heads: usize,
    /// Blocks.
    pub num_hidden_layers: usize,
    /// Height and width of a picture in pixels.
    pub image_size: usize,
    /// Height and width of a patch.
    pub patch_size: usize,
    /// `quick_gelu` or `gelu`.
    pub hidden_act: String,
    /// Added to variances.
    pub layer_norm_eps: f64,
}

/// Sizes beyond this are no CLIP's.
const LARGEST: usize = 1 << 20;

impl Default for ClipConfig {
    fn default() -> Self {
        Self {
            text_config: TextConfig::default(),
            vision_config: VisionConfig::default(),
            projection_dim: 512,
        }
    }
}

impl Default for TextConfig {
    fn default() -> Self {
        Self {
            hidden_size: 512,
            intermediate_size: 2048,
            num_attention_heads: 8,
            num_hidden_layers: 12,
            max_position_embeddings: 77,
            vocab_size: 49_408,
            hidden_act: "quick_gelu".to_owned(),
            layer_norm_eps: 1e-5,
            eos_token_id: 49_407,
        }
    }
}

impl Default for VisionConfig {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            num_attention_heads: 12,
            num_hidden_layers: 12,
            image_size: 224,
            patch_size: 32,
            hidden_act: "quick_gelu".to_owned(),
            layer_norm_eps: 1e-5,
        }
    }
}

impl ClipConfig {
    /// Reads `config.json` of a model folder.
    ///
    /// # Errors
    /// When it cannot be read, or a size is 0 or larger than any CLIP's.
    pub fn load(dir: &Path) -> Result<Self> {
        let path = dir.join("config.json");
        let cfg: Self = crate::config::read(&path)?;
        cfg.check().map_err(|error| error.in_file(&path))?;
        Ok(cfg)
    }

    fn check(&self) -> Result<()> {
        let (text, vision) = (&self.text_config, &self.vision_config);
        for (key, size) in [
            ("projection_dim", self.projection_dim),
            ("text_config.hidden_size", text.hidden_size),
            ("text_config.intermediate_size", text.intermediate_size),
            ("text_config.num_hidden_layers", text.num_hidden_layers),
            (
                "text_config.max_position_embeddings",
                text.max_position_embeddings,
            ),
            ("text_config.vocab_size", text.vocab_size),
            ("vision_config.hidden_size", vision.hidden_size),
            ("vision_config.intermediate_size", vision.intermediate_size),
            ("vision_config.num_hidden_layers", vision.num_hidden_layers),
            ("vision_config.image_size", vision.image_size),
        ] {
            if !(1..=LARGEST).contains(&size) {
                return Err(Error::config(key, format!("1 to {LARGEST}"), size));
            }
        }
        for (key, heads, width) in [
            (
                "text_config.num_attention_heads",
                text.num_attention_heads,
                text.hidden_size,
            ),
            (
                "vision_config.num_attention_heads",
                vision.num_attention_heads,
                vision.hidden_size,
            ),
        ] {
            if heads == 0 || width % heads != 0 {
                return Err(Error::config(key, format!("a divisor of {width}"), heads));
            }
        }
        let patch = vision.patch_size;
        if patch == 0 || patch > vision.image_size {
            let expected = format!("1 to {}, the size of a picture", vision.image_size);
            return Err(Error::config("vision_config.patch_size", expected, patch));
        }
        Ok(())
    }
}
