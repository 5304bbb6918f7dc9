//! Apache Parquet through the record interface of the `parquet` crate (no Arrow).
//!
//! Strings, numbers, lists and nested messages become JSON fields. A picture is a binary column,
//! or a struct `{bytes, path}` as the Hugging Face `datasets` library writes it.

mod lists;

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::reader::RowIter;
use ::parquet::record::{Field, Row};
use serde_json::{Map, Value};

use super::{Owned, Shard};
use crate::error::DataError;
use crate::files::{Bounds, file_name};
use crate::images::ImageStore;
use crate::record::{ImageBytes, ImageRef, Read, Records};
use lists::Values;

/// Streams the rows of one file.
///
/// # Errors
/// [`DataError::Shard`] when the file is missing or not Parquet; later, when a page is damaged.
pub fn read(
    shard: &Shard<'_>,
    images: Option<Arc<ImageStore>>,
    image_field: String,
) -> Result<Records, DataError> {
    let path = shard.path.to_path_buf();
    let values = Values::default();
    let rows = guarded(&path, || {
        let reader = SerializedFileReader::new(open(&path)?)
            .map_err(|error| DataError::shard(&path, error))?;
        let file = reader.metadata().file_metadata();
        let (rows, columns) = (file.num_rows(), file.schema_descr().num_columns());
        if rows < 0 || columns == 0 {
            let what = format!("its footer tells of {rows} rows of {columns} columns");
            return Err(DataError::shard(&path, what));
        }
        lists::rows(open(&path)?, file.schema(), &values)
            .map_err(|error| DataError::shard(&path, error))
    })?;
    Ok(Box::new(Rows {
        path,
        rows,
        values,
        owner: shard.owned(),
        images,
        image_field,
        bounds: shard.bounds,
        number: 0,
        is_done: false,
    }))
}

/// Number of rows, from the footer.
pub(super) fn rows(path: &Path) -> Option<usize> {
    let count = guarded(path, || {
        let reader = SerializedFileReader::new(open(path)?)
            .map_err(|error| DataError::shard(path, error))?;
        Ok(reader.metadata().file_metadata().num_rows())
    });
    usize::try_from(count.ok()?).ok()
}

fn open(path: &Path) -> Result<File, DataError> {
    File::open(path).map_err(|error| DataError::shard(path, error))
}

/// Runs the Parquet decoder, which panics on some damaged pages, and turns a panic into an error.
fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T, DataError>) -> Result<T, DataError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(DataError::shard(
            path,
            "the Parquet decoder gave up on damaged data",
        ))
    })
}

struct Rows {
    path: PathBuf,
    rows: RowIter<'static>,
    values: Values,
    owner: Owned,
    images: Option<Arc<ImageStore>>,
    image_field: String,
    bounds: Bounds,
    number: usize,
    is_done: bool,
}

impl Iterator for Rows {
    type Item = Result<Read, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        self.values.reset();
        let row = guarded(&self.path, || {
            let row = self.rows.next().transpose();
            row.map_err(|error| DataError::shard(&self.path, error))
        });
        match row {
            Ok(Some(row)) => {
                let name = format!("{}:{}", file_name(&self.path), self.number);
                self.number += 1;
                Some(Ok(self.record(name, row)))
            }
            Ok(None) => {
                self.is_done = true;
                None
            }
            Err(error) => {
                self.is_done = true;
                Some(Err(error))
            }
        }
    }
}

impl Rows {
    fn record(&self, name: String, row: Row) -> Read {
        let (mut fields, mut image) = (Map::new(), None);
        let (mut bytes, most) = (0, self.bounds.entry);
        for (column, field) in row.into_columns() {
            bytes += size(&field);
            let result = if bytes > most {
                Err(format!("the row has more than the {most} bytes allowed"))
            } else if column == self.image_field {
                self.image(field).map(|(found, path)| {
                    image = found;
                    if let Some(path) = path {
                        fields.insert(column, path.into());
                    }
                })
            } else {
                json(field).map(|value| {
                    fields.insert(column, value);
                })
            };
            if let Err(reason) = result {
                return Read::Broken { name, reason };
            }
        }
        self.owner.record(name, image, fields)
    }

