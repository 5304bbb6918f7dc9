//! Packing for the tile unit: operands however they lie in memory, rounded to bf16, laid out tile after tile.
//!
//! ```text
//!   panel   32 lanes (rows of a, columns of b) × all of k:  step ─ step ─ …
//!   step    2 tiles, one below the other
//!   tile    16 lines of 64 bytes; Left: a line per lane, Right: a line per pair of k
//! ```

use std::arch::x86_64::*;

use rayon::prelude::*;

use super::{DEPTH, PANEL, TILE};
use crate::gemm::{Columns, Factor, Matrix};

/// 64 bytes of packed values, aligned for whole-register moves.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Line([u16; DEPTH]);

impl Line {
    pub(super) const ZERO: Self = Self([0; DEPTH]);
}

/// Which way a tile is laid out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// A line per row of a, 32 values of k in it.
    Left,
    /// A line per pair of k, 16 columns of b in it, two values each.
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
}

/// Rows of values that lie side by side.
#[derive(Clone, Copy)]
enum Rows<'a> {
    Strided { data: &'a [f32], stride: usize },
    Columns(Columns<'a>),
}

impl<'a> Operand<'a> {
    pub(super) fn left(a: Matrix<'a>) -> Self {
        let rows_are_lanes = a.col_stride == 1;
        Self {
            rows: Rows::Strided {
                data: a.data,
                stride: if rows_are_lanes {
                    a.row_stride
                } else {
                    a.col_stride
                },
            },
            rows_are_lanes,
            lanes: a.rows,
            depth: a.cols,
            start: 0,
        }
    }

    pub(super) fn right(b: Factor<'a>) -> Self {
        match b {
            Factor::Matrix(b) => Self::left(b.t()),
            Factor::Columns(columns) => Self {
                rows: Rows::Columns(columns),
                rows_are_lanes: false,
                lanes: b.cols(),
                depth: b.rows(),
                start: 0,
            },
            Factor::ColumnsT(columns) => Self {
                rows: Rows::Columns(columns),
                rows_are_lanes: true,
                lanes: b.cols(),
                depth: b.rows(),
                start: 0,
            },
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

    pub(super) fn panels(self) -> usize {
        self.lanes.div_ceil(PANEL)
    }

    fn steps(self) -> usize {
        self.depth.div_ceil(DEPTH)
    }

    /// Lines of one packed panel.
    pub(super) fn panel_lines(self) -> usize {
        self.steps() * 2 * TILE
    }
}

/// Where up to 16 values of a row lie, the same for every row of an operand: in one piece mostly.
#[derive(Clone, Copy)]
struct Strip {
    /// Lanes of each piece, and its first element after the beginning of the row.
    pieces: [(__mmask16, usize); TILE],
    count: usize,
    /// The end of the last piece.
    end: usize,
}

impl<'a> Rows<'a> {
    fn data(self) -> &'a [f32] {
        match self {
            Self::Strided { data, .. } => data,
            Self::Columns(columns) => columns.data(),
        }
    }

    /// Where rows `first..first + n` begin.
    fn starts(self, first: usize, n: usize) -> [usize; DEPTH] {
        let mut starts = [0; DEPTH];
        match self {
            Self::Strided { stride, .. } => {
                for (i, start) in starts.iter_mut().enumerate().take(n) {
                    *start = (first + i) * stride;
                }
            }
            Self::Columns(columns) => starts[..n].copy_from_slice(&columns.starts()[first..][..n]),
        }
        starts
    }

    /// Values `first..first + n` of a row.
    fn strip(self, first: usize, n: usize) -> Strip {
        let mut strip = Strip {
            pieces: [(0, 0); TILE],
            count: 0,
            end: 0,
        };
        let mut lane = 0;
        while lane < n {
            let (at, side_by_side) = match self {
                Self::Strided { .. } => (first + lane, n),
                Self::Columns(columns) => columns.place(first + lane),
            };
            let length = side_by_side.min(n - lane);
            strip.pieces[strip.count] = (lowest(length) << lane, at);
            strip.count += 1;
            strip.end = at + length;
            lane += length;
        }
        strip
    }
}

impl Strip {
    /// The values of the row that begins at `start`; the other lanes are zero.
    ///
    /// # Safety
    /// The row reaches to the strip's end within the data.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(&self, row: *const f32) -> __m512 {
        let (mask, at) = self.pieces[0];
        // SAFETY: masked lanes are not touched; the others are the caller's promise.
        let mut values = unsafe { _mm512_maskz_loadu_ps(mask, row.add(at)) };
        for &(mask, at) in &self.pieces[1..self.count.max(1)] {
            // SAFETY: as above.
            values = unsafe { _mm512_mask_expandloadu_ps(values, mask, row.add(at)) };
        }
        values
    }
}

/// The lowest `n` of 16 lanes.
fn lowest(n: usize) -> __mmask16 {
    ((1u32 << n.min(16)) - 1) as __mmask16
}

/// Rounds and packs all panels of an operand.
pub(super) fn pack(operand: Operand<'_>, side: Side, buffer: &mut Vec<Line>, is_shared: bool) {
    let lines = operand.panels() * operand.panel_lines();
    if buffer.len() < lines {
        buffer.resize(lines, Line::ZERO);
    }
    let pack_panel = |(panel, lines): (usize, &mut [Line])| {
        for (step, tiles) in lines.chunks_exact_mut(2 * TILE).enumerate() {
            for (half, tile) in tiles.chunks_exact_mut(TILE).enumerate() {
                let (lane, depth) = (panel * PANEL + half * TILE, step * DEPTH);
                // SAFETY: the unit's processors have these features, as `is_available` asked.
                unsafe { pack_tile(operand, side, lane, depth, tile) };
            }
        }
    };
    let panels = operand.panel_lines();
    if is_shared {
        buffer[..lines]
            .par_chunks_exact_mut(panels)
            .enumerate()
            .for_each(pack_panel);
    } else {
        buffer[..lines]
            .chunks_exact_mut(panels)
            .enumerate()
            .for_each(pack_panel);
    }
}

/// Packs 16 lanes and 32 values of k; what lies outside of the operand is zero.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn pack_tile(operand: Operand<'_>, side: Side, lane: usize, depth: usize, tile: &mut [Line]) {
    let lanes = operand.lanes.saturating_sub(lane).min(TILE);
    let depths = operand.depth.saturating_sub(depth).min(DEPTH);
    if lanes * depths == 0 {
        tile.fill(Line::ZERO);
        return;
    }
    let depth = operand.start + depth;
    let (mut lines, found) = if operand.rows_are_lanes {
        (
            lane_lines(operand.rows, (lane, lanes), (depth, depths)),
            Side::Left,
        )
    } else {
        (
            pair_lines(operand.rows, (lane, lanes), (depth, depths)),
            Side::Right,
        )
    };
    if found != side {
        transpose(&mut lines);
    }
    for (line, values) in tile.iter_mut().zip(lines) {
        // SAFETY: a line is 64 aligned bytes.
        unsafe { _mm512_store_si512(line.0.as_mut_ptr().cast(), values) };
    }
}

