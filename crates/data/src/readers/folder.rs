//! A folder of pictures: `ROOT/CLASS/NAME.png`, or `ROOT/metadata.jsonl` whose lines have
//! `file_name` and any other fields.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Shard, jsonl};
use crate::error::DataError;
use crate::images::ImageStore;
use crate::record::{ImageRef, Read, Records};

/// Streams the pictures of one folder in the order of their names. Without metadata the fields
/// are `file_name` and, for pictures in a subfolder, `label` (the first folder's name).
///
/// # Errors
/// [`DataError::Shard`] when it is not a folder.
pub fn read(shard: &Shard<'_>) -> Result<Records, DataError> {
    if !shard.path.is_dir() {
        return Err(DataError::shard(
            shard.path,
            "not a folder; kind = \"folder\" expects folders in 'paths'",
        ));
    }
    let store = Arc::new(ImageStore::open(shard.path, shard.bounds)?);
    for name in ["metadata.jsonl", "metadata.jsonl.zst", "metadata.jsonl.gz"] {
        let path = shard.path.join(name);
        if path.is_file() {
            let lines = Shard {
                path: &path,
                ..shard.clone()
            };
            let records = jsonl::read(&lines, Some(store), "file_name".into())?;
            return Ok(Box::new(records.map(require_image)));
        }
    }
    let owner = shard.owned();
    let names = store.names().into_iter();
    Ok(Box::new(names.map(move |name| {
        let mut fields = Map::new();
        if let Some((label, _)) = name.split_once('/') {
            fields.insert("label".into(), label.into());
        }
        fields.insert("file_name".into(), Value::String(name.clone()));
        let image = ImageRef::Stored {
            store: store.clone(),
            name: name.clone(),
        };
        Ok(owner.record(name, Some(image), fields))
    })))
}

fn require_image(read: Result<Read, DataError>) -> Result<Read, DataError> {
    Ok(match read? {
        Read::Record(record) if record.image.is_none() => Read::Broken {
            name: record.key,
            reason: "the line has no text 'file_name'".into(),
        },
        other => other,
    })
}
