//! What a transformer is trained on: examples in a resumable order, their pictures as codes, and the
//! pictures shown on sample sheets.
//!
//! ```text
//!   mixture ──▶ next example ──▶ codes of its picture, each encoded once
//!                   └ left out, and counted, where an objective has no use for it
//! ```

use std::path::Path;
use std::sync::atomic::AtomicBool;

use mmada_data::{Example, ImageBytes, Mixture, Skipped};
use mmada_model::Mmada;
use serde_json::Value;

use crate::codes::CodeCache;
use crate::config::{Precompute, RunConfig, SamplesConfig};
use crate::objective::Sheet;
use crate::samples::Probes;
use crate::{Error, Reporter, Result};

/// Examples left out of one batch before the data is taken to hold too little that is usable.
pub(crate) const MOST_LEFT_OUT: u64 = 100_000;

/// The examples of a run.
pub(crate) struct Stock {
    mixture: Mixture,
    codes: CodeCache,
    probes: Probes,
    left_out: Skipped,
}

impl Stock {
    /// Opens the data of a run. `codes` names the file of codes, else it is in the run's folder, and
    /// says when pictures are encoded. Encoding ends early once `stop` is set.
    ///
    /// # Errors
    /// When data or codes cannot be read, or the run's folder cannot be made.
    pub(crate) fn open(
        run: &RunConfig,
        model: &Mmada,
        (codes, precompute): (Option<&Path>, Precompute),
        reporter: &dyn Reporter,
        stop: &AtomicBool,
    ) -> Result<Self> {
        let out = &run.run.out;
        let mixture =
            Mixture::open(&run.data, Path::new("."), run.run.seed).map_err(Error::data)?;
        std::fs::create_dir_all(out).map_err(Error::file(out, "create the run's folder"))?;
        let is_shared = codes.is_some();
        let path = codes.map_or_else(|| out.join("codes.bin"), Path::to_path_buf);
        let mut codes = CodeCache::open(&path, is_shared, model)?;
        if precompute == Precompute::All && model.image_parts().is_some() {
            codes.encode_all(&mixture, model, reporter, stop)?;
        }
        Ok(Self {
            probes: Probes::collect(&mixture, run.samples.pictures, model)?,
            mixture,
            codes,
            left_out: Skipped::default(),
        })
    }

    /// The next example.
    ///
    /// # Errors
    /// When a source cannot be read.
    pub(crate) fn next(&mut self) -> Result<Example> {
        self.mixture.next_example().map_err(Error::data)
    }

    /// The codes of a picture; `None` if it is no picture.
    ///
    /// # Errors
    /// Those of the network.
    pub(crate) fn codes(&mut self, image: &ImageBytes, model: &Mmada) -> Result<Option<&[u32]>> {
        self.codes.codes(image, model)
    }

    /// Counts an example that cannot be used.
    pub(crate) fn leave_out(&mut self, example: &Example, reason: String) {
        self.left_out.add(example.name.clone(), reason);
    }

    /// How many were left out so far.
    pub(crate) fn left_out(&self) -> u64 {
        self.left_out.count
    }

    /// All that was skipped: unreadable samples, and what was left out.
    pub(crate) fn skipped(&self) -> Skipped {
        let mut skipped = self.mixture.skipped();
        skipped.merge(&self.left_out);
        skipped
    }

    /// Position in the data after the last example. Codes of pictures that were encoded on the way to it
    /// are in their file then.
    ///
    /// # Errors
    /// When it cannot be written as JSON, or the codes cannot be written.
    pub(crate) fn position(&self) -> Result<Value> {
        self.codes.keep()?;
        serde_json::to_value(self.mixture.state()).map_err(Error::data)
    }

    /// Goes to a position in the data.
    ///
    /// # Errors
    /// When the position belongs to other data.
    pub(crate) fn seek(&mut self, position: &Value) -> Result<()> {
        let state = serde_json::from_value(position.clone()).map_err(Error::data)?;
        self.mixture.restore(&state).map_err(Error::data)
    }

    /// What the model can do now.
    ///
    /// # Errors
    /// Those of sampling.
    pub(crate) fn sheet(&self, model: &Mmada, config: &SamplesConfig, seed: u64) -> Result<Sheet> {
        self.probes.sheet(model, config, seed)
    }
}
