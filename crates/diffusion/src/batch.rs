//! The canvases of a step as one forward: packed rows, and what is wanted of them.
//!
//! ```text
//!   all rows     [ canvas 0 │ its conditions │ its twin │ canvas 1 ]   every sequence whole
//!   with memory  [ active rows of canvas 0, stand-ins │ … ]            against what is remembered
//! ```
//!
//! A memory is used as soon as one canvas of the batch needs it; canvases without a cache rule then
//! have all their rows active, which gives them the same logits.

use std::ops::Range;

use mmada_tensor::{DType, Recall, Rows, Segment, Want};

use crate::cache::{Kept, Remembered, Scope};
use crate::canvas::{Asked, Canvas};
use crate::denoiser::Denoiser;
use crate::error::Result;
use crate::scores::{Logits, Scores};

/// What is known of the memory of the denoiser.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    capacity: usize,
    lanes: Vec<Lane>,
}

/// The part of a canvas.
#[derive(Debug, Clone)]
struct Lane {
    own: Kept,
    /// Under its other conditions.
    also: Vec<Kept>,
    twin: Option<Kept>,
    logits: Option<Remembered>,
}

impl Memory {
    /// Room for canvases, their twins and stand-ins; `None` where no canvas needs a memory.
    pub(crate) fn of(canvases: &[Canvas]) -> Option<Self> {
        if !canvases.iter().any(Canvas::needs_memory) {
            return None;
        }
        let mut capacity = 0;
        let mut room = |length: usize, stand_ins: usize| {
            let start = capacity;
            capacity += length + stand_ins;
            Kept::new(start, length)
        };
        let lane = |canvas: &Canvas| {
            let (length, stand_ins) = (canvas.ids().len(), canvas.stand_ins());
            let twin = canvas.unconditional().map(|u| u.twin_length(length));
            let logits = canvas.remembers_logits();
            Lane {
                own: room(length, stand_ins),
                also: (0..canvas.conditions())
                    .map(|_| room(length, stand_ins))
                    .collect(),
                twin: twin.map(|length| room(length, stand_ins)),
                logits: logits.map(|(positions, codes)| Remembered::new(&positions, codes)),
            }
        };
        let lanes = canvases.iter().map(lane).collect();
        Some(Self { capacity, lanes })
    }
}

/// One canvas in a packed forward.
pub(crate) struct Seat {
    pub(crate) canvas: usize,
    pub(crate) asked: Asked,
    /// Positions whose logits the forward computes: candidates, then committed ones.
    fresh: Vec<usize>,
    /// Wanted row of the first of them.
    first: usize,
    /// The same under each of its other conditions.
    also: Vec<usize>,
    /// The same in its unconditional sequence, and the scale.
    guided: Option<(usize, f32)>,
}

impl Seat {
    /// The logits of everything that was asked.
    pub(crate) fn scores<'a>(
        &'a self,
        canvas: &Canvas,
        logits: &'a Logits,
        memory: Option<&'a mut Memory>,
    ) -> Scores<'a> {
        let mut scores = Scores {
            logits,
            first: self.first,
            also: &self.also,
            guided: self.guided,
            ids: canvas.vocab(),
            remembered: None,
        };
        let Some(remembered) = memory.and_then(|m| m.lanes[self.canvas].logits.as_mut()) else {
            return scores;
        };
        let mut row = Vec::new();
        for (n, &position) in self.fresh.iter().enumerate() {
            scores.read(n, &mut row);
            remembered.put(position, &row);
        }
        scores.remembered = Some((remembered, &self.asked.candidates));
        scores
    }
}

/// A forward.
#[derive(Default)]
pub(crate) struct Batch {
    rows: Rows,
    recall: Option<Recall>,
    want: Vec<usize>,
    vocab: Range<u32>,
    pub(crate) seats: Vec<Seat>,
}

/// What of one sequence is packed.
struct Part<'a> {
    ids: &'a [u32],
    /// Positions whose rows are computed, in order; the others are remembered.
    active: Vec<usize>,
    /// Positions whose logits are wanted, if they are active.
    wanted: &'a [usize],
    /// Positions that have stand-ins, whose logits are wanted too; in order.
    doubted: &'a [usize],
    /// Positions before each of which nothing sees further, as [`Canvas::bounds`] says.
    bounds: &'a [usize],
    mask: u32,
}

impl Part<'_> {
    /// Where what a position sees ends; `None`: it sees everything.
    fn bound(&self, position: usize) -> Option<usize> {
        let after = self.bounds.partition_point(|bound| *bound <= position);
        self.bounds.get(after).copied()
    }
}

