//! One source of examples: files, shuffled anew each epoch, without end, resumable anywhere.
//!
//! ```text
//! shards, permuted by (seed, epoch) ─▶ records × views ─▶ shuffle buffer ─pop─▶ view ─▶ Example
//!                                                                        └ state: (epoch, pops)
//! ```
//! The order depends only on (seed, epoch), so a position is two numbers: resuming re-reads the
//! epoch up to that pop, without filling templates or touching pictures kept apart.

mod config;
mod join;
mod pass;

use std::collections::VecDeque;
use std::iter::repeat_n;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mmada_tensor::random::{Key, Purpose, Stream};
use serde::{Deserialize, Serialize};

pub use config::{JoinConfig, SourceConfig, SourceKind};
use join::Join;
pub use pass::Once;
use pass::{Candidate, Order, Pass};

use crate::augment::Augment;
use crate::error::DataError;
use crate::example::Example;
use crate::files::{self, Bounds};
use crate::images::Stores;
use crate::part::Part;
use crate::readers::Format;
use crate::record::{Record, Skipped, hash64};
use crate::sketch::Sketch;
use crate::view::View;

/// A position: enough to go on with exactly the next example.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceState {
    /// Epoch, from 0.
    pub epoch: u64,
    /// Candidates taken from the shuffle buffer in this epoch, skipped ones included.
    pub index: u64,
}

/// An endless, shuffled, resumable stream of examples.
pub struct Source {
    name: Arc<str>,
    weight: f64,
    shards: Vec<PathBuf>,
    format: Format,
    join: Option<Join>,
    part: Option<Part>,
    augment: Option<Augment>,
    sketch: Option<Sketch>,
    views: Vec<View>,
    shuffle: usize,
    bounds: Bounds,
    seed: u64,
    state: SourceState,
    pass: Option<Pass>,
    /// Where in the epoch this process took over.
    entered_at: u64,
    /// Examples yielded since then.
    yielded: usize,
    epoch_len: Option<usize>,
    skipped: Skipped,
}

