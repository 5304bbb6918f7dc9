//! Training and validation parts of a pack that brings no validation file.
//!
//! A record is for validation when the first byte of the SHA-256 of its identity is below 8, one
//! in 32. That depends on nothing but the record: not on order, shards or how many there are.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::example;
use crate::record::{ImageRef, Record};

/// Name of the split that is held out of `train` where a pack has no file of that name.
pub const VALIDATION: &str = "validation";
/// The split it is held out of.
pub const TRAIN: &str = "train";
/// First bytes below this are for validation.
const HELD_OUT: u8 = 8;

/// A part of the records of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// What is not held out.
    Train,
    /// What is held out, to choose by.
    Validation,
}

impl Part {
    /// Whether a record belongs to this part.
    pub fn admits(self, record: &Record) -> bool {
        let first = Sha256::digest(identity(record).as_bytes())[0];
        (self == Self::Validation) == (first < HELD_OUT)
    }
}

/// Fields that say what a record without picture and messages is about, the first that is there.
const QUESTIONS: [&str; 3] = ["question", "prompt", "text"];

/// What a record is about, whichever file it stands in: its picture, by name or else by content, so
/// that all that is said of one is held out together; the user's last message; a field of
/// [`QUESTIONS`]; or the last part of its key.
pub fn identity(record: &Record) -> String {
    let named = record.fields.get("image").and_then(Value::as_str);
    let picture = match (&record.image, &record.name) {
        (Some(ImageRef::Stored { name, .. }), _) => Some(name.clone()),
        (Some(ImageRef::Bytes(_)), Some(name)) => Some(name.clone()),
        (Some(ImageRef::Bytes(image)), None) => Some(format!("{:016x}", image.id())),
        (Some(ImageRef::Altered { .. }) | None, _) => named.map(str::to_owned),
    };
    if let Some(picture) = picture {
        return picture.trim_start_matches("./").to_owned();
    }
    let turns = record.fields.get("messages").map(example::messages);
    if let Some(Ok(turns)) = turns
        && let Some(turn) = turns.into_iter().rfind(|turn| turn.role == "user")
    {
        return turn.content;
    }
    let question = QUESTIONS
        .iter()
        .find_map(|name| record.fields.get(*name)?.as_str());
    if let Some(question) = question {
        return question.to_owned();
    }
    let key = record.key.as_str();
    key.rsplit('/').next().unwrap_or(key).to_owned()
}