impl Batch {
    pub(crate) fn pack(canvases: &[Canvas], mut memory: Option<&mut Memory>) -> Self {
        let mut batch = Self {
            recall: memory.as_ref().map(|memory| Recall {
                capacity: memory.capacity,
                ..Recall::default()
            }),
            ..Self::default()
        };
        for (index, canvas) in canvases.iter().enumerate() {
            if !canvas.is_finished() {
                let lane = memory.as_mut().map(|memory| &mut memory.lanes[index]);
                batch.seat(index, canvas, lane);
            }
        }
        let ranges = batch.seats.iter().map(|seat| canvases[seat.canvas].vocab());
        let hull = ranges.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end));
        batch.vocab = hull.unwrap_or(0..0);
        batch
    }

    /// Rows that the forward computes.
    pub(crate) fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Packs a canvas, what else it is given, and its twin where the step is guided.
    fn seat(&mut self, index: usize, canvas: &Canvas, lane: Option<&mut Lane>) {
        let asked = canvas.asks();
        let (mut own, mut others, mut twin, mut scope) = (None, None, None, Scope::All);
        if let Some(lane) = lane {
            scope = canvas.scope(&asked, lane.logits.as_ref());
            (own, others) = (Some(&mut lane.own), Some(lane.also.iter_mut()));
            twin = lane.twin.as_mut();
        }
        let in_scope = |position| scope.contains(position);
        let stand_ins = asked.committed.len();
        let bounds = canvas.bounds();
        let part = Part {
            ids: canvas.visible(),
            active: active(canvas.visible(), own.as_deref_mut(), in_scope, stand_ins),
            wanted: &asked.candidates,
            doubted: &asked.committed,
            bounds: &bounds,
            mask: canvas.mask(),
        };
        let is_active = |position: &&usize| part.active.binary_search(position).is_ok();
        let fresh = asked.candidates.iter().filter(is_active);
        let fresh = fresh.chain(&asked.committed).copied().collect();
        let first = self.push(&part, own.as_deref());
        let also = canvas.visible_also().map(|ids| {
            let mut kept = others.as_mut().and_then(Iterator::next);
            let part = Part {
                active: active(&ids, kept.as_deref_mut(), in_scope, stand_ins),
                ids: &ids,
                ..part
            };
            self.push(&part, kept.as_deref())
        });
        let also = also.collect();
        let guided = canvas.guidance().map(|guidance| {
            let unconditional = &guidance.unconditional;
            let ids = unconditional.twin(canvas.visible(), canvas.mask());
            let in_scope = |position| match unconditional.origin(position) {
                Some(origin) => scope.contains(origin),
                None => scope == Scope::All,
            };
            let place = |&position: &usize| unconditional.position(position);
            let wanted: Vec<usize> = asked.candidates.iter().map(place).collect();
            let doubted: Vec<usize> = asked.committed.iter().map(place).collect();
            let bounds: Vec<usize> = bounds.iter().map(place).collect();
            let part = Part {
                active: active(&ids, twin.as_deref_mut(), in_scope, stand_ins),
                ids: &ids,
                wanted: &wanted,
                doubted: &doubted,
                bounds: &bounds,
                mask: canvas.mask(),
            };
            (self.push(&part, twin.as_deref()), guidance.scale)
        });
        self.seats.push(Seat {
            canvas: index,
            asked,
            fresh,
            first,
            also,
            guided,
        });
    }

    /// Appends the rows of a sequence; returns the wanted row of the first position asked for.
    fn push(&mut self, part: &Part, kept: Option<&Kept>) -> usize {
        let (start, first) = (self.rows.len(), self.want.len());
        let row = |position: &usize| part.active.binary_search(position).ok();
        self.want
            .extend(part.wanted.iter().filter_map(row).map(|row| start + row));
        let (Some(recall), Some(kept)) = (&mut self.recall, kept) else {
            self.rows.push(part.ids);
            return first;
        };
        let mut add = |position: usize, id: u32, place: usize| {
            self.rows.ids.push(id);
            self.rows.positions.push(position as u32);
            recall.places.push(place);
        };
        for &position in &part.active {
            add(position, part.ids[position], kept.start + position);
        }
        // Tokens do not see the stand-ins, which lie after the last token.
        let end = kept.start + part.ids.len();
        for (n, &position) in part.doubted.iter().enumerate() {
            add(position, part.mask, end + n);
        }
        let mut next = start;
        for run in part
            .active
            .chunk_by(|a, b| part.bound(*a) == part.bound(*b))
        {
            let queries = next..next + run.len();
            next = queries.end;
            let seen = part.bound(run[0]).map_or(end, |bound| kept.start + bound);
            let segment = Segment::new(queries, kept.start..seen);
            recall.segments.push(segment);
        }
        self.want.extend(next..next + part.doubted.len());
        for run in part.doubted.chunk_by(|a, b| a + 1 == *b) {
            let queries = next..next + run.len();
            next = queries.end;
            recall.segments.push(Segment {
                hidden: Some(kept.start + run[0]),
                ..Segment::new(queries, kept.start..end + part.doubted.len())
            });
        }
        self.rows.sequences.push(start..next);
        first
    }

    pub(crate) fn denoise(&self, denoiser: &mut impl Denoiser) -> Result<Logits> {
        let vocab = self.vocab.start as usize..self.vocab.end as usize;
        let want = Want::new(self.want.iter().copied(), vocab);
        let logits = match &self.recall {
            None => denoiser.logits(&self.rows, &want)?,
            Some(recall) => denoiser.logits_recalled(&self.rows, recall, &want)?,
        };
        let expected = [want.rows.len(), want.vocab.len()];
        if logits.dims() != expected {
            let (expected, got) = (format!("{expected:?}"), format!("{:?}", logits.dims()));
            return Err(mmada_tensor::Error::shape("logits of the denoiser", expected, got).into());
        }
        let values = logits
            .to_dtype(DType::F32)
            .and_then(|logits| logits.flatten_all());
        let values = values.and_then(|values| values.to_vec1::<f32>());
        Ok(Logits {
            values: values.map_err(mmada_tensor::Error::from)?,
            vocab: self.vocab.clone(),
        })
    }
}

/// Positions of a sequence whose rows are computed. Afterwards the `stand_ins` rows beyond the last
/// token are not what is remembered of their positions.
fn active(
    ids: &[u32],
    kept: Option<&mut Kept>,
    in_scope: impl Fn(usize) -> bool,
    stand_ins: usize,
) -> Vec<usize> {
    let Some(kept) = kept else {
        return (0..ids.len()).collect();
    };
    kept.forget(ids.len()..ids.len() + stand_ins);
    kept.renew(ids, in_scope)
}
