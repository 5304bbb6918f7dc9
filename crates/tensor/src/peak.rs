//! How fast this machine can multiply at all: the yardstick of benchmarks.
//!
//! Operands stay in the cores' own caches and one product follows the other, so that nothing but the
//! multiplying itself takes time. What is printed as a share of the peak is a share of this.

use std::time::{Duration, Instant};

use rayon::prelude::*;

use crate::gemm::{Into, Matrix, Workers, product_into};
use crate::precision::Precision;

/// How long each core multiplies.
const TIME: Duration = Duration::from_millis(200);
/// Rounds, the best of which counts: other programs can only slow a round down.
const ROUNDS: usize = 3;

/// Floating-point operations per second, two for each multiplication with its addition, of all
/// threads of the current pool together.
pub fn flops(precision: Precision) -> f64 {
    // Panels of these sizes fit into the second-level cache together with their packed copies.
    let (rows, depth, cols) = (192, 512, 192);
    let round = |_| {
        let threads = rayon::current_num_threads();
        let rates = (0..threads).into_par_iter().with_max_len(1).map(|_| {
            let (a, b) = (vec![0.5f32; rows * depth], vec![0.25f32; depth * cols]);
            let mut out = vec![0f32; rows * cols];
            let pair = (Matrix::new(&a, rows, depth), Matrix::new(&b, depth, cols));
            let (started, mut products) = (Instant::now(), 0u32);
            while started.elapsed() < TIME {
                product_into(
                    precision,
                    1.0,
                    pair,
                    Into::Replace,
                    &mut out,
                    Workers::Caller,
                );
                products += 1;
            }
            let each = 2.0 * (rows * depth * cols) as f64;
            f64::from(products) * each / started.elapsed().as_secs_f64()
        });
        rates.sum::<f64>()
    };
    (0..ROUNDS).map(round).fold(0.0, f64::max)
}
