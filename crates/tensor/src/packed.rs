//! Packed rows: a batch is a list of token sequences laid end to end.
//!
//! ```text
//!   ids        [ a a a a | b b | c c c ]      one row per token, no padding anywhere
//!   positions  [ 0 1 2 3 | 0 1 | 0 1 2 ]      counted within each sequence, here and only here
//!   sequences  [ 0..4      4..6  6..9  ]      attention stays inside one of these
//! ```
//!
//! Linear layers see `[rows, width]` and never learn where a sequence ends. Prompts of different
//! length, the two halves of guidance, several users' requests and training examples are all just
//! more sequences. Rotary positions are relative, so leaving out left padding changes nothing.
//!
//! A sequence may go on from rows before it, which see nothing of it; several can share them:
//!
//! ```text
//!   ids        [ a a a | b b | c c c | d d ]
//!   past                  a     a b    a      b, c and d see what stands below them, and themselves
//! ```
//!
//! Or each row of it sees the past up to its own position, and of the sequence itself alone: so many
//! sequences of one row, as tokens that are each to be known from those before.

use std::collections::BTreeMap;
use std::ops::Range;

/// Token sequences laid end to end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    /// Token id of each row.
    pub ids: Vec<u32>,
    /// Position of each row within its sequence.
    pub positions: Vec<u32>,
    /// The rows of each sequence, in order, without gaps.
    pub sequences: Vec<Range<usize>>,
    /// Earlier rows that a sequence goes on from and sees, by the number of the sequence.
    pub pasts: BTreeMap<usize, Range<usize>>,
    /// Sequences whose rows see a part of the past, each one row more than the one before it, and of the
    /// sequence themselves alone: how much of it the first sees, by the number of the sequence. Their past
    /// may go on into the sequence.
    pub rising: BTreeMap<usize, usize>,
}

/// Which logits a caller needs: nobody ever builds `[rows, vocabulary]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// Indices of packed rows, in the order in which their logits come back.
    pub rows: Vec<usize>,
    /// The slice of the vocabulary.
    pub vocab: Range<usize>,
}

/// Rows that attend, and the rows they may attend to. Queries may be fewer than keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Rows of the query tensor.
    pub queries: Range<usize>,
    /// Rows of the key and value tensors.
    pub keys: Range<usize>,
    /// Further rows of them, before `keys`, that every query sees; empty: none.
    pub past: Range<usize>,
    /// Keys that single queries do not see: from the first query this key is hidden, from the
    /// second the next, and so on. A query that stands in for a token must not see the token.
    pub hidden: Option<usize>,
    /// How much of the past the first query sees, from the beginning; the next sees one row more, and so
    /// on. Of `keys`, as many as queries, each then sees its own.
    pub rising: Option<usize>,
}

/// Packed rows as the active rows of longer sequences, whose other keys and values are remembered
/// from earlier forwards.
///
/// ```text
///   packed rows    │ 4 5 │ 2 3 4 │            what is computed
///                     ▼ places ▼
///   memory         │ 0 1 2 3 4 5 │ 0 1 2 3 4 │  keys and values of two sequences
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recall {
    /// Rows of the memory.
    pub capacity: usize,
    /// The row of the memory that each packed row is written to, each once.
    pub places: Vec<usize>,
    /// Queries are packed rows, keys are rows of the memory.
    pub segments: Vec<Segment>,
}

impl Segment {
    /// Every query sees every key.
    pub fn new(queries: Range<usize>, keys: Range<usize>) -> Self {
        Self {
            queries,
            keys,
            past: 0..0,
            hidden: None,
            rising: None,
        }
    }

    /// Keys that are seen: of the past, then the others.
    pub fn seen(&self) -> usize {
        self.past.len() + self.keys.len()
    }

    /// The segment of some of its queries, which are `queries` among those that remain, and were
    /// `skipped` queries after the first.
    pub fn part(&self, skipped: usize, queries: Range<usize>) -> Self {
        Self {
            keys: match self.rising {
                Some(_) => self.keys.start + skipped..self.keys.start + skipped + queries.len(),
                None => self.keys.clone(),
            },
            queries,
            hidden: self.hidden.map(|key| key + skipped),
            rising: self.rising.map(|first| first + skipped),
            ..self.clone()
        }
    }

    /// Whether queries differ in what they see.
    pub fn is_partly_seen(&self) -> bool {
        self.hidden.is_some() || self.rising.is_some()
    }

    /// The hidden key of a query of this segment.
    pub fn hidden_from(&self, query: usize) -> Option<usize> {
        self.hidden.map(|key| key + query - self.queries.start)
    }

    /// What a query does not see, of the past and then the keys in one count; runs may be empty.
    pub fn unseen_by(&self, query: usize) -> [Range<usize>; 3] {
        let (past, nth) = (self.past.len(), query - self.queries.start);
        let hidden = self.hidden_from(query);
        let hidden = hidden.map_or(0..0, |key| {
            let key = past + key - self.keys.start;
            key..key + 1
        });
        match self.rising {
            None => [hidden, 0..0, 0..0],
            // The rest of the past ends where the keys begin.
            Some(first) => [hidden, first + nth..past + nth, past + nth + 1..self.seen()],
        }
    }
}

impl Rows {
    /// Lays sequences end to end.
    pub fn pack<S: AsRef<[u32]>>(sequences: impl IntoIterator<Item = S>) -> Self {
        let mut rows = Self::default();
        for ids in sequences {
            rows.push(ids.as_ref());
        }
        rows
    }

    /// Appends one sequence and returns its rows.
    pub fn push(&mut self, ids: &[u32]) -> Range<usize> {
        let start = self.ids.len();
        self.ids.extend_from_slice(ids);
        self.positions.extend(0..ids.len() as u32);
        let range = start..self.ids.len();
        self.sequences.push(range.clone());
        range
    }

    /// Appends a sequence that goes on, at `position`, from `past`, rows that are there already, and
    /// returns its rows.
    pub fn push_after(&mut self, past: Range<usize>, position: u32, ids: &[u32]) -> Range<usize> {
        let range = self.push(ids);
        self.pasts.insert(self.sequences.len() - 1, past);
        for (row, place) in self.positions[range.clone()].iter_mut().zip(position..) {
            *row = place;
        }
        range
    }

    /// As [`Rows::push_after`], where each row sees `past`, which begins with position 0, up to its own
    /// position, and of the sequence itself alone.
    pub fn push_rising(&mut self, past: Range<usize>, position: u32, ids: &[u32]) -> Range<usize> {
        self.rising.insert(self.sequences.len(), position as usize);
        self.push_after(past, position, ids)
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no row at all.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Full bidirectional attention: every row sees its whole sequence, and the past of that.
    pub fn segments(&self) -> Vec<Segment> {
        let segment = |(number, rows): (usize, &Range<usize>)| {
            let own = Segment::new(rows.clone(), rows.clone());
            match self.pasts.get(&number) {
                Some(past) if self.rising.contains_key(&number) => Segment {
                    past: past.clone(),
                    rising: self.rising.get(&number).copied(),
                    ..own
                },
                Some(past) if past.end == rows.start => {
                    Segment::new(rows.clone(), past.start..rows.end)
                }
                Some(past) => Segment {
                    past: past.clone(),
                    ..own
                },
                None => own,
            }
        };
        self.sequences.iter().enumerate().map(segment).collect()
    }
}

impl Want {
    /// All of `rows`, over `vocab`.
    pub fn new(rows: impl IntoIterator<Item = usize>, vocab: Range<usize>) -> Self {
        Self {
            rows: rows.into_iter().collect(),
            vocab,
        }
    }
}
