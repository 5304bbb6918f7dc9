//! All windows of an answer in one forward, each with its own past.
//!
//! ```text
//!   piece    prompt │ 3 3 + │ 6 = 9 │ 3 ? + a a │ ? = ? a a │ ? e e a a      a: masked ahead
//!   past               ▲      ▲ ▲      prompt      ▲ 3 3 +     ▲ 3 3 + 6 = 9
//!            └── given, each block with all before it ──┘ └── learnt: a window knows no other ──┘
//! ```
//!
//! One window of an answer learns from a few tokens and pays for the prompt and all that comes before
//! it. Here prompt and answer are paid for once. What is given sees nothing of the windows, so it is
//! the same for all of them, as keys and values are that a sampler has remembered. As the training of
//! block diffusion (Arriola et al. 2025, arXiv 2503.09573).
//!
//! Where windows are single tokens, a masked one always has its left neighbour, and no other mask tells
//! more: all there is to learn from an answer read from left to right, for two rows a token.
//!
//! ```text
//!   piece    prompt │ 3 3 + 6 = 9 │ ? ? ? ? ? ? ?     each sees what is before its position, and itself
//! ```

use std::ops::Range;

use mmada_tensor::Rows;
use mmada_tensor::random::Stream;
use serde::{Deserialize, Serialize};

use super::{Noised, Weighting, Window, Work, mask_independently};

/// Neighbouring ids of a noised example that see each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Their places among the ids.
    pub ids: Range<usize>,
    /// The position of the first of them in the sequence.
    pub position: usize,
    /// Places of the ids before, which these see and which do not see these; empty: none.
    pub past: Range<usize>,
    /// Whether each sees the past only up to its own position, and of the piece itself alone. The past
    /// may then go on into the piece.
    pub is_rising: bool,
}

/// A row with the parts of its end that are asked for laid behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tiles {
    /// What is given, and behind it what is asked for.
    pub ids: Vec<u32>,
    /// What of them sees what.
    pub pieces: Vec<Piece>,
    /// Places among the ids of what is asked for, a run for each part, without the masks ahead.
    pub asked: Vec<Range<usize>>,
}

impl Tiles {
    /// The end of a row, cut into windows, which follow each other and are not masked yet, each with
    /// `ahead` masks behind it where positions below `limit` have room for them.
    pub fn windows(
        ids: &[u32],
        windows: &[Range<usize>],
        (ahead, limit): (usize, usize),
        mask: u32,
    ) -> Self {
        let piece = |ids, position, past| Piece {
            ids,
            position,
            past: 0..past,
            is_rising: false,
        };
        // What is given: the prompt, and each window but the last.
        let first = windows.first().map_or(ids.len(), |window| window.start);
        let given = windows.last().map_or(ids.len(), |window| window.start);
        let runs = std::iter::once(0..first).chain(windows.iter().cloned());
        let runs = runs.take(windows.len().max(1));
        let mut tiles = Self {
            ids: ids[..given].to_vec(),
            pieces: runs
                .map(|run| piece(run.clone(), run.start, run.start))
                .collect(),
            asked: Vec::with_capacity(windows.len()),
        };
        for window in windows {
            let place = tiles.ids.len();
            let end = place + window.len();
            tiles.ids.extend_from_slice(&ids[window.clone()]);
            let room = limit.saturating_sub(window.end);
            tiles.ids.resize(end + ahead.min(room), mask);
            let all = place..tiles.ids.len();
            tiles.pieces.push(piece(all, window.start, window.start));
            tiles.asked.push(place..end);
        }
        tiles
    }

    /// All blocks of a row from `first` on, masked, as a block-causal sampler sees them
    /// ([`crate::CacheRule::BlockCausal`]).
    pub fn blocks(
        ids: &[u32],
        first: usize,
        block: usize,
        (ahead, limit): (usize, usize),
        mask: u32,
    ) -> Self {
        let block = block.max(1);
        if (block, ahead) == (1, 0) {
            return Self::tokens(ids, first, mask);
        }
        let starts = (first..ids.len()).step_by(block);
        let windows = starts.map(|start| start..(start + block).min(ids.len()));
        let windows: Vec<Range<usize>> = windows.collect();
        let mut tiles = Self::windows(ids, &windows, (ahead, limit), mask);
        for asked in &tiles.asked {
            tiles.ids[asked.clone()].fill(mask);
        }
        tiles
    }

    /// Every token of a row from `first` on, masked, each with all before it and nothing ahead.
    pub fn tokens(ids: &[u32], first: usize, mask: u32) -> Self {
        let end = ids.len();
        let given = end.saturating_sub(1).max(first);
        let asked = given..given + end - first;
        let mut tiled = ids[..given].to_vec();
        tiled.resize(asked.end, mask);
        let rising = |ids, past| Piece {
            ids,
            position: first,
            past: 0..past,
            is_rising: true,
        };
        let mut pieces = vec![Piece {
            ids: 0..first,
            position: 0,
            past: 0..0,
            is_rising: false,
        }];
        if given > first {
            pieces.push(rising(first..given, given - 1));
        }
        pieces.push(rising(asked.clone(), given));
        Self {
            ids: tiled,
            pieces,
            asked: vec![asked],
        }
    }
}

