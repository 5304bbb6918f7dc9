//! Products of packed panels: bf16 summed in f32, or int8 summed in i32.
//!
//! ```text
//!   a, f32, rows or columns ──pack──▶ panels of 32 rows      ┐
//!                                                        ├─▶ 32 × 32 sums ──finish──▶ out
//!   b, f32, any strides ────pack──▶ panels of 32 columns   ┘
//! ```
//!
//! What is packed once (a weight) or at every product (an activation) is the caller's choice. Every
//! sum runs over k in order, in one kernel call per [`DEPTH_BLOCK`] lines, whoever works on it: the
//! bits do not depend on the number of threads.

pub(super) mod attend;
mod kernel;
mod pack;
mod vector;

use std::arch::x86_64::{__m512, _mm512_set1_ps};
use std::cell::Cell;
use std::ops::Range;

use rayon::prelude::*;

use super::packed::{Input, Part};
use super::{Factor, Into, Matrix, Workers};
use kernel::Ready;
pub(super) use kernel::{Kernel, Values};
pub(super) use pack::Line;
use pack::{Operand, Side};
use vector::WIDTH;

/// Rows of a tile, and columns of a tile of sums.
const TILE: usize = 16;
/// Rows of a, or columns of b, of one kernel call.
const PANEL: usize = 2 * TILE;
/// Steps summed in one kernel call: a panel of a of so many stays in a core's first cache.
const DEPTH_BLOCK: usize = 8;
/// Up to so many steps are summed in one call all the same: it saves keeping the sums.
const AT_ONCE: usize = 16;
/// Panels of b, and of a, whose sums and values stay in the second cache together.
const COLUMN_BLOCK: usize = 8;
const ROW_BLOCK: usize = 16;
/// Products below this many multiplications stay on the calling thread.
const SMALL: usize = 1 << 20;

thread_local! {
    /// What the last products of this thread were packed into, kept for the next ones.
    static BUFFERS: Cell<Option<Buffers>> = const { Cell::new(None) };
}

/// Packed operands, the quantisation steps of the left one, and sums.
#[derive(Default)]
struct Buffers {
    left: Vec<Line>,
    right: Vec<Line>,
    steps: Vec<f32>,
    sums: Vec<Sums>,
    /// Rows normalised, before they are packed.
    normed: Vec<f32>,
    /// What is between two products.
    between: Vec<Line>,
}

/// Lends `work` this thread's buffers.
fn with_buffers<T>(work: impl FnOnce(&mut Buffers) -> T) -> T {
    let mut buffers = BUFFERS.take().unwrap_or_default();
    let result = work(&mut buffers);
    BUFFERS.set(Some(buffers));
    result
}

/// Packed lanes.
#[derive(Clone, Copy)]
struct Panels<'a> {
    lines: &'a [Line],
    /// Lines of a panel.
    pitch: usize,
    lanes: usize,
}

impl Panels<'_> {
    fn count(self) -> usize {
        self.lanes.div_ceil(PANEL)
    }

    /// A panel from a line on.
    fn at(self, panel: usize, line: usize) -> *const Line {
        self.lines[panel * self.pitch + line..].as_ptr()
    }
}

/// What becomes of sums.
#[derive(Clone, Copy)]
enum Finish<'a> {
    /// They are multiplied with this.
    Scaled(f32),
    /// They are turned back into what was quantised.
    Dequantised(Quantised<'a>),
}

/// What turns sums of int8 back: the sum of row r and column c is of `rows[r] · cols[c]` each, and
/// `128 · sums[c]` too large.
#[derive(Clone, Copy)]
struct Quantised<'a> {
    rows: &'a [f32],
    cols: &'a [f32],
    sums: &'a [i32],
}

