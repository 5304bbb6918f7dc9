//! WebDataset: a tar whose neighbouring members `KEY.ext` make one sample.
//!
//! `KEY` is everything before the first dot of the file name (folders kept). `KEY.webp`, `.png`,
//! `.jpg`, `.jpeg` are the picture, `KEY.json` the fields, `KEY.txt` the field `text` (and
//! `caption`, if the JSON has none), `KEY.cls` the integer field `cls`; other members are passed
//! over.

use serde_json::{Map, Value};

use super::members::{Body, Member, Members};
use super::{Owned, Shard};
use crate::error::DataError;
use crate::files::{self, file_name};
use crate::record::{ImageBytes, ImageRef, Read, Records};

/// Streams the samples of one shard.
///
/// # Errors
/// [`DataError::Shard`] when the file is missing; later, from the stream, when it is truncated or
/// not a tar.
pub fn read(shard: &Shard<'_>) -> Result<Records, DataError> {
    let (reader, _) = files::open(shard.path)?;
    Ok(Box::new(Samples {
        members: Members::new(shard.path, reader, shard.bounds.entry),
        shard_name: file_name(shard.path),
        owner: shard.owned(),
        pending: None,
        is_done: false,
    }))
}

struct Samples {
    members: Members,
    shard_name: String,
    owner: Owned,
    /// The sample whose members are still arriving.
    pending: Option<Sample>,
    is_done: bool,
}

#[derive(Default)]
struct Sample {
    key: String,
    image: Option<ImageBytes>,
    fields: Option<Map<String, Value>>,
    text: Option<String>,
    class: Option<i64>,
    fault: Option<String>,
}

impl Iterator for Samples {
    type Item = Result<Read, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.is_done {
            match self.members.next_member() {
                Err(error) => {
                    self.is_done = true;
                    return Some(Err(error));
                }
                Ok(None) => self.is_done = true,
                Ok(Some(member)) if files::is_hidden(&member.name) => {}
                Ok(Some(member)) => {
                    let finished = self.accept(member);
                    if let Some(read) = finished.and_then(|sample| self.finish(sample)) {
                        return Some(Ok(read));
                    }
                }
            }
        }
        let last = self.pending.take()?;
        self.finish(last).map(Ok)
    }
}

impl Samples {
    /// Adds a member; returns the previous sample when this member starts a new one.
    fn accept(&mut self, member: Member) -> Option<Sample> {
        let (key, extension) = split(&member.name);
        let is_same = self
            .pending
            .as_ref()
            .is_some_and(|sample| sample.key == key);
        let finished = if is_same {
            None
        } else {
            self.pending.replace(Sample {
                key: key.to_owned(),
                ..Sample::default()
            })
        };
        if let Some(sample) = &mut self.pending
            && let Err(reason) = sample.add(&extension, member.body)
        {
            sample.fault.get_or_insert(reason);
        }
        finished
    }

    /// A sample with nothing in it that we know (other members only) is no sample.
    fn finish(&self, sample: Sample) -> Option<Read> {
        let name = format!("{}/{}", self.shard_name, sample.key);
        if let Some(reason) = sample.fault {
            return Some(Read::Broken { name, reason });
        }
        if sample.image.is_none()
            && sample.fields.is_none()
            && sample.text.is_none()
            && sample.class.is_none()
        {
            return None;
        }
        let mut fields = sample.fields.unwrap_or_default();
        if let Some(text) = sample.text {
            for field in ["text", "caption"] {
                if !fields.contains_key(field) {
                    fields.insert(field.into(), Value::String(text.clone()));
                }
            }
        }
        if let Some(class) = sample.class {
            fields.insert("cls".into(), class.into());
        }
        let image = sample.image.map(ImageRef::Bytes);
        let mut read = self.owner.record(name, image, fields);
        if let Read::Record(record) = &mut read {
            record.name = sample.key.rsplit('/').next().map(str::to_owned);
        }
        Some(read)
    }
}

impl Sample {
    fn add(&mut self, extension: &str, body: Body) -> Result<(), String> {
        // Only the last part counts for pictures, so that `KEY.input.png` works too.
        let last = extension.rsplit('.').next().unwrap_or_default();
        if !matches!(
            last,
            "png" | "jpg" | "jpeg" | "webp" | "json" | "txt" | "cls"
        ) {
            return Ok(());
        }
        let bytes = match body {
            Body::Bytes(bytes) => bytes,
            Body::TooLarge(size) => {
                return Err(format!(".{extension} has {size} bytes, more than allowed"));
            }
        };
        let is_repeated = match last {
            "json" => {
                let value = serde_json::from_slice(&bytes)
                    .map_err(|error| format!(".{extension}: {error}"))?;
                let Value::Object(fields) = value else {
                    return Err(format!(".{extension} is not a JSON object"));
                };
                self.fields.replace(fields).is_some()
            }
            "txt" | "cls" => {
                let text = String::from_utf8(bytes)
                    .map_err(|_| format!(".{extension} is not UTF-8 text"))?;
                let text = text.trim().to_owned();
                if last == "txt" {
                    self.text.replace(text).is_some()
                } else {
                    let class = text
                        .parse()
                        .map_err(|_| format!(".cls is '{text}', expected an integer"))?;
                    self.class.replace(class).is_some()
                }
            }
            _ => self.image.replace(ImageBytes::new(bytes)).is_some(),
        };
        if is_repeated {
            return Err(format!("more than one member of the kind .{last}"));
        }
        Ok(())
    }
}

/// `dir/KEY.a.b` as (`dir/KEY`, `a.b` in lower case).
fn split(name: &str) -> (&str, String) {
    let start = name.rfind('/').map_or(0, |slash| slash + 1);
    match name[start..].find('.') {
        Some(dot) => (
            &name[..start + dot],
            name[start + dot + 1..].to_ascii_lowercase(),
        ),
        None => (name, String::new()),
    }
}
