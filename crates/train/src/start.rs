//! The model a run begins with: a folder's, or random weights around a tokenizer.

use std::path::{Path, PathBuf};

use mmada_model::{Defaults, ImageParts, LoadOptions, Mmada};
use mmada_nn::magvit::ImageTokenizer;
use mmada_nn::transformer::{Config, Sizes, Transformer, table_names};
use mmada_nn::{Lora, Mode, Params};
use mmada_tensor::random::{Key, Purpose};
use mmada_tensor::{DType, Device, Tensor};
use mmada_tokens::Codec;
use serde_json::Value;

use crate::config::{CodeRows, GrowFrom, Init, RunConfig};
use crate::optimizer::{CodeTables, bits_of, sign};
use crate::{Error, Result, overrides, weights};

/// Rows of the embedding table are rounded up to a multiple of this, for the matrix products.
const ROWS: u32 = 16;

/// Makes or reads the model with trainable weights.
pub(crate) fn model(run: &RunConfig, device: &Device) -> Result<Mmada> {
    let model = match &run.model.init {
        Init::From(folder) => {
            let mode = match run.model.lora {
                Some(_) => Mode::Frozen,
                None => Mode::Trainable,
            };
            let model = open(folder, mode, device)?;
            adapted(run, &with_parts(run, model, device)?, folder)?
        }
        Init::Grow(growth) => grown(run, growth, device)?,
        Init::Config(file) => fresh(run, &weights::read_text(file)?, device)?,
        Init::Sizes(table) => {
            let text = weights::to_json(table)?;
            fresh(run, &text, device)?
        }
    };
    if let Some(rows) = run.model.code_rows {
        if model.adapter().is_some() {
            let what = "model.code_rows changes weights that an adapter leaves alone; remove it";
            return Err(Error::Config(what.to_owned()));
        }
        set_code_rows(&model, rows, run.run.seed)?;
    }
    match &run.model.generation {
        Some(written) => {
            let defaults = overrides::generation(model.defaults(), written)?;
            Ok(model.with_defaults(defaults))
        }
        None => Ok(model),
    }
}

fn open(folder: &Path, mode: Mode, device: &Device) -> Result<Mmada> {
    let options = LoadOptions {
        device: device.clone(),
        mode,
        ..LoadOptions::default()
    };
    Mmada::open(folder, &options).map_err(Error::model)
}

/// Where the rows of image codes are, in a model that has codes.
pub(crate) fn code_tables(model: &Mmada) -> Option<CodeTables> {
    let codes = &model.vocab().image;
    (!codes.is_empty()).then(|| CodeTables {
        names: table_names(model.config()),
        rows: codes.start as usize..codes.end as usize,
    })
}

/// Gives the image codes their first rows, in embedding and head.
fn set_code_rows(model: &Mmada, rows: CodeRows, seed: u64) -> Result<()> {
    let codes = model.vocab().image.clone();
    let bits = bits_of(codes.len());
    // A copy of the handles: numbers that are set are set in the network too.
    let mut params = model.params().clone();
    for (number, name) in table_names(model.config()).iter().enumerate() {
        let table = params.any(name, 2)?.detach();
        let width = table.dim(1)?;
        let mut values = table
            .to_dtype(DType::F32)?
            .flatten_all()?
            .to_vec1::<f32>()?;
        let own = &mut values[codes.start as usize * width..codes.end as usize * width];
        let square =
            own.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / own.len().max(1) as f64;
        let scale = rows.bits * (square / bits.max(1) as f64).sqrt() as f32;
        let key = Key::new(seed, Purpose::Weights).step(number as u64);
        let mut stream = key.example(u64::MAX).stream();
        let vectors: Vec<f32> = (0..bits * width).map(|_| scale * stream.normal()).collect();
        for (code, row) in own.chunks_exact_mut(width).enumerate() {
            row.iter_mut().for_each(|value| *value *= rows.keep);
            for (bit, vector) in vectors.chunks_exact(width).enumerate() {
                for (value, part) in row.iter_mut().zip(vector) {
                    *value += sign(code, bit) * part;
                }
            }
        }
        params.set(
            name,
            &Tensor::from_vec(values, table.dims(), table.device())?,
        )?;
    }
    Ok(())
}

/// The model with a new adapter, where the run wants one.
fn adapted(run: &RunConfig, model: &Mmada, folder: &Path) -> Result<Mmada> {
    let Some(cfg) = &run.model.lora else {
        return Ok(model.clone());
    };
    if model.adapter().is_some() {
        let what = format!(
            "model.lora: expected a whole model in {}, got an adapter; \
             leave model.lora out to train that one further",
            folder.display()
        );
        return Err(Error::Config(what));
    }
    // Whole, so that it is found from whichever folder a program runs in.
    let base = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
    let base = base.display().to_string();
    let device = model.params().device();
    let adapter = Lora::init(cfg, model.config(), &base, run.run.seed, device)?;
    model.with_adapter(adapter).map_err(Error::model)
}

