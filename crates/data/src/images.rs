//! Pictures that live apart from their records: a folder, or a tar archive beside a JSON file.
//!
//! A plain tar is indexed and read in place; a compressed one is held in memory (encoded), since
//! it cannot be read at random.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::DataError;
use crate::files::{self, Bounds, Compression};
use crate::readers::members::{Body, Members};
use crate::record::ImageBytes;

/// A set of named pictures.
#[derive(Debug)]
pub struct ImageStore {
    path: PathBuf,
    bounds: Bounds,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Folder,
    /// Of what is larger than allowed, only the size.
    Memory(HashMap<String, Result<ImageBytes, u64>>),
    /// Offset and size of each member of a plain tar.
    Indexed {
        file: Mutex<File>,
        members: HashMap<String, (u64, u64)>,
    },
}

impl ImageStore {
    /// Opens a folder or an archive (`.tar`, or compressed with gzip or Zstandard).
    ///
    /// # Errors
    /// [`DataError::Shard`] when it is absent, not an archive, broken, or larger than allowed.
    pub fn open(path: &Path, bounds: Bounds) -> Result<Self, DataError> {
        let kind = if path.is_dir() {
            Kind::Folder
        } else {
            Self::archive(path, bounds)?
        };
        Ok(Self {
            path: path.to_path_buf(),
            bounds,
            kind,
        })
    }

    fn archive(path: &Path, bounds: Bounds) -> Result<Kind, DataError> {
        let (reader, compression) = files::open(path)?;
        let mut tar = Members::new(path, reader, bounds.entry);
        if compression == Compression::Plain {
            let mut members = HashMap::new();
            while let Some(place) = tar.next_place()? {
                members.insert(place.name, (place.offset, place.size));
            }
            let file = File::open(path).map_err(|error| DataError::shard(path, error))?;
            let file = Mutex::new(file);
            return Ok(Kind::Indexed { file, members });
        }
        let (mut images, mut total) = (HashMap::new(), 0u64);
        while let Some(member) = tar.next_member()? {
            let (image, length) = match member.body {
                Body::Bytes(bytes) => {
                    let length = bytes.len();
                    (Ok(ImageBytes::new(bytes)), length)
                }
                Body::TooLarge(size) => (Err(size), 0),
            };
            // The name counts too, and what the table keeps beside it.
            total += (length + member.name.len()) as u64 + ROW;
            if total > bounds.archive {
                let limit = bounds.archive;
                return Err(DataError::shard(
                    path,
                    format!(
                        "holds more than {limit} bytes of pictures and names; unpack it to a folder"
                    ),
                ));
            }
            images.insert(member.name, image);
        }
        Ok(Kind::Memory(images))
    }

    /// The picture of that name; a leading `./` does not matter.
    ///
    /// # Errors
    /// The reason in words: no such picture, a path that leaves the folder, too large.
    pub fn get(&self, name: &str) -> Result<ImageBytes, String> {
        let name = name.strip_prefix("./").unwrap_or(name);
        let too_large = |size: u64| format!("'{name}' has {size} bytes, more than allowed");
        let absent = || format!("no picture '{name}' in {}", self.path.display());
        match &self.kind {
            Kind::Memory(images) => match images.get(name) {
                Some(Ok(image)) => Ok(image.clone()),
                Some(Err(size)) => Err(too_large(*size)),
                None => Err(absent()),
            },
            Kind::Folder => {
                let relative = Path::new(name);
                let is_inside = relative
                    .components()
                    .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
                if !is_inside {
                    return Err(format!("'{name}' leaves the folder of pictures"));
                }
                let path = self.path.join(relative);
                if !path.is_file() {
                    return Err(absent());
                }
                let file = File::open(path).map_err(|error| format!("'{name}': {error}"))?;
                files::read_bounded(file, self.bounds.entry)
                    .map(ImageBytes::new)
                    .map_err(|error| format!("'{name}': {error}"))
            }
            Kind::Indexed { file, members } => {
                let &(offset, size) = members.get(name).ok_or_else(absent)?;
                if size > self.bounds.entry {
                    return Err(too_large(size));
                }
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                let mut bytes = vec![0; size as usize];
                file.seek(SeekFrom::Start(offset))
                    .and_then(|_| file.read_exact(&mut bytes))
                    .map_err(|error| format!("'{name}': {error}"))?;
                Ok(ImageBytes::new(bytes))
            }
        }
    }

    /// Names of all pictures, sorted. A folder is listed to a depth of eight.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = match &self.kind {
            Kind::Memory(images) => images.keys().cloned().collect(),
            Kind::Indexed { members, .. } => members.keys().cloned().collect(),
            Kind::Folder => {
                let mut names = Vec::new();
                list(&self.path, "", 8, &mut names);
                names
            }
        };
        names.retain(|name| files::is_image_name(name));
        names.sort();
        names
    }
}

/// Bytes that a member of an archive in memory costs beside its name and body, at least.
const ROW: u64 = 64;

fn list(dir: &Path, prefix: &str, depth: usize, names: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let own = entry.file_name();
        let own = own.to_string_lossy();
        let name = format!("{prefix}{own}");
        // `file_type` does not follow links, so a link cannot make a loop.
        match entry.file_type() {
            // Hidden folders hold thumbnails and the like.
            Ok(kind) if kind.is_dir() && own.starts_with('.') => {}
            Ok(kind) if kind.is_dir() && depth > 0 => {
                list(&entry.path(), &format!("{name}/"), depth - 1, names);
            }
            Ok(_) if files::is_image_name(&name) => names.push(name),
            _ => {}
        }
    }
}

/// Archives opened once and shared by every source that names them.
#[derive(Debug, Default)]
pub struct Stores(HashMap<(PathBuf, u64), Arc<ImageStore>>);

impl Stores {
    /// The store at `path`, opened if it is not yet with pictures of that size.
    ///
    /// # Errors
    /// As [`ImageStore::open`].
    pub fn get(&mut self, path: &Path, bounds: Bounds) -> Result<Arc<ImageStore>, DataError> {
        let name = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        let key = (name, bounds.entry);
        if let Some(store) = self.0.get(&key) {
            return Ok(store.clone());
        }
        let store = Arc::new(ImageStore::open(path, bounds)?);
        self.0.insert(key, store.clone());
        Ok(store)
    }
}
