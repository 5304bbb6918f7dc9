//! Vectorised mathematics: dispatch by processor, exp, reductions with a fixed order.
//!
//! A kernel is written once as a plain loop over `LANES` independent lanes and compiled three
//! times: for AVX-512, for AVX2 with FMA, and for any processor. Which one runs is decided when
//! the program runs ([`crate::cpu`]), so one binary serves all. Lanes are added in a fixed order.

use rayon::prelude::*;

/// Lanes of a reduction: one AVX-512 register of f32.
pub(crate) const LANES: usize = 16;

/// Elements summed in f32 before the sum moves on in f64.
const BLOCK: usize = 4096;

/// Compiles a function for every [`Level`](crate::cpu::Level) and picks one when called. In the body, `FMA` says
/// whether fused multiply-add is cheap; see [`fma`].
macro_rules! multiversion {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body<const FMA: bool>($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
                fn avx512($($arg: $ty),*) $(-> $ret)? {
                    body::<true>($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) $(-> $ret)? {
                    body::<true>($($arg),*)
                }
                match $crate::cpu::Level::current() {
                    $crate::cpu::Level::Amx | $crate::cpu::Level::Avx512 => {
                        // SAFETY: the processor has these features, or this were not its level.
                        return unsafe { avx512($($arg),*) };
                    }
                    // SAFETY: as above.
                    $crate::cpu::Level::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::cpu::Level::Portable => {}
                }
            }
            body::<{ cfg!(target_arch = "aarch64") }>($($arg),*)
        }
    };
}
pub(crate) use multiversion;

/// `a · b + c`, fused only where the processor does it in one instruction.
#[inline(always)]
pub(crate) fn fma<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// e to the power x, within 2e-7 relative for x in [-87.3, 88]; 0 below and e^88 above.
///
/// x = n·ln 2 + r with |r| ≤ ln 2 / 2, a polynomial of degree 7 for e^r (coefficients of the
/// Cephes library), and n added to the exponent bits.
#[inline(always)]
pub(crate) fn exp<const FMA: bool>(x: f32) -> f32 {
    const LOWEST: f32 = -87.336_54;
    const HIGHEST: f32 = 88.0;
    // Adding 1.5·2^23 leaves the rounded value in the low bits of the mantissa.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let inside = if x > HIGHEST { HIGHEST } else { x };
    let inside = if inside < LOWEST { LOWEST } else { inside };
    let shifted = fma::<FMA>(inside, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = fma::<FMA>(n, -LN2_HIGH, inside);
    let r = fma::<FMA>(n, -LN2_LOW, r);
    let p = fma::<FMA>(r, 1.987_569_1e-4, 1.398_2e-3);
    let p = fma::<FMA>(p, r, 8.333_452e-3);
    let p = fma::<FMA>(p, r, 4.166_579_6e-2);
    let p = fma::<FMA>(p, r, 1.666_666_5e-1);
    let p = fma::<FMA>(p, r, 5e-1);
    let p = fma::<FMA>(p, r * r, r) + 1.0;
    let scale = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    if x < LOWEST { 0.0 } else { p * scale }
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub(crate) fn sigmoid<const FMA: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<FMA>(-x))
}

/// Sums `f` of the elements of N slices side by side: lanes in f32 within blocks, blocks in f64.
/// The slices are as long as the first.
#[inline(always)]
pub(crate) fn sum_of<const N: usize>(slices: [&[f32]; N], f: impl Fn([f32; N]) -> f32) -> f64 {
    let n = slices[0].len();
    let mut total = 0f64;
    let mut start = 0;
    while start < n {
        let end = (start + BLOCK).min(n);
        let parts = slices.map(|s| s[start..end].as_chunks::<LANES>());
        let mut lanes = [0f32; LANES];
        for i in 0..parts[0].0.len() {
            let blocks: [&[f32; LANES]; N] = std::array::from_fn(|k| &parts[k].0[i]);
            for (l, lane) in lanes.iter_mut().enumerate() {
                *lane += f(std::array::from_fn(|k| blocks[k][l]));
            }
        }
        for (l, lane) in lanes.iter_mut().enumerate().take(parts[0].1.len()) {
            *lane += f(std::array::from_fn(|k| parts[k].1[l]));
        }
        total += f64::from(fold(&lanes));
        start = end;
    }
    total
}

