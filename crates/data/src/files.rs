//! Finding and opening files: brace lists, globs, transparent decompression.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Component, Path, PathBuf};

use crate::error::DataError;

/// How large things may be before they are refused. Checked before memory is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// One member, line, row or file, in bytes.
    pub entry: u64,
    /// All pictures of a compressed archive that is held in memory, in bytes.
    pub archive: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            entry: 64 << 20,
            archive: 4 << 30,
        }
    }
}

/// A pattern may not name more files than this.
const MAX_PATHS: usize = 1 << 20;
/// Nor have more groups in braces,
const MAX_GROUPS: usize = 32;
/// nor numbers with more digits.
const MAX_DIGITS: usize = 20;

/// The files a list of patterns names, in the order of the list, each pattern's globs sorted.
///
/// `{0000..0004}` counts (with the zeros), `{a,b}` lists, `*` and `?` match within one component.
/// Relative patterns start at `root`.
///
/// # Errors
/// [`DataError::NoFiles`] when a glob matches nothing or a named file is absent.
pub fn expand(patterns: &[String], root: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut paths = Vec::new();
    for pattern in patterns {
        let absent = || DataError::NoFiles {
            pattern: pattern.clone(),
            root: root.to_path_buf(),
        };
        let mut plain = Vec::new();
        braces(pattern, &mut plain).map_err(|reason| DataError::Config {
            name: pattern.clone(),
            reason,
        })?;
        for one in plain {
            let found = glob(&root.join(&one));
            if found.is_empty() {
                return Err(absent());
            }
            paths.extend(found);
        }
    }
    Ok(paths)
}

/// Expands every brace group of a pattern.
fn braces(pattern: &str, out: &mut Vec<String>) -> Result<(), String> {
    match pattern.matches('{').count() {
        ..=MAX_GROUPS => expand_first(pattern, out),
        groups => Err(format!(
            "the pattern has {groups} groups in braces, expected at most {MAX_GROUPS}"
        )),
    }
}

/// Expands the first brace group and recurses on the rest.
fn expand_first(pattern: &str, out: &mut Vec<String>) -> Result<(), String> {
    let Some(open) = pattern.find('{') else {
        if out.len() >= MAX_PATHS {
            return Err(format!("the pattern names more than {MAX_PATHS} files"));
        }
        out.push(pattern.to_owned());
        return Ok(());
    };
    let Some(close) = pattern[open..].find('}').map(|at| at + open) else {
        return Err("'{' without '}' in the path".into());
    };
    let (head, body, tail) = (
        &pattern[..open],
        &pattern[open + 1..close],
        &pattern[close + 1..],
    );
    if let Some((from, to)) = body.split_once("..") {
        let bound = |text: &str| {
            text.parse::<usize>()
                .map_err(|_| format!("'{{{body}}}' is not a range like {{0000..0004}}"))
        };
        let (first, last) = (bound(from)?, bound(to)?);
        if last < first || last - first >= MAX_PATHS {
            return Err(format!("'{{{body}}}' counts backwards or too far"));
        }
        if from.len() > MAX_DIGITS {
            return Err(format!(
                "a number in braces has {} digits, expected at most {MAX_DIGITS}",
                from.len()
            ));
        }
        for number in first..=last {
            let width = from.len();
            expand_first(&format!("{head}{number:0width$}{tail}"), out)?;
        }
    } else {
        for choice in body.split(',') {
            expand_first(&format!("{head}{choice}{tail}"), out)?;
        }
    }
    Ok(())
}

/// Existing paths that match, sorted by name.
fn glob(pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for component in pattern.components() {
        let name = component.as_os_str().to_string_lossy();
        let is_glob = matches!(component, Component::Normal(_)) && name.contains(['*', '?']);
        if is_glob {
            found = found
                .iter()
                .flat_map(|dir| matches_in(dir, &name))
                .collect();
        } else {
            for path in &mut found {
                path.push(component);
            }
        }
    }
    found.retain(|path| path.exists());
    found
}

fn matches_in(dir: &Path, pattern: &str) -> Vec<PathBuf> {
    let dir = if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    };
    let mut paths: Vec<PathBuf> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            !name.starts_with('.') && wildcard(pattern.as_bytes(), name.as_bytes())
        })
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths
}

/// `*` and `?` matching in linear space; backtracks to the latest star only.
pub(crate) fn wildcard(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == b'?' || c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((star_p, star_t)) => {
                    star = Some((star_p, star_t + 1));
                    p = star_p + 1;
                    t = star_t + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

/// A buffered byte stream.
pub type Bytes = Box<dyn BufRead + Send>;

/// How a file is stored, told by its first bytes, not by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// As it is.
    Plain,
    /// gzip, perhaps of several members.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// Opens a file and undoes gzip or Zstandard.
///
/// # Errors
/// [`DataError::Shard`] when the file is absent or unreadable.
pub fn open(path: &Path) -> Result<(Bytes, Compression), DataError> {
    let broken = |error: io::Error| DataError::shard(path, error);
    if path.is_dir() {
        return Err(DataError::shard(path, "is a folder, expected a file"));
    }
    let mut file = BufReader::with_capacity(1 << 16, File::open(path).map_err(broken)?);
    let magic = file.fill_buf().map_err(broken)?;
    if magic.starts_with(&[0x1f, 0x8b]) {
        let plain = flate2::bufread::MultiGzDecoder::new(file);
        Ok((Box::new(BufReader::new(plain)), Compression::Gzip))
    } else if magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let plain = zstd::stream::read::Decoder::with_buffer(file).map_err(broken)?;
        Ok((Box::new(BufReader::new(plain)), Compression::Zstd))
    } else {
        Ok((Box::new(file), Compression::Plain))
    }
}

/// Reads to the end of `reader`, refusing more than `limit` bytes.
pub(crate) fn read_bounded(reader: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("larger than {limit} bytes")));
    }
    Ok(bytes)
}

/// The last component of a path, for messages and keys.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(
        || path.display().to_string(),
        |n| n.to_string_lossy().into(),
    )
}

/// Whether the last part of a name begins with a dot, as what some archivers put beside each file does.
pub(crate) fn is_hidden(name: &str) -> bool {
    name.rsplit('/')
        .next()
        .is_some_and(|last| last.starts_with('.'))
}

/// Whether a name, lower-cased, ends like a picture we can decode; hidden files are none.
pub(crate) fn is_image_name(name: &str) -> bool {
    if is_hidden(name) {
        return false;
    }
    let name = name.to_ascii_lowercase();
    [".png", ".jpg", ".jpeg", ".webp"]
        .iter()
        .any(|ending| name.ends_with(ending))
}