impl Source {
    /// Finds the files and opens the store of pictures; reads no sample yet.
    ///
    /// `root` is where relative paths start. `stores` lets sources share archives.
    ///
    /// # Errors
    /// [`DataError::Config`], [`DataError::NoFiles`], or [`DataError::Shard`] for the pictures.
    pub fn open(
        cfg: &SourceConfig,
        root: &Path,
        seed: u64,
        stores: &mut Stores,
    ) -> Result<Self, DataError> {
        cfg.check()?;
        let bounds = Bounds {
            entry: cfg.entry_limit,
            ..Bounds::default()
        };
        let shards = files::expand(&cfg.paths, root)?;
        let images = match &cfg.images {
            Some(path) => Some(stores.get(&root.join(path), bounds)?),
            None => None,
        };
        let image_field = cfg.image_field.clone();
        let format = match cfg.kind {
            SourceKind::WebDataset => Format::WebDataset,
            SourceKind::Jsonl => Format::Jsonl {
                images,
                image_field,
            },
            SourceKind::Parquet => Format::Parquet {
                images,
                image_field,
            },
            SourceKind::Conversations => Format::Conversations {
                images,
                turns: cfg.turns.unwrap_or_default(),
            },
            SourceKind::Folder => Format::Folder,
        };
        Ok(Self {
            name: cfg.name.as_str().into(),
            weight: cfg.weight,
            shards,
            format,
            join: match &cfg.join {
                Some(join) => Some(Join::open(join, root, bounds)?),
                None => None,
            },
            part: cfg.part,
            augment: cfg.augment.clone(),
            sketch: cfg.sketch.map(|side| Sketch {
                side,
                figure: cfg.figure.clone(),
            }),
            views: {
                let copies = |view: &View| repeat_n(view.clone(), view.times);
                cfg.views.iter().flat_map(copies).collect()
            },
            shuffle: cfg.shuffle,
            bounds,
            // Two sources of one run never share numbers.
            seed: seed ^ hash64(&[cfg.name.as_bytes()]),
            state: SourceState::default(),
            pass: None,
            entered_at: 0,
            yielded: 0,
            epoch_len: None,
            skipped: Skipped::default(),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its weight in the mixture.
    pub fn weight(&self) -> f64 {
        self.weight
    }

    /// Samples skipped so far, with names and reasons.
    pub fn skipped(&self) -> &Skipped {
        &self.skipped
    }

    /// Examples per epoch where known: from Parquet footers where nothing is filtered, else after one
    /// whole epoch.
    pub fn len_hint(&self) -> Option<usize> {
        let counted = || {
            let counts = self.shards.iter().map(|path| self.format.count(path));
            let variants = self.augment.as_ref().map_or(1, |augment| augment.variants);
            let all = counts.sum::<Option<usize>>()? * variants * self.views.len();
            let is_filtered = |view: &View| !view.only.is_empty() || !view.exclude.is_empty();
            let is_whole = self.part.is_none() && !self.views.iter().any(is_filtered);
            is_whole.then_some(all)
        };
        self.epoch_len.or_else(counted)
    }

    /// The next example, in the next epoch if need be.
    ///
    /// # Errors
    /// [`DataError::Shard`] for a broken shard; [`DataError::Empty`] when a whole epoch holds
    /// nothing to learn from.
    pub fn next_example(&mut self) -> Result<Example, DataError> {
        loop {
            let Some((record, view)) = self.pop()? else {
                self.next_epoch()?;
                continue;
            };
            let mut stream = self
                .key(self.state.epoch)
                .example(self.state.index)
                .stream();
            self.state.index += 1;
            match self.example((&record, view), &mut stream) {
                Ok(Some(example)) => {
                    self.yielded += 1;
                    return Ok(example);
                }
                Ok(None) => {}
                Err(reason) => self.skipped.add(record.key.clone(), reason),
            }
        }
    }

    /// The current position: the next example is the first after it.
    pub fn state(&self) -> SourceState {
        self.state
    }

    /// Goes to a position: the following examples equal those of a run that never stopped.
    ///
    /// # Errors
    /// [`DataError::Shard`] while re-reading; [`DataError::Resume`] when the epoch is shorter
    /// than the position, which means that the files have changed.
    pub fn restore(&mut self, state: SourceState) -> Result<(), DataError> {
        self.state.epoch = state.epoch;
        self.pass = None;
        for done in 0..state.index {
            if self.pop()?.is_none() {
                return Err(DataError::Resume {
                    reason: format!(
                        "source '{}' has {done} samples per epoch, the saved position is {}; the files have changed",
                        self.name, state.index
                    ),
                });
            }
        }
        self.state = state;
        self.entered_at = state.index;
        self.yielded = 0;
        Ok(())
    }

    /// One finite pass in the order of the files, every view of every record, for evaluation or
    /// encoding. Does not move the position of the endless stream.
    pub fn iter_once(&self) -> Once<'_> {
        Once {
            pass: Pass::new((0..self.shards.len()).collect(), Order::AsRead),
            source: self,
            index: 0,
            skipped: Skipped::default(),
            is_done: false,
        }
    }

    /// What a candidate makes, its picture sketched where that is wanted.
    fn example(
        &self,
        (record, index): (&Record, usize),
        stream: &mut Stream,
    ) -> Result<Option<Example>, String> {
        let view = &self.views[index];
        match self.sketch.as_ref().filter(|_| view.admits(record)) {
            Some(sketch) => view.apply(&sketch.of(record)?, index, stream),
            None => view.apply(record, index, stream),
        }
    }

    fn key(&self, epoch: u64) -> Key {
        Key::new(self.seed, Purpose::Data).step(epoch)
    }

    fn pop(&mut self) -> Result<Option<Candidate>, DataError> {
        let mut pass = match self.pass.take() {
            Some(pass) => pass,
            None => self.shuffled(),
        };
        let popped = pass.pop(self);
        let faults = std::mem::take(&mut pass.faults);
        self.pass = Some(pass);
        for (name, reason) in faults {
            self.skipped.add(name, reason);
        }
        popped
    }

    /// The pass of the current epoch, at its start.
    fn shuffled(&self) -> Pass {
        let key = self.key(self.state.epoch);
        let mut order: VecDeque<usize> = (0..self.shards.len()).collect();
        if self.shuffle == 1 {
            return Pass::new(order, Order::AsRead);
        }
        // Examples count up from 0, so the largest numbers are free for the order itself.
        key.example(u64::MAX)
            .stream()
            .shuffle(order.make_contiguous());
        let stream = key.example(u64::MAX - 1).stream();
        Pass::new(order, Order::Shuffled(Box::new(stream), self.shuffle))
    }

    fn next_epoch(&mut self) -> Result<(), DataError> {
        let is_whole = self.entered_at == 0;
        if is_whole && self.yielded == 0 {
            let hint = match self.skipped.last.back() {
                Some((name, reason)) => format!("last skipped: {name}: {reason}"),
                None => {
                    "its files are empty, or 'part' and the filters leave every record out".into()
                }
            };
            return Err(DataError::Empty {
                name: self.name.to_string(),
                hint,
            });
        }
        if is_whole {
            self.epoch_len = Some(self.yielded);
        }
        self.state = SourceState {
            epoch: self.state.epoch + 1,
            index: 0,
        };
        self.pass = None;
        self.entered_at = 0;
        self.yielded = 0;
        Ok(())
    }
}
