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

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no row at all.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Full bidirectional attention: every row sees its whole sequence.
    pub fn segments(&self) -> Vec<Segment> {
        self.sequences
            .iter()
            .map(|s| Segment {
                queries: s.clone(),
                keys: s.clone(),
            })
            .collect()
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
