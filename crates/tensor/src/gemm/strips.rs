//! f32 weights packed in strips of 16 columns, for products that are good from one row on.
//!
//! ```text
//!   strip    16 columns of b, one k after the other       [k, 16]
//!   group    up to 6 rows of a, one k after the other     [k, rows]
//!   kernel   a value of each row of a group, repeated, times the 16 of a strip
//! ```
//!
//! Every sum runs over k in order, whatever is computed beside it: the bits of a row depend on the row
//! and the weight alone.

use std::ops::Range;

use rayon::prelude::*;

use super::{Matrix, Workers, threads};
use crate::kernels::math::{fma, multiversion};

/// Columns of a strip: a register of AVX-512, two of AVX2.
const COLUMNS: usize = 16;
/// Rows of a group: their sums and a strip's values fill AVX2's registers.
const ROWS: usize = 6;
/// Values of strips that all groups meet before the next strips: they stay in a core's own cache.
const KEPT: usize = 1 << 16;

/// Sums of a group by a strip.
type Sums = [[f32; COLUMNS]; ROWS];

/// A right operand packed once, `[k, columns]`.
#[derive(Debug)]
pub(crate) struct Strips {
    values: Vec<f32>,
    depth: usize,
}

impl Strips {
    /// Packs `weightᵀ`, where `weight` is `[columns, k]`, row after row.
    pub(super) fn of(weight: Matrix<'_>) -> Self {
        let depth = weight.cols;
        let mut values = vec![0f32; weight.rows.div_ceil(COLUMNS) * COLUMNS * depth];
        for column in 0..weight.rows {
            let strip = &mut values[column / COLUMNS * COLUMNS * depth..][..COLUMNS * depth];
            let lane = strip.iter_mut().skip(column % COLUMNS).step_by(COLUMNS);
            for (value, x) in lane.zip(weight.row(column)) {
                *value = *x;
            }
        }
        Self { values, depth }
    }

    /// Multiplies rows of `[rows, k]` with some columns: `[rows, columns]`.
    pub(super) fn multiply(&self, x: Matrix<'_>, columns: Range<usize>) -> Vec<f32> {
        assert!(x.cols == self.depth, "matrices do not fit together");
        let width = columns.len();
        let mut out = vec![0f32; x.rows * width];
        if out.is_empty() || self.depth == 0 {
            return out;
        }
        let threads = threads(x.rows * self.depth * width, Workers::Pool);
        if threads == 1 {
            self.fill(x, columns, &mut out);
        } else if x.rows.div_ceil(ROWS) >= threads {
            let each = x.rows.div_ceil(threads).next_multiple_of(ROWS);
            let tasks = out.par_chunks_mut(each * width).enumerate();
            tasks.for_each(|(task, out)| {
                let rows = x.below(task * each, out.len() / width);
                self.fill(rows, columns.clone(), out);
            });
        } else {
            self.fill_by_columns(x, columns, threads, &mut out);
        }
        out
    }

    /// The product of few rows, its columns handed out.
    fn fill_by_columns(
        &self,
        x: Matrix<'_>,
        columns: Range<usize>,
        threads: usize,
        out: &mut [f32],
    ) {
        let each = columns.len().div_ceil(threads).next_multiple_of(COLUMNS);
        let starts: Vec<usize> = columns.clone().step_by(each).collect();
        let part = |start: usize| {
            let some = start..(start + each).min(columns.end);
            let mut part = vec![0f32; x.rows * some.len()];
            self.fill(x, some.clone(), &mut part);
            (some, part)
        };
        let parts: Vec<_> = starts.into_par_iter().map(part).collect();
        for (some, part) in parts {
            let place = some.start - columns.start..some.end - columns.start;
            let rows = out.chunks_exact_mut(columns.len());
            for (row, part) in rows.zip(part.chunks_exact(some.len())) {
                row[place.clone()].copy_from_slice(part);
            }
        }
    }

    /// The product on the calling thread.
    fn fill(&self, x: Matrix<'_>, columns: Range<usize>, out: &mut [f32]) {
        let strips = columns.start / COLUMNS..columns.end.div_ceil(COLUMNS);
        let block = (KEPT / (self.depth * COLUMNS)).max(1);
        crate::scratch::with(x.rows * self.depth, |groups| {
            group_rows(x, groups);
            for first in strips.clone().step_by(block) {
                let outs = out.chunks_mut(ROWS * columns.len());
                for (group, out) in groups.chunks(ROWS * self.depth).zip(outs) {
                    for strip in first..(first + block).min(strips.end) {
                        self.multiply_group(group, strip, &columns, out);
                    }
                }
            }
        });
    }

    /// The product of a group with the wanted columns of a strip.
    fn multiply_group(&self, group: &[f32], strip: usize, columns: &Range<usize>, out: &mut [f32]) {
        let size = self.depth * COLUMNS;
        let mut sums = [[0f32; COLUMNS]; ROWS];
        let values = &self.values[strip * size..][..size];
        sum(group, group.len() / self.depth, values, &mut sums);
        let first = columns.start.saturating_sub(strip * COLUMNS);
        let last = (columns.end - strip * COLUMNS).min(COLUMNS);
        let at = strip * COLUMNS + first - columns.start;
        for (out, sums) in out.chunks_exact_mut(columns.len()).zip(&sums) {
            out[at..at + last - first].copy_from_slice(&sums[first..last]);
        }
    }
}

/// Lays rows out as groups, one after the other.
fn group_rows(x: Matrix<'_>, groups: &mut [f32]) {
    for (group, values) in groups.chunks_mut(ROWS * x.cols).enumerate() {
        let rows = values.len() / x.cols;
        for row in 0..rows {
            let lane = values.iter_mut().skip(row).step_by(rows);
            for (value, x) in lane.zip(x.row(group * ROWS + row)) {
                *value = *x;
            }
        }
    }
}

multiversion! {
    /// The sums of a group of so many rows by a strip.
    fn sum(group: &[f32], rows: usize, strip: &[f32], sums: &mut Sums) {
        match rows {
            1 => some::<1, FMA>(group, strip, sums),
            2 => some::<2, FMA>(group, strip, sums),
            3 => some::<3, FMA>(group, strip, sums),
            4 => some::<4, FMA>(group, strip, sums),
            5 => some::<5, FMA>(group, strip, sums),
            _ => some::<ROWS, FMA>(group, strip, sums),
        }
    }
}

#[inline(always)]
fn some<const N: usize, const FMA: bool>(group: &[f32], strip: &[f32], out: &mut Sums) {
    let mut sums = [[0f32; COLUMNS]; N];
    let (group, strip) = (group.as_chunks::<N>().0, strip.as_chunks::<COLUMNS>().0);
    for (a, b) in group.iter().zip(strip) {
        for (sums, a) in sums.iter_mut().zip(a) {
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum = fma::<FMA>(*a, *b, *sum);
            }
        }
    }
    out[..N].copy_from_slice(&sums);
}