/// Whether two sets of weights are the same, names and numbers.
fn have_same_numbers(one: &Params, other: &Params) -> Result<bool> {
    let numbers = |tensor: &Tensor| {
        let flat = tensor.to_dtype(DType::F32)?.flatten_all()?;
        flat.to_vec1::<f32>()
    };
    if one.names().ne(other.names()) {
        return Ok(false);
    }
    for ((_, one), (_, other)) in one.iter().zip(other.iter()) {
        if one.dims() != other.dims() || numbers(one)? != numbers(other)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A model of a folder, with another tokenizer or image tokenizer where the run names one.
fn with_parts(run: &RunConfig, model: Mmada, device: &Device) -> Result<Mmada> {
    if run.model.tokenizer.is_none() && run.model.image_tokenizer.is_none() {
        return Ok(model);
    }
    if model.adapter().is_some() && run.model.tokenizer.is_some() {
        let what =
            "model.tokenizer: an adapter is opened with the tokenizer of its base; remove it";
        return Err(Error::Config(what.to_owned()));
    }
    let (own, other) = (model.image_parts(), image_parts(run, device)?);
    let is_adapted = model.adapter().is_some() || run.model.lora.is_some();
    if let (true, Some(own), Some(other)) = (is_adapted, own, &other)
        && !have_same_numbers(&own.params, &other.params)?
    {
        let what = "model.image_tokenizer: an adapter is opened with the image tokenizer of its base, \
                    which has another; remove it";
        return Err(Error::Config(what.to_owned()));
    }
    let image = other.or_else(|| own.cloned());
    let codec = match &run.model.tokenizer {
        Some(folder) => {
            let codes = model.vocab().codes();
            Codec::load(folder, codes, Some(model.vocab().rows)).map_err(Error::model)?
        }
        None => model.codec().clone(),
    };
    let (config, params) = (model.config().clone(), model.params().clone());
    let other = Mmada::new(&config, params, codec, image, model.defaults().clone());
    let adapter = model.adapter().cloned();
    let other = other.and_then(|other| match adapter {
        Some(adapter) => other.with_adapter(adapter),
        None => Ok(other),
    });
    other.map_err(Error::model)
}

/// A model of a folder in a larger network that computes the same.
fn grown(run: &RunConfig, growth: &GrowFrom, device: &Device) -> Result<Mmada> {
    let model = open(&growth.from, Mode::Frozen, device)?;
    if model.adapter().is_some() {
        let what = format!(
            "model.init.grow: expected a whole model in {}, got an adapter; \
             run `mmada merge` on it first",
            growth.from.display()
        );
        return Err(Error::Config(what));
    }
    let seed = run.run.seed;
    let (config, params) = Transformer::grown(model.config(), model.params(), &growth.to, seed)?;
    let (codec, image) = (model.codec().clone(), model.image_parts().cloned());
    let larger = Mmada::new(&config, params, codec, image, model.defaults().clone());
    with_parts(run, larger.map_err(Error::model)?, device)
}

/// Random weights. `text` is a `config.json`, or only the sizes of one.
fn fresh(run: &RunConfig, text: &str, device: &Device) -> Result<Mmada> {
    let lacking = || Error::Config("model.tokenizer is missing".to_owned());
    let folder = run.model.tokenizer.as_ref().ok_or_else(lacking)?;
    let image = image_parts(run, device)?;
    let codes = image
        .as_ref()
        .map_or(0, |image| image.tokenizer.codes() as u32);
    let smallest = Codec::load(folder, codes, None)
        .map_err(Error::model)?
        .vocab;
    let rows = smallest.rows.next_multiple_of(ROWS);
    let mut config = sizes(text, rows)?;
    config.set_key("codebook_size", Value::from(codes));
    config.set_key("mask_token_id", Value::from(smallest.special.mask));
    let rows = u32::try_from(config.embedding_size).unwrap_or(u32::MAX);
    let codec = Codec::load(folder, codes, Some(rows)).map_err(Error::model)?;
    let mut defaults = Defaults::default();
    if let Some(image) = &image {
        let side = image.tokenizer.config().resolution;
        (defaults.image.width, defaults.image.height) = (side, side);
        (defaults.paint.width, defaults.paint.height) = (side, side);
    }
    let (params, _) = Transformer::init(&config, run.run.seed, device)?;
    Mmada::new(&config, params, codec, image, defaults).map_err(Error::model)
}

/// Whether the sizes that a run file holds are those of a transformer.
///
/// # Errors
/// For unknown keys, and sizes that make no network.
pub(crate) fn check_sizes(table: &toml::Table) -> Result<()> {
    sizes(&weights::to_json(table)?, ROWS).map(drop)
}

fn sizes(text: &str, rows: u32) -> Result<Config> {
    let fault = |error: serde_json::Error| {
        let what = overrides::hinted(&error.to_string());
        Error::Config(format!("model.init: {what}"))
    };
    let mut value: Value = serde_json::from_str(text).map_err(fault)?;
    let is_whole = value.get("model_type").is_some() || value.get("architectures").is_some();
    if is_whole {
        return Ok(Config::parse(text)?);
    }
    if let Value::Object(sizes) = &mut value {
        sizes.entry("embedding_size").or_insert(rows.into());
    }
    let sizes: Sizes = serde_json::from_value(value).map_err(fault)?;
    Ok(Config::new(&sizes)?)
}

fn image_parts(run: &RunConfig, device: &Device) -> Result<Option<ImageParts>> {
    let Some(folder): Option<&PathBuf> = run.model.image_tokenizer.as_ref() else {
        return Ok(None);
    };
    if !folder.join("config.json").is_file() {
        let what = format!(
            "model.image_tokenizer: expected the folder of an image tokenizer, got {}, which is none; \
             name another, or train it first (runs/tokenizer-image.toml)",
            folder.display()
        );
        return Err(Error::Config(what));
    }
    let (params, tokenizer) = ImageTokenizer::open(folder, device, Mode::Frozen)?;
    Ok(Some(ImageParts { params, tokenizer }))
}
