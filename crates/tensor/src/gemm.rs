//! Matrix products of f32 operands: the one place that knows the engines.
//!
//! ```text
//!   Precision::F32   gemmkit, f32 throughout
//!   Precision::Bf16  operands rounded to bf16, sums in f32: panels where the processor multiplies
//!                    bf16 (AMX, AVX-512), else gemmkit on rounded copies
//! ```
//!
//! Weights that meet many inputs are packed once, in f32 for an engine of our own: see [`packed`].
//!
//! The engines fix their blocking from the shapes and the caches and reduce every element on one
//! worker, so the bits do not depend on the number of threads.

mod columns;
pub(crate) mod packed;
#[cfg(target_arch = "x86_64")]
mod panels;
mod strips;

use gemmkit::Parallelism;
use rayon::prelude::*;

pub(crate) use columns::{Columns, Factor};

use crate::kernels::PIECE;
use crate::kernels::math::multiversion;
use crate::precision::Precision;

/// A matrix within a slice: any two strides, so a transpose costs nothing.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

/// Who works on a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workers {
    /// The calling thread: for products inside parallel tasks.
    Caller,
    /// The current thread pool.
    Pool,
}

/// What happens to the old contents of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Into {
    /// They are overwritten and never read.
    Replace,
    /// The product is added to them.
    Add,
}

impl<'a> Matrix<'a> {
    /// Row after row without gaps.
    pub(crate) fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// Row after row, `row_stride` elements apart.
    pub(crate) fn strided(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        let used = if rows == 0 || cols == 0 {
            0
        } else {
            (rows - 1) * row_stride + cols
        };
        assert!(used <= data.len(), "matrix reaches beyond its slice");
        Self {
            data,
            rows,
            cols,
            row_stride,
            col_stride: 1,
        }
    }

    /// The transpose, without moving anything.
    pub(crate) fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// How many rows there are.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// All elements, row after row without gaps.
    pub(crate) fn all(&self) -> &'a [f32] {
        assert!(
            self.col_stride == 1 && self.row_stride == self.cols,
            "elements of a matrix with gaps"
        );
        &self.data[..self.rows * self.cols]
    }

    /// A row whose elements lie side by side.
    fn row(&self, row: usize) -> &'a [f32] {
        assert!(self.col_stride == 1, "row of a transposed matrix");
        &self.data[row * self.row_stride..][..self.cols]
    }

    /// Rows `first..first + rows`, whose elements lie side by side.
    fn below(self, first: usize, rows: usize) -> Self {
        let data = &self.data[first * self.row_stride..];
        Self::strided(data, rows, self.cols, self.row_stride)
    }

    /// Lends `work` a copy without gaps, its elements rounded to bf16. What lies side by side stays so.
    fn rounded<T>(self, workers: Workers, work: impl FnOnce(Matrix<'_>) -> T) -> T {
        let is_turned = self.col_stride != 1;
        let stored = if is_turned { self.t() } else { self };
        crate::scratch::with(stored.rows * stored.cols, |copy| {
            stored.round_into(workers, copy);
            let copy = Matrix::new(copy, stored.rows, stored.cols);
            work(if is_turned { copy.t() } else { copy })
        })
    }

    /// Its elements rounded to bf16, row after row; those of a row lie side by side.
    fn round_into(self, workers: Workers, copy: &mut [f32]) {
        let width = self.cols.max(1);
        match workers {
            Workers::Pool if copy.len() > PIECE => {
                let rows = PIECE.div_ceil(width);
                let tasks = copy.par_chunks_mut(rows * width).enumerate();
                tasks.for_each(|(task, copy)| round_rows(self, task * rows, copy));
            }
            _ => round_rows(self, 0, copy),
        }
    }
}

/// Products below this many multiplications stay on the calling thread.
const SMALL: usize = 1 << 20;

/// On how many threads a product of so many multiplications runs.
fn threads(work: usize, workers: Workers) -> usize {
    match workers {
        Workers::Pool if work > SMALL => rayon::current_num_threads(),
        _ => 1,
    }
}

/// Rows from `first` on, rounded to bf16, as many as there is room for.
fn round_rows(of: Matrix<'_>, first: usize, copy: &mut [f32]) {
    for (row, copy) in copy.chunks_exact_mut(of.cols.max(1)).enumerate() {
        round_row(of.row(first + row), copy);
    }
}

multiversion! {
    /// To the nearest bf16, of two the even one; what is no number stays none.
    fn round_row(row: &[f32], copy: &mut [f32]) {
        for (x, copy) in row.iter().zip(copy) {
            let bits = x.to_bits();
            let even = (bits >> 16) & 1;
            let nearest = bits.wrapping_add(0x7fff + even) & 0xffff_0000;
            let none = (bits & 0xffff_0000) | 0x40_0000;
            *copy = f32::from_bits(if x.is_nan() { none } else { nearest });
        }
    }
}

/// `a · b`, row after row.
pub(crate) fn product(precision: Precision, a: Matrix<'_>, b: Matrix<'_>) -> Vec<f32> {
    let len = a.rows * b.cols;
    let mut out = Vec::with_capacity(len);
    // SAFETY: the buffer holds a.rows rows of b.cols elements, is ours alone, and every element is
    // written before the length says so.
    unsafe {
        product_at(
            precision,
            1.0,
            (a, b),
            Into::Replace,
            (out.as_mut_ptr(), b.cols),
            Workers::Pool,
        );
        out.set_len(len);
    }
    out
}

