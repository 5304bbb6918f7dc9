//! Weights packed once, for products without gradients: at inference a weight meets many inputs.
//!
//! ```text
//!             values                        where the processor has no unit for them
//!   F32       as they are
//!   Bf16      rounded, sums f32             the same numbers, as F32
//!   Int8      a step per output; inputs     gemmkit's int8
//!             quantised row by row
//! ```

use std::ops::Range;

use gemmkit::{MatMut, MatRef, Parallelism};
use serde::{Deserialize, Serialize};

#[cfg(target_arch = "x86_64")]
use super::panels;
use super::strips::Strips;
use super::{Matrix, Workers};
use crate::kernels::math::{largest_magnitude, multiversion, sigmoid};
use crate::kernels::norm::rms_row;
use crate::precision::Precision;

/// What the values of packed weights are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Packing {
    /// 24 bits of precision, as [`Precision::F32`], laid out for few rows.
    F32,
    /// 8 bits of precision, as [`Precision::Bf16`].
    Bf16,
    /// Whole steps up to ±127, the largest value of an output being 127 of them; inputs likewise,
    /// row by row.
    Int8,
}

impl Packing {
    /// What is computed in beside such weights.
    pub fn precision(self) -> Precision {
        match self {
            Self::F32 => Precision::F32,
            Self::Bf16 | Self::Int8 => Precision::Bf16,
        }
    }

    /// Whether this processor has a unit for such values; elsewhere they bring no speed over f32.
    pub fn is_native(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return self == Self::F32 || self.kernel().is_some();
        #[cfg(not(target_arch = "x86_64"))]
        return self == Self::F32;
    }

    /// The best kernel for panels of such values.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn kernel(self) -> Option<panels::Kernel> {
        panels::Kernel::best(self.values()?)
    }

    /// Such values in panels.
    #[cfg(target_arch = "x86_64")]
    fn values(self) -> Option<panels::Values> {
        match self {
            Self::F32 => None,
            Self::Bf16 => Some(panels::Values::Bf16),
            Self::Int8 => Some(panels::Values::Int8),
        }
    }
}

/// Columns of a packed weight begin at multiples of this where they belong together.
pub(crate) const ALIGNMENT: usize = 32;

/// A packed weight: `[columns, k]`, to be multiplied with rows of k values.
#[derive(Debug)]
pub(crate) enum Weights {
    #[cfg(target_arch = "x86_64")]
    Panels(panels::Packed),
    /// In f32, where they may be rounded to bf16, and the rows with them.
    Strips { strips: Strips, is_rounded: bool },
    /// Whole steps, row after row.
    Steps {
        values: Vec<i8>,
        steps: Vec<f32>,
        depth: usize,
    },
}

/// The rows that packed weights are multiplied with.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a> {
    /// Row after row.
    pub(crate) rows: Matrix<'a>,
    /// What happens to them first.
    pub(crate) norm: Option<Norm<'a>>,
}

/// A root-mean-square normalisation with its gains.
#[derive(Clone, Copy)]
pub(crate) struct Norm<'a> {
    pub(crate) gain: &'a [f32],
    pub(crate) eps: f64,
}

impl Norm<'_> {
    /// Normalises rows into `out`.
    pub(super) fn apply(self, rows: Matrix<'_>, out: &mut [f32]) {
        let outs = out.chunks_exact_mut(rows.cols.max(1));
        for (row, out) in outs.enumerate() {
            rms_row(rows.row(row), self.gain, self.eps, out);
        }
    }
}

/// A product with some columns of a packed weight.
#[derive(Debug, Clone)]
pub(crate) struct Part<'a> {
    pub(crate) columns: Range<usize>,
    /// Silu of the columns' product is multiplied with that of the columns so many later.
    pub(crate) gated: Option<usize>,
    /// What the product is added to, `[rows, columns]`.
    pub(crate) base: Option<&'a [f32]>,
}

