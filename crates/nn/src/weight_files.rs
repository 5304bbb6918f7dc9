//! Safetensors files and the Hugging Face folder layout around them.
//!
//! ```text
//!   model.safetensors                       one file, or
//!   model.safetensors.index.json            { weight_map: tensor → shard }
//!     model-00001-of-00002.safetensors      8 bytes header length | JSON header | tensor bytes
//!     model-00002-of-00002.safetensors
//! ```
//!
//! Files come from strangers: the header's length is bounded, and every offset, shape and dtype is
//! checked against the size of the file before a tensor is allocated.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Component, Path};

use mmada_tensor::candle::safetensors::Load;
use mmada_tensor::{DType, Device, Tensor};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value, json};

use crate::atomic::{self, Staged};
use crate::params::{SaveDtype, SaveOptions};
use crate::{Error, Result};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// The name under which the original's image tokenizer is published.
const SINGLE_OTHER: &str = "pytorch_model.safetensors";
/// An index of a million tensors is far smaller.
const MAX_INDEX_BYTES: u64 = 100_000_000;

/// Receives file, tensor name and content, one tensor at a time.
pub(crate) type Visit<'a> = &'a mut dyn FnMut(&str, &str, &TensorView) -> Result<()>;

/// Visits every tensor of a model folder.
pub(crate) fn read_dir(dir: &Path, visit: Visit) -> Result<()> {
    for name in [SINGLE, INDEX, SINGLE_OTHER] {
        let path = dir.join(name);
        if !path.exists() {
            continue;
        }
        return match name {
            INDEX => read_shards(dir, &path, visit),
            _ => read_file(&path, visit),
        };
    }
    let problem = format!("expected {SINGLE} or {INDEX}, got neither");
    let hint = "is this a model folder? Weights in other formats must be converted to safetensors";
    Err(bad(&dir.display().to_string(), problem, hint))
}

fn read_shards(dir: &Path, index: &Path, visit: Visit) -> Result<()> {
    let label = index.display().to_string();
    let weight_map = read_index(index)?;
    let mut shards: Vec<&String> = weight_map.values().collect();
    shards.sort_unstable();
    shards.dedup();
    for shard in &shards {
        check_shard_name(&label, shard)?;
        if !dir.join(shard).is_file() {
            let problem = format!("expected shard {shard:?} beside the index, got no such file");
            return Err(bad(&label, problem, "download the missing shard"));
        }
    }
    let mut found: BTreeMap<String, &String> = BTreeMap::new();
    for shard in &shards {
        read_file(&dir.join(shard), &mut |file, name, view| {
            if let Some(first) = found.insert(name.to_owned(), shard) {
                let problem = format!("tensor {name:?} is in {first:?} and again in {shard:?}");
                return Err(bad(&label, problem, "remove one of the two"));
            }
            visit(file, name, view)
        })?;
    }
    for (name, shard) in &weight_map {
        if found.get(name) != Some(&shard) {
            let problem = format!("expected tensor {name:?} in {shard:?}, got a shard without it");
            return Err(bad(&label, problem, "download index and shards again"));
        }
    }
    Ok(())
}

fn read_index(path: &Path) -> Result<BTreeMap<String, String>> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let label = path.display().to_string();
    let length = fs::metadata(path).map_err(Error::io(path, "read"))?.len();
    if length > MAX_INDEX_BYTES {
        let problem = format!("expected at most {MAX_INDEX_BYTES} bytes, got {length}");
        return Err(bad(&label, problem, "this is not an index of shards"));
    }
    let text = fs::read(path).map_err(Error::io(path, "read"))?;
    let index: Index = serde_json::from_slice(&text).map_err(|error| {
        let problem = format!("expected JSON with a weight_map of tensor to shard, got: {error}");
        bad(&label, problem, "download the index again")
    })?;
    Ok(index.weight_map)
}