/// Adds the lanes pairwise.
#[inline(always)]
pub(super) fn fold(lanes: &[f32; LANES]) -> f32 {
    let mut sums = *lanes;
    let mut half = LANES / 2;
    while half > 0 {
        for l in 0..half {
            sums[l] += sums[l + half];
        }
        half /= 2;
    }
    sums[0]
}

/// The largest element; minus infinity when there is none. NaN is skipped here and comes back out
/// of [`exp`].
#[inline(always)]
pub(crate) fn max_of(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (blocks, rest) = x.as_chunks::<LANES>();
    for block in blocks {
        for (lane, &x) in lanes.iter_mut().zip(block) {
            *lane = if x > *lane { x } else { *lane };
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane = if x > *lane { x } else { *lane };
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

multiversion! {
    /// Turns a row of scores into probabilities.
    pub(crate) fn softmax_row(row: &mut [f32]) {
        let max = max_of(row);
        for x in row.iter_mut() {
            *x = exp::<FMA>(*x - max);
        }
        let inverse = (1.0 / sum_of([&*row], |[x]| x)) as f32;
        for x in row.iter_mut() {
            *x *= inverse;
        }
    }
}

multiversion! {
    /// Turns a row into `exp(x - largest)`; returns the largest and the sum.
    pub(crate) fn exponentials(row: &mut [f32]) -> (f32, f64) {
        let largest = max_of(row);
        for x in row.iter_mut() {
            *x = exp::<FMA>(*x - largest);
        }
        (largest, sum_of([&*row], |[x]| x))
    }
}

multiversion! {
    /// The largest magnitude of a row; 0 when it is empty, NaN when one of them is.
    pub(crate) fn largest_magnitude(row: &[f32]) -> f32 {
        // Without their sign, floats are ordered as their bits are, and NaN is beyond infinity.
        let magnitude = |x: &f32| x.to_bits() & (u32::MAX >> 1);
        let mut lanes = [0u32; LANES];
        let (blocks, rest) = row.as_chunks::<LANES>();
        for block in blocks {
            for (lane, x) in lanes.iter_mut().zip(block) {
                *lane = magnitude(x).max(*lane);
            }
        }
        let rest = rest.iter().map(magnitude);
        f32::from_bits(lanes.into_iter().chain(rest).fold(0, u32::max))
    }
}

multiversion! {
    /// `total += x`.
    pub(crate) fn add_assign(total: &mut [f32], x: &[f32]) {
        for (t, &x) in total.iter_mut().zip(x) {
            *t += x;
        }
    }
}

multiversion! {
    /// `Σ a·b`.
    pub(crate) fn dot(a: &[f32], b: &[f32]) -> f64 {
        sum_of([a, b], |[a, b]| a * b)
    }
}

multiversion! {
    /// `Σ x`.
    pub(crate) fn sum(x: &[f32]) -> f64 {
        sum_of([x], |[x]| x)
    }
}

multiversion! {
    fn sum_of_squares_piece(x: &[f32]) -> f64 {
        let mut lanes = [0f64; LANES];
        for block in x.chunks(LANES) {
            for (lane, &x) in lanes.iter_mut().zip(block) {
                *lane += f64::from(x) * f64::from(x);
            }
        }
        lanes.into_iter().sum()
    }
}

/// `Σ x²` in f64.
pub(crate) fn sum_of_squares(x: &[f32]) -> f64 {
    let pieces: Vec<f64> = x
        .par_chunks(super::PIECE)
        .map(sum_of_squares_piece)
        .collect();
    pieces.into_iter().sum()
}
