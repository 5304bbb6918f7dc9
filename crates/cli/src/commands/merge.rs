//! `mmada merge`: an adapter and its model become one model.

use std::path::PathBuf;

use anyhow::{Context, Result};
use mmada_model::{LoadOptions, Mmada};
use mmada_nn::SaveOptions;
use mmada_nn::lora::Lora;

use crate::args::MergeArgs;
use crate::{output, usage};

pub(crate) fn run(args: &MergeArgs) -> Result<()> {
    let place = || format!("adapter {}", args.adapter.display());
    let model = Mmada::open(&args.adapter, &LoadOptions::default()).with_context(place)?;
    if model.adapter().is_none() {
        return Err(usage(format!(
            "merge {}: expected the folder of an adapter with adapter_config.json, got a whole \
             model; nothing is left to merge",
            args.adapter.display()
        )));
    }
    let (_, base) = Lora::settings(&args.adapter)?;
    let base = base.unwrap_or_default();
    // Named from the adapter's folder, or from where the program runs.
    let bases = [args.adapter.join(&base), PathBuf::from(&base)];
    let models = bases.iter().map(|base| ("its model", base));
    for (what, given) in models.chain([("the adapter", &args.adapter)]) {
        output::check_apart("output", &args.output, (what, Some(given.as_path())))?;
    }
    model
        .merged()?
        .save(&args.output, &SaveOptions::default())
        .with_context(|| format!("model {}", args.output.display()))?;
    output::line(args.output.display().to_string())
}