/// An index must not name files outside its folder.
fn check_shard_name(label: &str, shard: &str) -> Result<()> {
    let mut parts = Path::new(shard).components();
    let is_plain = matches!(
        (parts.next(), parts.next()),
        (Some(Component::Normal(_)), None)
    );
    if is_plain && !shard.contains(['/', '\\', ':', '\0']) && shard.ends_with(".safetensors") {
        return Ok(());
    }
    let problem =
        format!("expected shard names like \"model-00001-of-00002.safetensors\", got {shard:?}");
    Err(bad(label, problem, "do not trust this model"))
}

/// Visits every tensor of one file.
pub(crate) fn read_file(path: &Path, visit: Visit) -> Result<()> {
    let label = path.display().to_string();
    let file = File::open(path).map_err(Error::io(path, "open"))?;
    if file.metadata().map_err(Error::io(path, "read"))?.len() == 0 {
        return Err(bad(
            &label,
            "expected a safetensors file, got 0 bytes".into(),
            DAMAGED,
        ));
    }
    // SAFETY: the mapping is private to this function and read-only, and all tensors are copied
    // out before it ends. Another process that shortens the file meanwhile would fault this one;
    // our own writers never do, they rename a new file into place.
    let map = unsafe { memmap2::Mmap::map(&file) }.map_err(Error::io(path, "map"))?;
    read_bytes(&label, &map, visit)
}

const DAMAGED: &str = "the file is incomplete or damaged, download or save it again";

/// Visits every tensor of one file in memory, in alphabetical order.
pub(crate) fn read_bytes(label: &str, bytes: &[u8], visit: Visit) -> Result<()> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| {
        let problem = format!(
            "expected a safetensors header that accounts for each of {} bytes once, got: {error}",
            bytes.len()
        );
        bad(label, problem, DAMAGED)
    })?;
    let mut tensors = file.tensors();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, view) in &tensors {
        visit(label, name, view)?;
    }
    Ok(())
}

/// Copies one tensor onto the device.
pub(crate) fn tensor(file: &str, name: &str, view: &TensorView, device: &Device) -> Result<Tensor> {
    match view.dtype() {
        Dtype::F32 | Dtype::BF16 | Dtype::F16 | Dtype::I64 => Ok(view.load(device)?),
        other => {
            let problem = format!("tensor {name:?}: expected F32, BF16, F16 or I64, got {other}");
            Err(bad(file, problem, "convert the weights to one of these"))
        }
    }
}

/// Writes all tensors, then renames: see [`crate::Params::save`].
pub(crate) fn write_dir(
    dir: &Path,
    tensors: &[(&str, &Tensor)],
    options: &SaveOptions,
) -> Result<()> {
    fs::create_dir_all(dir).map_err(Error::io(dir, "create"))?;
    let shards = split(tensors, options)?;
    let mut staged: Vec<Staged> = Vec::new();
    let mut kept = vec![INDEX.to_owned()];
    if let [all] = &shards[..] {
        kept = vec![SINGLE.to_owned()];
        staged.push(stage_shard(&dir.join(SINGLE), all, options.dtype)?);
    } else {
        let mut weight_map = BTreeMap::new();
        for (i, shard) in shards.iter().enumerate() {
            let name = format!("model-{:05}-of-{:05}.safetensors", i + 1, shards.len());
            staged.push(stage_shard(&dir.join(&name), shard, options.dtype)?);
            weight_map.extend(shard.iter().map(|(tensor, _)| (*tensor, name.clone())));
            kept.push(name);
        }
        let mut total = 0;
        for (_, tensor) in tensors {
            total += saved_bytes(tensor, options.dtype)?;
        }
        let index = json!({ "metadata": { "total_size": total }, "weight_map": weight_map });
        staged.push(atomic::stage(&dir.join(INDEX), |w| {
            writeln!(w, "{index:#}")
        })?);
    }
    for file in staged {
        file.commit()?;
    }
    remove_stale(dir, &kept)
}

/// Writes all tensors into one file of this name, whole or not at all.
pub(crate) fn write_file(path: &Path, tensors: &[(&str, &Tensor)], dtype: SaveDtype) -> Result<()> {
    stage_shard(path, tensors, dtype)?.commit()
}

