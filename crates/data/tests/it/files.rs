//! Small files the tests write, and the finding of files.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use mmada_data::DataError;
use mmada_data::files::expand;

/// A tar of (name, bytes).
pub(crate) fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        // Written raw, since the safe interface refuses hostile names.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn write(dir: &Path, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

/// `count` samples `k0…` with a picture of a few bytes and a JSON `{"caption": "NAME k0"}`.
pub(crate) fn samples(name: &str, count: usize) -> Vec<u8> {
    let texts: Vec<(String, String, String)> = (0..count)
        .map(|i| {
            let json = format!("{{\"caption\": \"{name} k{i}\", \"number\": {i}}}");
            (format!("k{i}.png"), format!("k{i}.json"), json)
        })
        .collect();
    let mut members: Vec<(&str, &[u8])> = Vec::new();
    for (image, json_name, json) in &texts {
        members.push((image, image.as_bytes()));
        members.push((json_name, json.as_bytes()));
    }
    tar(&members)
}

fn names(patterns: &[&str], root: &Path) -> Result<Vec<String>, DataError> {
    let patterns: Vec<String> = patterns.iter().map(|&p| p.to_owned()).collect();
    let relative = |path: PathBuf| path.strip_prefix(root).unwrap().display().to_string();
    Ok(expand(&patterns, root)?.into_iter().map(relative).collect())
}

#[test]
fn patterns_expand() {
    let dir = tempfile::tempdir().unwrap();
    for name in [
        "a-0008.tar",
        "a-0009.tar",
        "a-0010.tar",
        "b/x.tar",
        "c/x.tar",
        ".a-1.tar",
    ] {
        write(dir.path(), name, "");
    }
    let check = |patterns: &[&str], wanted: &[&str]| {
        assert_eq!(names(patterns, dir.path()).unwrap(), wanted, "{patterns:?}");
    };
    check(
        &["a-{0008..0010}.tar"],
        &["a-0008.tar", "a-0009.tar", "a-0010.tar"],
    );
    check(&["{c,b}/x.tar"], &["c/x.tar", "b/x.tar"]);
    check(&["*/x.*"], &["b/x.tar", "c/x.tar"]);
    check(&["a-00?0.tar", "*9.tar"], &["a-0010.tar", "a-0009.tar"]);
    check(&["{b,c}/*.tar"], &["b/x.tar", "c/x.tar"]);
    for absent in ["a-{0008..0011}.tar", "*.parquet", "nothing.tar"] {
        let error = names(&[absent], dir.path()).unwrap_err();
        assert!(matches!(error, DataError::NoFiles { .. }), "{error}");
        assert!(error.to_string().contains(absent), "{error}");
    }
    let (wide, many) = (
        format!("a-{{{}..1}}", "0".repeat(70_000)),
        "{a}".repeat(6_000),
    );
    for wrong in [
        "a-{0008..0010",
        "a-{9..1}",
        "a-{0..99999999999}",
        "a-{x..y}",
        &wide,
        &many,
    ] {
        let error = names(&[wrong], dir.path()).unwrap_err();
        assert!(matches!(error, DataError::Config { .. }), "{error}");
    }
}
