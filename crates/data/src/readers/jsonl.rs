//! JSON lines: one object per line, plain, gzip or Zstandard.

use std::io::{self, BufRead, Read as _};
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use super::{Owned, Shard, named_image};
use crate::error::DataError;
use crate::files::{self, Bytes, file_name};
use crate::images::ImageStore;
use crate::record::{Read, Records};

/// Streams the lines of one file; blank lines are passed over.
///
/// # Errors
/// [`DataError::Shard`] when the file is missing; later, when its compression is damaged.
pub fn read(
    shard: &Shard<'_>,
    images: Option<Arc<ImageStore>>,
    image_field: String,
) -> Result<Records, DataError> {
    let lines = Lines::open(shard)?;
    Ok(Box::new(lines.map(move |line| {
        let Line { name, owner, value } = line?;
        Ok(match value {
            Ok(Value::Object(fields)) => {
                let image = named_image(&fields, &image_field, images.as_ref());
                owner.record(name, image, fields)
            }
            Ok(_) => Read::Broken {
                name,
                reason: "the line is not a JSON object".into(),
            },
            Err(reason) => Read::Broken { name, reason },
        })
    })))
}

struct Line {
    name: String,
    owner: Owned,
    value: Result<Value, String>,
}

struct Lines {
    path: PathBuf,
    reader: Bytes,
    limit: u64,
    number: usize,
    owner: Owned,
    is_done: bool,
}

impl Lines {
    fn open(shard: &Shard<'_>) -> Result<Self, DataError> {
        let (reader, _) = files::open(shard.path)?;
        Ok(Self {
            path: shard.path.to_path_buf(),
            reader,
            limit: shard.bounds.entry,
            number: 0,
            owner: shard.owned(),
            is_done: false,
        })
    }

    /// The next line as bytes, or `None` in its place when it is too long.
    fn line(&mut self) -> io::Result<Option<Option<Vec<u8>>>> {
        let mut bytes = Vec::new();
        let limit = self.limit;
        let read = (&mut self.reader)
            .take(limit + 1)
            .read_until(b'\n', &mut bytes)?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        if read as u64 > limit && bytes.last() != Some(&b'\n') {
            pass_line(&mut self.reader)?;
            return Ok(Some(None));
        }
        Ok(Some(Some(bytes)))
    }
}

/// Reads to the end of the line without keeping it.
fn pass_line(reader: &mut Bytes) -> io::Result<()> {
    loop {
        let buffer = reader.fill_buf()?;
        let end = buffer.iter().position(|&byte| byte == b'\n');
        let (count, is_end) = match end {
            Some(at) => (at + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        reader.consume(count);
        if is_end {
            return Ok(());
        }
    }
}

impl Iterator for Lines {
    type Item = Result<Line, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.is_done {
            let line = match self.line() {
                Ok(Some(line)) => line,
                Ok(None) => break,
                Err(error) => {
                    self.is_done = true;
                    return Some(Err(DataError::shard(&self.path, error)));
                }
            };
            let value = match line {
                Some(bytes) if bytes.trim_ascii().is_empty() => continue,
                Some(bytes) => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
                None => Err(format!("the line is longer than {} bytes", self.limit)),
            };
            return Some(Ok(Line {
                name: format!("{}:{}", file_name(&self.path), self.number),
                owner: self.owner.clone(),
                value,
            }));
        }
        self.is_done = true;
        None
    }
}
