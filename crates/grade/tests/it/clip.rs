//! CLIP as a judge, with the small golden model and a tokenizer made for the test.

use std::path::PathBuf;

use mmada_data::picture::Picture;
use mmada_grade::{Case, ClipScore, Judge, Reply, Truth};
use mmada_nn::clip::{Clip, cosines};
use mmada_tensor::{Device, Tensor};
use mmada_tokens::CaptionTokenizer;
use serde_json::{Map, Value, json};

/// A byte-pair tokenizer in CLIP's layout: lower case, words that end in `</w>`, a begin and an end.
fn tokenizer() -> Value {
    let mut vocab = Map::new();
    let letters: Vec<char> = ('a'..='z').collect();
    for end in ["", "</w>"] {
        for letter in &letters {
            vocab.insert(format!("{letter}{end}"), vocab.len().into());
        }
    }
    vocab.insert("re".to_owned(), 52.into());
    vocab.insert("red</w>".to_owned(), 53.into());
    vocab.insert("<|startoftext|>".to_owned(), 118.into());
    vocab.insert("<|endoftext|>".to_owned(), 119.into());
    let added = |id: u32, content: &str| {
        json!({"id": id, "content": content, "special": true, "normalized": false,
               "single_word": false, "lstrip": false, "rstrip": false})
    };
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [added(118, "<|startoftext|>"), added(119, "<|endoftext|>")],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {"type": "RobertaProcessing", "sep": ["<|endoftext|>", 119],
            "cls": ["<|startoftext|>", 118], "trim_offsets": false, "add_prefix_space": false},
        "decoder": null,
        "model": {"type": "BPE", "dropout": null, "unk_token": "<|endoftext|>",
            "continuing_subword_prefix": "", "end_of_word_suffix": "</w>", "fuse_unk": false,
            "byte_fallback": false, "vocab": vocab, "merges": ["r e", "re d</w>"]},
    })
}

/// The golden CLIP with that tokenizer, in the layout of the published folders.
fn folder() -> tempfile::TempDir {
    let root = std::env::var_os("MMADA_GOLDEN").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden")),
        PathBuf::from,
    );
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(root.join("clip").join(file), dir.path().join(file)).unwrap();
    }
    std::fs::write(dir.path().join("tokenizer.json"), tokenizer().to_string()).unwrap();
    dir
}

fn picture(seed: usize, width: usize, height: usize) -> Picture {
    let pixels = (0..width * height * 3).map(|i| ((i * 7919 + seed * 104_729) % 251) as u8);
    Picture::new(width, height, pixels.collect()).unwrap()
}

#[test]
fn captions_keep_their_end_when_cut() {
    let dir = folder();
    let tokenizer = CaptionTokenizer::load(&dir.path().join("tokenizer.json")).unwrap();
    assert_eq!(tokenizer.ids("Red ab", 16).unwrap(), [118, 53, 0, 27, 119]);
    assert_eq!(tokenizer.ids("", 16).unwrap(), [118, 119]);
    let long = tokenizer.ids(&"red ".repeat(40), 16).unwrap();
    assert_eq!(
        (long.len(), long[0], long[14], long[15]),
        (16, 118, 53, 119)
    );
    assert!(CaptionTokenizer::load(&dir.path().join("config.json")).is_err());
    assert!(ClipScore::open(&dir.path().join("nowhere"), &Device::Cpu).is_err());
}

#[test]
fn scores_are_cosines_of_normalised_pictures() {
    let dir = folder();
    let judge = ClipScore::open(dir.path(), &Device::Cpu).unwrap();
    let clip = Clip::open(dir.path(), &Device::Cpu).unwrap();
    let picture = picture(3, 32, 32);
    let (mean, std) = (
        [0.48145466, 0.4578275, 0.40821073],
        [0.26862954, 0.26130258, 0.27577711],
    );
    let mut pixels = vec![0f32; 3 * 32 * 32];
    for (i, byte) in picture.pixels().iter().enumerate() {
        let (place, channel) = (i / 3, i % 3);
        pixels[channel * 32 * 32 + place] =
            (f32::from(*byte) / 255.0 - mean[channel]) / std[channel];
    }
    let pixels = Tensor::from_vec(pixels, (1, 3, 32, 32), &Device::Cpu).unwrap();
    let image = clip.image_features(&pixels).unwrap();
    for (text, ids) in [("red", vec![118, 53, 119]), ("a b", vec![118, 26, 27, 119])] {
        let expected = cosines(&image, &clip.text_features(&[ids]).unwrap()).unwrap();
        let expected = 100.0 * f64::from(expected.to_vec1::<f32>().unwrap()[0]);
        let got = judge.scores(&[(&picture, text)]).unwrap()[0];
        assert!(
            (got - expected.max(0.0)).abs() < 1e-3,
            "{text}: {got}, expected {expected}"
        );
    }
}

#[test]
fn paintings_and_captions_are_judged_in_batches() {
    let dir = folder();
    let judge = ClipScore::open(dir.path(), &Device::Cpu).unwrap();
    assert!(judge.looks_at_pictures());
    let pictures: Vec<Picture> = (0..40).map(|i| picture(i, 30 + i, 50)).collect();
    let painted = pictures.iter().map(|picture| Case {
        prompt: "red",
        shown: None,
        reply: Reply::Picture(picture),
        truth: Truth::Unknown,
    });
    let mut cases: Vec<Case> = painted.collect();
    cases.insert(
        1,
        Case {
            reply: Reply::Text("a chat without a picture"),
            ..cases[0]
        },
    );
    let described = Case {
        reply: Reply::Text("<think>it is</think>red"),
        shown: Some(&pictures[5]),
        ..cases[0]
    };
    cases.push(Case {
        prompt: "what is it?",
        ..described
    });
    let verdicts = judge.judge(&cases);
    assert_eq!(verdicts.len(), 42);
    assert_eq!(
        verdicts.iter().filter(|verdict| verdict.is_none()).count(),
        1
    );
    assert_eq!(verdicts[1], None);
    // The caption is the answer alone, and its picture the one that was shown.
    assert!((verdicts[41].unwrap() - verdicts[6].unwrap()).abs() < 1e-3);
    for (case, verdict) in cases.iter().zip(&verdicts) {
        let alone = judge.judge(std::slice::from_ref(case))[0];
        assert_eq!(alone.is_some(), verdict.is_some());
        assert!((alone.unwrap_or(0.0) - verdict.unwrap_or(0.0)).abs() < 1e-3);
    }
    let some = verdicts.iter().flatten().filter(|score| **score > 0.0);
    assert!(some.count() > 2, "{verdicts:?}");
}