impl Weights {
    /// Packs a matrix of `[columns, k]`, row after row.
    pub(crate) fn of(packing: Packing, weight: Matrix<'_>) -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if let Some(kernel) = packing.kernel() {
                return Self::Panels(panels::Packed::of(kernel, weight));
            }
        }
        Self::portable(packing, weight)
    }

    /// As [`Weights::of`], for any processor.
    pub(crate) fn portable(packing: Packing, weight: Matrix<'_>) -> Self {
        let depth = weight.cols;
        match packing {
            Packing::F32 => Self::Strips {
                strips: Strips::of(weight),
                is_rounded: false,
            },
            Packing::Bf16 => Self::Strips {
                strips: weight.rounded(Workers::Pool, Strips::of),
                is_rounded: true,
            },
            Packing::Int8 => {
                let (values, steps) = quantised(weight);
                Self::Steps {
                    values,
                    steps,
                    depth,
                }
            }
        }
    }

    /// Multiplies rows of `[rows, k]` with parts of the weight; for each `[rows, columns]`.
    pub(crate) fn multiply(&self, input: Input<'_>, parts: &[Part<'_>]) -> Vec<Vec<f32>> {
        let rows = input.rows.rows;
        for part in parts {
            let fits = |base: &[f32]| base.len() == rows * part.columns.len();
            assert!(part.base.is_none_or(fits), "sum of unlike sizes");
        }
        #[cfg(target_arch = "x86_64")]
        if let Self::Panels(packed) = self {
            let lens = parts.iter().map(|part| rows * part.columns.len());
            let mut outs: Vec<Vec<f32>> = lens.map(Vec::with_capacity).collect();
            let places = outs.iter_mut().map(|out| panels::Place(out.as_mut_ptr()));
            let parts: Vec<_> = parts.iter().cloned().zip(places).collect();
            // SAFETY: each buffer has room for a row of its part's columns for each input, is ours
            // alone, and every element is written before the length says so.
            unsafe {
                packed.multiply(input, &parts);
                for ((part, _), out) in parts.iter().zip(&mut outs) {
                    out.set_len(rows * part.columns.len());
                }
            }
            return outs;
        }
        match input.norm {
            Some(norm) => {
                let mut normed = vec![0f32; rows * input.rows.cols];
                norm.apply(input.rows, &mut normed);
                self.multiply_portably(Matrix::new(&normed, rows, input.rows.cols), parts)
            }
            None => self.multiply_portably(input.rows, parts),
        }
    }

    fn multiply_portably(&self, x: Matrix<'_>, parts: &[Part<'_>]) -> Vec<Vec<f32>> {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Panels(_) => Vec::new(),
            Self::Strips { strips, is_rounded } => {
                let multiply = |x: Matrix<'_>| multiply_each(parts, |it| strips.multiply(x, it));
                match is_rounded {
                    true => x.rounded(Workers::Pool, multiply),
                    false => multiply(x),
                }
            }
            Self::Steps {
                values,
                steps,
                depth,
            } => {
                let (inputs, input_steps) = quantised(x);
                multiply_each(parts, |columns| {
                    let weight = &values[columns.start * depth..columns.end * depth];
                    let sums = sums_of(&inputs, weight, *depth);
                    dequantised(&sums, (&input_steps, &steps[columns]))
                })
            }
        }
    }

    /// The product of rows with a part of this weight, multiplied with a part of the next one.
    pub(crate) fn feed(
        &self,
        input: Input<'_>,
        part: &Part<'_>,
        (next, last): (&Self, &Part<'_>),
    ) -> Vec<f32> {
        let rows = input.rows.rows;
        #[cfg(target_arch = "x86_64")]
        if let (Self::Panels(packed), Self::Panels(following)) = (self, next)
            && packed.can_feed(following, rows)
        {
            let len = rows * last.columns.len();
            assert!(
                last.base.is_none_or(|base| base.len() == len),
                "sum of unlike sizes"
            );
            let mut out = Vec::with_capacity(len);
            let place = panels::Place(out.as_mut_ptr());
            // SAFETY: the buffer has room for a row of the last part's columns for each input, is
            // ours alone, and every element is written before the length says so.
            unsafe {
                packed.feed(input, part, (following, last, place));
                out.set_len(len);
            }
            return out;
        }
        let between = self.multiply(input, std::slice::from_ref(part)).remove(0);
        let input = Input {
            rows: Matrix::new(&between, rows, part.columns.len()),
            norm: None,
        };
        next.multiply(input, std::slice::from_ref(last)).remove(0)
    }
}

/// Parts by an engine that knows no gates and no sums.
fn multiply_each(parts: &[Part<'_>], multiply: impl Fn(Range<usize>) -> Vec<f32>) -> Vec<Vec<f32>> {
    let each = |part: &Part<'_>| {
        let Range { start, end } = part.columns;
        let mut out = multiply(start..end);
        if let Some(distance) = part.gated {
            let ups = multiply(start + distance..end + distance);
            gate(&mut out, &ups);
        }
        if let Some(base) = part.base {
            for (out, base) in out.iter_mut().zip(base) {
                *out += base;
            }
        }
        out
    };
    parts.iter().map(each).collect()
}

multiversion! {
    /// `silu(gate) · up`, in place of the gates.
    fn gate(gates: &mut [f32], ups: &[f32]) {
        for (gate, up) in gates.iter_mut().zip(ups) {
            *gate = *gate * sigmoid::<FMA>(*gate) * up;
        }
    }
}

/// The step with which the largest value of a row becomes ±127.
pub(super) fn quantisation_step(row: &[f32]) -> f32 {
    largest_magnitude(row) / 127.0
}

/// Values per step, or nothing in rows of zeros.
pub(super) fn inverse(step: f32) -> f32 {
    if step > 0.0 { 1.0 / step } else { 0.0 }
}

/// A row in whole steps, ties to even.
pub(super) fn in_steps(row: &[f32], step: f32) -> impl Iterator<Item = i8> {
    let inverse = inverse(step);
    row.iter()
        .map(move |x| (x * inverse).round_ties_even() as i8)
}

/// Rows in whole steps, and the step of every row.
fn quantised(x: Matrix<'_>) -> (Vec<i8>, Vec<f32>) {
    let steps: Vec<f32> = (0..x.rows).map(|r| quantisation_step(x.row(r))).collect();
    let rows = steps.iter().enumerate();
    let values = rows.flat_map(|(r, step)| in_steps(x.row(r), *step));
    (values.collect(), steps)
}

/// `inputs · weightᵀ` of rows of `depth` values each.
fn sums_of(inputs: &[i8], weight: &[i8], depth: usize) -> Vec<i32> {
    let (rows, columns) = (inputs.len() / depth, weight.len() / depth);
    let mut sums = vec![0i32; rows * columns];
    let weight = MatRef::new(weight, depth, columns, 1, depth as isize);
    gemmkit::gemm_i8(
        1,
        MatRef::from_row_major(inputs, rows, depth),
        weight,
        0,
        MatMut::from_row_major(&mut sums, rows, columns),
        Parallelism::Rayon(0),
    );
    sums
}

/// Sums of whole steps as what they stand for.
fn dequantised(sums: &[i32], (rows, columns): (&[f32], &[f32])) -> Vec<f32> {
    let width = columns.len().max(1);
    let rows = sums.chunks_exact(width).zip(rows);
    rows.flat_map(|(sums, row)| {
        let sums = sums.iter().zip(columns);
        sums.map(move |(sum, column)| *sum as f32 * row * column)
    })
    .collect()
}