/// Cuts the tensors into files of at most `max_shard_bytes`, always at least one.
fn split<'a>(
    tensors: &[(&'a str, &'a Tensor)],
    options: &SaveOptions,
) -> Result<Vec<Vec<(&'a str, &'a Tensor)>>> {
    let mut shards = vec![Vec::new()];
    let mut filled = 0;
    for &(name, tensor) in tensors {
        let size = saved_bytes(tensor, options.dtype)?;
        if filled > 0 && filled + size > options.max_shard_bytes {
            shards.push(Vec::new());
            filled = 0;
        }
        filled += size;
        if let Some(last) = shards.last_mut() {
            last.push((name, tensor));
        }
    }
    Ok(shards)
}

fn stage_shard(path: &Path, tensors: &[(&str, &Tensor)], dtype: SaveDtype) -> Result<Staged> {
    // The widest numbers first, so that every tensor starts at a multiple of its number's size.
    let mut tensors = tensors.to_vec();
    tensors.sort_by_key(|(_, t)| std::cmp::Reverse(saved_dtype(t, dtype).size_in_bytes()));
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({ "format": "pt" }));
    let mut start = 0;
    for (name, tensor) in &tensors {
        let end = start + saved_bytes(tensor, dtype)?;
        let entry = json!({
            "dtype": published_name(name, saved_dtype(tensor, dtype))?,
            "shape": tensor.dims(),
            "data_offsets": [start, end],
        });
        header.insert((*name).to_owned(), entry);
        start = end;
    }
    let mut header = Value::Object(header).to_string();
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    let mut failed = None;
    let staged = atomic::stage(path, |w| {
        w.write_all(&(header.len() as u64).to_le_bytes())?;
        w.write_all(header.as_bytes())?;
        for (_, tensor) in &tensors {
            match bytes_of(tensor, saved_dtype(tensor, dtype)) {
                Ok(bytes) => w.write_all(&bytes)?,
                Err(error) => {
                    failed = Some(error);
                    return Err(io::Error::other("a tensor could not be read"));
                }
            }
        }
        Ok(())
    });
    match failed {
        Some(error) => Err(error),
        None => staged,
    }
}

/// Removes weights of an earlier save: they would shadow the new ones or lie around unused.
fn remove_stale(dir: &Path, kept: &[String]) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(Error::io(dir, "list"))? {
        let path = entry.map_err(Error::io(dir, "list"))?.path();
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else {
            continue;
        };
        let is_shard = name.starts_with("model-") && name.ends_with(".safetensors");
        let is_ours = is_shard || name == SINGLE || name == INDEX;
        if is_ours && !kept.iter().any(|k| k == name) {
            fs::remove_file(&path).map_err(Error::io(&path, "remove"))?;
        }
    }
    Ok(())
}

fn saved_dtype(tensor: &Tensor, dtype: SaveDtype) -> DType {
    match (dtype, tensor.dtype().is_float()) {
        (SaveDtype::F32, true) => DType::F32,
        (SaveDtype::BF16, true) => DType::BF16,
        _ => tensor.dtype(),
    }
}

fn saved_bytes(tensor: &Tensor, dtype: SaveDtype) -> Result<u64> {
    Ok((tensor.elem_count() * saved_dtype(tensor, dtype).size_in_bytes()) as u64)
}

fn published_name(name: &str, dtype: DType) -> Result<&'static str> {
    match dtype {
        DType::F32 => Ok("F32"),
        DType::BF16 => Ok("BF16"),
        DType::F16 => Ok("F16"),
        DType::I64 => Ok("I64"),
        other => {
            let what = format!("tensor {name:?}, to be saved");
            Err(Error::input(what, "f32, bf16, f16 or i64", other.as_str()))
        }
    }
}

/// The numbers, little-endian.
fn bytes_of(tensor: &Tensor, dtype: DType) -> Result<Vec<u8>> {
    let flat = tensor.detach().to_dtype(dtype)?.flatten_all()?;
    let mut bytes = Vec::with_capacity(flat.elem_count() * dtype.size_in_bytes());
    flat.to_device(&Device::Cpu)?.write_bytes(&mut bytes)?;
    Ok(bytes)
}

fn bad(file: &str, problem: String, hint: &'static str) -> Error {
    Error::WeightFile {
        file: file.to_owned(),
        problem,
        hint,
    }
}
