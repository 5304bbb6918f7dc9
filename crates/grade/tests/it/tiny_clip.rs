//! A CLIP folder for tests: the golden model, and a tokenizer made here.

use std::path::PathBuf;

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
pub(crate) fn folder() -> tempfile::TempDir {
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
