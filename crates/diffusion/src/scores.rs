//! The logits of one canvas at one step, row by row, conditions averaged and guidance applied; and what is read off a row.

use std::ops::Range;

use mmada_tensor::ops::exponentials;

use crate::cache::Remembered;
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
    /// Wanted row of the first position that the canvas asked for.
    pub(crate) first: usize,
    /// The same under each of its other conditions.
    pub(crate) also: &'a [usize],
    /// The same in the unconditional sequence, and the scale.
    pub(crate) guided: Option<(usize, f32)>,
    /// The ids that the canvas asked for, within `logits.vocab`.
    pub(crate) ids: Range<u32>,
    /// Where positions that were not computed have their logits from, and those positions.
    pub(crate) remembered: Option<(&'a Remembered, &'a [usize])>,
}

impl Scores<'_> {
    /// Copies the logits of the n-th position asked for, guidance applied, into `row`.
    pub(crate) fn read(&self, n: usize, row: &mut Vec<f32>) {
        row.clear();
        if let Some((remembered, positions)) = self.remembered {
            row.extend_from_slice(remembered.row(positions[n]));
            return;
        }
        row.extend_from_slice(self.slice(self.first + n));
        if !self.also.is_empty() {
            for first in self.also {
                let other = self.slice(first + n);
                row.iter_mut().zip(other).for_each(|(sum, it)| *sum += it);
            }
            let count = (1 + self.also.len()) as f32;
            row.iter_mut().for_each(|sum| *sum /= count);
        }
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
    /// Of the position's distribution, in nats; 0 where the commit rule does not ask.
    pub(crate) entropy: f64,
    /// The highest are kept.
    pub(crate) order: f64,
}

/// The distribution over one row: unnormalised probabilities in place of its logits.
pub(crate) struct Odds<'a> {
    weights: &'a [f32],
    sum: f64,
}

impl<'a> Odds<'a> {
    /// Of a row of logits; `None` where one of them is infinite or no number.
    pub(crate) fn of(row: &'a mut [f32]) -> Option<Self> {
        let (largest, sum) = exponentials(row);
        (largest.is_finite() && sum.is_finite()).then_some(Self { weights: row, sum })
    }

    /// Probability of an entry. The sum is in f64 and the largest entry counts exactly 1 in it, so
    /// probabilities near 1 stay apart.
    pub(crate) fn probability(&self, index: usize) -> f64 {
        f64::from(self.weights[index]) / self.sum
    }

    /// Entropy in nats: ln Σw − Σ w·ln w / Σw.
    pub(crate) fn entropy(&self) -> f64 {
        let possible = self.weights.iter().filter(|weight| **weight > 0.0);
        let sum: f64 = possible.map(|weight| f64::from(weight * weight.ln())).sum();
        (self.sum.ln() - sum / self.sum).max(0.0)
    }

    /// How many partial sums of the probabilities are at most `u`, but never past the last entry
    /// that has probability. Probabilities are f32 and partial sums f64, as in the original.
    pub(crate) fn inverse_cdf(&self, u: f64) -> usize {
        let inverse = (1.0 / self.sum) as f32;
        let (mut sum, mut last_possible) = (0.0, 0);
        for (index, weight) in self.weights.iter().enumerate() {
            let probability = weight * inverse;
            sum += f64::from(probability);
            if sum > u {
                return index;
            }
            if probability > 0.0 {
                last_possible = index;
            }
        }
        last_possible
    }
}

/// Index of the first largest entry.
pub(crate) fn argmax<T: PartialOrd>(row: impl IntoIterator<Item = T>) -> usize {
    let mut row = row.into_iter().enumerate();
    let Some(mut best) = row.next() else {
        return 0;
    };
    for (index, entry) in row {
        if entry > best.1 {
            best = (index, entry);
        }
    }
    best.0
}

/// Orders proposals, the highest first. Of equals the earlier position comes first, so that a step
/// always commits exactly its share.
pub(crate) fn rank(proposals: &mut [Proposal]) {
    proposals.sort_by(|a, b| {
        b.order
            .total_cmp(&a.order)
            .then(a.position.cmp(&b.position))
    });
}

/// Parts ranked proposals into the first `keep`, in order of position, and the others.
pub(crate) fn split(mut proposals: Vec<Proposal>, keep: usize) -> (Vec<Proposal>, Vec<Proposal>) {
    let mut held = proposals.split_off(keep.min(proposals.len()));
    proposals.sort_by_key(|proposal| proposal.position);
    held.sort_by_key(|proposal| proposal.position);
    (proposals, held)
}
