//! One pass over the shards of a source: reading, the shuffle buffer, and the finite variant.

use std::collections::VecDeque;
use std::sync::Arc;

use mmada_tensor::random::Stream;

use super::Source;
use crate::error::DataError;
use crate::example::Example;
use crate::readers::Shard;
use crate::record::{Read, Record, Records, Skipped};

/// A record and the view to apply to it.
pub(super) type Candidate = (Arc<Record>, usize);

pub(super) enum Order {
    AsRead,
    /// Random numbers and the number of records in the buffer.
    Shuffled(Box<Stream>, usize),
}

/// One pass over the shards.
pub(super) struct Pass {
    shards: VecDeque<usize>,
    current: Option<Records>,
    buffer: VecDeque<Candidate>,
    order: Order,
    /// Broken samples met since the owner last took them.
    pub(super) faults: Vec<(String, String)>,
}

impl Pass {
    pub(super) fn new(shards: VecDeque<usize>, order: Order) -> Self {
        Self {
            shards,
            current: None,
            buffer: VecDeque::new(),
            order,
            faults: Vec::new(),
        }
    }

    pub(super) fn pop(&mut self, source: &Source) -> Result<Option<Candidate>, DataError> {
        let views = source.views.len();
        let variants = source
            .augment
            .as_ref()
            .map_or(1, |augment| augment.variants);
        let capacity = match self.order {
            Order::AsRead => 1,
            Order::Shuffled(_, records) => records.saturating_mul(variants).saturating_mul(views),
        };
        while self.buffer.len() < capacity {
            let Some(record) = self.record(source)? else {
                break;
            };
            let mut add = |record| {
                let record = Arc::new(record);
                self.buffer
                    .extend((0..views).map(|view| (Arc::clone(&record), view)));
            };
            match &source.augment {
                Some(augment) => augment.variants(record).for_each(add),
                None => add(record),
            }
        }
        Ok(match &mut self.order {
            Order::AsRead => self.buffer.pop_front(),
            Order::Shuffled(stream, _) => {
                let choice = stream.below(self.buffer.len());
                self.buffer.swap_remove_back(choice)
            }
        })
    }

    /// The next usable record of any shard.
    fn record(&mut self, source: &Source) -> Result<Option<Record>, DataError> {
        loop {
            let Some(records) = &mut self.current else {
                let Some(index) = self.shards.pop_front() else {
                    return Ok(None);
                };
                self.current = Some(source.format.read(&Shard {
                    path: &source.shards[index],
                    index,
                    source: source.name.clone(),
                    bounds: source.bounds,
                })?);
                continue;
            };
            match records.next() {
                None => self.current = None,
                Some(Ok(Read::Record(mut record))) => {
                    // Before the join, which may bring another picture or other messages: what is
                    // held out depends on the record alone.
                    if source.part.is_some_and(|part| !part.admits(&record)) {
                        continue;
                    }
                    if let Some(join) = &source.join {
                        join.extend(&mut record.fields);
                        let joined = || source.format.named_image(&record.fields);
                        record.image = record.image.take().or_else(joined);
                    }
                    return Ok(Some(record));
                }
                Some(Ok(Read::Broken { name, reason })) => self.faults.push((name, reason)),
                Some(Err(error)) => {
                    self.current = None;
                    return Err(error);
                }
            }
        }
    }
}

/// One finite pass; see [`Source::iter_once`].
pub struct Once<'a> {
    pub(super) source: &'a Source,
    pub(super) pass: Pass,
    pub(super) index: u64,
    pub(super) skipped: Skipped,
    pub(super) is_done: bool,
}

impl Once<'_> {
    /// Samples skipped in this pass.
    pub fn skipped(&self) -> &Skipped {
        &self.skipped
    }
}

impl Iterator for Once<'_> {
    type Item = Result<Example, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.is_done {
            let popped = self.pass.pop(self.source);
            for (name, reason) in self.pass.faults.drain(..) {
                self.skipped.add(name, reason);
            }
            let (record, view) = match popped {
                Ok(Some(candidate)) => candidate,
                Ok(None) => break,
                Err(error) => {
                    self.is_done = true;
                    return Some(Err(error));
                }
            };
            let mut stream = self.source.key(0).example(self.index).stream();
            self.index += 1;
            match self.source.example((&record, view), &mut stream) {
                Ok(Some(example)) => return Some(Ok(example)),
                Ok(None) => {}
                Err(reason) => self.skipped.add(record.key.clone(), reason),
            }
        }
        self.is_done = true;
        None
    }
}
