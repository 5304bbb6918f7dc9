//! `mmada`: the program. Only this crate speaks to the terminal.
//!
//! Exit codes: 0 success, 1 failure, 2 wrong usage, 130 interrupted.

mod args;
mod chart;
mod commands;
mod device;
mod embedded;
mod hub;
mod interrupt;
mod output;
mod packs;
mod session;
mod terminal;
mod watch;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use mmada_tensor::{cpu, process};

/// A mistake in how the program was called, as opposed to work that failed.
#[derive(Debug)]
struct UsageError(String);

impl std::fmt::Display for UsageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// An error that ends the program with exit code 2.
fn usage(message: impl Into<String>) -> anyhow::Error {
    UsageError(message.into()).into()
}

fn main() -> ExitCode {
    process::prepare();
    let cli = args::Cli::parse();
    interrupt::install();
    let level = cpu::wanted().map_err(|error| usage(error.to_string()));
    let run = |_| process::among_workers(|| commands::run(cli.command));
    match level.and_then(run) {
        Ok(code) => code,
        // Whoever read the results has had enough of them.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing can be done if stderr is gone.
            let _ = writeln!(std::io::stderr(), "error: {}", told(&error));
            ExitCode::from(exit_code(&error))
        }
    }
}

/// The chain of causes as one line. Some causes repeat what the error above them says already.
fn told(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn exit_code(error: &anyhow::Error) -> u8 {
    match () {
        () if error.is::<UsageError>() || is_impossible_request(error) => 2,
        () if error.is::<interrupt::Interrupted>() => interrupt::EXIT_CODE,
        () => 1,
    }
}

/// Whether something was asked that no model could do, as opposed to work that failed.
fn is_impossible_request(error: &anyhow::Error) -> bool {
    use mmada_model::Error::{Diffusion, Empty, Request, Tokens};
    if let Some(mmada_train::Error::Override(_)) = error.downcast_ref() {
        return true;
    }
    if let Some(mmada_diffusion::Error::Setting { .. }) = error.downcast_ref() {
        return true;
    }
    if let Some(mmada_tokens::Error::VocabTooSmall { .. }) = error.downcast_ref() {
        return true;
    }
    let of_model = match error.downcast_ref() {
        Some(mmada_grade::Error::Model(error)) => Some(error),
        _ => error.downcast_ref(),
    };
    matches!(
        of_model,
        Some(
            Empty { .. }
                | Request { .. }
                | Tokens(mmada_tokens::Error::TooLong { .. })
                | Diffusion(mmada_diffusion::Error::Setting { .. })
        )
    )
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let is_pipe = |error: &std::io::Error| error.kind() == std::io::ErrorKind::BrokenPipe;
    error.downcast_ref().is_some_and(is_pipe)
}