/// Where a product goes.
#[derive(Clone, Copy)]
enum Target {
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
    fn skipping(self, row: usize) -> Self {
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
struct Product<'a> {
    kernel: Kernel,
    left: Panels<'a>,
    right: Panels<'a>,
    /// A second right operand so many panels later; silu of the first's sums is multiplied with its.
    gated: Option<usize>,
    /// Columns of b that are wanted.
    cols: (usize, usize),
    finish: Finish<'a>,
    target: Target,
}

/// Sums of one panel by one, f32 or i32.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Sums([f32; PANEL * PANEL]);

impl Sums {
    const ZERO: Self = Self([0.0; PANEL * PANEL]);
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
    unsafe fn run(self, sums: &mut Vec<Sums>) {
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
    unsafe fn run_by_columns(self) {
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
                ready.multiply(panels, self.steps(), (out, row_stride), false);
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
        let distances = [0, self.gated.unwrap_or(0)];
        for (sums, distance) in sums.iter_mut().zip(distances) {
            let a = self.left.at(left, line);
            let b = self.right.at(right + distance, line);
            let place = (sums.0.as_mut_ptr(), PANEL);
            // SAFETY: panels hold the product's steps, and the sums have room for one by another.
            unsafe { ready.multiply((a, b), steps.len(), place, steps.start > 0) };
        }
    }

    /// Writes the finished sums of one panel by one to the target.
    ///
    /// # Safety
    /// As for [`Product::run`]; kernels exist only where the processor has these features.
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512bf16")]
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

/// On how many threads a product of so many multiplications runs.
fn threads(work: usize, workers: Workers) -> usize {
    match workers {
        Workers::Pool if work > SMALL => rayon::current_num_threads(),
        _ => 1,
    }
}

/// Cuts rows into a chunk of whole panels for each thread; nothing where they are too few for that.
fn chunks(rows: usize, threads: usize) -> Option<Vec<Range<usize>>> {
    let panels = rows.div_ceil(PANEL);
    if threads > 1 && panels < 2 * threads {
        return None;
    }
    let size = panels.div_ceil(threads) * PANEL;
    let starts = (0..rows).step_by(size.max(1));
    Some(
        starts
            .map(|start| start..(start + size).min(rows))
            .collect(),
    )
}

/// Runs `work` on every chunk, in parallel when there are several.
fn for_each_chunk(chunks: Vec<Range<usize>>, work: impl Fn(Range<usize>) + Sync + Send) {
    match chunks.len() {
        1 => chunks.into_iter().for_each(work),
        _ => chunks.into_par_iter().with_max_len(1).for_each(work),
    }
}

/// `out = alpha · a · b`, or that added, with both operands rounded to bf16.
///
/// # Safety
/// `a` and `b` lie within their slices and have a column and a row at least; `out` as in
/// [`super::product_at`].
pub(super) unsafe fn product(
    kernel: Kernel,
    alpha: f32,
    (a, b): (Matrix<'_>, Factor<'_>),
    into: Into,
    (out, row_stride): (*mut f32, usize),
    workers: Workers,
) {
    /// Values of k packed at a time: of long products only a part is in memory twice.
    const DEPTH: usize = 2048;
    let threads = threads(a.rows * a.cols * b.cols(), workers);
    let (a, b) = (Operand::left(a), Operand::right(b));
    // Packed by this thread's own buffers; the left one by those of each task.
    let mut right = with_buffers(|buffers| std::mem::take(&mut buffers.right));
    for start in (0..a.depth).step_by(DEPTH) {
        let depth = (a.depth - start).min(DEPTH);
        let (a, b) = (a.block(start, depth), b.block(start, depth));
        pack::round(b, Side::Right, &mut right, threads > 1);
        let into = if start == 0 { into } else { Into::Add };
        let target = Target::Rows {
            out,
            row_stride,
            base: (into == Into::Add).then_some(out.cast_const()),
        };
        let right = Panels {
            lines: &right,
            pitch: b.panel_lines(Values::Bf16),
            lanes: b.lanes,
        };
        let multiply = |rows: Range<usize>, buffers: &mut Buffers, by_columns: bool| {
            let a = a.lanes(rows.clone());
            pack::round(a, Side::Left, &mut buffers.left, by_columns);
            let product = Product {
                kernel,
                left: Panels {
                    lines: &buffers.left,
                    pitch: a.panel_lines(Values::Bf16),
                    lanes: a.lanes,
                },
                right,
                gated: None,
                cols: (0, right.lanes),
                finish: Finish::Scaled(alpha),
                target: target.skipping(rows.start),
            };
            // SAFETY: the caller's promise; chunks of rows are disjoint.
            unsafe {
                match by_columns {
                    true => product.run_by_columns(),
                    false => product.run(&mut buffers.sums),
                }
            }
        };
        match chunks(a.lanes, threads) {
            Some(chunks) => for_each_chunk(chunks, |rows| {
                with_buffers(|buffers| multiply(rows, buffers, false));
            }),
            None => with_buffers(|buffers| multiply(0..a.lanes, buffers, true)),
        }
    }
    with_buffers(|buffers| buffers.right = right);
}

/// A right operand packed once, `[k, columns]`.
#[derive(Debug)]
pub(crate) struct Packed {
    kernel: Kernel,
    lines: Vec<Line>,
    depth: usize,
    lanes: usize,
    /// Of int8: the quantisation step and the sum of every column.
    steps: Vec<f32>,
    sums: Vec<i32>,
}

impl Packed {
    /// Packs `weightᵀ`, where `weight` is `[columns, k]`, row after row.
    pub(super) fn of(kernel: Kernel, weight: Matrix<'_>) -> Self {
        let (mut lines, mut steps, mut sums) = (Vec::new(), Vec::new(), Vec::new());
        let is_shared = threads(usize::MAX, Workers::Pool) > 1;
        match kernel.values {
            Values::Bf16 => {
                let b = Operand::right(weight.t().into());
                pack::round(b, Side::Right, &mut lines, is_shared);
            }
            Values::Int8 => {
                pack::quantise(weight, Side::Right, (&mut lines, &mut steps), is_shared);
                sums = pack::sums(weight, &steps);
            }
        }
        Self {
            kernel,
            lines,
            depth: weight.cols,
            lanes: weight.rows,
            steps,
            sums,
        }
    }

    /// Multiplies rows of `[rows, k]` with parts of the columns.
    ///
    /// # Safety
    /// Each part's place is valid for writes of a row of its columns for each input, one after the
    /// other, and nobody else touches it meanwhile.
    pub(super) unsafe fn multiply(&self, input: Input<'_>, parts: &[(Part<'_>, Place)]) {
        self.check(input, parts.iter().map(|(part, _)| part));
        if input.rows.rows == 0 || self.depth == 0 {
            return;
        }
        let columns: usize = parts.iter().map(|(part, _)| part.columns.len()).sum();
        let multiply = |rows: Range<usize>, buffers: &mut Buffers, by_columns: bool| {
            self.pack_left(input, rows.clone(), buffers, by_columns);
            let Buffers {
                left, steps, sums, ..
            } = buffers;
            for (part, place) in parts {
                let target = part.target(*place).skipping(rows.start);
                let product = self.product((left, steps), rows.len(), part, target);
                // SAFETY: the caller's promise; chunks of rows are disjoint.
                unsafe {
                    match by_columns {
                        true => product.run_by_columns(),
                        false => product.run(sums),
                    }
                }
            }
        };
        let Matrix { rows, cols, .. } = input.rows;
        match chunks(rows, threads(rows * cols * columns, Workers::Pool)) {
            Some(chunks) => for_each_chunk(chunks, |rows| {
                with_buffers(|buffers| multiply(rows, buffers, false));
            }),
            None => with_buffers(|buffers| multiply(0..rows, buffers, true)),
        }
    }

