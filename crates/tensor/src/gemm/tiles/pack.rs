//! Packing for the tile unit: operands of any strides, rounded to bf16, laid out tile after tile.
//!
//! ```text
//!   panel   32 lanes (rows of a, columns of b) × all of k:  step ─ step ─ …
//!   step    2 tiles, one below the other
//!   tile    16 lines of 64 bytes; Left: a line per lane, Right: a line per pair of k
//! ```

use std::arch::x86_64::*;

use rayon::prelude::*;

use super::{DEPTH, PANEL, TILE};
use crate::gemm::Matrix;

/// 64 bytes of packed values, aligned for whole-register moves.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Line([u16; DEPTH]);

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
    data: &'a [f32],
    pub(super) lanes: usize,
    pub(super) depth: usize,
    lane_stride: usize,
    depth_stride: usize,
}

impl<'a> Operand<'a> {
    pub(super) fn left(a: Matrix<'a>) -> Self {
        Self {
            data: a.data,
            lanes: a.rows,
            depth: a.cols,
            lane_stride: a.row_stride,
            depth_stride: a.col_stride,
        }
    }

    pub(super) fn right(b: Matrix<'a>) -> Self {
        Self::left(b.t())
    }

    /// The part with k in `start..start + depth`.
    pub(super) fn block(self, start: usize, depth: usize) -> Self {
        Self {
            data: &self.data[start * self.depth_stride..],
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

/// Rounds and packs all panels of an operand.
pub(super) fn pack(operand: Operand<'_>, side: Side, buffer: &mut Vec<Line>, is_shared: bool) {
    let lines = operand.panels() * operand.panel_lines();
    if buffer.len() < lines {
        buffer.resize(lines, Line([0; DEPTH]));
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
        tile.fill(Line([0; DEPTH]));
        return;
    }
    let data = &operand.data[lane * operand.lane_stride + depth * operand.depth_stride..];
    let (mut lines, found) = if operand.depth_stride == 1 {
        (
            lane_lines(data, lanes, depths, operand.lane_stride),
            Side::Left,
        )
    } else if operand.lane_stride == 1 {
        (
            pair_lines(data, lanes, depths, operand.depth_stride),
            Side::Right,
        )
    } else {
        let mut gathered = [0f32; TILE * DEPTH];
        for (lane, line) in gathered.chunks_exact_mut(DEPTH).take(lanes).enumerate() {
            for (k, value) in line.iter_mut().take(depths).enumerate() {
                *value = data[lane * operand.lane_stride + k * operand.depth_stride];
            }
        }
        (lane_lines(&gathered, lanes, depths, DEPTH), Side::Left)
    };
    if found != side {
        transpose(&mut lines);
    }
    for (line, values) in tile.iter_mut().zip(lines) {
        // SAFETY: a line is 64 aligned bytes.
        unsafe { _mm512_store_si512(line.0.as_mut_ptr().cast(), values) };
    }
}

/// The lowest `n` of 16 lanes.
fn first(n: usize) -> __mmask16 {
    ((1u32 << n.min(16)) - 1) as __mmask16
}

/// Loads the first `n` ≤ 16 values; the others are zero.
#[target_feature(enable = "avx512f")]
fn load(data: &[f32], n: usize) -> __m512 {
    debug_assert!(n <= data.len());
    // SAFETY: only the first `n` elements are touched, which the slice has.
    unsafe { _mm512_maskz_loadu_ps(first(n), data.as_ptr()) }
}

/// A line per lane: its values along k, which lie side by side.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn lane_lines(data: &[f32], lanes: usize, depths: usize, stride: usize) -> [__m512i; TILE] {
    let mut lines = [_mm512_setzero_si512(); TILE];
    for (lane, line) in lines.iter_mut().take(lanes).enumerate() {
        let row = &data[lane * stride..][..depths];
        let (low, high) = row.split_at(depths.min(TILE));
        let (low, high) = (load(low, low.len()), load(high, high.len()));
        // SAFETY: both are 64 bytes of plain numbers.
        *line = unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)) };
    }
    lines
}

/// A line per pair of k: 16 lanes, which lie side by side, of both.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn pair_lines(data: &[f32], lanes: usize, depths: usize, stride: usize) -> [__m512i; TILE] {
    let mut lines = [_mm512_setzero_si512(); TILE];
    for (pair, line) in lines.iter_mut().enumerate().take(depths.div_ceil(2)) {
        let rounded = |k: usize| {
            let row = match k < depths {
                true => load(&data[k * stride..][..lanes], lanes),
                false => _mm512_setzero_ps(),
            };
            // SAFETY: both are 32 bytes of plain numbers.
            let row = unsafe { std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(row)) };
            _mm512_cvtepu16_epi32(row)
        };
        let (even, odd) = (rounded(2 * pair), rounded(2 * pair + 1));
        *line = _mm512_or_si512(even, _mm512_slli_epi32::<16>(odd));
    }
    lines
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
