//! The loops around a kernel: panels of a by panels of b, block by block, and what becomes of the sums.
//!
//! ```text
//!   up to 16 steps   one kernel call for each panel by panel, straight to the target where it can be
//!   more             blocks of sums that stay in the second cache; k in parts that stay in the first
//! ```

use std::arch::x86_64::{__m512, _mm512_set1_ps};
use std::ops::Range;

use rayon::prelude::*;

use super::kernel::{Kernel, Ready};
use super::pack::{self, Line};
use super::vector::{self, WIDTH};
use super::{PANEL, with_buffers};

/// Steps summed in one kernel call: a panel of a of so many stays in a core's first cache.
const DEPTH_BLOCK: usize = 8;
/// Up to so many steps are summed in one call all the same: it saves keeping the sums.
const AT_ONCE: usize = 16;
/// Panels of b, and of a, whose sums and values stay in the second cache together.
const COLUMN_BLOCK: usize = 8;
const ROW_BLOCK: usize = 16;

/// Packed lanes.
#[derive(Clone, Copy)]
pub(super) struct Panels<'a> {
    pub(super) lines: &'a [Line],
    /// Lines of a panel.
    pub(super) pitch: usize,
    pub(super) lanes: usize,
}

impl Panels<'_> {
    pub(super) fn count(self) -> usize {
        self.lanes.div_ceil(PANEL)
    }

    /// A panel from a line on.
    pub(super) fn at(self, panel: usize, line: usize) -> *const Line {
        self.lines[panel * self.pitch + line..].as_ptr()
    }
}

/// What becomes of sums.
#[derive(Clone, Copy)]
pub(super) enum Finish<'a> {
    /// They are multiplied with this.
    Scaled(f32),
    /// They are turned back into what was quantised.
    Dequantised(Quantised<'a>),
}

/// What turns sums of int8 back: the sum of row r and column c is of `rows[r] · cols[c]` each, and
/// `128 · sums[c]` too large.
#[derive(Clone, Copy)]
pub(super) struct Quantised<'a> {
    pub(super) rows: &'a [f32],
    pub(super) cols: &'a [f32],
    pub(super) sums: &'a [i32],
}

/// Where a product goes.
#[derive(Clone, Copy)]
pub(super) enum Target {
    /// Rows of f32, `row_stride` elements apart, perhaps added to what is at `base`, an array of the
    /// same layout or the target itself.
    Rows {
        out: *mut f32,
        row_stride: usize,
        base: Option<*const f32>,
    },
    /// Panels of bf16, `pitch` lines apart: the left operand of another product.
    Lines { out: *mut Line, pitch: usize },
}

// SAFETY: `Target` only carries pointers; tasks write disjoint rectangles of what it points to, which
// the caller of a product lent us exclusively, and read the same ones of the base.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

impl Target {
    /// The part from a row on; panels are made for each thread anew.
    pub(super) fn skipping(self, row: usize) -> Self {
        match self {
            Self::Rows {
                out,
                row_stride,
                base,
            } => Self::Rows {
                out: out.wrapping_add(row * row_stride),
                row_stride,
                base: base.map(|base| base.wrapping_add(row * row_stride)),
            },
            Self::Lines { .. } => self,
        }
    }
}

/// A product of panels, for one thread or for a part of its columns.
#[derive(Clone, Copy)]
pub(super) struct Product<'a> {
    pub(super) kernel: Kernel,
    pub(super) left: Panels<'a>,
    pub(super) right: Panels<'a>,
    /// A second right operand so many panels later; silu of the first's sums is multiplied with its.
    pub(super) gated: Option<usize>,
    /// Columns of b that are wanted.
    pub(super) cols: (usize, usize),
    pub(super) finish: Finish<'a>,
    pub(super) target: Target,
}

/// Sums of one panel by one, f32 or i32.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Sums(pub(super) [f32; PANEL * PANEL]);

impl Sums {
    pub(super) const ZERO: Self = Self([0.0; PANEL * PANEL]);
}