    /// Whether [`Packed::feed`] can do it: enough rows for every thread, and bf16.
    pub(super) fn can_feed(&self, next: &Self, rows: usize) -> bool {
        let is_bf16 = [self, next].map(|packed| packed.kernel.values == Values::Bf16);
        let work = rows * self.depth * self.lanes;
        is_bf16 == [true, true] && chunks(rows, threads(work, Workers::Pool)).is_some()
    }

    /// Multiplies the product of rows with a part of this weight by a part of the next one: what is
    /// between them stays packed, in a core's own cache.
    ///
    /// # Safety
    /// As for [`Packed::multiply`], of the second part's place; [`Packed::can_feed`] said yes.
    pub(super) unsafe fn feed(
        &self,
        input: Input<'_>,
        part: &Part<'_>,
        (next, last, place): (&Self, &Part<'_>, Place),
    ) {
        self.check(input, std::iter::once(part));
        assert!(
            part.columns.len() == next.depth && part.columns.start.is_multiple_of(PANEL),
            "matrices do not fit together"
        );
        let rows = input.rows.rows;
        let threads = threads(rows * self.depth * self.lanes, Workers::Pool);
        let pitch = next.pitch();
        for_each_chunk(chunks(rows, threads).unwrap_or_default(), |rows| {
            with_buffers(|buffers| {
                self.pack_left(input, rows.clone(), buffers, false);
                let Buffers {
                    left,
                    steps,
                    sums,
                    between,
                    ..
                } = buffers;
                between.resize(rows.len().div_ceil(PANEL) * pitch, Line::ZERO);
                let target = Target::Lines {
                    out: between.as_mut_ptr(),
                    pitch,
                };
                let product = self.product((left, steps), rows.len(), part, target);
                // SAFETY: there is a line for each row and 32 columns.
                unsafe { product.run(sums) };
                let target = last.target(place).skipping(rows.start);
                let product = next.product((between, &[]), rows.len(), last, target);
                // SAFETY: the caller's promise; chunks of rows are disjoint.
                unsafe { product.run(sums) };
            });
        });
    }

    /// Lines of a panel.
    fn pitch(&self) -> usize {
        self.depth.div_ceil(self.kernel.values.per_line()) * PANEL
    }

    fn check<'p>(&self, input: Input<'_>, parts: impl Iterator<Item = &'p Part<'p>>) {
        assert!(
            input.rows.cols == self.depth,
            "matrices do not fit together"
        );
        for part in parts {
            let distance = part.gated.unwrap_or(0);
            assert!(
                part.columns.end + distance <= self.lanes && distance.is_multiple_of(PANEL),
                "columns beyond a packed weight"
            );
        }
    }

