//! `mmada describe`: a picture in words, an answer about it, or the rest of a half-given answer.

use std::time::Instant;

use anyhow::{Context, Result};
use mmada_model::{DescribeRequest, FillRequest, Within};
use serde_json::json;

use crate::args::DescribeArgs;
use crate::watch::{self, Sight};
use crate::{output, session};

pub(crate) fn run(args: &DescribeArgs) -> Result<()> {
    output::prepare_answer(args.output.as_deref())?;
    if let Some(path) = &args.output {
        output::check_apart("--output", path, ("the picture", Some(&args.image)))?;
    }
    let picture = session::picture(&args.image)?;
    let model = session::open(&args.model)?;
    let seed = args.model.seed;
    let question = args.question.as_deref().unwrap_or_default();
    let started = Instant::now();
    let seen = model.look_often(&[&picture], args.looks)?;
    let seen = seen.first().context("describe: nothing was seen")?;
    let mut run = match &args.answer {
        Some(answer) => {
            let mut options =
                session::fill_options(&model.defaults().fill, None, &args.sample, seed);
            options.commit = args.text.commit.unwrap_or(options.commit);
            let request = FillRequest {
                text: answer,
                within: Within::Picture { seen, question },
                example: 0,
            };
            model.fill_many(&[request], &options)?
        }
        None => {
            let defaults = &model.defaults().describe;
            let options = session::text_options(defaults, &args.text, &args.sample, seed);
            let request = DescribeRequest {
                seen,
                question,
                example: 0,
            };
            model.describe_many(&[request], &options)?
        }
    };
    let sight = Sight::new(args.sample.watch);
    let steps = watch::drive(&mut run, &model, "describe", sight)?;
    let reply = run
        .finish()?
        .pop()
        .context("describe: the run gave no answer")?;
    if !args.sample.json {
        let spoken = match &args.answer {
            // The text that was given, complete; what looks like a thought in it is part of that.
            Some(_) => reply.text.clone(),
            None => super::spoken(&reply.thought, args.show_thought),
        };
        return output::answer(args.output.as_deref(), &spoken);
    }
    let report = json!({
        "task": "describe",
        "image": output::shown(&args.image),
        "prompt": model.defaults().asked(question),
        "answer": reply.thought.answer,
        "thought": reply.thought.reasoning,
        "text": reply.text,
        "gaps": reply.gaps,
        "tokens": reply.tokens,
        "model": session::name(&args.model),
        "seed": seed,
        "steps": steps,
        "seconds": started.elapsed().as_secs_f64(),
    });
    output::answer(args.output.as_deref(), &report.to_string())
}
