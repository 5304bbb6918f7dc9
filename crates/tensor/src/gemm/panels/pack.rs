//! Packing: operands however they lie in memory, as lines of bf16 or int8, panel after panel.
//!
//! ```text
//!   panel   32 lanes (rows of a, columns of b) × all of k:  step ─ step ─ …
//!   step    2 tiles, one below the other
//!   tile    16 lines of 64 bytes; Left: a line per lane, Right: a line per 4 bytes of k
//! ```
//!
//! Int8 comes from `quantise`; here are the layout and bf16.

use std::arch::x86_64::*;

use rayon::prelude::*;

use super::kernel::Values;
use super::source::{Source, Strided};
use super::vector::WIDTH;
use super::{PANEL, TILE};
use crate::gemm::{Columns, Factor, Matrix};

/// Values of bf16 in a line.
const DEPTH: usize = 32;

/// 64 bytes of packed values, aligned for whole-register moves.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(in crate::gemm) struct Line([u16; DEPTH]);

impl Line {
    pub(in crate::gemm) const ZERO: Self = Self([0; DEPTH]);
}

/// Which way a tile is laid out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// A line per row of a, along k.
    Left,
    /// A line per 4 bytes of k, 16 columns of b in it.
    Right,
}

/// An operand as lanes (rows of a, columns of b) of values along k.
#[derive(Clone, Copy)]
pub(super) struct Operand<'a> {
    rows: Rows<'a>,
    /// Whether a row of `rows` is a lane, or else one k of all lanes.
    rows_are_lanes: bool,
    pub(super) lanes: usize,
    pub(super) depth: usize,
    /// The first k of this block.
    start: usize,
    /// The first lane.
    first: usize,
}

