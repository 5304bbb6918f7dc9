//! How fast this machine can multiply at all: the yardstick of benchmarks.
//!
//! Nothing but multiplying and adding runs, on numbers that stay in registers or in a core's first
//! cache, on every thread at once. What is printed as a share of the peak is a share of this.

use std::time::{Duration, Instant};

use rayon::prelude::*;

use crate::gemm::{self, packed::Packing};
use crate::kernels::math::{LANES, fma, multiversion};

/// How long each thread multiplies in a round.
const TIME: Duration = Duration::from_millis(100);
/// Rounds, the best of which counts: other programs can only slow a round down.
const ROUNDS: usize = 5;
/// Independent sums of vectors: enough to keep two units of four steps busy.
const SUMS: usize = 8;
/// Additions to each sum between two looks at the clock.
const ADDITIONS: usize = 4096;

/// Operations per second, two for each multiplication with its addition, of all threads of the
/// current pool together: on f32, or on what weights are packed as.
pub fn operations(packing: Option<Packing>) -> f64 {
    let round = |_| {
        let threads = rayon::current_num_threads();
        let rates = (0..threads).into_par_iter().with_max_len(1).map(|_| {
            let (started, mut done) = (Instant::now(), 0.0);
            while started.elapsed() < TIME {
                done += packing.and_then(gemm::spin).unwrap_or_else(spin_f32);
            }
            done / started.elapsed().as_secs_f64()
        });
        rates.sum::<f64>()
    };
    (0..ROUNDS).map(round).fold(0.0, f64::max)
}

/// Multiplies and adds for a while; returns how many operations that were.
fn spin_f32() -> f64 {
    let sum = multiply_add(std::hint::black_box(0.999), std::hint::black_box(1e-3));
    std::hint::black_box(sum);
    (2 * ADDITIONS * SUMS * LANES) as f64
}

multiversion! {
    fn multiply_add(factor: f32, summand: f32) -> f32 {
        let mut sums = [1f32; SUMS * LANES];
        for _ in 0..ADDITIONS {
            for sum in &mut sums {
                *sum = fma::<FMA>(*sum, factor, summand);
            }
        }
        sums.iter().sum()
    }
}
