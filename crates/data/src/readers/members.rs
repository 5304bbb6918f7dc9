//! The members of a tar stream, one at a time, each bounded and read into memory only; nothing is
//! ever unpacked to disk, so a hostile member name cannot leave a folder.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::error::DataError;
use crate::files::Bytes;

/// Bytes a member's headers (long names, extensions) may take beyond its body.
const HEADER_ROOM: u64 = 1 << 20;
/// Bytes read after the end mark to let the decompressor check its own trailer.
const TRAILER_ROOM: u64 = 64 << 20;

/// A regular file inside an archive.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) body: Body,
}

/// The bytes of a member, or that they are too many.
#[derive(Debug)]
pub(crate) enum Body {
    Bytes(Vec<u8>),
    TooLarge(u64),
}

/// Where a regular file's bytes are in the unpacked stream.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

/// What the next header announces.
struct Header {
    name: String,
    size: u64,
    is_file: bool,
}

/// Reads members from a stream. The `tar` crate parses each header on a fresh archive value over
/// the same stream, which keeps this iterator free of borrows.
pub(crate) struct Members {
    path: PathBuf,
    reader: Counted,
    limit: u64,
    members: u64,
    is_done: bool,
}

/// A stream that knows its position.
struct Counted {
    inner: Bytes,
    position: u64,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Members {
    pub(crate) fn new(path: &Path, reader: Bytes, limit: u64) -> Self {
        Self {
            path: path.to_path_buf(),
            reader: Counted {
                inner: reader,
                position: 0,
            },
            limit,
            members: 0,
            is_done: false,
        }
    }

    /// The next regular file with its bytes.
    pub(crate) fn next_member(&mut self) -> Result<Option<Member>, DataError> {
        loop {
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            if !header.is_file || header.size > self.limit {
                self.skip(padded(header.size))?;
                if header.is_file {
                    let body = Body::TooLarge(header.size);
                    let name = header.name;
                    return Ok(Some(Member { name, body }));
                }
                continue;
            }
            let mut bytes = Vec::with_capacity(header.size as usize);
            let mut body = (&mut self.reader).take(header.size);
            body.read_to_end(&mut bytes)
                .map_err(|error| DataError::shard(&self.path, error))?;
            if (bytes.len() as u64) < header.size {
                return Err(self.truncated());
            }
            self.skip(padded(header.size) - header.size)?;
            return Ok(Some(Member {
                name: header.name,
                body: Body::Bytes(bytes),
            }));
        }
    }

    /// The next regular file, its bytes passed over.
    pub(crate) fn next_place(&mut self) -> Result<Option<Place>, DataError> {
        loop {
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            let offset = self.reader.position;
            self.skip(padded(header.size))?;
            if header.is_file {
                return Ok(Some(Place {
                    name: header.name,
                    offset,
                    size: header.size,
                }));
            }
        }
    }

    fn header(&mut self) -> Result<Option<Header>, DataError> {
        if self.is_done {
            return Ok(None);
        }
        let broken = |error: io::Error| DataError::shard(&self.path, error);
        let bounded = (&mut self.reader).take(HEADER_ROOM);
        let mut archive = tar::Archive::new(bounded);
        let header = match archive.entries().map_err(broken)?.next() {
            None => None,
            Some(entry) => {
                let entry = entry.map_err(|error| {
                    DataError::shard(&self.path, format!("not a readable tar archive: {error}"))
                })?;
                let kind = entry.header().entry_type();
                if kind.is_gnu_sparse() {
                    return Err(DataError::shard(
                        &self.path,
                        "sparse members are not supported; write the tar without --sparse",
                    ));
                }
                let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
                Some(Header {
                    name: name.strip_prefix("./").unwrap_or(&name).to_owned(),
                    size: entry.size(),
                    is_file: kind.is_file() || kind.is_contiguous(),
                })
            }
        };
        if header.is_some() {
            self.members += 1;
            return Ok(header);
        }
        self.is_done = true;
        if self.members == 0 {
            return Err(DataError::shard(&self.path, "holds no member"));
        }
        // A checksum that fails shows only when the compressed stream is read to its end.
        io::copy(&mut (&mut self.reader).take(TRAILER_ROOM), &mut io::sink())
            .map_err(|error| DataError::shard(&self.path, error))?;
        Ok(None)
    }

    fn skip(&mut self, bytes: u64) -> Result<(), DataError> {
        let skipped = io::copy(&mut (&mut self.reader).take(bytes), &mut io::sink())
            .map_err(|error| DataError::shard(&self.path, error))?;
        if skipped < bytes {
            return Err(self.truncated());
        }
        Ok(())
    }

    fn truncated(&self) -> DataError {
        DataError::shard(&self.path, "ends in the middle of a member (truncated)")
    }
}

/// Size on the tape: whole blocks of 512 bytes.
fn padded(size: u64) -> u64 {
    size.saturating_add(511) / 512 * 512
}