impl Product<'_> {
    fn steps(self) -> usize {
        self.left.pitch / PANEL
    }

    /// Panels of b that hold wanted columns.
    fn rights(self) -> Range<usize> {
        self.cols.0 / PANEL..self.cols.1.div_ceil(PANEL)
    }

    /// All of it on the calling thread.
    ///
    /// # Safety
    /// `target` may be written, and its base read, at every row of a and wanted column.
    pub(super) unsafe fn run(self, sums: &mut Vec<Sums>) {
        let (rights, count) = (self.rights(), self.left.count());
        for left in (0..count).step_by(ROW_BLOCK) {
            for right in rights.clone().step_by(COLUMN_BLOCK) {
                let lefts = left..(left + ROW_BLOCK).min(count);
                let rights = right..(right + COLUMN_BLOCK).min(rights.end);
                // SAFETY: the caller's promise.
                unsafe { self.block(lefts, rights, sums) };
            }
        }
    }

    /// All of it, blocks of columns handed out.
    ///
    /// # Safety
    /// As for [`Product::run`].
    pub(super) unsafe fn run_by_columns(self) {
        let (rights, count) = (self.rights(), self.left.count());
        let blocks = rights.len().div_ceil(COLUMN_BLOCK);
        (0..blocks).into_par_iter().for_each(|block| {
            let first = rights.start + block * COLUMN_BLOCK;
            let rights = first..(first + COLUMN_BLOCK).min(rights.end);
            // SAFETY: the caller's promise; each task has columns of its own.
            with_buffers(|buffers| unsafe { self.block(0..count, rights, &mut buffers.sums) });
        });
    }

    /// Panels of a with panels of b, over all of k.
    ///
    /// # Safety
    /// As for [`Product::run`].
    unsafe fn block(self, lefts: Range<usize>, rights: Range<usize>, sums: &mut Vec<Sums>) {
        let steps = self.steps();
        let ready = self.kernel.ready();
        if steps <= AT_ONCE {
            let mut sums = [Sums::ZERO; 2];
            for left in lefts {
                for right in rights.clone() {
                    // SAFETY: the caller's promise.
                    unsafe { self.at_once(&ready, (left, right), &mut sums) };
                }
            }
            return;
        }
        let each = if self.gated.is_some() { 2 } else { 1 };
        sums.resize(lefts.len() * rights.len() * each, Sums::ZERO);
        // Few rows meet every value of b once: it is read in order.
        let depth = if lefts.len() > 2 { DEPTH_BLOCK } else { steps };
        for start in (0..steps).step_by(depth) {
            let range = start..(start + depth).min(steps);
            let mut sums = sums.chunks_exact_mut(each);
            for left in lefts.clone() {
                for (right, sums) in rights.clone().zip(&mut sums) {
                    self.sum(&ready, (left, right), &range, sums);
                }
            }
        }
        let mut sums = sums.chunks_exact(each);
        for left in lefts {
            for (right, sums) in rights.clone().zip(&mut sums) {
                // SAFETY: the caller's promise.
                unsafe { self.finish(left, right, sums) };
            }
        }
    }

    /// One panel by one, all of k in one kernel call, straight to the target where nothing else is
    /// to be done.
    ///
    /// # Safety
    /// As for [`Product::run`].
    unsafe fn at_once(self, ready: &Ready, (left, right): (usize, usize), sums: &mut [Sums; 2]) {
        let (row, col) = (left * PANEL, right * PANEL);
        let is_whole = row + PANEL <= self.left.lanes
            && self.cols.0 <= col
            && col + PANEL <= self.cols.1
            && self.gated.is_none()
            && matches!(self.finish, Finish::Scaled(1.0));
        if let (
            true,
            Target::Rows {
                out,
                row_stride,
                base: None,
            },
        ) = (is_whole, self.target)
        {
            let panels = (self.left.at(left, 0), self.right.at(right, 0));
            // SAFETY: all of the sums lie within the target.
            unsafe {
                let out = out.add(row * row_stride + col - self.cols.0);
                ready.multiply(panels, (PANEL, self.steps()), (out, row_stride), false);
            }
            return;
        }
        let sums = &mut sums[..if self.gated.is_some() { 2 } else { 1 }];
        self.sum(ready, (left, right), &(0..self.steps()), sums);
        // SAFETY: the caller's promise.
        unsafe { self.finish(left, right, sums) };
    }

    /// Adds some steps of one panel by one to `sums`, or begins with them; of gated products also
    /// the second sums.
    fn sum(
        self,
        ready: &Ready,
        (left, right): (usize, usize),
        steps: &Range<usize>,
        sums: &mut [Sums],
    ) {
        let line = steps.start * PANEL;
        let rows = (self.left.lanes - left * PANEL).min(PANEL);
        let distances = [0, self.gated.unwrap_or(0)];
        for (sums, distance) in sums.iter_mut().zip(distances) {
            let a = self.left.at(left, line);
            let b = self.right.at(right + distance, line);
            let place = (sums.0.as_mut_ptr(), PANEL);
            // SAFETY: panels hold the product's steps, and the sums have room for one by another.
            unsafe { ready.multiply((a, b), (rows, steps.len()), place, steps.start > 0) };
        }
    }

    /// Writes the finished sums of one panel by one to the target.
    ///
    /// # Safety
    /// As for [`Product::run`]; kernels exist only where the processor has these features, and
    /// lines of bf16 are asked of bf16 kernels only, which need instructions for them.
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq")]
    unsafe fn finish(self, left: usize, right: usize, sums: &[Sums]) {
        let row = left * PANEL;
        let rows = (self.left.lanes - row).min(PANEL);
        // Columns of the panel that are wanted.
        let first = self.cols.0.saturating_sub(right * PANEL);
        let last = (self.cols.1 - right * PANEL).min(PANEL);
        let col = right * PANEL + first;
        let second = col + self.gated.unwrap_or(0) * PANEL;
        for r in 0..rows {
            let value = |sums: &Sums, col: usize, at: usize| {
                let part = &sums.0[r * PANEL + first..r * PANEL + last][at..];
                let part = &part[..part.len().min(WIDTH)];
                self.finish
                    .value(vector::load(part), (row + r, col + at), part.len())
            };
            let both = |at: usize| match sums {
                _ if first + at >= last => vector::zero(),
                [gates, ups] => {
                    let gate = vector::silu(value(gates, col, at));
                    vector::product(gate, value(ups, second, at))
                }
                [sums, ..] => value(sums, col, at),
                [] => vector::zero(),
            };
            let (low, high) = (both(0), both(WIDTH));
            let n = last - first;
            // SAFETY: the row's wanted columns belong to this rectangle.
            unsafe {
                match self.target {
                    Target::Rows {
                        out,
                        row_stride,
                        base,
                    } => {
                        let offset = (row + r) * row_stride + col - self.cols.0;
                        let base = base.map(|base| base.add(offset));
                        write(low, base, out.add(offset), n.min(WIDTH));
                        if n > WIDTH {
                            let base = base.map(|base| base.add(WIDTH));
                            write(high, base, out.add(offset + WIDTH), n - WIDTH);
                        }
                    }
                    Target::Lines { out, pitch } => {
                        let step = right - self.cols.0 / PANEL;
                        pack::round_line(low, high, &mut *out.add(left * pitch + step * PANEL + r));
                    }
                }
            }
        }
    }
}

impl Finish<'_> {
    /// What up to 16 sums of a row, from column `col` on, stand for.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq")]
    fn value(self, sums: __m512, (row, col): (usize, usize), n: usize) -> __m512 {
        match self {
            Self::Scaled(alpha) => vector::product(sums, _mm512_set1_ps(alpha)),
            Self::Dequantised(scales) => {
                let scale = vector::load(&scales.cols[col..col + n]);
                let scale = vector::product(scale, _mm512_set1_ps(scales.rows[row]));
                vector::product(vector::shifted(sums, &scales.sums[col..col + n]), scale)
            }
        }
    }
}

/// Writes the first `n` of 16 values, added to those at `base`.
///
/// # Safety
/// As many may be read and written there.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq")]
unsafe fn write(x: __m512, base: Option<*const f32>, out: *mut f32, n: usize) {
    // SAFETY: the caller's promise. The base is read before the same place is written.
    unsafe {
        let x = match base {
            Some(base) => vector::sum(x, vector::load(std::slice::from_raw_parts(base, n))),
            None => x,
        };
        vector::store(std::slice::from_raw_parts_mut(out, n), x);
    }
}
