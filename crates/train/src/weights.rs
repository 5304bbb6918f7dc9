//! Small helpers around weight and size files, shared by the objectives.

use std::hash::Hasher;
use std::path::Path;

use fnv::FnvHasher;
use mmada_nn::lora::ADAPTER_MODEL;
use mmada_nn::{Mode, Params};
use mmada_tensor::DType;

use crate::{Error, Result};

/// Overwrites every trainable tensor with the one of a folder, of a model or of an adapter.
///
/// # Errors
/// When the folder lacks a tensor or has it in another shape.
pub(crate) fn take_over(params: &Params, folder: &Path) -> Result<()> {
    let adapter = folder.join(ADAPTER_MODEL);
    let saved = match adapter.is_file() {
        true => Params::load_file(&adapter, params.device(), None, Mode::Frozen)?,
        false => Params::load(folder, params.device(), None, Mode::Frozen)?,
    };
    for (name, var) in params.vars() {
        let tensor = saved.get(&name, var.dims())?;
        var.set(&tensor.to_dtype(var.dtype())?)?;
    }
    Ok(())
}

/// FNV-1a over `about` and the names and numbers of the tensors that are wanted: the same on every
/// machine and in every version.
pub(crate) fn fingerprint(
    params: &Params,
    is_wanted: impl Fn(&str) -> bool,
    about: &str,
) -> Result<u64> {
    let mut hasher = FnvHasher::default();
    hasher.write(about.as_bytes());
    for (name, tensor) in params.iter().filter(|(name, _)| is_wanted(name)) {
        hasher.write(name.as_bytes());
        let values = tensor
            .detach()
            .to_dtype(DType::F32)?
            .flatten_all()?
            .to_vec1::<f32>()?;
        for value in values {
            hasher.write(&value.to_le_bytes());
        }
    }
    Ok(hasher.finish())
}

/// A text file.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(Error::file(path, "read the sizes of the model"))
}

/// A TOML table as JSON.
pub(crate) fn to_json(table: &toml::Table) -> Result<String> {
    serde_json::to_string(table).map_err(|error| Error::Config(error.to_string()))
}