/// Rows of values that lie side by side.
#[derive(Clone, Copy)]
enum Rows<'a> {
    Strided(Strided<'a>),
    Columns(Columns<'a>),
}

impl<'a> Operand<'a> {
    pub(super) fn left(a: Matrix<'a>) -> Self {
        let rows_are_lanes = a.col_stride == 1;
        let stride = if rows_are_lanes {
            a.row_stride
        } else {
            a.col_stride
        };
        Self {
            rows: Rows::Strided(Strided {
                data: a.data,
                stride,
            }),
            rows_are_lanes,
            lanes: a.rows,
            depth: a.cols,
            start: 0,
            first: 0,
        }
    }

    pub(super) fn right(b: Factor<'a>) -> Self {
        let (columns, rows_are_lanes) = match b {
            Factor::Matrix(b) => return Self::left(b.t()),
            Factor::Columns(columns) => (columns, false),
            Factor::ColumnsT(columns) => (columns, true),
        };
        Self {
            rows: Rows::Columns(columns),
            rows_are_lanes,
            lanes: b.cols(),
            depth: b.rows(),
            start: 0,
            first: 0,
        }
    }

    /// The part with k in `start..start + depth`.
    pub(super) fn block(self, start: usize, depth: usize) -> Self {
        Self {
            start,
            depth,
            ..self
        }
    }

    /// The part of some lanes.
    pub(super) fn lanes(self, lanes: std::ops::Range<usize>) -> Self {
        Self {
            first: lanes.start,
            lanes: lanes.len(),
            ..self
        }
    }

    pub(super) fn panels(self) -> usize {
        self.lanes.div_ceil(PANEL)
    }

    /// Lines of one packed panel.
    pub(super) fn panel_lines(self, values: Values) -> usize {
        self.depth.div_ceil(values.per_line()) * PANEL
    }
}

/// Calls `work` with each panel of packed lines, on all threads where the work is shared.
pub(super) fn for_each_panel(
    lines: &mut [Line],
    pitch: usize,
    is_shared: bool,
    work: impl Fn(usize, &mut [Line]) + Sync,
) {
    if is_shared {
        let panels = lines.par_chunks_exact_mut(pitch).enumerate();
        panels.for_each(|(panel, lines)| work(panel, lines));
    } else {
        let panels = lines.chunks_exact_mut(pitch).enumerate();
        panels.for_each(|(panel, lines)| work(panel, lines));
    }
}

/// Makes room for the panels of an operand.
pub(super) fn fit(operand: Operand<'_>, values: Values, buffer: &mut Vec<Line>) -> (usize, usize) {
    let pitch = operand.panel_lines(values);
    let lines = operand.panels() * pitch;
    if buffer.len() < lines {
        buffer.resize(lines, Line::ZERO);
    }
    (lines, pitch)
}

/// Rounds to bf16 and packs all panels of an operand; `buffer` grows to hold them.
pub(super) fn round(operand: Operand<'_>, side: Side, buffer: &mut Vec<Line>, is_shared: bool) {
    let (lines, pitch) = fit(operand, Values::Bf16, buffer);
    let lines = &mut buffer[..lines];
    if is_shared || operand.rows_are_lanes {
        for_each_panel(lines, pitch, is_shared, |panel, lines| {
            for (step, tiles) in lines.chunks_exact_mut(PANEL).enumerate() {
                round_tiles(operand, side, (panel, step), tiles);
            }
        });
        return;
    }
    // Rows of k are read from end to end: panel after panel would read 128 bytes of each, far apart.
    for step in 0..pitch / PANEL {
        for (panel, lines) in lines.chunks_exact_mut(pitch).enumerate() {
            let tiles = &mut lines[step * PANEL..][..PANEL];
            round_tiles(operand, side, (panel, step), tiles);
        }
    }
}

/// Rounds and packs both tiles of a step.
fn round_tiles(
    operand: Operand<'_>,
    side: Side,
    (panel, step): (usize, usize),
    tiles: &mut [Line],
) {
    for (half, tile) in tiles.chunks_exact_mut(TILE).enumerate() {
        let at = (panel * PANEL + half * TILE, step * DEPTH);
        // SAFETY: every kernel's processor has these features, as `Kernel::all` asked.
        unsafe {
            match operand.rows {
                Rows::Strided(rows) => round_tile(rows, operand, side, at, tile),
                Rows::Columns(rows) => round_tile(rows, operand, side, at, tile),
            }
        }
    }
}

/// Rounds and packs 16 lanes and 32 values of k; what lies outside of the operand is zero.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn round_tile<S: Source>(
    rows: S,
    operand: Operand<'_>,
    side: Side,
    (lane, depth): (usize, usize),
    tile: &mut [Line],
) {
    let lanes = operand.lanes.saturating_sub(lane).min(TILE);
    let depths = operand.depth.saturating_sub(depth).min(DEPTH);
    if lanes * depths == 0 {
        tile.fill(Line::ZERO);
        return;
    }
    let lanes = (operand.first + lane, lanes);
    let depths = (operand.start + depth, depths);
    let (mut lines, found) = match operand.rows_are_lanes {
        true => (lane_lines(rows, lanes, depths), Side::Left),
        false => (pair_lines(rows, lanes, depths), Side::Right),
    };
    if found != side {
        transpose(&mut lines);
    }
    store(tile, &lines);
}

/// Writes a tile.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store(tile: &mut [Line], lines: &[__m512i; TILE]) {
    for (line, values) in tile.iter_mut().zip(lines) {
        // SAFETY: a line is 64 aligned bytes.
        unsafe { _mm512_store_si512(line.0.as_mut_ptr().cast(), *values) };
    }
}

/// Panics unless rows `first..first + n` reach to `end` within the data.
#[inline(always)]
fn check<S: Source>(rows: S, (first, n): (usize, usize), end: usize) {
    let last = (first..first + n).map(|row| rows.begin(row)).max();
    assert!(
        last.unwrap_or(0) + end <= rows.data().len(),
        "operand reaches beyond its slice"
    );
}

