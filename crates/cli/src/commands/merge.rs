//! `mmada merge`: an adapter and its model become one model, or models that were trained from one.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use mmada_model::{LoadOptions, Mmada};
use mmada_nn::SaveOptions;
use mmada_nn::lora::Lora;

use crate::args::MergeArgs;
use crate::{output, usage};

pub(crate) fn run(args: &MergeArgs) -> Result<()> {
    let merged = match (&args.base, args.models.as_slice()) {
        (Some(base), models) => added_up(models, base, args)?,
        (None, [adapter]) => folded_in(adapter, &args.output)?,
        (None, models) => {
            return Err(usage(format!(
                "merge: {} models without --base; expected one adapter, or the model that all were \
                 trained from: --base DIR",
                models.len()
            )));
        }
    };
    merged
        .save(&args.output, &SaveOptions::default())
        .with_context(|| format!("model {}", args.output.display()))?;
    output::line(args.output.display().to_string())
}

/// An adapter and the model that it names.
fn folded_in(adapter: &Path, output: &Path) -> Result<Mmada> {
    let place = || format!("adapter {}", adapter.display());
    let model = open(adapter).with_context(place)?;
    if model.adapter().is_none() {
        return Err(usage(format!(
            "merge {}: expected the folder of an adapter with adapter_config.json, got a whole \
             model; nothing is left to merge, but with --base DIR what it has learnt since",
            adapter.display()
        )));
    }
    check_base(&model, adapter, output)?;
    output::check_apart("output", output, ("the adapter", Some(adapter)))?;
    Ok(model.merged()?)
}

/// Refuses to replace the model that an adapter names.
fn check_base(model: &Mmada, folder: &Path, output: &Path) -> Result<()> {
    if model.adapter().is_none() {
        return Ok(());
    }
    let (_, base) = Lora::settings(folder)?;
    let base = base.unwrap_or_default();
    // Named from the adapter's folder, or from where the program runs.
    for base in [folder.join(&base), PathBuf::from(&base)] {
        output::check_apart("output", output, ("its model", Some(&base)))?;
    }
    Ok(())
}

/// The base with what the models have learnt since, or a share of it.
fn added_up(models: &[PathBuf], base: &Path, args: &MergeArgs) -> Result<Mmada> {
    let (output, scale) = (&args.output, args.scale);
    if !scale.is_finite() {
        return Err(usage(format!(
            "--scale: expected a finite number, got {scale}"
        )));
    }
    output::check_apart("output", output, ("the base", Some(base)))?;
    let mut opened = Vec::new();
    for model in models {
        output::check_apart("output", output, ("a model", Some(model)))?;
        let own = open(model).with_context(|| format!("model {}", model.display()))?;
        check_base(&own, model, output)?;
        opened.push(own);
    }
    let folder = base;
    let base = open(folder).with_context(|| format!("base {}", folder.display()))?;
    check_base(&base, folder, output)?;
    let Some((first, others)) = opened.split_first() else {
        return Err(usage("merge: no model"));
    };
    Ok(first.with_changes(others, &base, scale)?)
}

fn open(dir: &Path) -> Result<Mmada> {
    Ok(Mmada::open(dir, &LoadOptions::default())?)
}
