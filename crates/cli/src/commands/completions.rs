//! `mmada completions`: a script that lets a shell complete commands and flags.

use anyhow::Result;
use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::args::Cli;
use crate::output;

pub(crate) fn run(shell: Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "mmada", &mut script);
    output::line(String::from_utf8_lossy(&script).trim_end())
}
