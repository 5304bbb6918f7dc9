//! The Newton–Schulz iteration that makes the singular values of a matrix nearly one.

use super::math;
use crate::Precision;
use crate::gemm::{Into, Matrix, Workers, product_into};

/// Coefficients of the odd polynomial `aσ + bσ³ + cσ⁵` that drives every singular value in (0, 1]
/// to between 0.7 and 1.2 in five rounds (Jordan et al. 2024, Muon).
const A: f32 = 3.4445;
const B: f32 = -4.775;
const C: f32 = 2.0315;
const ROUNDS: usize = 5;

/// `[rows, cols]` of `x` with singular values near one, on the calling thread.
pub(crate) fn orthogonalize(x: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    let norm = math::sum_of_squares(x).sqrt() as f32 + 1e-7;
    let mut x: Vec<f32> = x.iter().map(|x| x / norm).collect();
    let side = rows.min(cols);
    let mut gram = vec![0.0; side * side];
    for _ in 0..ROUNDS {
        // The smaller of x·xᵀ and xᵀ·x; both give the same polynomial of x.
        let wide = rows <= cols;
        let m = Matrix::new(&x, rows, cols);
        let (left, right) = if wide { (m, m.t()) } else { (m.t(), m) };
        multiply(1.0, (left, right), Into::Replace, &mut gram);
        let mut inner: Vec<f32> = gram.iter().map(|g| B * g).collect();
        let g = Matrix::new(&gram, side, side);
        multiply(C, (g, g), Into::Add, &mut inner);
        let mut next: Vec<f32> = x.iter().map(|x| A * x).collect();
        let inner = Matrix::new(&inner, side, side);
        let (left, right) = if wide { (inner, m) } else { (m, inner) };
        multiply(1.0, (left, right), Into::Add, &mut next);
        x = next;
    }
    x
}

fn multiply(alpha: f32, pair: (Matrix<'_>, Matrix<'_>), into: Into, out: &mut [f32]) {
    product_into(
        Precision::current(),
        alpha,
        pair,
        into,
        out,
        Workers::Caller,
    );
}
