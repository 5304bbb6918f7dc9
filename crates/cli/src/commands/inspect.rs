//! `mmada inspect`: what is in a model directory, and whether it is sound.

mod text;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use mmada_model::{LoadOptions, Mmada, Numbers};
use mmada_nn::Params;
use serde_json::{Value, json};

use crate::args::InspectArgs;
use crate::hub::Source;
use crate::{embedded, hub, output, session};

/// Failed checks give exit code 1, after the report.
pub(crate) fn run(args: &InspectArgs) -> Result<ExitCode> {
    let source = hub::locate(args.model.as_deref())?;
    let as_stored = LoadOptions {
        numbers: Numbers::Stored,
        ..LoadOptions::default()
    };
    let model = session::open_source(&source, &as_stored)?;
    let checked = model.check();
    let mut report = report(&model, &files(&source)?);
    report["task"] = json!("inspect");
    report["model"] = json!(args.model.as_deref().unwrap_or("embedded"));
    report["sound"] = json!(checked.is_ok());
    report["problem"] = json!(checked.as_ref().err().map(ToString::to_string));
    if args.tensors {
        report["tensors"] = tensors(&model);
    }
    match args.json {
        true => output::json(&report)?,
        false => output::line(text::text(&report))?,
    }
    match checked {
        Ok(()) => Ok(ExitCode::SUCCESS),
        // In words alone: it is the model that is wrong, not what was asked.
        Err(error) => bail!("{:#}", anyhow::Error::from(error)),
    }
}

/// Names and sizes in bytes.
fn files(source: &Source) -> Result<Vec<(String, u64)>> {
    let mut files = Vec::new();
    match source {
        Source::Embedded => {
            files.extend(embedded::list().map(|(name, size)| (name.to_owned(), size as u64)));
        }
        Source::Directory(dir) => {
            list(dir, "", &mut files);
            list(&dir.join("image_tokenizer"), "image_tokenizer/", &mut files);
        }
    }
    files.sort();
    Ok(files)
}

fn list(dir: &Path, prefix: &str, files: &mut Vec<(String, u64)>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if let Ok(found) = fs::metadata(entry.path())
            && found.is_file()
        {
            files.push((
                format!("{prefix}{}", entry.file_name().to_string_lossy()),
                found.len(),
            ));
        }
    }
}

fn report(model: &Mmada, files: &[(String, u64)]) -> Value {
    let (config, vocab) = (model.config(), model.vocab());
    let files: Vec<Value> = files
        .iter()
        .map(|(name, bytes)| json!({"name": name, "bytes": bytes}))
        .collect();
    json!({
        "architecture": format!("{:?}", config.architecture),
        "layers": config.n_layers,
        "width": config.d_model,
        "heads": config.n_heads,
        "key_value_heads": config.n_kv_heads,
        "feed_forward": config.mlp_hidden_size,
        "context": config.max_sequence_length,
        "embedding_rows": config.embedding_size,
        "tied_head": config.weight_tying,
        "parameters": model.params().element_count(),
        "dtypes": dtypes(model.params()),
        "vocabulary": {
            "text": [vocab.text.start, vocab.text.end],
            "image": [vocab.image.start, vocab.image.end],
            "rows": vocab.rows,
            "special": vocab.special,
        },
        "image_tokenizer": model.image_parts().map(|image| json!({
            "parameters": image.params.element_count(),
            "codes": image.tokenizer.codes(),
            "pixels_per_token": image.tokenizer.factor(),
            "dtypes": dtypes(&image.params),
        })),
        "defaults": model.defaults(),
        "files": files,
    })
}

/// How many numbers there are of each format.
fn dtypes(params: &Params) -> Value {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (_, tensor) in params.iter() {
        *counts
            .entry(tensor.dtype().as_str().to_owned())
            .or_default() += tensor.elem_count();
    }
    json!(counts)
}

fn tensors(model: &Mmada) -> Value {
    let of = |prefix: &str, params: &Params| -> Vec<Value> {
        let tensors = params.iter().map(|(name, tensor)| {
            json!({
                "name": format!("{prefix}{name}"),
                "shape": tensor.dims(),
                "dtype": tensor.dtype().as_str(),
            })
        });
        tensors.collect()
    };
    let mut all = of("", model.params());
    all.extend(
        model
            .image_parts()
            .iter()
            .flat_map(|image| of("image_tokenizer/", &image.params)),
    );
    Value::Array(all)
}
