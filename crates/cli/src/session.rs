//! What every command that samples needs first: a model, and its settings as the flags change them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use mmada_data::picture::{Limits, Mask, Picture};
use mmada_diffusion::{Anneal, Order};
use mmada_model::{FillOptions, LoadOptions, Mmada, Numbers, Overrides, PaintOptions, TextOptions};
use mmada_tensor::Packing;

use crate::args::{
    AnnealArg, CanvasArgs, DeviceArg, ModelArgs, PrecisionArg, SampleArgs, TextArgs,
};
use crate::hub::Source;
use crate::{device, embedded, hub, terminal, usage};

/// No picture file that passes the limit on pixels is larger.
const MAX_PICTURE_BYTES: u64 = 256 << 20;

/// Opens the model that the flags name.
pub(crate) fn open(args: &ModelArgs) -> Result<Mmada> {
    let image_tokenizer = match &args.image_tokenizer {
        Some(name) => hub::locate(Some(name))?.directory(),
        None => None,
    };
    let packing = packing(args);
    let options = LoadOptions {
        device: device::open(args.device)?,
        numbers: match packing {
            Some(_) => Numbers::Stored,
            None => Numbers::Computed,
        },
        image_tokenizer,
        ..LoadOptions::default()
    };
    let model = open_source(&hub::locate(args.model.as_deref())?, &options)?;
    match packing {
        Some(packing) => Ok(model.packed(packing)?),
        None => Ok(model),
    }
}

/// How the transformer is packed, by the flags and this processor.
pub(crate) fn packing(args: &ModelArgs) -> Option<Packing> {
    let is_here = args.device == DeviceArg::Cpu;
    match args.precision {
        PrecisionArg::Auto if is_here && Packing::Bf16.is_native() => Some(Packing::Bf16),
        PrecisionArg::Auto | PrecisionArg::F32 => is_here.then_some(Packing::F32),
        PrecisionArg::Bf16 => Some(Packing::Bf16),
        PrecisionArg::Int8 => Some(Packing::Int8),
    }
}

/// Opens a model that was found.
pub(crate) fn open_source(source: &Source, options: &LoadOptions) -> Result<Mmada> {
    match source {
        Source::Embedded => {
            Mmada::from_files(embedded::file, options).context("the model inside this program")
        }
        Source::Directory(dir) => {
            let spinner = terminal::spinner(format!("opening {}", dir.display()));
            let opened = Mmada::open(dir, options);
            spinner.finish_and_clear();
            opened.with_context(|| format!("model {}", dir.display()))
        }
    }
}

/// The model's name in reports.
pub(crate) fn name(args: &ModelArgs) -> &str {
    args.model.as_deref().unwrap_or("embedded")
}

/// What the flags of everything that samples want otherwise.
fn overrides(sample: &SampleArgs) -> Overrides {
    Overrides {
        steps: sample.steps,
        temperature: sample.temperature,
        guidance: sample.guidance,
        ..Overrides::default()
    }
}

/// Settings of a text answer.
pub(crate) fn text_options(
    defaults: &TextOptions,
    text: &TextArgs,
    sample: &SampleArgs,
    seed: u64,
) -> TextOptions {
    let wanted = Overrides {
        sampler: text.sampler.map(|sampler| sampler.0),
        length: text.length,
        block: text.block,
        ahead: text.ahead,
        commit: text.commit,
        ..overrides(sample)
    };
    TextOptions {
        seed,
        ..wanted.text(defaults)
    }
}

/// Settings of filled gaps.
pub(crate) fn fill_options(
    defaults: &FillOptions,
    gap: Option<usize>,
    sample: &SampleArgs,
    seed: u64,
) -> FillOptions {
    FillOptions {
        gap: gap.unwrap_or(defaults.gap),
        seed,
        ..overrides(sample).fill(defaults)
    }
}

/// Settings of a painting.
pub(crate) fn paint_options(
    defaults: &PaintOptions,
    canvas: &CanvasArgs,
    sample: &SampleArgs,
    seed: u64,
) -> PaintOptions {
    let wanted = Overrides {
        sampler: canvas.sampler.map(|sampler| sampler.0),
        token_temperature: canvas.token_temperature,
        best_of: canvas.best_of,
        revisions: canvas.revisions,
        revision_temperature: canvas.revision_temperature,
        schedule: canvas.schedule,
        anneal: canvas.anneal.map(anneal),
        ..overrides(sample)
    };
    PaintOptions {
        seed,
        ..wanted.paint(defaults)
    }
}

/// Flags about the order of positions, and whether they are given, are refused where it is fixed.
pub(crate) fn check_order(options: &PaintOptions, flags: &[(&str, bool)]) -> Result<()> {
    let given = flags.iter().find(|(_, is_given)| *is_given);
    match (options.rules().order, given) {
        (Order::Halton, Some((flag, _))) => {
            let name = options.sampler.name();
            Err(usage(format!(
                "{flag}: expected a sampler that chooses the order of positions, and {name} knows it \
                 before; leave the flag out, or try --sampler exact or --token-temperature"
            )))
        }
        _ => Ok(()),
    }
}

/// Flags that need words are refused where there are none: nothing to be read for, nothing to be
/// guided by.
pub(crate) fn check_wordless(prompt: &str, canvas: &CanvasArgs, sample: &SampleArgs) -> Result<()> {
    let flags = [
        ("--best-of", canvas.best_of.is_some()),
        (
            "--guidance",
            sample.guidance.is_some_and(|scale| scale != 0.0),
        ),
    ];
    match flags.into_iter().find(|(_, is_given)| *is_given) {
        Some((flag, _)) if prompt.trim().is_empty() => Err(usage(format!(
            "{flag}: expected a prompt, which it goes by; add one, or leave the flag out"
        ))),
        _ => Ok(()),
    }
}

fn anneal(anneal: AnnealArg) -> Anneal {
    match anneal {
        AnnealArg::Compounding => Anneal::Compounding,
        AnnealArg::Maskgit => Anneal::MaskGit,
    }
}

/// Reads a picture file.
pub(crate) fn picture(path: &Path) -> Result<Picture> {
    let bytes = picture_bytes(path)?;
    Picture::decode(&bytes, &Limits::default())
        .with_context(|| format!("picture {}", path.display()))
}

/// Reads a mask: the picture that says what is painted anew.
pub(crate) fn mask(path: &Path) -> Result<Mask> {
    let bytes = picture_bytes(path)?;
    Mask::decode(&bytes, &Limits::default()).with_context(|| format!("mask {}", path.display()))
}

fn picture_bytes(path: &Path) -> Result<Vec<u8>> {
    let show = path.display();
    let found = fs::metadata(path)
        .with_context(|| format!("picture {show}: expected a PNG, JPEG or WebP file"))?;
    if !found.is_file() {
        return Err(usage(format!(
            "picture {show}: expected a PNG, JPEG or WebP file, got a folder or device"
        )));
    }
    if found.len() > MAX_PICTURE_BYTES {
        return Err(usage(format!(
            "picture {show}: expected at most {MAX_PICTURE_BYTES} bytes, got {}; shrink it first",
            found.len()
        )));
    }
    fs::read(path).with_context(|| format!("picture {show}"))
}
