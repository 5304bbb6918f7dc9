//! Products of packed panels: bf16 summed in f32, or int8 summed in i32.
//!
//! ```text
//!   a, f32, rows or columns ──pack──▶ panels of 32 rows      ┐
//!                                                        ├─▶ 32 × 32 sums ──finish──▶ out
//!   b, f32, any strides ────pack──▶ panels of 32 columns   ┘
//! ```
//!
//! What is packed once (a weight) or at every product (an activation) is the caller's choice. Every
//! sum runs over k in order, whoever works on it: the bits do not depend on the number of threads.

pub(super) mod attend;
mod kernel;
mod pack;
mod packed;
mod product;
mod quantise;
mod source;
mod vector;

use std::cell::Cell;
use std::ops::Range;

use rayon::prelude::*;

use super::{Factor, Into, Matrix, Workers, threads};
pub(super) use kernel::{Kernel, Values};
use pack::{Line, Operand, Side};
pub(crate) use packed::Packed;
pub(super) use packed::Place;
use product::{Finish, Panels, Product, Sums, Target};

/// Rows of a tile, and columns of a tile of sums.
const TILE: usize = 16;
/// Rows of a, or columns of b, of one kernel call.
const PANEL: usize = 2 * TILE;

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
        unsafe { ready.multiply(panels, (PANEL, STEPS), (sums.0.as_mut_ptr(), PANEL), false) };
    }
    std::hint::black_box(&sums.0);
    (2 * PANEL * PANEL * kernel.values.per_line() * STEPS * CALLS) as f64
}
