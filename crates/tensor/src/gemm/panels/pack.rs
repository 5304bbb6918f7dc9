//! Packing: operands however they lie in memory, as lines of bf16 or int8, panel after panel.
//!
//! ```text
//!   panel   32 lanes (rows of a, columns of b) × all of k:  step ─ step ─ …
//!   step    2 tiles, one below the other
//!   tile    16 lines of 64 bytes; Left: a line per lane, Right: a line per 4 bytes of k
//! ```
//!
//! Int8 is quantised lane by lane: the largest value of a lane becomes ±127.

use std::arch::x86_64::*;

use rayon::prelude::*;

use super::kernel::Values;
use super::vector::{self, WIDTH, lowest};
use super::{PANEL, TILE};
use crate::gemm::packed::{in_steps, inverse, quantisation_step};
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

/// Where the values of rows lie. A strip is a run of up to 16 values, the same for every row.
trait Source: Copy {
    type Strip: Copy;
    fn data(&self) -> &[f32];
    /// The first element of a row.
    fn begin(&self, row: usize) -> usize;
    /// Values `first..first + n` of a row.
    fn strip(&self, first: usize, n: usize) -> Self::Strip;
    /// One past the last element of a strip, from the beginning of a row.
    fn end(strip: &Self::Strip) -> usize;
    /// The strip of the row that begins at `row`; the other lanes are zero.
    ///
    /// # Safety
    /// The row reaches to the strip's end within the data.
    unsafe fn load(strip: &Self::Strip, row: *const f32) -> __m512;
}

/// Rows of a matrix.
#[derive(Clone, Copy)]
struct Strided<'a> {
    data: &'a [f32],
    stride: usize,
}

impl Source for Strided<'_> {
    type Strip = (__mmask16, usize);

    fn data(&self) -> &[f32] {
        self.data
    }

    #[inline(always)]
    fn begin(&self, row: usize) -> usize {
        row * self.stride
    }

    #[inline(always)]
    fn strip(&self, first: usize, n: usize) -> Self::Strip {
        (lowest(n), first)
    }

    #[inline(always)]
    fn end(&(mask, first): &Self::Strip) -> usize {
        first + (u16::BITS - mask.leading_zeros()) as usize
    }

    #[inline(always)]
    unsafe fn load(&(mask, first): &Self::Strip, row: *const f32) -> __m512 {
        // SAFETY: masked lanes are not touched; the others are the caller's promise.
        unsafe { _mm512_maskz_loadu_ps(mask, row.wrapping_add(first)) }
    }
}

/// A strip in pieces: pixels that lie side by side.
#[derive(Clone, Copy)]
struct Pieces {
    /// Lanes of each piece, and its first element after the beginning of the row.
    pieces: [(__mmask16, usize); TILE],
    count: usize,
    /// The end of the last piece.
    end: usize,
}

impl Source for Columns<'_> {
    type Strip = Pieces;

    fn data(&self) -> &[f32] {
        Columns::data(self)
    }

    fn begin(&self, row: usize) -> usize {
        self.starts()[row]
    }

    fn strip(&self, first: usize, n: usize) -> Pieces {
        let mut strip = Pieces {
            pieces: [(0, 0); TILE],
            count: 0,
            end: 0,
        };
        let mut lane = 0;
        while lane < n {
            let (at, side_by_side) = self.place(first + lane);
            let length = side_by_side.min(n - lane);
            strip.pieces[strip.count] = (lowest(length) << lane, at);
            strip.count += 1;
            strip.end = at + length;
            lane += length;
        }
        strip
    }

    fn end(strip: &Pieces) -> usize {
        strip.end
    }

    #[inline(always)]
    unsafe fn load(strip: &Pieces, row: *const f32) -> __m512 {
        let (mask, at) = strip.pieces[0];
        // SAFETY: masked lanes are not touched; the others are the caller's promise.
        let mut values = unsafe { _mm512_maskz_loadu_ps(mask, row.wrapping_add(at)) };
        for &(mask, at) in &strip.pieces[1..strip.count.max(1)] {
            // SAFETY: as above.
            values = unsafe { _mm512_mask_expandloadu_ps(values, mask, row.wrapping_add(at)) };
        }
        values
    }
}

