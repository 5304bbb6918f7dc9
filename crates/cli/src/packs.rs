//! Pack folders at or below a folder.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use mmada_data::Pack;

/// How deep packs may lie below the folder that was named.
const DEPTH: usize = 3;

/// The folder itself if it is a pack, else the packs below it, sorted by path.
pub(crate) fn below(dir: &Path) -> Result<Vec<Pack>> {
    if !dir.is_dir() {
        bail!(
            "data: expected a folder, got {}; give a pack folder with --data",
            dir.display()
        );
    }
    let mut packs = Vec::new();
    collect(dir, DEPTH, &mut packs)?;
    if packs.is_empty() {
        // Its own message lists what was looked for and what was found.
        Pack::open(dir)?;
    }
    Ok(packs)
}

fn collect(dir: &Path, depth: usize, packs: &mut Vec<Pack>) -> Result<()> {
    if let Ok(pack) = Pack::open(dir) {
        packs.push(pack);
        return Ok(());
    }
    if depth == 0 {
        return Ok(());
    }
    let entries =
        fs::read_dir(dir).with_context(|| format!("data: cannot list {}", dir.display()))?;
    let mut folders: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    folders
        .iter()
        .try_for_each(|folder| collect(folder, depth - 1, packs))
}