/// Lays ids behind other rows, as one sequence where there are no pieces; returns the row of the first.
pub fn push_pieces(ids: &[u32], pieces: &[Piece], rows: &mut Rows) -> usize {
    let start = rows.len();
    if pieces.is_empty() {
        rows.push(ids);
    }
    for piece in pieces {
        let past = start + piece.past.start..start + piece.past.end;
        let ids = &ids[piece.ids.clone()];
        let position = piece.position as u32;
        match (past.is_empty(), piece.is_rising) {
            (true, _) => rows.push(ids),
            (false, true) => rows.push_rising(past, position, ids),
            (false, false) => rows.push_after(past, position, ids),
        };
    }
    start
}

impl Noised {
    /// Lays the ids behind other rows; returns the row of the first.
    pub fn push_onto(&self, rows: &mut Rows) -> usize {
        let start = push_pieces(&self.ids, &self.pieces, rows);
        for position in &mut rows.positions[start..] {
            *position = self.origin(*position);
        }
        start
    }

    /// Leaves out what lies beyond `longest` positions of the sequence, which is no target.
    pub fn truncate(&mut self, longest: usize) {
        if self.pieces.is_empty() {
            self.ids.truncate(longest);
            return;
        }
        let ids = std::mem::take(&mut self.ids);
        for piece in &mut self.pieces {
            let start = self.ids.len();
            let room = longest.saturating_sub(piece.position);
            let kept = piece.ids.start..piece.ids.end.min(piece.ids.start + room);
            let of_piece = |target: &&mut super::Target| piece.ids.contains(&target.position);
            for target in self.targets.iter_mut().filter(of_piece) {
                target.position -= piece.ids.start - start;
            }
            self.ids.extend_from_slice(&ids[kept]);
            piece.ids = start..self.ids.len();
        }
    }
}

impl Work<'_> {
    /// Whether the answer is the rest of the sequence and something is before it, as windows side by
    /// side need it.
    pub(super) fn can_be_tiled(&self) -> bool {
        let first = self.learnable_text().next();
        first.is_some_and(|first| first > 0 && self.learnable_text().eq(first..self.ids.len()))
    }

    /// Cuts the answer into windows from a random place on, of which each is noised at a rate of its
    /// own, and counts as an example. `rate` is given a number for each, spread evenly over `[0, 1)`.
    pub(super) fn tile(
        &mut self,
        weighting: Weighting,
        window: Window,
        ahead: usize,
        rate: impl Fn(f32) -> f32,
        stream: &mut Stream,
    ) {
        let Some(answer) = self.learnable_text().next() else {
            return;
        };
        let (end, length) = (self.ids.len(), window.length.max(1));
        let first = answer + 1 + stream.below(length);
        let mut starts = vec![answer];
        starts.extend((first..end).step_by(length));
        let ends = starts[1..].iter().copied().chain([end]);
        let windows: Vec<Range<usize>> = starts.iter().zip(ends).map(|(s, e)| *s..e).collect();

        let tiles = Tiles::windows(&self.ids, &windows, (ahead, usize::MAX), self.mask);
        (self.ids, self.pieces) = (tiles.ids, tiles.pieces);
        self.share = 0.0;
        let count = windows.len() as f32;
        for (index, (run, asked)) in windows.into_iter().zip(tiles.asked).enumerate() {
            let positions: Vec<usize> = run.clone().collect();
            let rate = rate(index as f32 / count);
            let masked = mask_independently(&positions, rate, stream);
            let to_place = |position: usize| asked.start + position - run.start;
            for &position in &masked {
                self.ids[to_place(position)] = self.mask;
            }
            let (before, share) = (self.targets.len(), self.share);
            self.learn(weighting, rate, positions.len(), &masked, &[]);
            for target in &mut self.targets[before..] {
                target.position = to_place(target.position);
            }
            self.share += share;
        }
    }

    /// Masks every token of the answer, each for itself. Together they weigh what windows of `length`
    /// tokens do.
    pub(super) fn each_token(&mut self, weighting: Weighting, length: usize) {
        let Some(answer) = self.learnable_text().next() else {
            return;
        };
        let end = self.ids.len();
        let tiles = Tiles::tokens(&self.ids, answer, self.mask);
        (self.ids, self.pieces) = (tiles.ids, tiles.pieces);
        let place = tiles.asked.first().map_or(0, |asked| asked.start);

        let weight = 1.0 / length.max(1) as f32;
        let positions: Vec<usize> = (answer..end).collect();
        self.learn(weighting, 1.0, 1, &positions, &[]);
        for target in &mut self.targets {
            target.position = place + target.position - answer;
            target.weight *= weight;
        }
        self.share = positions.len() as f32 * weight;
    }
}
