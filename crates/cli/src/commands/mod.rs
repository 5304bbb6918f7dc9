//! One file per command.

mod completions;
mod train;
mod train_tokenizer;

use std::process::ExitCode;

use anyhow::Result;

use crate::args::Command;

/// Does what was asked. The code is that of work that ended without an error.
pub(crate) fn run(command: Command) -> Result<ExitCode> {
    let done = match command {
        Command::Train(args) => return train::run(&args),
        Command::TrainTokenizer(args) => train_tokenizer::run(&args),
        Command::Completions { shell } => completions::run(shell),
        _ => anyhow::bail!("soon"),
    };
    done.map(|()| ExitCode::SUCCESS)
}
