//! Where the values of an operand lie: rows of a matrix, or pixels of a plane.

use std::arch::x86_64::*;

use super::TILE;
use super::vector::lowest;
use crate::gemm::Columns;

/// Where the values of rows lie. A strip is a run of up to 16 values, the same for every row.
pub(super) trait Source: Copy {
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
pub(super) struct Strided<'a> {
    pub(super) data: &'a [f32],
    pub(super) stride: usize,
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
pub(super) struct Pieces {
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