    /// The picture of a cell and its path, if the cell has one.
    fn image(&self, field: Field) -> Result<(Option<ImageRef>, Option<String>), String> {
        match field {
            Field::Null => Ok((None, None)),
            Field::Bytes(bytes) => {
                let size = bytes.len() as u64;
                if size > self.bounds.entry {
                    return Err(format!("the picture has {size} bytes, more than allowed"));
                }
                let image = ImageBytes::new(bytes.data());
                Ok((Some(ImageRef::Bytes(image)), None))
            }
            Field::Str(path) => {
                let image = self.images.as_ref().map(|store| ImageRef::Stored {
                    store: store.clone(),
                    name: path.clone(),
                });
                Ok((image, Some(path)))
            }
            Field::Group(row) => {
                let (mut bytes, mut path) = ((None, None), (None, None));
                for (name, field) in row.into_columns() {
                    match name.as_str() {
                        "bytes" => bytes = self.image(field)?,
                        "path" => path = self.image(as_text(field))?,
                        _ => {}
                    }
                }
                Ok((bytes.0.or(path.0), path.1))
            }
            Field::ListInternal(list) => match list.elements() {
                [] => Ok((None, None)),
                [one] => self.image(as_text(one.clone())),
                many => Err(format!("{} pictures in one row, expected one", many.len())),
            },
            other => Err(format!(
                "column '{}' holds {other}, expected picture bytes or struct{{bytes, path}}",
                self.image_field
            )),
        }
    }
}

/// Text again where it is bytes, as in lists. The file of a picture is no text.
fn as_text(field: Field) -> Field {
    match field {
        Field::Bytes(bytes) => match bytes.as_utf8().map(str::to_owned) {
            Ok(text) => Field::Str(text),
            Err(_) => Field::Bytes(bytes),
        },
        other => other,
    }
}

/// Bytes of the text and pictures in a cell: what a row of a small file can have much of, when the
/// file holds it once for all rows.
fn size(field: &Field) -> u64 {
    match field {
        Field::Str(text) => text.len() as u64,
        Field::Bytes(bytes) => bytes.len() as u64,
        Field::Group(row) => row.get_column_iter().map(|(_, field)| size(field)).sum(),
        Field::ListInternal(list) => list.elements().iter().map(size).sum(),
        Field::MapInternal(map) => {
            let pairs = map.entries().iter();
            pairs.map(|(key, value)| size(key) + size(value)).sum()
        }
        // A number, in JSON.
        _ => 8,
    }
}

/// A cell as JSON. Binary cells that are not UTF-8 become null: templates then report the field
/// as missing.
fn json(field: Field) -> Result<Value, String> {
    Ok(match field {
        Field::Null => Value::Null,
        Field::Bool(value) => value.into(),
        Field::Byte(value) => value.into(),
        Field::Short(value) => value.into(),
        Field::Int(value) => value.into(),
        Field::Long(value) => value.into(),
        Field::UByte(value) => value.into(),
        Field::UShort(value) => value.into(),
        Field::UInt(value) => value.into(),
        Field::ULong(value) => value.into(),
        Field::Float16(value) => f32::from(value).into(),
        Field::Float(value) => value.into(),
        Field::Double(value) => value.into(),
        Field::Str(value) => value.into(),
        Field::Bytes(value) => value.as_utf8().map_or(Value::Null, Into::into),
        Field::Date(value) => value.into(),
        Field::TimeMillis(value) => value.into(),
        Field::TimeMicros(value) => value.into(),
        Field::TimestampMillis(value) => value.into(),
        Field::TimestampMicros(value) => value.into(),
        decimal @ Field::Decimal(_) => decimal.to_string().into(),
        Field::Group(row) => {
            let mut object = Map::new();
            for (name, field) in row.into_columns() {
                object.insert(name, json(field)?);
            }
            Value::Object(object)
        }
        Field::ListInternal(list) => {
            let elements: Result<Vec<Value>, String> =
                list.elements().iter().cloned().map(json).collect();
            Value::Array(elements?)
        }
        Field::MapInternal(map) => {
            let mut object = Map::new();
            for (key, value) in map.entries() {
                let Value::String(key) = json(key.clone())? else {
                    return Err("a map whose keys are not text".into());
                };
                object.insert(key, json(value.clone())?);
            }
            Value::Object(object)
        }
    })
}
