//! Quantisation while packing: rows in whole steps of int8.

use std::arch::x86_64::*;

use super::kernel::Values;
use super::pack::{Line, Operand, Side, fit, for_each_panel, store, transpose};
use super::vector::{self, WIDTH};
use super::{PANEL, TILE};
use crate::gemm::Matrix;
use crate::gemm::packed::{in_steps, inverse, quantisation_step};

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
pub(super) fn row_sums(matrix: Matrix<'_>, steps: &[f32]) -> Vec<i32> {
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