    /// Packs some rows, normalised before if they are to be.
    fn pack_left(
        &self,
        input: Input<'_>,
        rows: Range<usize>,
        buffers: &mut Buffers,
        is_shared: bool,
    ) {
        let mut some = input.rows.below(rows.start, rows.len());
        let Buffers {
            left,
            steps,
            normed,
            ..
        } = buffers;
        if let Some(norm) = input.norm {
            normed.resize(some.rows * some.cols, 0.0);
            norm.apply(some, normed);
            some = Matrix::new(normed, some.rows, some.cols);
        }
        match self.kernel.values {
            Values::Bf16 => pack::round(Operand::left(some), Side::Left, left, is_shared),
            Values::Int8 => pack::quantise(some, Side::Left, (left, steps), is_shared),
        }
    }

    /// Some packed rows with a part of the columns.
    fn product<'a>(
        &'a self,
        (left, steps): (&'a [Line], &'a [f32]),
        rows: usize,
        part: &Part<'_>,
        target: Target,
    ) -> Product<'a> {
        let panels = |lines, lanes| Panels {
            lines,
            pitch: self.pitch(),
            lanes,
        };
        Product {
            kernel: self.kernel,
            left: panels(left, rows),
            right: panels(&self.lines, self.lanes),
            gated: part.gated.map(|lanes| lanes / PANEL),
            cols: (part.columns.start, part.columns.end),
            finish: match self.kernel.values {
                Values::Bf16 => Finish::Scaled(1.0),
                Values::Int8 => Finish::Dequantised(Quantised {
                    rows: steps,
                    cols: &self.steps,
                    sums: &self.sums,
                }),
            },
            target,
        }
    }
}

impl Part<'_> {
    fn target(&self, place: Place) -> Target {
        Target::Rows {
            out: place.0,
            row_stride: self.columns.len(),
            base: self.base.map(<[f32]>::as_ptr),
        }
    }
}

/// The first element of what a part of a product is written to.
#[derive(Clone, Copy)]
pub(super) struct Place(pub(super) *mut f32);

// SAFETY: a place only carries the pointer; see `Packed::multiply` for who writes there.
unsafe impl Send for Place {}
// SAFETY: as above.
unsafe impl Sync for Place {}

/// Multiplies the same two panels again and again; returns how many operations that were.
pub(super) fn spin(kernel: Kernel) -> f64 {
    const STEPS: usize = 8;
    const CALLS: usize = 64;
    let panel = vec![Line::ZERO; PANEL * STEPS];
    let mut sums = Sums::ZERO;
    let ready = kernel.ready();
    for _ in 0..CALLS {
        let panels = (panel.as_ptr(), panel.as_ptr());
        // SAFETY: the panels hold `STEPS` steps, the sums have room for all four tiles.
        unsafe { ready.multiply(panels, STEPS, (sums.0.as_mut_ptr(), PANEL), false) };
    }
    std::hint::black_box(&sums.0);
    (2 * PANEL * PANEL * kernel.values.per_line() * STEPS * CALLS) as f64
}
