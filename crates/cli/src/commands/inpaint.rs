//! `mmada inpaint`: a part of a picture painted anew, or more picture beyond its edges.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use mmada_data::picture::{Mask, Picture};
use mmada_model::{Mmada, Sides};
use serde_json::json;

use crate::args::InpaintArgs;
use crate::watch::{self, Sight};
use crate::{output, session, usage};

pub(crate) fn run(args: &InpaintArgs) -> Result<()> {
    let sides = parse_sides(&args.extend)?;
    let picture = session::picture(&args.image)?;
    let mask = args.mask.as_deref().map(session::mask).transpose()?;
    if let Some(mask) = &mask {
        check_sizes(&picture, mask)?;
    }
    session::check_wordless(&args.prompt, &args.canvas, &args.sample)?;
    output::prepare(&args.canvas.output)?;
    for (what, given) in [
        ("the picture", Some(&args.image)),
        ("the mask", args.mask.as_ref()),
    ] {
        let given = (what, given.map(PathBuf::as_path));
        output::check_apart("--output", &args.canvas.output, given)?;
    }
    let model = session::open(&args.model)?;
    let (picture, mask) = fitted(&model, picture, mask)?;
    let defaults = &model.defaults().paint;
    let options = session::paint_options(defaults, &args.canvas, &args.sample, args.model.seed);
    let of_order = [
        ("--temperature", args.sample.temperature.is_some()),
        ("--anneal", args.canvas.anneal.is_some()),
    ];
    session::check_order(&options, &of_order)?;
    let started = Instant::now();
    let mut run = match &mask {
        Some(mask) => model.inpaint(&picture, mask, &args.prompt, &options)?,
        None => model.extend(&picture, sides, &args.prompt, &options)?,
    };
    let sight = Sight::new(args.sample.watch);
    let steps = watch::drive(&mut run, &model, "inpaint", sight)?;
    let painting = run
        .finish()?
        .pop()
        .context("inpaint: the run gave no picture")?;
    let path = &args.canvas.output;
    super::save(path, &painting.picture)?;
    if sight == Sight::Steps {
        super::show([&picture, &painting.picture])?;
    }
    if !args.sample.json {
        return output::named(path);
    }
    output::json(&json!({
        "task": "inpaint",
        "image": output::shown(&args.image),
        "mask": args.mask.as_ref().map(output::shown),
        "extend": args.extend,
        "prompt": args.prompt,
        "output": [output::shown(path)],
        "width": painting.picture.width(),
        "height": painting.picture.height(),
        "model": session::name(&args.model),
        "seed": args.model.seed,
        "steps": steps,
        "seconds": started.elapsed().as_secs_f64(),
    }))
}

fn check_sizes(picture: &Picture, mask: &Mask) -> Result<()> {
    if (picture.width(), picture.height()) == (mask.width(), mask.height()) {
        return Ok(());
    }
    Err(usage(format!(
        "mask: expected the picture's size, {}x{}, got {}x{}; resize the mask",
        picture.width(),
        picture.height(),
        mask.width(),
        mask.height()
    )))
}

/// Picture and mask as they are if the model can take them, else both at the model's size.
fn fitted(model: &Mmada, picture: Picture, mask: Option<Mask>) -> Result<(Picture, Option<Mask>)> {
    model.image_tokenizer()?;
    if model.grid(picture.width(), picture.height()).is_ok() {
        return Ok((picture, mask));
    }
    let image = &model.defaults().image;
    output::note(format!(
        "picture: {}x{} is no size of this model, taking {}x{}",
        picture.width(),
        picture.height(),
        image.width,
        image.height
    ));
    let mask = mask.map(|mask| mask.fit(image.width, image.height, image.fit));
    Ok((picture.fit(image.width, image.height, image.fit), mask))
}

/// `right=32` and the like.
fn parse_sides(texts: &[String]) -> Result<Sides> {
    let mut sides = Sides::default();
    for text in texts {
        let wrong = || {
            usage(format!(
                "--extend: expected left, right, up or down and a number of pixels, such as right=32, got {text:?}"
            ))
        };
        let (side, pixels) = text.split_once('=').ok_or_else(wrong)?;
        let pixels: usize = pixels.parse().map_err(|_| wrong())?;
        let slot = match side {
            "left" => &mut sides.left,
            "right" => &mut sides.right,
            "up" => &mut sides.up,
            "down" => &mut sides.down,
            _ => return Err(wrong()),
        };
        if pixels == 0 {
            return Err(wrong());
        }
        if *slot > 0 {
            return Err(usage(format!(
                "--extend: expected each side once, got {side} twice; add the pixels up"
            )));
        }
        *slot = pixels;
    }
    Ok(sides)
}
