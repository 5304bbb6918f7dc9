//! Results: text on standard output, files that appear whole or not at all.

use std::ffi::OsString;
use std::fs;
use std::io::{Write as _, stderr, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use mmada_nn::atomic;

use crate::usage;

/// Writes a line to standard output. A reader that went away is an error, which ends the program
/// quietly.
pub(crate) fn line(text: impl AsRef<str>) -> Result<()> {
    let mut out = stdout().lock();
    out.write_all(text.as_ref().as_bytes())?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

/// A path as JSON; what is not UTF-8 in it is replaced, as on the screen.
pub(crate) fn shown(path: impl AsRef<Path>) -> String {
    path.as_ref().to_string_lossy().into_owned()
}

/// Writes a JSON value to standard output, on one line.
pub(crate) fn json(value: &serde_json::Value) -> Result<()> {
    line(value.to_string())
}

/// Writes an answer: a line on standard output, or the content of a file.
pub(crate) fn answer(path: Option<&Path>, text: &str) -> Result<()> {
    match path {
        Some(path) => write(path, format!("{text}\n").as_bytes()),
        None => line(text),
    }
}

/// Looks at where an answer is to go before any work is done for it.
pub(crate) fn prepare_answer(path: Option<&Path>) -> Result<()> {
    match path {
        Some(path) => {
            check_name(path, "")?;
            create_parent(path)
        }
        None => Ok(()),
    }
}

/// Refuses a folder, and what would have to be one.
fn check_name(path: &Path, example: &str) -> Result<()> {
    let ends_in_slash = path.as_os_str().as_encoded_bytes().ends_with(b"/");
    if !ends_in_slash && !path.is_dir() {
        return Ok(());
    }
    let better = match example {
        "" => String::new(),
        example => format!(", such as {}", path.join(example).display()),
    };
    Err(usage(format!(
        "output {}: expected a file, got a folder; add a name{better}",
        path.display()
    )))
}

/// Refuses a result that would replace another file of this call, before any work is done for it.
pub(crate) fn check_apart(flag: &str, path: &Path, other: (&str, Option<&Path>)) -> Result<()> {
    let (what, Some(other)) = other else {
        return Ok(());
    };
    let place = |path: &Path| {
        fs::canonicalize(path)
            .or_else(|_| std::path::absolute(path))
            .ok()
    };
    if is_device(path) || place(path) != place(other) {
        return Ok(());
    }
    Err(usage(format!(
        "{flag} {}: expected another place than {what}, which it would replace; name another",
        path.display()
    )))
}

/// Writes a line of talk to standard error.
pub(crate) fn note(text: impl AsRef<str>) {
    // Nothing can be done if nobody reads it.
    let _ = writeln!(stderr(), "{}", text.as_ref());
}

/// Looks at where a picture is to go before any work is done for it: creates the folder, and
/// refuses what could not be written later.
pub(crate) fn prepare(path: &Path) -> Result<()> {
    let show = path.display();
    check_name(path, "painting.png")?;
    let extension = path
        .extension()
        .map(|extension| extension.to_ascii_lowercase());
    if extension.is_some_and(|extension| extension != "png") {
        return Err(usage(format!(
            "output {show}: expected a name that ends in .png"
        )));
    }
    create_parent(path)
}

/// Writes a file under a temporary name and renames it; creates its folder. Devices and pipes,
/// which cannot be replaced, are written to directly, and so are names of files that are open already.
/// Of a link the file that it leads to is replaced.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let show = path.display();
    if is_stdout(path) {
        // Through the one handle: what is printed later goes behind it.
        let mut out = stdout().lock();
        out.write_all(bytes)?;
        return Ok(out.flush()?);
    }
    if is_device(path) {
        let opened = fs::OpenOptions::new().append(true).open(path);
        return opened
            .and_then(|mut device| device.write_all(bytes))
            .with_context(|| {
                format!("output: cannot write to {show}; name another place with -o")
            });
    }
    create_parent(path)?;
    let place = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    atomic::write_atomic(&place, |file| file.write_all(bytes))
        .context("output: nothing was written; name another place with -o")
}

/// Names a result on standard output, unless it went there itself.
pub(crate) fn named(path: &Path) -> Result<()> {
    match is_stdout(path) {
        true => Ok(()),
        false => line(path.display().to_string()),
    }
}

fn is_stdout(path: &Path) -> bool {
    STDOUT.iter().any(|name| path == Path::new(name))
}

/// Whether a path is no file that could be replaced: a device, a pipe, or a name of an open file.
pub(crate) fn is_device(path: &Path) -> bool {
    let is_special = fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir());
    is_special || OPEN_FILES.iter().any(|place| path.starts_with(place))
}

/// Names of standard output.
const STDOUT: [&str; 3] = ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];

/// Where names stand for files that are open.
const OPEN_FILES: [&str; 4] = ["/dev/stdout", "/dev/stderr", "/dev/fd", "/proc"];

/// Creates the folder that a file is to be in.
pub(crate) fn create_parent(path: &Path) -> Result<()> {
    match path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        Some(parent) => create_dir(parent),
        None => Ok(()),
    }
}

/// Creates a folder and those above it.
pub(crate) fn create_dir(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| {
        format!(
            "output: cannot create the folder {}; name another place with -o",
            dir.display()
        )
    })
}

/// `painting.png` for one picture, `painting-1.png`, `painting-2.png`, … for several.
pub(crate) fn numbered(path: &Path, count: usize) -> Vec<PathBuf> {
    if count == 1 {
        return vec![path.to_path_buf()];
    }
    let stem = path.file_stem().unwrap_or_default();
    let name = |number: usize| {
        let mut name = OsString::from(stem);
        name.push(format!("-{number}"));
        if let Some(extension) = path.extension() {
            name.push(".");
            name.push(extension);
        }
        path.with_file_name(name)
    };
    (1..=count).map(name).collect()
}
