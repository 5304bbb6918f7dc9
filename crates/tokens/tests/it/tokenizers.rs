//! Our own tokenizer: round trips, injection, determinism, files.

use std::sync::LazyLock;

use mmada_tokens::{CaptionTokenizer, Error, Tokenizer, TrainOptions, Vocab, names};
use proptest::prelude::*;
use serde_json::json;

use crate::{corpus, trained};

static TRAINED: LazyLock<Tokenizer> = LazyLock::new(trained);

proptest! {
    #[test]
    fn any_text_survives(text in any::<String>()) {
        let ids = TRAINED.encode_plain(&text).unwrap();
        prop_assert_eq!(TRAINED.decode(&ids), text);
        prop_assert!(ids.iter().all(|&id| !TRAINED.is_control(id) && id < TRAINED.len()));
    }

    #[test]
    fn text_full_of_control_tokens_stays_text(parts in prop::collection::vec(0..names::SPECIAL.len() + 4, 0..12)) {
        let extra = [names::THINK, names::END_THINK, "<|", " word "];
        let all: Vec<&str> = names::SPECIAL.iter().chain(&extra).copied().collect();
        let text: String = parts.iter().map(|&part| all[part]).collect();
        let ids = TRAINED.encode_plain(&text).unwrap();
        prop_assert!(!ids.iter().any(|&id| TRAINED.is_control(id)));
        prop_assert_eq!(TRAINED.decode(&ids), text);
    }

    #[test]
    fn any_ids_decode(ids in prop::collection::vec(any::<u32>(), 0..20), small in prop::collection::vec(0u32..500, 0..20)) {
        TRAINED.decode(&ids);
        TRAINED.decode(&small);
    }
}

#[test]
fn control_tokens_count_only_in_encode() {
    let text = format!("{}hi{}", names::BOS, names::EOT);
    let bos = TRAINED.id(names::BOS).unwrap();
    assert_eq!(TRAINED.encode(&text).unwrap()[0], bos);
    assert!(!TRAINED.encode_plain(&text).unwrap().contains(&bos));
    assert_eq!(TRAINED.decode(&TRAINED.encode(&text).unwrap()), "hi");
}

#[test]
fn think_tags_are_single_text_tokens() {
    let ids = TRAINED.encode_plain("<think>8</think>8").unwrap();
    assert_eq!(ids.len(), 4);
    assert_eq!(TRAINED.encode("<think>8</think>8").unwrap(), ids);
    assert_eq!(TRAINED.decode(&ids), "<think>8</think>8");
}

#[test]
fn digits_stay_single() {
    let ids = TRAINED.encode_plain("2048").unwrap();
    let tokens: Vec<String> = ids.iter().map(|&id| TRAINED.token(id).unwrap()).collect();
    assert_eq!(tokens, ["2", "0", "4", "8"]);
}

#[test]
fn special_tokens_end_the_id_space() {
    let vocab = TRAINED.vocab(16, None).unwrap();
    let first_special = vocab
        .special
        .named()
        .iter()
        .map(|(_, id)| *id)
        .min()
        .unwrap();
    assert_eq!(
        first_special + u32::try_from(names::SPECIAL.len()).unwrap(),
        TRAINED.len()
    );
    assert_eq!(vocab.image, TRAINED.len()..TRAINED.len() + 16);
    assert_eq!(TRAINED.token(vocab.special.mask).unwrap(), names::MASK);
    assert_eq!(TRAINED.token(vocab.image_id(0)), None);
    assert!(matches!(TRAINED.vocab(16, Some(3)), Err(Error::Vocab(_))));
    assert!(matches!(
        TRAINED.vocab(u32::MAX, None),
        Err(Error::Vocab(_))
    ));
}

