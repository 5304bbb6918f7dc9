//! The Halton order of a picture's positions: each next one lies where the fewest lie yet
//! (Halton-MaskGIT, arXiv 2503.17076). Positions decided in one step are far apart, so deciding
//! them apart loses least.
//!
//! ```text
//!   4 x 4, the first four      · · · 2
//!                              3 · 0 ·
//!                              · 1 · ·
//!                              · · · ·
//! ```

/// Points tried for each cell before the remaining cells are taken row by row.
const PATIENCE: usize = 64;

/// All cells of a grid, row by row numbered, in the order of the two-dimensional Halton sequence
/// of bases 2 and 3.
pub(crate) fn order(width: usize, height: usize) -> Vec<usize> {
    let cells = width * height;
    let mut is_taken = vec![false; cells];
    let mut order = Vec::with_capacity(cells);
    for point in 1..=cells * PATIENCE {
        if order.len() == cells {
            break;
        }
        let x = (radical_inverse(point, 2) * width as f64) as usize;
        let y = (radical_inverse(point, 3) * height as f64) as usize;
        let cell = y.min(height - 1) * width + x.min(width - 1);
        if !std::mem::replace(&mut is_taken[cell], true) {
            order.push(cell);
        }
    }
    let left = (0..cells).filter(|&cell| !is_taken[cell]);
    order.extend(left);
    order
}

/// The digits of a number mirrored at the point, in [0, 1).
fn radical_inverse(mut number: usize, base: usize) -> f64 {
    let (mut inverse, mut digit) = (0.0, 1.0);
    while number > 0 {
        digit /= base as f64;
        inverse += digit * (number % base) as f64;
        number /= base;
    }
    inverse
}
