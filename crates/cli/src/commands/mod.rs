//! One file per command, and what several of them do alike.

mod bench;
mod chat;
mod completions;
mod curves;
mod describe;
mod doctor;
mod eval;
mod explain;
mod fill;
mod inpaint;
mod inspect;
mod merge;
mod paint;
mod train;
mod train_tokenizer;
mod try_it;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use mmada_data::picture::Picture;
use mmada_tokens::Thought;

use crate::args::Command;
use crate::{output, terminal};

/// Does what was asked. The code is that of work that ended without an error.
pub(crate) fn run(command: Command) -> Result<ExitCode> {
    let done = match command {
        Command::Try(args) => try_it::run(&args),
        Command::Chat(args) => chat::run(&args),
        Command::Describe(args) => describe::run(&args),
        Command::Paint(args) => paint::run(&args),
        Command::Fill(args) => fill::run(&args),
        Command::Inpaint(args) => inpaint::run(&args),
        Command::Train(args) => return train::run(&args),
        Command::TrainTokenizer(args) => train_tokenizer::run(&args),
        Command::Curves(args) => curves::run(&args),
        Command::Merge(args) => merge::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Inspect(args) => return inspect::run(&args),
        Command::Doctor(args) => return doctor::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Completions { shell } => completions::run(shell),
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// An answer as it is printed: with its thought if that was asked for. Who sees an empty line is told why.
fn spoken(thought: &Thought, is_thought_shown: bool) -> String {
    if is_thought_shown {
        return thought.render();
    }
    if thought.answer.trim().is_empty() {
        output::note(match thought.reasoning {
            Some(_) => "no answer came after the thought; --show-thought prints it",
            None => "the answer is empty; another --seed with --temperature 1 may have more to say",
        });
    }
    thought.answer.clone()
}

/// Writes a picture as PNG.
fn save(path: &Path, picture: &Picture) -> Result<()> {
    let png = picture
        .encode_png()
        .with_context(|| format!("picture {}", path.display()))?;
    output::write(path, &png)
}

/// Shows pictures side by side on a terminal.
fn show<'a>(pictures: impl IntoIterator<Item = &'a Picture>) -> Result<()> {
    if terminal::is_interactive() && console::colors_enabled_stderr() {
        let pictures: Vec<Picture> = pictures.into_iter().cloned().collect();
        let sheet = Picture::grid(&pictures, pictures.len(), 2)?;
        let (columns, lines) = terminal::size();
        output::note(terminal::half_blocks(&sheet, columns - 1, lines - 3).trim_end());
    }
    Ok(())
}