/// A line per lane: its values along k, which lie side by side.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn lane_lines<S: Source>(
    rows: S,
    (lane, lanes): (usize, usize),
    (depth, depths): (usize, usize),
) -> [__m512i; TILE] {
    let low = rows.strip(depth, depths.min(WIDTH));
    let high = rows.strip(depth + WIDTH, depths.saturating_sub(WIDTH));
    let end = match depths > WIDTH {
        true => S::end(&high),
        false => S::end(&low),
    };
    check(rows, (lane, lanes), end);
    let mut lines = [_mm512_setzero_si512(); TILE];
    for (i, line) in lines.iter_mut().enumerate().take(lanes) {
        // SAFETY: all rows reach to the strips' ends, as just checked. Without a high half its mask
        // is empty.
        let (low, high) = unsafe {
            let row = rows.data().as_ptr().add(rows.begin(lane + i));
            (S::load(&low, row), S::load(&high, row))
        };
        // SAFETY: both are 64 bytes of plain numbers.
        *line = unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)) };
    }
    lines
}

/// A line per pair of k: 16 lanes, which lie side by side, of both.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn pair_lines<S: Source>(
    rows: S,
    (lane, lanes): (usize, usize),
    (depth, depths): (usize, usize),
) -> [__m512i; TILE] {
    let strip = rows.strip(lane, lanes);
    check(rows, (depth, depths), S::end(&strip));
    let mut lines = [_mm512_setzero_si512(); TILE];
    for (pair, line) in lines.iter_mut().enumerate().take(depths.div_ceil(2)) {
        let at = |k: usize| {
            // SAFETY: all rows reach to the strip's end, as just checked.
            unsafe { S::load(&strip, rows.data().as_ptr().add(rows.begin(depth + k))) }
        };
        let even = at(2 * pair);
        let odd = match 2 * pair + 1 < depths {
            true => at(2 * pair + 1),
            false => _mm512_setzero_ps(),
        };
        *line = interleave(even, odd);
    }
    lines
}

/// Pairs of bf16, `even` in the lower halves.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn interleave(even: __m512, odd: __m512) -> __m512i {
    let rounded = |x: __m512| {
        // SAFETY: both are 32 bytes of plain numbers.
        let x = unsafe { std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x)) };
        _mm512_cvtepu16_epi32(x)
    };
    _mm512_or_si512(rounded(even), _mm512_slli_epi32::<16>(rounded(odd)))
}

/// Transposes 16 × 16 groups of 4 bytes.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn transpose(lines: &mut [__m512i; TILE]) {
    let r = *lines;
    let mut t = [_mm512_setzero_si512(); TILE];
    for i in 0..8 {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    let mut u = [_mm512_setzero_si512(); TILE];
    for i in 0..4 {
        u[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        u[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        u[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        u[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    // u[4·i + j] holds, in its quarter q, column 4·q + j of rows 4·i to 4·i + 3.
    for j in 0..4 {
        let low = _mm512_shuffle_i32x4::<0b10_00_10_00>(u[j], u[4 + j]);
        let high = _mm512_shuffle_i32x4::<0b11_01_11_01>(u[j], u[4 + j]);
        let low2 = _mm512_shuffle_i32x4::<0b10_00_10_00>(u[8 + j], u[12 + j]);
        let high2 = _mm512_shuffle_i32x4::<0b11_01_11_01>(u[8 + j], u[12 + j]);
        lines[j] = _mm512_shuffle_i32x4::<0b10_00_10_00>(low, low2);
        lines[8 + j] = _mm512_shuffle_i32x4::<0b11_01_11_01>(low, low2);
        lines[4 + j] = _mm512_shuffle_i32x4::<0b10_00_10_00>(high, high2);
        lines[12 + j] = _mm512_shuffle_i32x4::<0b11_01_11_01>(high, high2);
    }
}

/// Rounds 32 values to a line.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) fn round_line(low: __m512, high: __m512, line: &mut Line) {
    // SAFETY: a line is 64 aligned bytes, and so are both halves together.
    unsafe {
        let pairs = _mm512_cvtne2ps_pbh(high, low);
        let pairs = std::mem::transmute::<__m512bh, __m512i>(pairs);
        _mm512_store_si512(line.0.as_mut_ptr().cast(), pairs);
    }
}
