//! `mmada chat`: one answer, or a conversation.

use std::io::{BufRead as _, IsTerminal as _, Write as _, stderr, stdin};
use std::time::Instant;

use anyhow::{Context, Result};
use mmada_model::{Message, Mmada, TextOptions, TextReply};
use serde_json::json;

use crate::args::ChatArgs;
use crate::watch::{self, Sight};
use crate::{output, session, terminal};

/// An answer and what it took.
struct Answer {
    reply: TextReply,
    steps: usize,
    seconds: f64,
}

pub(crate) fn run(args: &ChatArgs) -> Result<()> {
    output::prepare_answer(args.output.as_deref())?;
    let model = session::open(&args.model)?;
    let options = session::text_options(
        &model.defaults().text,
        &args.text,
        &args.sample,
        args.model.seed,
    );
    let mut messages: Vec<Message> = args.system.iter().map(Message::system).collect();
    match &args.prompt {
        Some(prompt) => {
            messages.push(Message::user(prompt));
            let answer = answer(&model, &messages, &options, args)?;
            print(args, prompt, &answer)
        }
        None => converse(&model, messages, &options, args),
    }
}

fn answer(
    model: &Mmada,
    messages: &[Message],
    options: &TextOptions,
    args: &ChatArgs,
) -> Result<Answer> {
    let started = Instant::now();
    let mut run = model.chat(messages, options)?;
    let steps = watch::drive(&mut run, model, "chat", Sight::new(args.sample.watch))?;
    let reply = run
        .finish()?
        .pop()
        .context("chat: the run gave no answer")?;
    Ok(Answer {
        reply,
        steps,
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// One message after another until the input ends. What was said before is forgotten, oldest
/// first, where it no longer fits into the model's context.
fn converse(
    model: &Mmada,
    mut messages: Vec<Message>,
    options: &TextOptions,
    args: &ChatArgs,
) -> Result<()> {
    let given = messages.len();
    // Lines that come from a file are a script's, whoever watches.
    let is_interactive = terminal::is_interactive() && stdin().is_terminal();
    if is_interactive {
        output::note("One message a line; Ctrl-D ends the conversation.");
    }
    let mut lines = stdin().lock().lines();
    loop {
        if is_interactive {
            // A prompt that cannot be shown is missed by nobody.
            let _ = write!(stderr(), "> ").and_then(|()| stderr().flush());
        }
        let Some(line) = lines.next() else {
            return Ok(());
        };
        let line = line.context("chat: cannot read the next message from standard input")?;
        if line.trim().is_empty() {
            continue;
        }
        messages.push(Message::user(&line));
        // What is forgotten is forgotten once there is an answer.
        let mut remembered = messages.clone();
        let asked = loop {
            match answer(model, &remembered, options, args) {
                // The oldest question and its answer go first.
                Err(error) if is_too_long(&error) && remembered.len() >= given + 3 => {
                    remembered.drain(given..given + 2);
                }
                other => break other,
            }
        };
        let answer = match asked {
            // Who talks can say it in fewer words; a script has to know.
            Err(error) if is_interactive && is_too_long(&error) => {
                messages.pop();
                output::note(format!("{error:#}"));
                continue;
            }
            asked => asked?,
        };
        print(args, &line, &answer)?;
        messages = remembered;
        messages.push(Message::assistant(&answer.reply.text));
    }
}

fn is_too_long(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref(),
        Some(mmada_model::Error::Tokens(
            mmada_tokens::Error::TooLong { .. }
        ))
    )
}

fn print(args: &ChatArgs, prompt: &str, answer: &Answer) -> Result<()> {
    let Answer {
        reply,
        steps,
        seconds,
    } = answer;
    if !args.sample.json {
        let spoken = super::spoken(&reply.thought, args.show_thought);
        return output::answer(args.output.as_deref(), &spoken);
    }
    let report = json!({
        "task": "chat",
        "prompt": prompt,
        "answer": reply.thought.answer,
        "thought": reply.thought.reasoning,
        "text": reply.text,
        "tokens": reply.tokens,
        "model": session::name(&args.model),
        "seed": args.model.seed,
        "steps": steps,
        "seconds": seconds,
    });
    output::answer(args.output.as_deref(), &report.to_string())
}
