//! LLaVA-style conversations: a JSON list of `{id, image, conversations: [{from, value}, …]}`. Turns
//! are read as those of other chat data ([`messages`]).
//!
//! The list is streamed, not loaded. `<image>` (only in the first human turn of the original
//! files) is taken out of the text: the prompt layout puts the picture first.

use std::io::{BufRead, Read as _};
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Owned, Shard, Turns, named_image};
use crate::error::DataError;
use crate::example::{Message, messages};
use crate::files::{self, Bytes, file_name};
use crate::images::ImageStore;
use crate::record::{ImageRef, Read, Records};

/// Streams the entries of one file.
///
/// # Errors
/// [`DataError::Shard`] when the file is missing or is not a JSON list.
pub fn read(
    shard: &Shard<'_>,
    images: Option<Arc<ImageStore>>,
    turns: Turns,
) -> Result<Records, DataError> {
    let (reader, _) = files::open(shard.path)?;
    let mut entries = Entries {
        path: shard.path.to_path_buf(),
        reader,
        limit: shard.bounds.entry,
        owner: shard.owned(),
        images,
        turns,
        number: 0,
        pairs: None,
        is_done: false,
    };
    match entries.punctuation()? {
        Some(b'[') => Ok(Box::new(entries)),
        _ => Err(DataError::shard(
            shard.path,
            "expected a JSON list of conversations (for one object per line use kind = \"jsonl\")",
        )),
    }
}

struct Entries {
    path: PathBuf,
    reader: Bytes,
    limit: u64,
    owner: Owned,
    images: Option<Arc<ImageStore>>,
    turns: Turns,
    number: usize,
    /// The entry whose pairs are being read.
    pairs: Option<Pairs>,
    is_done: bool,
}

/// The questions and answers of one entry, made into records one by one: each has all the other
/// fields of the entry.
struct Pairs {
    name: String,
    image: Option<ImageRef>,
    fields: Map<String, Value>,
    turns: Vec<Message>,
    /// Turns before the one to look at next.
    turn: usize,
    /// Pairs made.
    made: usize,
}

impl Pairs {
    fn next(&mut self, owner: &Owned) -> Option<Read> {
        while let Some(two) = self.turns.get(self.turn..self.turn + 2) {
            self.turn += 1;
            let [question, answer] = two else {
                continue;
            };
            if (question.role.as_str(), answer.role.as_str()) != ("user", "assistant") {
                continue;
            }
            let mut fields = self.fields.clone();
            fields.insert("question".into(), question.content.clone().into());
            fields.insert("answer".into(), answer.content.clone().into());
            fields.insert("turn".into(), self.made.into());
            let key = format!("{}/{}", self.name, self.made);
            self.made += 1;
            return Some(owner.record(key, self.image.clone(), fields));
        }
        None
    }
}

impl Entries {
    /// The next byte that is not white space, consumed; `None` at the end of the file.
    fn punctuation(&mut self) -> Result<Option<u8>, DataError> {
        loop {
            let byte = match self.reader.fill_buf() {
                Ok(buffer) => buffer.first().copied(),
                Err(error) => return Err(DataError::shard(&self.path, error)),
            };
            let Some(byte) = byte else { return Ok(None) };
            self.reader.consume(1);
            if !byte.is_ascii_whitespace() {
                return Ok(Some(byte));
            }
        }
    }

    /// Parses one object; its opening brace has been consumed.
    fn object(&mut self) -> Result<Map<String, Value>, DataError> {
        let limit = self.limit;
        let reader = (&b"{"[..]).chain((&mut self.reader).take(limit));
        // A closing brace ends the value, so the parser reads no byte beyond it.
        let mut parser = serde_json::Deserializer::from_reader(reader);
        Map::deserialize(&mut parser).map_err(|error| {
            DataError::shard(
                &self.path,
                format!("entry {}: {error} (limit {limit} bytes)", self.number),
            )
        })
    }

    fn next_entry(&mut self) -> Result<Option<Map<String, Value>>, DataError> {
        let mut byte = self.punctuation()?;
        if self.number > 0 && byte == Some(b',') {
            byte = self.punctuation()?;
        }
        match byte {
            Some(b'{') => {
                self.number += 1;
                self.object().map(Some)
            }
            Some(b']') => Ok(None),
            Some(other) => Err(DataError::shard(
                &self.path,
                format!(
                    "expected an object after entry {}, got '{}'",
                    self.number,
                    char::from(other)
                ),
            )),
            None => Err(DataError::shard(
                &self.path,
                format!("ends after entry {} (truncated)", self.number),
            )),
        }
    }

    /// The record of an entry that is one conversation; otherwise the first of its pairs.
    fn accept(&mut self, mut entry: Map<String, Value>) -> Read {
        let file = file_name(&self.path);
        let name = match entry.get("id") {
            Some(Value::String(id)) => format!("{file}/{id}"),
            Some(Value::Number(id)) => format!("{file}/{id}"),
            _ => format!("{file}#{}", self.number),
        };
        let image = named_image(&entry, "image", self.images.as_ref());
        let turns = match turns(entry.remove("conversations")) {
            Ok(turns) => turns,
            Err(reason) => return Read::Broken { name, reason },
        };
        if self.turns == Turns::Conversation {
            let messages = turns
                .iter()
                .map(|turn| json!({"role": turn.role, "content": turn.content}))
                .collect();
            entry.insert("messages".into(), Value::Array(messages));
            return self.owner.record(name, image, entry);
        }
        let mut pairs = Pairs {
            name,
            image,
            fields: entry,
            turns,
            turn: 0,
            made: 0,
        };
        match pairs.next(&self.owner) {
            Some(first) => {
                self.pairs = Some(pairs);
                first
            }
            None => Read::Broken {
                name: pairs.name,
                reason: "no human turn is followed by a gpt turn".into(),
            },
        }
    }
}

/// The turns; where the picture stands is known, so what people say has no tag for it.
fn turns(value: Option<Value>) -> Result<Vec<Message>, String> {
    let value = value.ok_or("no list 'conversations'")?;
    let turns = messages(&value);
    let mut turns = turns.map_err(|reason| format!("'conversations' {reason}"))?;
    for turn in turns.iter_mut().filter(|turn| turn.role == "user") {
        turn.content = without_image_tag(&turn.content);
    }
    Ok(turns)
}

/// The text without `<image>` and the line break beside it.
pub(crate) fn without_image_tag(text: &str) -> String {
    text.replace("<image>\n", "")
        .replace("\n<image>", "")
        .replace("<image>", "")
}

impl Iterator for Entries {
    type Item = Result<Read, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(pairs) = &mut self.pairs {
                match pairs.next(&self.owner) {
                    Some(read) => return Some(Ok(read)),
                    None => self.pairs = None,
                }
            }
            if self.is_done {
                return None;
            }
            match self.next_entry() {
                Ok(Some(entry)) => return Some(Ok(self.accept(entry))),
                Ok(None) => self.is_done = true,
                Err(error) => {
                    self.is_done = true;
                    return Some(Err(error));
                }
            }
        }
    }
}
