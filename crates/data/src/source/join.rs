//! Fields that one file adds to the records of another, such as captions to questions.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::JoinConfig;
use crate::error::DataError;
use crate::files::{self, Bounds};
use crate::readers::{Format, Shard};
use crate::record::Read;

/// Lines of a JSONL file by the value of one field.
pub(super) struct Join {
    on: String,
    lines: HashMap<String, Map<String, Value>>,
}

impl Join {
    /// Reads the files whole.
    ///
    /// # Errors
    /// [`DataError::NoFiles`], [`DataError::Shard`], or [`DataError::Config`] when no line has the
    /// field.
    pub(super) fn open(cfg: &JoinConfig, root: &Path, bounds: Bounds) -> Result<Self, DataError> {
        let format = Format::Jsonl {
            images: None,
            image_field: String::new(),
        };
        let (mut lines, mut total) = (HashMap::new(), 0);
        for (index, path) in files::expand(&cfg.paths, root)?.iter().enumerate() {
            let shard = Shard {
                path,
                index,
                source: "join".into(),
                bounds,
            };
            for read in format.read(&shard)? {
                let Read::Record(record) = read? else {
                    continue;
                };
                if let Some(value) = record.fields.get(&cfg.on) {
                    total += size(&record.fields);
                    if total > bounds.archive {
                        let limit = bounds.archive;
                        let what = format!("joined lines hold more than {limit} bytes");
                        return Err(DataError::shard(path, what));
                    }
                    lines.insert(key(value), record.fields);
                }
            }
        }
        if lines.is_empty() {
            return Err(DataError::Config {
                name: "join".into(),
                reason: format!("no line of {:?} has the field '{}'", cfg.paths, cfg.on),
            });
        }
        Ok(Self {
            on: cfg.on.clone(),
            lines,
        })
    }

    /// Adds the fields of the agreeing line; those already there stay.
    pub(super) fn extend(&self, fields: &mut Map<String, Value>) {
        let line = fields
            .get(&self.on)
            .and_then(|value| self.lines.get(&key(value)));
        for (name, value) in line.into_iter().flatten() {
            fields.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
}

/// Bytes of a line's fields as JSON, about.
fn size(fields: &Map<String, Value>) -> u64 {
    let one = |(name, value): (&String, &Value)| name.len() + key(value).len();
    fields.iter().map(|field| one(field) as u64).sum()
}

/// A value as text, so that equal values of any type meet.
fn key(value: &Value) -> String {
    value.to_string()
}
