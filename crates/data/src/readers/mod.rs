//! One reader per file format. Each turns one shard into a stream of records in file order;
//! shuffling, filtering and templates come later and are the same for all.

pub mod conversations;
pub mod folder;
pub mod jsonl;
pub(crate) mod members;
pub mod parquet;
pub mod webdataset;

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::DataError;
use crate::files::Bounds;
use crate::images::ImageStore;
use crate::record::{ImageBytes, ImageRef, Read, Record, Records};

/// Whether each question about a picture stands alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Turns {
    /// Every (human, gpt) pair is a record with the fields `question` and `answer`.
    #[default]
    Independent,
    /// An entry is one record with the field `messages`.
    Conversation,
}

/// A file format with its parameters.
#[derive(Debug, Clone)]
pub enum Format {
    /// Tar shards of samples.
    WebDataset,
    /// One JSON object per line.
    Jsonl {
        /// Where pictures are, for records that name one.
        images: Option<Arc<ImageStore>>,
        /// Field that names the picture.
        image_field: String,
    },
    /// Apache Parquet.
    Parquet {
        /// Where pictures are, for rows that hold a path instead of bytes.
        images: Option<Arc<ImageStore>>,
        /// Column that holds the picture.
        image_field: String,
    },
    /// A JSON list of LLaVA-style conversations.
    Conversations {
        /// Where pictures are.
        images: Option<Arc<ImageStore>>,
        /// How turns become records.
        turns: Turns,
    },
    /// A folder of pictures.
    Folder,
}

/// What every reader is told about its shard.
#[derive(Debug, Clone)]
pub struct Shard<'a> {
    /// The file or folder.
    pub path: &'a Path,
    /// Its number in the sorted list.
    pub index: usize,
    /// Name of the source.
    pub source: Arc<str>,
    /// What is too large.
    pub bounds: Bounds,
}

impl Format {
    /// Opens one shard.
    ///
    /// # Errors
    /// [`DataError::Shard`] when it is missing or not of this format.
    pub fn read(&self, shard: &Shard<'_>) -> Result<Records, DataError> {
        match self {
            Self::WebDataset => webdataset::read(shard),
            Self::Jsonl {
                images,
                image_field,
            } => jsonl::read(shard, images.clone(), image_field.clone()),
            Self::Parquet {
                images,
                image_field,
            } => parquet::read(shard, images.clone(), image_field.clone()),
            Self::Conversations { images, turns } => {
                conversations::read(shard, images.clone(), *turns)
            }
            Self::Folder => folder::read(shard),
        }
    }

    /// The picture that fields name, where this format names pictures.
    pub(crate) fn named_image(&self, fields: &Map<String, Value>) -> Option<ImageRef> {
        match self {
            Self::Jsonl {
                images,
                image_field,
            }
            | Self::Parquet {
                images,
                image_field,
            } => named_image(fields, image_field, images.as_ref()),
            Self::Conversations { images, .. } => named_image(fields, "image", images.as_ref()),
            Self::WebDataset | Self::Folder => None,
        }
    }

    /// Number of records of a shard where the format tells without reading it all.
    pub fn count(&self, path: &Path) -> Option<usize> {
        match self {
            Self::Parquet { .. } => parquet::rows(path),
            _ => None,
        }
    }
}

impl Shard<'_> {
    fn owned(&self) -> Owned {
        Owned {
            index: self.index,
            source: self.source.clone(),
        }
    }
}

/// The part of a [`Shard`] that readers keep while they stream.
#[derive(Debug, Clone)]
struct Owned {
    index: usize,
    source: Arc<str>,
}

impl Owned {
    fn record(&self, key: String, image: Option<ImageRef>, fields: Map<String, Value>) -> Read {
        Read::Record(Record {
            key,
            name: None,
            source: self.source.clone(),
            shard: self.index,
            image,
            fields,
        })
    }
}

/// The picture a record names, if it names one and there is a place to look; or gives as a list of codes.
fn named_image(
    fields: &Map<String, Value>,
    field: &str,
    images: Option<&Arc<ImageStore>>,
) -> Option<ImageRef> {
    match fields.get(field)? {
        Value::Array(codes) => {
            let codes = codes.iter().map(|code| code.as_u64()?.try_into().ok());
            let codes: Vec<u32> = codes.collect::<Option<_>>()?;
            // An empty list is how some say that there is no picture.
            (!codes.is_empty()).then(|| ImageRef::Bytes(ImageBytes::of_codes(&codes)))
        }
        name => Some(ImageRef::Stored {
            name: name.as_str()?.to_owned(),
            store: images?.clone(),
        }),
    }
}