/// A line per lane: its values along k, which lie side by side.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn lane_lines(
    rows: Rows<'_>,
    (lane, lanes): (usize, usize),
    (depth, depths): (usize, usize),
) -> [__m512i; TILE] {
    let low = rows.strip(depth, depths.min(TILE));
    let high = rows.strip(depth + TILE, depths.saturating_sub(TILE));
    let (data, starts) = (rows.data(), rows.starts(lane, lanes));
    check(data, &starts[..lanes], low.end.max(high.end));
    let mut lines = [_mm512_setzero_si512(); TILE];
    for (line, &start) in lines.iter_mut().zip(&starts[..lanes]) {
        // SAFETY: all rows reach to the strips' ends, as just checked. Without a high half its mask
        // is empty.
        let (low, high) = unsafe {
            let row = data.as_ptr().add(start);
            (low.load(row), high.load(row))
        };
        // SAFETY: both are 64 bytes of plain numbers.
        *line = unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)) };
    }
    lines
}

/// Panics unless every row reaches to `end` within the data.
fn check(data: &[f32], starts: &[usize], end: usize) {
    let last = starts.iter().max().copied().unwrap_or(0);
    assert!(last + end <= data.len(), "operand reaches beyond its slice");
}

/// A line per pair of k: 16 lanes, which lie side by side, of both.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn pair_lines(
    rows: Rows<'_>,
    (lane, lanes): (usize, usize),
    (depth, depths): (usize, usize),
) -> [__m512i; TILE] {
    let strip = rows.strip(lane, lanes);
    let (data, starts) = (rows.data(), rows.starts(depth, depths));
    check(data, &starts[..depths], strip.end);
    let mut lines = [_mm512_setzero_si512(); TILE];
    for (line, starts) in lines.iter_mut().zip(starts[..depths].chunks(2)) {
        // SAFETY: all rows reach to the strip's end, as just checked.
        *line = rounded(unsafe { strip.load(data.as_ptr().add(starts[0])) });
        if let Some(&start) = starts.get(1) {
            // SAFETY: as above.
            let odd = rounded(unsafe { strip.load(data.as_ptr().add(start)) });
            *line = _mm512_or_si512(*line, _mm512_slli_epi32::<16>(odd));
        }
    }
    lines
}

/// 16 values of bf16, each in the lower half of a lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn rounded(x: __m512) -> __m512i {
    // SAFETY: both are 32 bytes of plain numbers.
    let x = unsafe { std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x)) };
    _mm512_cvtepu16_epi32(x)
}

/// Transposes 16 × 16 pairs.
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
