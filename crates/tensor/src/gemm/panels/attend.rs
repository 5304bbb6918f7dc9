//! Attention of one head on packed panels: keys and values are packed once for all queries.
//!
//! ```text
//!   k ──▶ panels ─┐                                      v ──▶ panels ─┐
//!   32 queries ───┴─▶ scores [32, keys] ─▶ exp, sums ─▶ bf16 panel ────┴─▶ · 1/sum ─▶ out
//! ```
//!
//! Only 32 rows of scores exist at a time. Factors are bf16; scores, sums and results f32.

use std::arch::x86_64::*;
use std::cell::Cell;

use super::pack::{self, Line, Operand, Side};
use super::product::{Panels, Sums};
use super::vector::{self, WIDTH, lowest};
use super::{Kernel, PANEL, Values};
use crate::gemm::Matrix;

/// What a thread keeps from one head to the next.
#[derive(Default)]
struct Buffers {
    queries: Vec<Line>,
    keys: Vec<Line>,
    values: Vec<Line>,
    scores: Vec<f32>,
    chances: Vec<Line>,
}

thread_local! {
    static BUFFERS: Cell<Option<Buffers>> = const { Cell::new(None) };
}

/// `softmax(q · kᵀ · scale) · v` of one head, on the calling thread.
///
/// q `[rows, c]`, k and v `[keys, c]`, at least one key; `hidden` tells which key a query does not
/// see, if any.
///
/// # Safety
/// `out` is valid for writes of `rows` rows of `c` elements, `row_stride` apart, and nobody else
/// touches them meanwhile.
pub(in crate::gemm) unsafe fn attend(
    kernel: Kernel,
    [q, k, v]: [Matrix<'_>; 3],
    scale: f32,
    hidden: impl Fn(usize) -> Option<usize>,
    (out, row_stride): (*mut f32, usize),
) {
    let mut buffers = BUFFERS.take().unwrap_or_default();
    let Buffers {
        queries,
        keys,
        values,
        scores,
        chances,
    } = &mut buffers;
    let (k, v) = (Operand::right(k.t().into()), Operand::right(v.into()));
    pack::round(k, Side::Right, keys, false);
    pack::round(v, Side::Right, values, false);
    let keys = panels(keys, k);
    let values = panels(values, v);
    let pitch = keys.count() * PANEL;
    scores.resize(PANEL * pitch, 0.0);
    for first in (0..q.rows).step_by(PANEL) {
        let rows = (q.rows - first).min(PANEL);
        let some = Operand::left(q.below(first, rows));
        pack::round(some, Side::Left, queries, false);
        let queries = panels(queries, some);
        {
            let ready = kernel.ready();
            for panel in 0..keys.count() {
                let (a, b) = (queries.at(0, 0), keys.at(panel, 0));
                let out = scores[panel * PANEL..].as_mut_ptr();
                // SAFETY: the scores hold 32 rows of all panels of keys.
                unsafe { ready.multiply((a, b), (rows, keys.pitch / PANEL), (out, pitch), false) };
            }
        }
        for (row, scores) in scores.chunks_exact_mut(pitch).take(rows).enumerate() {
            if let Some(key) = hidden(first + row) {
                scores[key] = f32::NEG_INFINITY;
            }
        }
        let size = (keys.lanes, pitch);
        // SAFETY: every kernel's processor has these features, as `Kernel::all` asked.
        let totals = unsafe { exponentials(&scores[..rows * pitch], size, scale, chances) };
        let chances = Panels {
            lines: chances,
            pitch: chances.len(),
            lanes: rows,
        };
        let ready = kernel.ready();
        for panel in 0..values.count() {
            let (a, b) = (chances.at(0, 0), values.at(panel, 0));
            let mut sums = Sums::ZERO;
            // SAFETY: the sums have room for one panel by another.
            unsafe {
                let place = (sums.0.as_mut_ptr(), PANEL);
                ready.multiply((a, b), (rows, values.pitch / PANEL), place, false);
            }
            let columns = panel * PANEL..values.lanes.min((panel + 1) * PANEL);
            for (row, sums) in sums.0.chunks_exact(PANEL).take(rows).enumerate() {
                // SAFETY: these columns of the row are the caller's to write.
                let out = unsafe {
                    let out = out.add((first + row) * row_stride + columns.start);
                    std::slice::from_raw_parts_mut(out, columns.len())
                };
                let inverse = 1.0 / totals[row];
                for (out, sum) in out.iter_mut().zip(sums) {
                    *out = sum * inverse;
                }
            }
        }
    }
    BUFFERS.set(Some(buffers));
}

/// Packed lanes of an operand.
fn panels<'a>(lines: &'a [Line], operand: Operand<'_>) -> Panels<'a> {
    Panels {
        lines,
        pitch: operand.panel_lines(Values::Bf16),
        lanes: operand.lanes,
    }
}

/// Turns up to 32 rows of scores into `exp((x - largest) · scale)`, packed on the left; the sum of each row.
/// Rows lie `pitch` apart and hold `n` scores.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
fn exponentials(
    scores: &[f32],
    (n, pitch): (usize, usize),
    scale: f32,
    lines: &mut Vec<Line>,
) -> [f32; PANEL] {
    lines.resize(n.div_ceil(PANEL) * PANEL, Line::ZERO);
    let scale = scale * std::f32::consts::LOG2_E;
    let mut sums = [0f32; PANEL];
    for (row, (scores, total)) in scores.chunks_exact(pitch).zip(&mut sums).enumerate() {
        let scores = &scores[..n];
        let shift = _mm512_set1_ps(-vector::largest(scores) * scale);
        let mut sum = _mm512_setzero_ps();
        for (step, scores) in scores.chunks(PANEL).enumerate() {
            let mut halves = [_mm512_setzero_ps(); 2];
            for (half, scores) in halves.iter_mut().zip(scores.chunks(WIDTH)) {
                let x = _mm512_fmadd_ps(vector::load(scores), _mm512_set1_ps(scale), shift);
                *half = _mm512_maskz_mov_ps(lowest(scores.len()), vector::exp2(x));
                sum = _mm512_add_ps(sum, *half);
            }
            let [low, high] = halves;
            pack::round_line(low, high, &mut lines[step * PANEL + row]);
        }
        *total = _mm512_reduce_add_ps(sum);
    }
    sums
}