/// Calls `work` with each panel of packed lines, on all threads where the work is shared.
fn for_each_panel(
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
fn fit(operand: Operand<'_>, values: Values, buffer: &mut Vec<Line>) -> (usize, usize) {
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
    for_each_panel(&mut buffer[..lines], pitch, is_shared, |panel, lines| {
        for (step, tiles) in lines.chunks_exact_mut(PANEL).enumerate() {
            for (half, tile) in tiles.chunks_exact_mut(TILE).enumerate() {
                let (lane, depth) = (panel * PANEL + half * TILE, step * DEPTH);
                // SAFETY: every kernel's processor has these features, as `Kernel::all` asked.
                unsafe {
                    match operand.rows {
                        Rows::Strided(rows) => {
                            round_tile(rows, operand, side, (lane, depth), tile);
                        }
                        Rows::Columns(rows) => {
                            round_tile(rows, operand, side, (lane, depth), tile);
                        }
                    }
                }
            }
        }
    });
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
fn store(tile: &mut [Line], lines: &[__m512i; TILE]) {
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
fn transpose(lines: &mut [__m512i; TILE]) {
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

/// Quantises the rows of a matrix and packs them: on the left unsigned (128 is zero), on the right
/// signed. `steps` becomes the width of a quantisation step of every lane.
pub(super) fn quantise(
    matrix: Matrix<'_>,
    side: Side,
    (buffer, steps): (&mut Vec<Line>, &mut Vec<f32>),
    is_shared: bool,
) {
    let operand = Operand::left(matrix);
    let (lines, pitch) = fit(operand, Values::Int8, buffer);
    steps.clear();
    steps.extend((0..matrix.rows).map(|row| quantisation_step(matrix.row(row))));
    let steps: &[f32] = steps;
    for_each_panel(&mut buffer[..lines], pitch, is_shared, |panel, lines| {
        for (step, tiles) in lines.chunks_exact_mut(PANEL).enumerate() {
            for (half, tile) in tiles.chunks_exact_mut(TILE).enumerate() {
                let place = (panel * PANEL + half * TILE, step * Values::Int8.per_line());
                // SAFETY: every kernel's processor has these features, as `Kernel::all` asked.
                unsafe { quantise_tile(matrix, steps, side, place, tile) };
            }
        }
    });
}

/// The sum of every row of a matrix in whole steps.
pub(super) fn sums(matrix: Matrix<'_>, steps: &[f32]) -> Vec<i32> {
    let rows = steps.iter().enumerate();
    rows.map(|(row, step)| in_steps(matrix.row(row), *step).map(i32::from).sum())
        .collect()
}

/// Quantises and packs 16 rows and 64 values of each; what lies outside of the matrix is zero.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn quantise_tile(
    matrix: Matrix<'_>,
    steps: &[f32],
    side: Side,
    (lane, depth): (usize, usize),
    tile: &mut [Line],
) {
    let mut lines = [_mm512_setzero_si512(); TILE];
    let lanes = matrix.rows.saturating_sub(lane).min(TILE);
    let depths = matrix
        .cols
        .saturating_sub(depth)
        .min(Values::Int8.per_line());
    for (i, line) in lines.iter_mut().enumerate().take(lanes) {
        let row = &matrix.row(lane + i)[depth..depth + depths];
        let inverse = _mm512_set1_ps(inverse(steps[lane + i]));
        let mut quarters = [_mm_setzero_si128(); 4];
        for (quarter, values) in quarters.iter_mut().zip(row.chunks(WIDTH)) {
            let x = vector::load(values);
            *quarter = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(x, inverse)));
        }
        let [a, b, c, d] = quarters;
        let low = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(a), b);
        let high = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(c), d);
        *line = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high);
    }
    match side {
        // Adding 128 turns the sign bit.
        Side::Left => {
            for line in &mut lines {
                *line = _mm512_xor_si512(*line, _mm512_set1_epi8(-128));
            }
        }
        Side::Right => transpose(&mut lines),
    }
    store(tile, &lines);
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

/// Turns 32 rows of scores into `exp((x - largest) · scale)`, packed on the left; the sum of each row.
/// Rows lie `pitch` apart and hold `n` scores.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
pub(super) fn exponentials(
    scores: &[f32],
    (n, pitch): (usize, usize),
    scale: f32,
    lines: &mut Vec<Line>,
) -> [f32; PANEL] {
    lines.resize(n.div_ceil(DEPTH) * PANEL, Line::ZERO);
    let scale = scale * std::f32::consts::LOG2_E;
    let mut sums = [0f32; PANEL];
    for (row, (scores, total)) in scores.chunks_exact(pitch).zip(&mut sums).enumerate() {
        let scores = &scores[..n];
        let shift = _mm512_set1_ps(-vector::largest(scores) * scale);
        let mut sum = _mm512_setzero_ps();
        for (step, scores) in scores.chunks(DEPTH).enumerate() {
            let mut halves = [_mm512_setzero_ps(); 2];
            for (half, scores) in halves.iter_mut().zip(scores.chunks(WIDTH)) {
                let x = _mm512_fmadd_ps(vector::load(scores), _mm512_set1_ps(scale), shift);
                *half = _mm512_maskz_mov_ps(lowest(scores.len()), vector::exp2(x));
                sum = _mm512_add_ps(sum, *half);
            }
            let [low, high] = halves;
            round_line(low, high, &mut lines[step * PANEL + row]);
        }
        *total = _mm512_reduce_add_ps(sum);
    }
    sums
}