#[test]
fn training_is_deterministic_and_merges_words() {
    let options = TrainOptions {
        size: 420,
        ..TrainOptions::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for name in ["one.json", "two.json", "reversed.json"] {
        let mut texts = corpus();
        if name == "reversed.json" {
            texts.reverse();
        }
        let tokenizer = Tokenizer::train(texts.into_iter(), &options).unwrap();
        tokenizer.save(folder.path().join(name)).unwrap();
        files.push(std::fs::read(folder.path().join(name)).unwrap());
    }
    assert!(files.iter().all(|file| *file == files[0]));
    assert!(TRAINED.encode_plain("a style of hearts").unwrap().len() < 10);
}

#[test]
fn sizes_are_bounds() {
    for size in [700, 1500] {
        let options = TrainOptions {
            size,
            min_frequency: 1,
            ..TrainOptions::default()
        };
        let tokenizer = Tokenizer::train(corpus().into_iter(), &options).unwrap();
        assert!(tokenizer.len() as usize <= size);
        tokenizer.vocab(8, None).unwrap();
    }
    let options = TrainOptions {
        size: 100,
        ..TrainOptions::default()
    };
    assert!(matches!(
        Tokenizer::train(corpus().into_iter(), &options),
        Err(Error::VocabTooSmall { got: 100, .. })
    ));
    let nothing = Tokenizer::train(std::iter::empty(), &TrainOptions::default()).unwrap();
    assert_eq!(nothing.decode(&nothing.encode_plain("é").unwrap()), "é");
}

#[test]
fn saved_and_loaded_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    TRAINED.save(&path).unwrap();
    let loaded = Tokenizer::load(&path).unwrap();
    assert_eq!(loaded.len(), TRAINED.len());
    for text in corpus() {
        assert_eq!(
            loaded.encode_plain(&text).unwrap(),
            TRAINED.encode_plain(&text).unwrap()
        );
        assert_eq!(
            loaded.encode(&text).unwrap(),
            TRAINED.encode(&text).unwrap()
        );
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "no temporary file stays");
}

#[test]
fn broken_files_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(
        Tokenizer::load(folder.path().join("absent.json")),
        Err(Error::Io { .. })
    ));
    assert!(matches!(
        TRAINED.save(folder.path().join("no/such/folder.json")),
        Err(Error::Io { .. })
    ));
    for bytes in [&b""[..], b"{}", b"not json", &[0xFF, 0xFE]] {
        assert!(matches!(
            Tokenizer::from_bytes(bytes),
            Err(Error::Tokenizer(_))
        ));
    }
    // One for texts, which puts nothing around them, does not tell a judge where a caption ends.
    let path = folder.path().join("tokenizer.json");
    TRAINED.save(&path).unwrap();
    let error = CaptionTokenizer::load(&path).unwrap_err();
    assert!(error.to_string().contains("a begin and an end"), "{error}");
}

/// A tokenizer that names only what the language model itself needs, as the published one does.
fn word_level(size: u32, named: &[(&str, u32)]) -> Tokenizer {
    let mut words: serde_json::Map<String, serde_json::Value> = serde_json::Map::new();
    for id in 0..size {
        let name = named
            .iter()
            .find(|(_, at)| *at == id)
            .map_or_else(|| format!("w{id}"), |(name, _)| (*name).to_owned());
        words.insert(name, id.into());
    }
    let added: Vec<_> = named
        .iter()
        .map(|(name, id)| {
            serde_json::json!({"id": id, "content": name, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": false})
        })
        .collect();
    let file = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": null, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "w0"},
    });
    Tokenizer::from_bytes(file.to_string().as_bytes()).unwrap()
}

#[test]
fn missing_names_are_listed() {
    match word_level(20, &[(names::MASK, 3), (names::BOS, 4)])
        .vocab(4, None)
        .unwrap_err()
    {
        Error::MissingTokens(missing) => {
            assert!(missing.iter().any(|name| name == names::SOI));
            assert!(!missing.iter().any(|name| name == names::MASK));
        }
        other => panic!("{other}"),
    }
}

