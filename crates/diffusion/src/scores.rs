//! The logits of one canvas at one step, row by row, guidance applied; and what is read off a row.

use std::ops::Range;

use crate::guidance::combine;

/// Logits of a whole forward, on the host.
pub(crate) struct Logits {
    pub(crate) values: Vec<f32>,
    /// The slice of the vocabulary that was asked for.
    pub(crate) vocab: Range<u32>,
}

/// One canvas's part of a forward.
pub(crate) struct Scores<'a> {
    pub(crate) logits: &'a Logits,
    /// Wanted row of the canvas's first candidate.
    pub(crate) first: usize,
    /// The same in the unconditional sequence, and the scale.
    pub(crate) guided: Option<(usize, f32)>,
    /// The ids that the canvas asked for, within `logits.vocab`.
    pub(crate) ids: Range<u32>,
}

impl Scores<'_> {
    /// Copies the logits of the n-th candidate, guidance applied, into `row`.
    pub(crate) fn read(&self, n: usize, row: &mut Vec<f32>) {
        row.clear();
        row.extend_from_slice(self.slice(self.first + n));
        if let Some((first, scale)) = self.guided {
            combine(row, self.slice(first + n), scale);
        }
    }

    fn slice(&self, row: usize) -> &[f32] {
        let Logits { values, vocab } = self.logits;
        let start = row * vocab.len() + (self.ids.start - vocab.start) as usize;
        &values[start..start + self.ids.len()]
    }
}

/// What is drawn for a position before it is known whether it is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Proposal {
    pub(crate) position: usize,
    pub(crate) id: u32,
    pub(crate) confidence: f64,
    /// The highest are kept.
    pub(crate) order: f64,
}

/// The largest entry and the sum of `exp(entry − largest)`; `None` where either is not finite.
pub(crate) fn normaliser(row: &[f32]) -> Option<(f32, f64)> {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = row.iter().map(|&entry| weight(entry, largest)).sum();
    (largest.is_finite() && sum.is_finite()).then_some((largest, sum))
}

/// Unnormalised probability, in f64: confidences near 1 must stay apart.
pub(crate) fn weight(entry: f32, largest: f32) -> f64 {
    (f64::from(entry) - f64::from(largest)).exp()
}

/// Index of the first largest entry.
pub(crate) fn argmax(row: impl IntoIterator<Item = f64>) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for (index, entry) in row.into_iter().enumerate() {
        if entry > best.1 {
            best = (index, entry);
        }
    }
    best.0
}

/// Parts proposals into the `keep` highest, in order of position, and the others. Of equals, the
/// earlier position is kept, so that a step always commits exactly its share.
pub(crate) fn split(mut proposals: Vec<Proposal>, keep: usize) -> (Vec<Proposal>, Vec<Proposal>) {
    proposals.sort_by(|a, b| {
        b.order
            .total_cmp(&a.order)
            .then(a.position.cmp(&b.position))
    });
    let mut held = proposals.split_off(keep.min(proposals.len()));
    proposals.sort_by_key(|proposal| proposal.position);
    held.sort_by_key(|proposal| proposal.position);
    (proposals, held)
}
