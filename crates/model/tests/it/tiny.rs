//! A tiny random model, built in code: 16 x 16 pixels are 4 x 4 tokens of 64 codes.

use mmada_data::augment::Augment;
use mmada_model::{Defaults, ImageOptions, ImageParts, Mmada, PaintOptions, TextOptions};
use mmada_nn::magvit::{self, ImageTokenizer};
use mmada_nn::transformer::Transformer;
use mmada_nn::{Config, Sizes};
use mmada_tensor::Device;
use mmada_tokens::{ChatTemplate, Codec, Tokenizer, TrainOptions};

/// The image tokenizer's sizes.
pub(crate) fn image_config(bits: usize) -> magvit::Config {
    let stack = magvit::Stack {
        ch: 8,
        ch_mult: vec![1, 1, 2],
        num_res_blocks: vec![1, 1, 1],
    };
    magvit::Config {
        ch: 8,
        z_channels: bits,
        codebook_dim: bits,
        resolution: 16,
        norm_groups: 4,
        encoder: stack.clone(),
        decoder: stack,
        ..magvit::Config::default()
    }
}

/// Text tokenizer trained on a few lines, with room for `codes` image codes.
pub(crate) fn codec(codes: u32) -> Codec {
    let texts = [
        "a blue circle",
        "a red rectangle",
        "what color is the shape?",
        "12 + 30 = 42",
    ];
    let texts = texts.into_iter().cycle().take(40).map(str::to_owned);
    let options = TrainOptions {
        size: 320,
        ..TrainOptions::default()
    };
    let tokenizer = Tokenizer::train(texts, &options).unwrap();
    let vocab = tokenizer.vocab(codes, None).unwrap();
    Codec {
        tokenizer,
        template: ChatTemplate::published(),
        vocab,
    }
}

/// The transformer's sizes for a codec.
pub(crate) fn config(codec: &Codec) -> Config {
    Config::new(&Sizes {
        d_model: 32,
        n_heads: 4,
        n_kv_heads: 4,
        n_layers: 2,
        mlp_hidden_size: 64,
        embedding_size: codec.vocab.rows as usize,
        max_sequence_length: 320,
        weight_tying: false,
    })
    .unwrap()
}

/// Sampling settings of the tiny model.
pub(crate) fn defaults() -> Defaults {
    let text = TextOptions {
        length: 16,
        block: 8,
        steps: 8,
        ..TextOptions::default()
    };
    Defaults {
        text: text.clone(),
        describe: text.clone(),
        thought: text,
        paint: PaintOptions {
            width: 16,
            height: 16,
            steps: 4,
            ..PaintOptions::default()
        },
        image: ImageOptions {
            width: 16,
            height: 16,
            ..ImageOptions::default()
        },
        ..Defaults::default()
    }
}

/// The model.
pub(crate) fn model() -> Mmada {
    looking(ImageOptions::default().looks)
}

/// The model, with its own way of looking at pictures more than once.
pub(crate) fn looking(looks: Augment) -> Mmada {
    let mut defaults = defaults();
    defaults.image.looks = looks;
    let codec = codec(64);
    let (params, _) = Transformer::init(&config(&codec), 7, &Device::Cpu).unwrap();
    let (image, _) = ImageTokenizer::init(&image_config(6), 7, &Device::Cpu).unwrap();
    let image = ImageParts::new(&image_config(6), image.frozen()).unwrap();
    Mmada::new(
        &config(&codec),
        params.frozen(),
        codec,
        Some(image),
        defaults,
    )
    .unwrap()
}
