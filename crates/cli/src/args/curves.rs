//! What `mmada curves` takes.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct CurvesArgs {
    /// Folders of runs, or their metrics files; runs of one label share a line and a band.
    #[arg(required = true, value_name = "[LABEL=]FOLDER")]
    pub(crate) runs: Vec<String>,
    /// The number that is drawn, by its name in metrics.jsonl.
    #[arg(long, default_value = "reward")]
    pub(crate) metric: String,
    /// Average each point of a run with those before it, so many in all.
    #[arg(long, value_name = "POINTS", default_value_t = 1)]
    pub(crate) smooth: usize,
    /// Width in pixels.
    #[arg(long, default_value_t = 800)]
    pub(crate) width: usize,
    /// Height in pixels.
    #[arg(long, default_value_t = 480)]
    pub(crate) height: usize,
    /// The chart, a PNG file.
    #[arg(long, short, default_value = "out/curves.png")]
    pub(crate) output: PathBuf,
    /// Write the numbers here, as CSV.
    #[arg(long)]
    pub(crate) csv: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