/// `out = alpha · a · b`, or that added to it; `out` holds row after row.
pub(crate) fn product_into<'a>(
    precision: Precision,
    alpha: f32,
    (a, b): (Matrix<'_>, impl std::convert::Into<Factor<'a>>),
    into: Into,
    out: &mut [f32],
    workers: Workers,
) {
    let b = b.into();
    let cols = b.cols();
    assert!(
        out.len() >= a.rows * cols,
        "product does not fit its output"
    );
    // SAFETY: the slice is exclusive and large enough, as just checked.
    unsafe {
        product_at(
            precision,
            alpha,
            (a, b),
            into,
            (out.as_mut_ptr(), cols),
            workers,
        );
    }
}

/// `out = alpha · a · b`, or that added to it, with rows of `out` `row_stride` elements apart.
///
/// # Safety
/// `out` is valid for writes (and reads when adding) of a.rows rows of as many elements as b has
/// columns, `row_stride` ≥ that apart, and nobody else touches those elements meanwhile.
pub(crate) unsafe fn product_at<'a>(
    precision: Precision,
    alpha: f32,
    (a, b): (Matrix<'_>, impl std::convert::Into<Factor<'a>>),
    into: Into,
    (out, row_stride): (*mut f32, usize),
    workers: Workers,
) {
    let b = b.into();
    assert!(
        a.cols == b.rows(),
        "matrices of a product do not fit together"
    );
    if a.rows == 0 || b.cols() == 0 {
        return;
    }
    let out = (out, row_stride);
    #[cfg(target_arch = "x86_64")]
    if precision == Precision::Bf16
        && a.cols > 0
        && let Some(kernel) = panels::Kernel::best(panels::Values::Bf16)
    {
        // SAFETY: factors were checked against their slices when made, and `out` is the caller's
        // promise.
        unsafe { panels::product(kernel, alpha, (a, b), into, out, workers) };
        return;
    }
    b.written(|b| match precision {
        // SAFETY: the caller's promise.
        Precision::F32 => unsafe { product_f32(alpha, (a, b), into, out, workers) },
        Precision::Bf16 => a.rounded(workers, |a| {
            b.rounded(workers, |b| {
                // SAFETY: the caller's promise.
                unsafe { product_f32(alpha, (a, b), into, out, workers) };
            });
        }),
    });
}

/// [`product_at`] by `gemmkit`.
///
/// # Safety
/// As for [`product_at`]; the factors fit together.
unsafe fn product_f32(
    alpha: f32,
    (a, b): (Matrix<'_>, Matrix<'_>),
    into: Into,
    (out, row_stride): (*mut f32, usize),
    workers: Workers,
) {
    let parallelism = match workers {
        Workers::Caller => Parallelism::Serial,
        Workers::Pool => Parallelism::Rayon(0),
    };
    let beta = match into {
        Into::Replace => 0.0,
        Into::Add => 1.0,
    };
    // SAFETY: `Matrix` was checked against its slice when made; `out` is the caller's promise and
    // cannot alias shared slices.
    unsafe {
        gemmkit::gemm_unchecked::<f32>(
            a.rows,
            a.cols,
            b.cols,
            alpha,
            a.data.as_ptr(),
            a.row_stride as isize,
            a.col_stride as isize,
            b.data.as_ptr(),
            b.row_stride as isize,
            b.col_stride as isize,
            beta,
            out,
            row_stride as isize,
            1,
            parallelism,
        );
    }
}

/// Whether heads of attention can go through [`attend`].
pub(crate) fn has_attention(precision: Precision) -> bool {
    #[cfg(target_arch = "x86_64")]
    if precision == Precision::Bf16 {
        return panels::Kernel::best(panels::Values::Bf16).is_some();
    }
    let _ = precision;
    false
}

/// `softmax(q · kᵀ · scale) · v` of one head, on the calling thread, with bf16 factors. `hidden`
/// tells which key a query does not see, if any. Does nothing unless [`has_attention`].
///
/// # Safety
/// `out` is valid for writes of a row of `v.cols` elements for each of q's, `row_stride` apart, and
/// nobody else touches them meanwhile.
pub(crate) unsafe fn attend(
    [q, k, v]: [Matrix<'_>; 3],
    scale: f32,
    hidden: impl Fn(usize) -> Option<usize>,
    out: (*mut f32, usize),
) {
    assert!(
        q.cols == k.cols && k.rows == v.rows && k.rows > 0,
        "queries, keys and values do not fit together"
    );
    #[cfg(target_arch = "x86_64")]
    if let Some(kernel) = panels::Kernel::best(panels::Values::Bf16) {
        // SAFETY: the caller's promise.
        unsafe { panels::attend::attend(kernel, [q, k, v], scale, hidden, out) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (scale, hidden, out);
}

/// Multiplies bf16, or int8, on this processor's unit for a while; returns how many operations
/// that were, or nothing where there is no such unit.
pub(crate) fn spin(packing: packed::Packing) -> Option<f64> {
    #[cfg(target_arch = "x86_64")]
    return packing.kernel().map(panels::spin);
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = packing;
        None
    }
}
