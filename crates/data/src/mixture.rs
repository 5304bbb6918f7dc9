//! Several sources in one stream, chosen by weight.

use std::path::Path;

use mmada_tensor::random::{Key, Purpose};
use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::example::Example;
use crate::images::Stores;
use crate::record::Skipped;
use crate::source::{Once, Source, SourceConfig, SourceState};

/// A position in a mixture.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MixtureState {
    /// Examples yielded.
    pub drawn: u64,
    /// Position of each source, by name, in the order of the configuration.
    pub sources: Vec<(String, SourceState)>,
}

/// An endless stream of examples: draw `n` comes from the source that `(seed, n)` chooses, with
/// probability proportional to its weight.
pub struct Mixture {
    sources: Vec<Source>,
    seed: u64,
    drawn: u64,
}

impl Mixture {
    /// Opens every source. `root` is where relative paths start.
    ///
    /// # Errors
    /// As [`Source::open`]; [`DataError::Config`] when there is no source, a name occurs twice or
    /// all weights are zero.
    pub fn open(configs: &[SourceConfig], root: &Path, seed: u64) -> Result<Self, DataError> {
        let fault = |name: &str, reason: &str| DataError::Config {
            name: name.into(),
            reason: reason.into(),
        };
        for (index, cfg) in configs.iter().enumerate() {
            if configs[..index].iter().any(|other| other.name == cfg.name) {
                return Err(fault(
                    &cfg.name,
                    "the name occurs twice; names must be unique",
                ));
            }
        }
        if configs.iter().all(|cfg| cfg.weight == 0.0) {
            return Err(fault("[[data]]", "needs a source with a weight above zero"));
        }
        let mut stores = Stores::default();
        let sources = configs
            .iter()
            .map(|cfg| Source::open(cfg, root, seed, &mut stores))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            sources,
            seed,
            drawn: 0,
        })
    }

    /// The next example.
    ///
    /// # Errors
    /// As [`Source::next_example`].
    pub fn next_example(&mut self) -> Result<Example, DataError> {
        let chosen = self.choose();
        let example = self.sources[chosen].next_example()?;
        self.drawn += 1;
        Ok(example)
    }

    fn choose(&self) -> usize {
        let key = Key::new(self.seed, Purpose::Data).step(self.drawn);
        let total: f64 = self.sources.iter().map(Source::weight).sum();
        let mut left = key.stream().uniform_f64() * total;
        let mut chosen = 0;
        for (index, source) in self.sources.iter().enumerate() {
            if source.weight() > 0.0 {
                chosen = index;
                left -= source.weight();
                if left < 0.0 {
                    break;
                }
            }
        }
        chosen
    }

    /// The sources, in the order of the configuration.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// One finite pass over every source in turn, in the order of the files.
    pub fn iter_once(&self) -> MixtureOnce<'_> {
        MixtureOnce {
            waiting: self.sources.iter(),
            current: None,
            skipped: Skipped::default(),
        }
    }

    /// Examples in one pass over everything, where every source knows its own number.
    pub fn len_hint(&self) -> Option<usize> {
        self.sources.iter().map(Source::len_hint).sum()
    }

    /// Samples skipped so far in all sources.
    pub fn skipped(&self) -> Skipped {
        let mut all = Skipped::default();
        for source in &self.sources {
            all.merge(source.skipped());
        }
        all
    }

    /// The current position.
    pub fn state(&self) -> MixtureState {
        let position = |source: &Source| (source.name().to_owned(), source.state());
        MixtureState {
            drawn: self.drawn,
            sources: self.sources.iter().map(position).collect(),
        }
    }

    /// Goes to a position: the following examples equal those of a run that never stopped.
    ///
    /// # Errors
    /// [`DataError::Resume`] when the position belongs to other sources; as [`Source::restore`].
    pub fn restore(&mut self, state: &MixtureState) -> Result<(), DataError> {
        let saved: Vec<&str> = state.sources.iter().map(|(name, _)| &**name).collect();
        let mine: Vec<&str> = self.sources.iter().map(Source::name).collect();
        if saved != mine {
            return Err(DataError::Resume {
                reason: format!("it was saved with the sources {saved:?}, this run has {mine:?}"),
            });
        }
        for (source, (_, position)) in self.sources.iter_mut().zip(&state.sources) {
            source.restore(*position)?;
        }
        self.drawn = state.drawn;
        Ok(())
    }
}

/// One finite pass; see [`Mixture::iter_once`].
pub struct MixtureOnce<'a> {
    waiting: std::slice::Iter<'a, Source>,
    current: Option<Once<'a>>,
    /// Samples skipped in the sources already finished.
    skipped: Skipped,
}

impl MixtureOnce<'_> {
    /// Samples skipped so far in this pass.
    pub fn skipped(&self) -> Skipped {
        let mut all = self.skipped.clone();
        if let Some(once) = &self.current {
            all.merge(once.skipped());
        }
        all
    }
}

impl Iterator for MixtureOnce<'_> {
    type Item = Result<Example, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(once) = &mut self.current {
                if let Some(example) = once.next() {
                    return Some(example);
                }
                self.skipped.merge(once.skipped());
            }
            self.current = None;
            self.current = Some(self.waiting.next()?.iter_once());
        }
    }
}
