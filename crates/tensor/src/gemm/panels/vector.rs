//! Elementwise mathematics on whole registers, for what follows a product at once. Exact to a few
//! units in the last place of bf16 twice over: results are factors of the next product.

use std::arch::x86_64::*;

/// Values of a register.
pub(super) const WIDTH: usize = 16;

/// The lowest `n` of 16 lanes.
#[inline(always)]
pub(super) fn lowest(n: usize) -> __mmask16 {
    ((1u32 << n.min(WIDTH)) - 1) as __mmask16
}

/// Up to 16 values; the other lanes are zero.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load(values: &[f32]) -> __m512 {
    // SAFETY: masked lanes are not touched; the others are the slice's.
    unsafe { _mm512_maskz_loadu_ps(lowest(values.len()), values.as_ptr()) }
}

/// Writes up to 16 values.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store(values: &mut [f32], x: __m512) {
    // SAFETY: masked lanes are not touched; the others are the slice's.
    unsafe { _mm512_mask_storeu_ps(values.as_mut_ptr(), lowest(values.len()), x) };
}

/// 16 zeros.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn zero() -> __m512 {
    _mm512_setzero_ps()
}

/// Sums of int8, unsigned by signed, less 128 times the signed ones' own sums, as f32.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn shifted(sums: __m512, all: &[i32]) -> __m512 {
    // SAFETY: masked lanes are not touched; the others are the slice's.
    let all = unsafe { _mm512_maskz_loadu_epi32(lowest(all.len()), all.as_ptr()) };
    let sums = _mm512_castps_si512(sums);
    _mm512_cvtepi32_ps(_mm512_sub_epi32(sums, _mm512_slli_epi32::<7>(all)))
}

/// `x · y`.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn product(x: __m512, y: __m512) -> __m512 {
    _mm512_mul_ps(x, y)
}

/// `x + y`.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn sum(x: __m512, y: __m512) -> __m512 {
    _mm512_add_ps(x, y)
}

/// 2 to the power x, within 3e-6 relative; 0 below -126.
///
/// x = n + r with |r| ≤ 1/2, the Taylor polynomial of degree 5 for 2^r, and n as the exponent.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn exp2(x: __m512) -> __m512 {
    const COEFFICIENTS: [f32; 5] = [
        1.333_355_8e-3,
        9.618_129e-3,
        5.550_411e-2,
        2.402_265e-1,
        std::f32::consts::LN_2,
    ];
    let is_tiny = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(x, _mm512_set1_ps(-126.0));
    let n = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x);
    let r = _mm512_sub_ps(x, n);
    let mut p = _mm512_set1_ps(COEFFICIENTS[0]);
    for coefficient in &COEFFICIENTS[1..] {
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(*coefficient));
    }
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0));
    _mm512_mask_mov_ps(_mm512_scalef_ps(p, n), is_tiny, _mm512_setzero_ps())
}

/// `x / (1 + e^-x)`.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn silu(x: __m512) -> __m512 {
    let power = exp2(_mm512_mul_ps(x, _mm512_set1_ps(-std::f32::consts::LOG2_E)));
    let divisor = _mm512_add_ps(power, _mm512_set1_ps(1.0));
    // A step of Newton after an estimate of 14 bits; beyond the range of f32 the quotient is 0. What
    // is no number stays none.
    let estimate = _mm512_rcp14_ps(divisor);
    let two = _mm512_set1_ps(2.0);
    let rest = _mm512_fnmadd_ps(divisor, estimate, two);
    let is_finite = _mm512_cmp_ps_mask::<_CMP_NGE_UQ>(power, _mm512_set1_ps(1e37));
    _mm512_maskz_mul_ps(is_finite, x, _mm512_mul_ps(estimate, rest))
}

/// The largest of some values.
#[target_feature(enable = "avx512f")]
pub(super) fn largest(values: &[f32]) -> f32 {
    let mut lanes = [_mm512_set1_ps(f32::NEG_INFINITY); 4];
    let (blocks, rest) = values.as_chunks::<{ 4 * WIDTH }>();
    for block in blocks {
        for (lane, values) in lanes.iter_mut().zip(block.chunks_exact(WIDTH)) {
            *lane = _mm512_max_ps(*lane, load(values));
        }
    }
    let [a, b, c, d] = lanes;
    let lanes = _mm512_max_ps(_mm512_max_ps(a, b), _mm512_max_ps(c, d));
    let rest = rest.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    _mm512_reduce_max_ps(lanes).max(rest)
}
