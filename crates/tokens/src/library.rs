//! What the `tokenizers` crate reads: files of strangers, with which it panics now and then.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::Deserialize;
use serde_json::Value;
use tokenizers::Tokenizer;

use crate::error::{Error, Result};

/// What of a `tokenizer.json` is looked at before the crate does.
#[derive(Deserialize)]
struct Parts {
    #[serde(default)]
    normalizer: Value,
}

/// Reads the content of a `tokenizer.json`.
///
/// # Errors
/// [`Error::Tokenizer`] when it is none, or has a normalizer that is not read.
pub(crate) fn parse(bytes: &[u8]) -> Result<Tokenizer> {
    let parts: Parts =
        serde_json::from_slice(bytes).map_err(|error| Error::Tokenizer(error.to_string()))?;
    if is_precompiled(&parts.normalizer) {
        let what = "its normalizer is `Precompiled`, a table of SentencePiece, which is not read; \
                    take one whose normalizer is of another type";
        return Err(Error::Tokenizer(what.to_owned()));
    }
    let read = catch_unwind(AssertUnwindSafe(|| Tokenizer::from_bytes(bytes)));
    let read = read.map_err(|_| Error::Tokenizer("its values contradict each other".to_owned()))?;
    Ok(read?)
}

/// Whether a normalizer or one inside it is `Precompiled`. Its table of offsets is believed: a
/// damaged one panics with every text, or asks for gigabytes.
fn is_precompiled(normalizer: &Value) -> bool {
    match normalizer {
        Value::Object(keys) => {
            keys.get("type").is_some_and(|name| name == "Precompiled")
                || keys.contains_key("precompiled_charsmap")
                || keys.values().any(is_precompiled)
        }
        Value::Array(several) => several.iter().any(is_precompiled),
        _ => false,
    }
}
