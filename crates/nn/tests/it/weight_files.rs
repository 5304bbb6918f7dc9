//! Damaged and hostile weight files.

use std::fs;
use std::path::Path;

use mmada_nn::{Error, Mode, Params};
use mmada_tensor::Device;
use serde_json::{Value, json};

fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

fn entry(dtype: &str, shape: &Value, start: u64, end: u64) -> Value {
    json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, end] })
}

fn one(dtype: &str, shape: &Value, start: u64, end: u64) -> String {
    json!({ "a": entry(dtype, shape, start, end) }).to_string()
}

fn two(first: &Value, second: &Value) -> String {
    json!({ "a": first, "b": second }).to_string()
}

fn load(dir: &Path) -> Result<Params, Error> {
    Params::load(dir, &Device::Cpu, None, Mode::Frozen)
}

#[test]
fn hostile_files_are_refused_before_anything_is_allocated() {
    let mut huge_header = (1u64 << 60).to_le_bytes().to_vec();
    huge_header.extend_from_slice(&[b' '; 64]);
    let good = one("F32", &json!([2]), 0, 8);
    let mut not_text = file(&good, 8);
    not_text[9] = 0xff;
    let f32s = |start, end| entry("F32", &json!([2]), start, end);
    let twice = format!("{{\"a\":{0},\"a\":{1}}}", f32s(0, 8), f32s(8, 16));
    let table = [
        ("empty", vec![]),
        ("four bytes", vec![0; 4]),
        ("header of 2^60 bytes", huge_header),
        ("header of 2^64-1 bytes", vec![0xff; 32]),
        (
            "header longer than the file",
            (100u64).to_le_bytes().to_vec(),
        ),
        ("header that is no text", not_text),
        ("header that is no JSON", file("{\"a\":", 0)),
        ("header that is a list", file("[]", 0)),
        ("truncated data", file(&good, 7)),
        ("trailing data", file(&good, 9)),
        ("out of range", file(&one("F32", &json!([2]), 0, 8), 0)),
        ("end before start", file(&one("F32", &json!([2]), 8, 0), 8)),
        (
            "start beyond zero",
            file(&one("F32", &json!([2]), 8, 16), 16),
        ),
        ("overlap", file(&two(&f32s(0, 8), &f32s(4, 12)), 12)),
        ("same range twice", file(&two(&f32s(0, 8), &f32s(0, 8)), 8)),
        ("hole", file(&two(&f32s(0, 8), &f32s(12, 20)), 20)),
        ("tensor twice", file(&twice, 16)),
        (
            "shape larger than data",
            file(&one("F32", &json!([3]), 0, 8), 8),
        ),
        (
            "overflowing shape",
            file(&one("F32", &json!([1u64 << 40, 1u64 << 40]), 0, 8), 8),
        ),
        (
            "huge shape",
            file(&one("F32", &json!([1u64 << 40]), 0, 1 << 42), 8),
        ),
        ("negative shape", file(&one("F32", &json!([-2]), 0, 8), 8)),
        ("unknown dtype", file(&one("F77", &json!([2]), 0, 8), 8)),
        (
            "dtype not supported",
            file(&one("U8", &json!([8]), 0, 8), 8),
        ),
    ];
    for (what, bytes) in table {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("model.safetensors"), &bytes).unwrap();
        let error = load(dir.path()).expect_err(what);
        assert!(matches!(error, Error::WeightFile { .. }), "{what}: {error}");
        assert!(
            error.to_string().contains("model.safetensors"),
            "{what}: {error}"
        );
        let embedded = Params::from_bytes(&bytes, &Device::Cpu, None, Mode::Frozen);
        assert!(matches!(embedded, Err(Error::WeightFile { .. })), "{what}");
    }
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("pytorch_model.safetensors"), file(&good, 8)).unwrap();
    assert_eq!(load(dir.path()).unwrap().len(), 1);
}

#[test]
fn hostile_or_incomplete_indexes_are_refused() {
    let weights = file(&one("F32", &json!([2]), 0, 8), 8);
    let index = |map: Value| json!({ "weight_map": map }).to_string();
    let table = [
        (
            "missing shard",
            index(json!({ "a": "x.safetensors", "b": "gone.safetensors" })),
            "gone",
        ),
        (
            "parent folder",
            index(json!({ "a": "../x.safetensors" })),
            "../x",
        ),
        (
            "absolute",
            index(json!({ "a": "/etc/x.safetensors" })),
            "/etc",
        ),
        (
            "subfolder",
            index(json!({ "a": "sub/x.safetensors" })),
            "sub/x",
        ),
        (
            "backslash",
            index(json!({ "a": "..\\x.safetensors" })),
            "x.safetensors",
        ),
        ("drive", index(json!({ "a": "c:x.safetensors" })), "c:x"),
        ("dots", index(json!({ "a": ".." })), ".."),
        ("nothing", index(json!({ "a": "" })), "\"\""),
        (
            "other file",
            index(json!({ "a": "config.json" })),
            "config.json",
        ),
        (
            "tensor twice",
            index(json!({ "a": "x.safetensors", "b": "y.safetensors" })),
            "again",
        ),
        (
            "tensor not in its shard",
            index(json!({ "b": "x.safetensors" })),
            "without it",
        ),
        ("no JSON", "{".to_owned(), "weight_map"),
        ("no map", "{}".to_owned(), "weight_map"),
        ("map of numbers", index(json!({ "a": 1 })), "weight_map"),
    ];
    for (what, text, hint) in table {
        let dir = tempfile::tempdir().unwrap();
        for shard in ["x.safetensors", "y.safetensors"] {
            fs::write(dir.path().join(shard), &weights).unwrap();
        }
        fs::write(dir.path().join("model.safetensors.index.json"), text).unwrap();
        let error = load(dir.path()).expect_err(what);
        assert!(matches!(error, Error::WeightFile { .. }), "{what}: {error}");
        assert!(error.to_string().contains(hint), "{what}: {error}");
    }
    let empty = tempfile::tempdir().unwrap();
    let error = load(empty.path()).unwrap_err();
    assert!(error.to_string().contains("got neither"), "{error}");
    assert!(load(&empty.path().join("absent")).is_err());
}
