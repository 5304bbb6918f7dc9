//! `mmada fill`: the gaps of a text.

use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::json;

use crate::args::FillArgs;
use crate::watch::{self, Sight};
use crate::{output, session};

pub(crate) fn run(args: &FillArgs) -> Result<()> {
    output::prepare_answer(args.output.as_deref())?;
    let model = session::open(&args.model)?;
    let seed = args.model.seed;
    let options = session::fill_options(&model.defaults().fill, args.gap, &args.sample, seed);
    let started = Instant::now();
    let mut run = model.fill(&args.text, &options)?;
    let steps = watch::drive(&mut run, &model, "fill", Sight::new(args.sample.watch))?;
    let reply = run.finish()?.pop().context("fill: the run gave no text")?;
    if !args.sample.json {
        return output::answer(args.output.as_deref(), &reply.text);
    }
    let report = json!({
        "task": "fill",
        "prompt": args.text,
        "answer": reply.text,
        "gaps": reply.gaps,
        "tokens": reply.tokens,
        "model": session::name(&args.model),
        "seed": seed,
        "steps": steps,
        "seconds": started.elapsed().as_secs_f64(),
    });
    output::answer(args.output.as_deref(), &report.to_string())
}
