//! Files and folders that appear whole or not at all.
//!
//! ```text
//!   stage   .name.<pid>-<n>.partial   written, then forced to disk
//!   commit  name                      renamed over the old one in one move
//! ```
//!
//! A run killed at any instant leaves either the old content or the new one under the real name.
//! On an error (a full disk, a read-only folder) the temporary file is removed and the old one
//! stays as it was.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Error, Result};

/// Writes one file atomically: temporary name, `fsync`, rename.
pub fn write_atomic(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<()> {
    stage(path, write)?.commit()
}

/// A file written and forced to disk under a temporary name, waiting for [`Staged::commit`].
/// Dropping it instead removes it. Several files can be staged before the first is committed.
#[derive(Debug)]
#[must_use = "a staged file is removed unless it is committed"]
pub struct Staged {
    temporary: PathBuf,
    target: PathBuf,
}

/// Writes `path` under a temporary name beside it.
pub fn stage(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<Staged> {
    // Distinct for every process and call, so that two writers never share a temporary file.
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let unique = COUNTER.fetch_add(1, Ordering::Relaxed);
    let temporary = sibling(path, &format!(".{}-{unique}.partial", std::process::id()))?;
    let file = File::create(&temporary).map_err(Error::io(path, "write"))?;
    let staged = Staged {
        temporary,
        target: path.to_owned(),
    };
    let mut writer = BufWriter::with_capacity(1 << 18, file);
    let written = write(&mut writer).and_then(|()| writer.flush());
    written
        .and_then(|()| writer.get_ref().sync_all())
        .map_err(Error::io(path, "write"))?;
    Ok(staged)
}

impl Staged {
    /// Gives the file its real name, replacing what had it.
    pub fn commit(self) -> Result<()> {
        fs::rename(&self.temporary, &self.target).map_err(Error::io(&self.target, "replace"))?;
        sync_parent(&self.target);
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // After a commit there is nothing under this name any more.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// Fills a fresh folder beside `dir` and puts it in the place of `dir`.
///
/// While the old folder still has to be moved away there is an instant at which neither has the
/// name; [`recover_dir`] (also called here first) then brings the old one back.
pub fn replace_dir<E: From<Error>>(
    dir: &Path,
    fill: impl FnOnce(&Path) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    recover_dir(dir)?;
    let partial = sibling(dir, ".partial")?;
    remove_dir(&partial)?;
    remove_dir(&sibling(dir, ".old")?)?;
    if let Some(parent) = dir.parent() {
        fs::create_dir_all(parent).map_err(Error::io(parent, "create"))?;
    }
    fs::create_dir(&partial).map_err(Error::io(dir, "create"))?;
    let filled = fill(&partial).and_then(|()| Ok(swap_in(dir, &partial)?));
    if filled.is_err() {
        // The cause matters more than what is left over.
        let _ = remove_dir(&partial);
    }
    filled
}

/// Undoes a [`replace_dir`] that was killed between its two renames: if `dir` is missing and its
/// predecessor lies beside it, the predecessor gets its name back. Otherwise does nothing.
pub fn recover_dir(dir: &Path) -> Result<()> {
    if dir.exists() {
        return Ok(());
    }
    let old = sibling(dir, ".old")?;
    match fs::rename(&old, dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound && old.exists() => {
            Err(Error::io(dir, "restore")(error))
        }
        _ => Ok(()),
    }
}

fn swap_in(dir: &Path, partial: &Path) -> Result<()> {
    sync_dir(partial);
    let old = sibling(dir, ".old")?;
    if dir.exists() {
        fs::rename(dir, &old).map_err(Error::io(dir, "replace"))?;
    }
    if let Err(error) = fs::rename(partial, dir) {
        let _ = fs::rename(&old, dir);
        return Err(Error::io(dir, "replace")(error));
    }
    sync_parent(dir);
    remove_dir(&old)
}

fn remove_dir(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound && dir.exists() => {
            Err(Error::io(dir, "remove")(error))
        }
        _ => Ok(()),
    }
}

/// `.name<suffix>` in the same folder, so that a rename stays within one file system.
fn sibling(path: &Path, suffix: &str) -> Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| {
        let message = "the path has no last part; name a file or folder";
        Error::io(path, "write")(io::Error::new(io::ErrorKind::InvalidInput, message))
    })?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(suffix);
    Ok(path.with_file_name(hidden))
}

fn sync_parent(path: &Path) {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
        _ => sync_dir(Path::new(".")),
    }
}

/// Forces the names in a folder to disk. Not every platform can; the content is safe already.
fn sync_dir(dir: &Path) {
    if let Ok(handle) = File::open(dir) {
        let _ = handle.sync_all();
    }
}
