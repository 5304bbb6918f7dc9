//! Tests of the `mmada-tokens` crate, through its public API.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod chat;
mod golden;
mod layouts;
mod tokenizers;
mod vocabulary;

use mmada_tokens::{ChatTemplate, Codec, Tokenizer, TrainOptions};

/// A small corpus with words, digits, tags and letters beyond ASCII.
fn corpus() -> Vec<String> {
    let mut texts = vec![
        "a red circle on the left of a blue square".to_owned(),
        "How many legs do 8 cows and 2 starfish have in total?".to_owned(),
        "<think>8 * 4 = 32. 32 + 10 = 42.</think>42".to_owned(),
        "piñata at two o’clock, 画像 🐕".to_owned(),
    ];
    for number in 0..60 {
        texts.push(format!(
            "noto style: a {number} of hearts and {} of spades",
            number * 37
        ));
    }
    texts
}

fn trained() -> Tokenizer {
    let options = TrainOptions {
        size: 420,
        ..TrainOptions::default()
    };
    Tokenizer::train(corpus().into_iter(), &options).unwrap()
}

fn codec() -> Codec {
    let tokenizer = trained();
    let vocab = tokenizer.vocab(16, None).unwrap();
    Codec {
        tokenizer,
        template: ChatTemplate::published(),
        vocab,
    }
}
