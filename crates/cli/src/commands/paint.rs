//! `mmada paint`: pictures from words.

use std::time::Instant;

use anyhow::Result;
use mmada_model::{Mmada, Overrides, PaintOptions, Painting, TextOptions, Think};
use mmada_tokens::Padding;
use serde_json::json;

use crate::args::PaintArgs;
use crate::watch::{self, Sight};
use crate::{output, session, usage};

pub(crate) fn run(args: &PaintArgs) -> Result<()> {
    let size = args.size.as_deref().map(parse_size).transpose()?;
    session::check_wordless(&args.prompt, &args.canvas, &args.sample)?;
    output::prepare(&args.canvas.output)?;
    let mut model = session::open(&args.model)?;
    if let Some(max_text) = args.attend_pads {
        let max_sequence = model.layout().context();
        // Before pads of that number are allocated.
        if !(2..=max_sequence).contains(&max_text) {
            return Err(usage(format!(
                "--attend-pads: expected 2 to the model's context of {max_sequence} tokens, got {max_text}"
            )));
        }
        model = model.with_padding(Padding::Original {
            max_text,
            max_sequence,
        });
    }
    if args.count > 1 && output::is_device(&args.canvas.output) {
        return Err(usage(format!(
            "output {}: expected a file for each of {} pictures, got a device; leave out --count",
            args.canvas.output.display(),
            args.count
        )));
    }
    let seed = args.model.seed;
    let defaults = model.defaults();
    let (width, height) = size.unwrap_or((defaults.paint.width, defaults.paint.height));
    // Nothing can be thought about no words, or beside pads.
    let is_plain = args.prompt.trim().is_empty() || args.attend_pads.is_some();
    let think_unasked = match is_plain {
        true => Think::Never,
        false => defaults.paint.think,
    };
    let options = PaintOptions {
        width,
        height,
        count: args.count,
        think: args.think.map_or(think_unasked, Think::from),
        ..session::paint_options(&defaults.paint, &args.canvas, &args.sample, seed)
    };
    let is_noise = args.sample.temperature.is_some();
    let is_annealed = args.canvas.anneal.is_some();
    session::check_order(
        &options,
        &[("--temperature", is_noise), ("--anneal", is_annealed)],
    )?;
    let started = Instant::now();
    let sight = Sight::new(args.sample.watch);
    let wanted = Overrides {
        sampler: args.canvas.sampler.map(|sampler| sampler.0),
        ..Overrides::default()
    };
    let thought = wanted.sampler_alone(&defaults.thought);
    let Painted {
        thoughts,
        paintings,
        steps,
    } = painted(&model, &args.prompt, &thought, &options, sight)?;
    let paths = output::numbered(&args.canvas.output, paintings.len());
    for (path, painting) in paths.iter().zip(&paintings) {
        super::save(path, &painting.picture)?;
    }
    if sight == Sight::Steps {
        super::show(paintings.iter().map(|painting| &painting.picture))?;
    }
    if args.sample.json {
        return output::json(&json!({
            "task": "paint",
            "prompt": args.prompt,
            "output": paths.iter().map(output::shown).collect::<Vec<_>>(),
            "thoughts": thoughts,
            "width": width,
            "height": height,
            "model": session::name(&args.model),
            "seed": seed,
            "steps": steps,
            "seconds": started.elapsed().as_secs_f64(),
        }));
    }
    // What the model thinks unasked is its own affair.
    for thought in thoughts.iter().filter(|_| args.think.is_some()) {
        output::note(format!("thought: {thought}"));
    }
    paths.iter().try_for_each(|path| output::named(path))
}

/// What was thought and painted.
pub(super) struct Painted {
    /// One for each painting, or none.
    pub(super) thoughts: Vec<String>,
    pub(super) paintings: Vec<Painting>,
    /// Those of both.
    pub(super) steps: usize,
}

/// Paints, after a thought where the options say so; thought and painting have one seed.
pub(super) fn painted(
    model: &Mmada,
    prompt: &str,
    thought: &TextOptions,
    options: &PaintOptions,
    sight: Sight,
) -> Result<Painted> {
    if !options.thinks() {
        let mut run = model.paint(prompt, options)?;
        let steps = watch::drive(&mut run, model, "paint", sight)?;
        return Ok(Painted {
            thoughts: Vec::new(),
            paintings: run.finish()?,
            steps,
        });
    }
    let thought = TextOptions {
        seed: options.seed,
        ..thought.clone()
    };
    let mut run = model.think_paint(prompt, &thought, options)?;
    let steps = watch::drive(&mut run, model, "paint", sight)?;
    let (replies, paintings) = run.finish()?;
    let thoughts = replies
        .into_iter()
        .map(|reply| reply.thought.reasoning.unwrap_or(reply.text));
    Ok(Painted {
        thoughts: thoughts.collect(),
        paintings,
        steps,
    })
}

/// `64x48` as width and height.
fn parse_size(text: &str) -> Result<(usize, usize)> {
    let sides = text.split_once(['x', 'X']);
    let parse = |(width, height): (&str, &str)| Some((width.parse().ok()?, height.parse().ok()?));
    let is_some = |&(width, height): &(usize, usize)| width > 0 && height > 0;
    sides.and_then(parse).filter(is_some).ok_or_else(|| {
        usage(format!(
            "--size: expected WIDTHxHEIGHT in pixels, such as 64x64, got {text:?}"
        ))
    })
}
