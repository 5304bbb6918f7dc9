//! Tiny models, packs and calls of the program, made anew by each test.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use mmada_data::picture::Picture;
use mmada_model::{Defaults, ImageOptions, ImageParts, Mmada, PaintOptions, TextOptions};
use mmada_nn::magvit::{Coefficients, Config as MagvitConfig, ImageTokenizer, Stack};
use mmada_nn::{Config, SaveOptions, Sizes, Transformer};
use mmada_tensor::Device;
use mmada_tokens::{ChatTemplate, Codec, Tokenizer, TrainOptions};

/// Side of the tiny model's pictures, in pixels.
pub const SIDE: usize = 32;
/// Pixels per token and side.
pub const FACTOR: usize = 8;
/// The tiny model's context, in tokens.
pub const CONTEXT: usize = 160;

/// The program, with an environment that cannot change its answers.
pub fn mmada() -> Command {
    let mut command = Command::cargo_bin("mmada").unwrap();
    command.env_remove("MMADA_MODEL").env("HF_HUB_OFFLINE", "1");
    command
}

/// The tokenizer of the tiny model: all bytes and a few words.
pub fn tokenizer() -> Tokenizer {
    let texts = ["a red circle", "a blue triangle", "What is 1 + 2?", "<think>1 + 2 = 3.</think>3"];
    let options = TrainOptions { size: 300, ..TrainOptions::default() };
    Tokenizer::train(texts.into_iter().map(str::to_owned), &options).unwrap()
}

/// Sizes of a tiny image tokenizer: 8 pixels per token, 16 codes.
pub fn magvit_config() -> MagvitConfig {
    let stack = Stack { ch: 8, ch_mult: vec![1, 1, 1, 1], num_res_blocks: vec![1; 4] };
    MagvitConfig {
        ch: 8,
        z_channels: 4,
        codebook_dim: 4,
        resolution: SIDE,
        norm_groups: 4,
        encoder: stack.clone(),
        decoder: stack,
        quantizer: Coefficients::default(),
        notes: BTreeMap::new(),
        ..MagvitConfig::default()
    }
}

/// A tiny model with random weights.
pub fn model() -> Mmada {
    let tokenizer = tokenizer();
    let magvit = magvit_config();
    let vocab = tokenizer.vocab(16, None).unwrap();
    let config = Config::new(&Sizes {
        d_model: 32,
        n_heads: 2,
        n_kv_heads: 2,
        n_layers: 2,
        mlp_hidden_size: 64,
        embedding_size: vocab.rows as usize,
        max_sequence_length: CONTEXT,
        weight_tying: false,
    })
    .unwrap();
    let (params, _) = Transformer::init(&config, 1, &Device::Cpu).unwrap();
    let (image, _) = ImageTokenizer::init(&magvit, 2, &Device::Cpu).unwrap();
    let codec = Codec { tokenizer, template: ChatTemplate::published(), vocab };
    let text = TextOptions { length: 16, block: 8, steps: 8, ..TextOptions::default() };
    let paint = PaintOptions {
        width: SIDE,
        height: SIDE,
        steps: 4,
        guidance: 1.0,
        ..PaintOptions::default()
    };
    let defaults = Defaults {
        text: text.clone(),
        describe: text.clone(),
        thought: text,
        paint,
        image: ImageOptions { width: SIDE, height: SIDE, ..ImageOptions::default() },
        ..Defaults::default()
    };
    let parts = ImageParts::new(&magvit, image.frozen()).unwrap();
    Mmada::new(&config, params.frozen(), codec, Some(parts), defaults).unwrap()
}

/// A tiny model saved in a folder of its own.
pub fn model_dir(parent: &Path) -> PathBuf {
    let dir = parent.join("model");
    model().save(&dir, &SaveOptions::default()).unwrap();
    dir
}

/// A picture of vertical stripes.
pub fn picture(width: usize, height: usize) -> Picture {
    let pixel = |at: usize| if at % width % 8 < 4 { [230, 40, 40] } else { [240, 240, 255] };
    Picture::new(width, height, (0..width * height).flat_map(pixel).collect()).unwrap()
}

/// A PNG file of [`picture`].
pub fn picture_file(dir: &Path, width: usize, height: usize) -> PathBuf {
    let path = dir.join(format!("picture-{width}x{height}.png"));
    fs::write(&path, picture(width, height).encode_png().unwrap()).unwrap();
    path
}
