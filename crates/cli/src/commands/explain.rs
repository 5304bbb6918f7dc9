//! `mmada explain`: the sequence a prompt becomes, span by span.

use anyhow::{Context, Result};
use console::{Color, style};
use mmada_model::Mmada;
use mmada_tokens::{Sequence, SpanKind, Tail, Task};
use serde_json::{Value, json};

use crate::args::{ExplainArgs, ExplainTask};
use crate::{output, session, usage};

pub(crate) fn run(args: &ExplainArgs) -> Result<()> {
    if args.image.is_some() && args.task != ExplainTask::Describe {
        return Err(usage(
            "--image: expected with --task describe, which alone is about a picture",
        ));
    }
    let model = session::open(&args.model)?;
    let sequence = sequence(&model, args)?;
    match args.json {
        true => output::json(&as_json(&model, args, &sequence)),
        false => print(&model, &sequence),
    }
}

fn sequence(model: &Mmada, args: &ExplainArgs) -> Result<Sequence> {
    let (codec, layout, defaults) = (model.codec(), model.layout(), model.defaults());
    let image_len = || -> Result<usize> {
        Ok(model
            .grid(defaults.paint.width, defaults.paint.height)?
            .len())
    };
    let laid_out = match args.task {
        ExplainTask::Chat => layout.chat_prompt(&codec.prompt(&args.prompt)?, defaults.text.length),
        ExplainTask::Text => layout.text(&codec.text(&args.prompt)?, Tail::None),
        ExplainTask::Paint => {
            let masks = layout.masks(image_len()?);
            layout.paint(&codec.text(args.prompt.trim())?, &masks)
        }
        ExplainTask::ThinkPaint => {
            let prompt = codec.prompt(&defaults.to_think_about(&args.prompt))?;
            layout.think_paint_prompt(&prompt, defaults.thought.length, image_len()?)
        }
        ExplainTask::Describe => {
            let path = args.image.as_deref().ok_or_else(|| {
                usage("explain --task describe: expected a picture; give one with --image PICTURE.png")
            })?;
            let picture = session::picture(path)?;
            let seen = model
                .look(&[&picture])?
                .pop()
                .context("picture: it became no tokens")?;
            let vocab = model.vocab();
            let question = defaults.asked(&args.prompt);
            let image: Vec<u32> = seen
                .codes
                .iter()
                .map(|&code| vocab.image_id(code))
                .collect();
            layout.describe_prompt(&image, &codec.prompt(question)?, defaults.describe.length)
        }
    };
    Ok(laid_out.map_err(mmada_model::Error::from)?)
}

/// The token as a person reads it.
fn token(model: &Mmada, id: u32) -> String {
    let vocab = model.vocab();
    if let Some(code) = vocab.code(id) {
        return format!("image {code}");
    }
    match model.codec().tokenizer.token(id) {
        Some(text) => text.replace(' ', "·").replace('\n', "↵"),
        None => "unused".to_owned(),
    }
}

fn as_json(model: &Mmada, args: &ExplainArgs, sequence: &Sequence) -> Value {
    let tokenizer = &model.codec().tokenizer;
    let span = |span: &mmada_tokens::Span| {
        let ids = &sequence.ids[span.range.clone()];
        let tokens: Vec<String> = ids
            .iter()
            .map(|&id| tokenizer.token(id).unwrap_or_else(|| token(model, id)))
            .collect();
        json!({
            "kind": name(span.kind),
            "start": span.range.start,
            "end": span.range.end,
            "ids": ids,
            "tokens": tokens,
        })
    };
    json!({
        "task": "explain",
        "layout": layout_name(sequence.task),
        "prompt": args.prompt,
        "length": sequence.ids.len(),
        "context": model.layout().context(),
        "spans": sequence.spans.iter().map(span).collect::<Vec<_>>(),
    })
}

fn print(model: &Mmada, sequence: &Sequence) -> Result<()> {
    let mut text = String::new();
    for span in &sequence.spans {
        let range = &span.range;
        let title = format!("{} {}..{}", name(span.kind), range.start, range.end);
        text.push_str(&style(title).fg(color(span.kind)).bold().to_string());
        text.push_str("\n  ");
        let cells: Vec<String> = sequence.ids[range.clone()]
            .chunk_by(|a, b| a == b)
            .map(|run| cell(model, run, span.kind))
            .collect();
        text.push_str(&cells.join(" "));
        text.push('\n');
    }
    let (length, context) = (sequence.ids.len(), model.layout().context());
    text.push_str(&format!(
        "{length} of at most {context} tokens; each is shown as text:id, ×n where it repeats"
    ));
    output::line(text)
}

/// Equal tokens in a row as one cell, `text:id×count`.
fn cell(model: &Mmada, run: &[u32], kind: SpanKind) -> String {
    let times = match run.len() {
        1 => String::new(),
        count => format!("×{count}"),
    };
    let text = style(token(model, run[0])).fg(color(kind));
    format!("{text}{}{times}", style(format!(":{}", run[0])).dim())
}

/// The layout as `--task` takes it.
fn layout_name(task: Task) -> &'static str {
    match task {
        Task::Text => "text",
        Task::Chat => "chat",
        Task::Describe => "describe",
        Task::Paint => "paint",
        Task::ThinkPaint => "think-paint",
    }
}

fn name(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Pad => "pad",
        SpanKind::Frame => "frame",
        SpanKind::Prompt => "prompt",
        SpanKind::Image => "image",
        SpanKind::Answer => "answer",
        SpanKind::Tail => "tail",
    }
}

fn color(kind: SpanKind) -> Color {
    match kind {
        SpanKind::Pad | SpanKind::Tail => Color::White,
        SpanKind::Frame => Color::Yellow,
        SpanKind::Prompt => Color::Cyan,
        SpanKind::Image => Color::Magenta,
        SpanKind::Answer => Color::Green,
    }
}
