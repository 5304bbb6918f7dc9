//! Reading with a bound and writing that is all or nothing.

use std::fs;
use std::io::Write;
use std::path::Path;

use crate::error::{Error, Result};

/// More than any tokenizer or template in use; a larger file is refused before it is read.
const MAX_BYTES: u64 = 256 << 20;

pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    let got = fs::metadata(path)
        .map_err(|error| Error::read(path, error))?
        .len();
    if got > MAX_BYTES {
        return Err(Error::TooLarge {
            path: path.to_path_buf(),
            got,
            limit: MAX_BYTES,
        });
    }
    fs::read(path).map_err(|error| Error::read(path, error))
}

/// Writes to a temporary name in the same folder and renames, so that no reader and no crash ever
/// sees half a file.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = fs::File::create(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, path));
    written.map_err(|error| {
        // The reason of the failure matters more than whether the remains could be removed.
        let _ = fs::remove_file(&temporary);
        Error::write(path, error)
    })
}