#[test]
fn published_reserved_ids_are_known_by_number() {
    let published = Vocab::published();
    let named: Vec<(&str, u32)> = published
        .special
        .named()
        .into_iter()
        .filter(|(name, _)| {
            [
                names::MASK,
                names::BOS,
                names::EOS,
                names::START_HEADER,
                names::END_HEADER,
                names::EOT,
            ]
            .contains(name)
        })
        .collect();
    let tokenizer = word_level(published.text.end, &named);
    assert_eq!(
        tokenizer
            .vocab(published.codes(), Some(published.rows))
            .unwrap(),
        published
    );
    // Its control tokens are not marked special, and still count as control.
    assert!(tokenizer.is_control(published.special.mask));
}

#[test]
fn a_file_cannot_cut_or_pad() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    TRAINED.save(&path).unwrap();
    let mut file: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    file["truncation"] = serde_json::json!({"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0});
    let cutting = Tokenizer::from_bytes(file.to_string().as_bytes()).unwrap();
    assert_eq!(
        cutting.encode("2 + 2 = 4").unwrap(),
        TRAINED.encode("2 + 2 = 4").unwrap()
    );
}

/// The trained tokenizer, with something changed in its file.
fn changed(change: impl FnOnce(&mut serde_json::Value)) -> Result<Tokenizer, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    TRAINED.save(&path).unwrap();
    let mut file = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut file);
    Tokenizer::from_bytes(file.to_string().as_bytes())
}

/// Files from training with dropout say so; read with it, a text had other ids at every call.
#[test]
fn a_file_cannot_drop_merges() {
    let dropping = changed(|file| file["model"]["dropout"] = serde_json::json!(1.0)).unwrap();
    let text = "noto style: a 3 of hearts ".repeat(20);
    let whole = TRAINED.encode_plain(&text).unwrap();
    assert_eq!(dropping.encode_plain(&text).unwrap(), whole);
    // The corpus has merges to drop.
    assert!(whole.len() < text.len());
}

/// An id beyond the number of tokens would be taken for an image code.
#[test]
fn ids_with_gaps_are_refused() {
    let apart = changed(|file| {
        let words = file["model"]["vocab"].as_object_mut().unwrap();
        words["a"] = serde_json::json!(100_000);
    });
    let error = apart.map(|tokenizer| tokenizer.len()).unwrap_err();
    assert!(error.to_string().contains("without gaps"), "{error}");
}

/// A damaged table of SentencePiece panics as it is read or with every text, or asks for gigabytes.
#[test]
fn precompiled_normalizers_are_refused() {
    let table = |table: &str| json!({"type": "Precompiled", "precompiled_charsmap": table});
    let tables = ["AA==", "AAAAAA==", "/////w=="].map(table);
    let several = json!({"type": "Sequence", "normalizers": [{"type": "NFC"}, tables[1]]});
    let mut bytes = Vec::new();
    for normalizer in tables.into_iter().chain([several]) {
        let read = changed(|file| {
            file["normalizer"] = normalizer.clone();
            bytes = file.to_string().into_bytes();
        });
        let error = read.map(|tokenizer| tokenizer.len()).unwrap_err();
        assert!(error.to_string().contains("Precompiled"), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    std::fs::write(&path, bytes).unwrap();
    let error = CaptionTokenizer::load(&path).unwrap_err();
    assert!(error.to_string().contains("Precompiled"), "{error}");
    // Nor does it get through when its type is spelled otherwise.
    let odd = changed(|file| file["normalizer"] = json!({"type": {"Precompiled": null}}));
    assert!(matches!(odd, Err(Error::Tokenizer(_))));
    let sound = changed(|file| file["normalizer"] = json!({"type": "NFC"}));
    assert_eq!(sound.unwrap().len(), TRAINED.len());
}

#[test]
fn names_are_found_wherever_they_stand() {
    let [think, end] = [names::THINK, names::END_THINK].map(|name| TRAINED.id(name).unwrap());
    let ids = |text: &str| TRAINED.encode_plain(text).unwrap();
    let text = format!("{0}{0}a{1}{0}", names::THINK, names::END_THINK);
    let expected = [&[think, think][..], &ids("a"), &[end, think]].concat();
    assert_eq!(ids(&text), expected);
    // The name that is not there is looked for once, not anew after every other.
    assert_eq!(ids(&names::THINK.repeat(200_000)), vec![think; 200_000]);
}
