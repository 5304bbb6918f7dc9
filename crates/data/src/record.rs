//! One sample as a file holds it: named fields and perhaps a picture, nothing decoded.
//!
//! ```text
//! shard --reader--> Read::Record(Record)  or  Read::Broken(name, reason)
//! ```

use std::collections::VecDeque;
use std::fmt;
use std::hash::Hasher;
use std::sync::Arc;

use fnv::FnvHasher;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::augment::Alteration;
use crate::error::DataError;
use crate::images::ImageStore;
use crate::picture::{Limits, Picture, PictureError};

/// An encoded picture (PNG, JPEG, WebP) in memory, and what is to be done to it; or one that an image
/// tokenizer has made codes of. Cloning shares the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct ImageBytes {
    bytes: Arc<[u8]>,
    alteration: Option<Alteration>,
}

/// Codes, each in four bytes, follow this where no file of a picture would begin.
const CODES: &[u8] = b"image codes\n";

impl ImageBytes {
    /// Wraps encoded bytes.
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self {
            bytes: bytes.into(),
            alteration: None,
        }
    }

    /// A picture that is known by its image codes, row by row.
    pub fn of_codes(codes: &[u32]) -> Self {
        let numbers = codes.iter().flat_map(|code| code.to_le_bytes());
        Self::new(CODES.iter().copied().chain(numbers).collect::<Vec<u8>>())
    }

    /// The codes, where the picture is known by them.
    pub fn codes(&self) -> Option<Vec<u32>> {
        let (numbers, _) = self.bytes.strip_prefix(CODES)?.as_chunks::<4>();
        Some(
            numbers
                .iter()
                .map(|&code| u32::from_le_bytes(code))
                .collect(),
        )
    }

    /// The encoded bytes, as they are in the file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same picture, to be altered.
    ///
    /// # Errors
    /// The reason, in words, when there are no pixels to alter.
    pub(crate) fn altered(self, alteration: Alteration) -> Result<Self, String> {
        if self.codes().is_some() {
            return Err("a picture given as codes cannot be altered; leave 'augment' out".into());
        }
        Ok(Self {
            alteration: Some(alteration),
            ..self
        })
    }

    /// The pixels, altered where that is wanted. One given as codes has none here.
    ///
    /// # Errors
    /// As [`Picture::decode`], with the default limits.
    pub fn picture(&self) -> Result<Picture, PictureError> {
        let picture = Picture::decode(&self.bytes, &Limits::default())?;
        match &self.alteration {
            Some(alteration) => alteration.apply(&picture),
            None => Ok(picture),
        }
    }

    /// A stable number for the content (64-bit FNV-1a, mixed): a key for caches of image codes.
    /// Costs one pass over the bytes.
    pub fn id(&self) -> u64 {
        match &self.alteration {
            Some(alteration) => hash64(&[&self.bytes, &alteration.to_bytes()]),
            None => hash64(&[&self.bytes]),
        }
    }
}

impl fmt::Debug for ImageBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ImageBytes({} bytes)", self.bytes.len())
    }
}

/// Where the picture of a record is. Only [`ImageRef::load`] touches the disk, so that shuffle
/// buffers stay small and skipping ahead stays cheap.
#[derive(Debug, Clone)]
pub enum ImageRef {
    /// Read together with the record.
    Bytes(ImageBytes),
    /// A member of an archive or a file of a folder.
    Stored {
        /// The archive or folder.
        store: Arc<ImageStore>,
        /// Name inside it.
        name: String,
    },
    /// Another picture, altered.
    Altered {
        /// Where that is.
        image: Arc<ImageRef>,
        /// What is done to it.
        alteration: Alteration,
    },
}

impl ImageRef {
    /// The encoded bytes.
    ///
    /// # Errors
    /// The reason, in words, when the store has no such picture or it is too large.
    pub fn load(&self) -> Result<ImageBytes, String> {
        match self {
            Self::Bytes(image) => Ok(image.clone()),
            Self::Stored { store, name } => store.get(name),
            Self::Altered { image, alteration } => image.load()?.altered(*alteration),
        }
    }

    /// The same picture, altered.
    pub(crate) fn altered(self, alteration: Alteration) -> Self {
        let image = Arc::new(self);
        Self::Altered { image, alteration }
    }
}

/// One sample as a file holds it.
#[derive(Debug, Clone)]
pub struct Record {
    /// Name of the sample: `SHARD/KEY` of a WebDataset, `FILE:LINE` of a JSONL file, and so on.
    pub key: String,
    /// Name of the sample within its shard, where it has one: `KEY` of a WebDataset, without folders.
    pub name: Option<String>,
    /// Name of the source the record came from.
    pub source: Arc<str>,
    /// Number of the shard in the sorted list of the source's files.
    pub shard: usize,
    /// The picture, if there is one.
    pub image: Option<ImageRef>,
    /// Everything else.
    pub fields: Map<String, Value>,
}

/// What a reader yields for one sample.
#[derive(Debug, Clone)]
pub enum Read {
    /// A sample.
    Record(Record),
    /// A sample that cannot be used, and why.
    Broken {
        /// Shard and key.
        name: String,
        /// Why.
        reason: String,
    },
}

/// The samples of one shard. An error ends the shard.
pub type Records = Box<dyn Iterator<Item = Result<Read, DataError>> + Send>;

/// How many samples were skipped, and the names of the latest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Samples skipped since the source was opened (each epoch counts again).
    pub count: u64,
    /// `(name, reason)` of the latest, oldest first; at most [`Skipped::KEEP`].
    pub last: VecDeque<(String, String)>,
}

impl Skipped {
    /// How many names are kept.
    pub const KEEP: usize = 16;

    /// Counts one.
    pub fn add(&mut self, name: String, reason: String) {
        self.count += 1;
        if self.last.len() == Self::KEEP {
            self.last.pop_front();
        }
        self.last.push_back((name, reason));
    }

    /// Adds another count to this one.
    pub fn merge(&mut self, other: &Self) {
        for (name, reason) in &other.last {
            self.add(name.clone(), reason.clone());
        }
        self.count += other.count - other.last.len() as u64;
    }
}

/// FNV-1a over the parts, each closed by a separator, with a final mix so that keys that
/// differ in one character differ in every bit. Stable across versions and machines.
pub(crate) fn hash64(parts: &[&[u8]]) -> u64 {
    let mut hasher = FnvHasher::default();
    for part in parts {
        hasher.write(part);
        hasher.write_u8(0xff);
    }
    let mut hash = hasher.finish();
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}
