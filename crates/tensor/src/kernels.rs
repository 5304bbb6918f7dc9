//! Fused CPU kernels on contiguous f32, each with its backward.
//!
//! ```text
//!   ops::f  ── fits? ──► kernels::f   one pass over memory, vectorised, parallel
//!              └─ no ──► composed::f  plain tensor operations, any device and dtype
//! ```
//!
//! Work is cut into pieces whose size depends on the shapes alone, and partial sums are added in
//! the order of the pieces: results are the same bits whatever the number of threads.

pub(crate) mod activation;
pub(crate) mod attention;
pub(crate) mod conv;
pub(crate) mod halves;
pub(crate) mod linear;
pub(crate) mod loss;
pub(crate) mod math;
pub(crate) mod memory;
pub(crate) mod norm;
pub(crate) mod optimizer;
pub(crate) mod orthogonal;
pub(crate) mod picture;
pub(crate) mod rotary;

use std::mem::MaybeUninit;
use std::ops::{Deref, Range};

use candle_core::{CpuStorage, DType, Error, Layout, Result, Shape, Storage, Tensor};
use rayon::prelude::*;

/// Elements of one piece of elementwise work: 64 KiB, enough to hide the cost of handing it out.
pub(crate) const PIECE: usize = 16 * 1024;

/// Whether the kernels can take these tensors.
pub(crate) fn fit(tensors: &[&Tensor]) -> bool {
    tensors
        .iter()
        .all(|t| t.device().is_cpu() && t.dtype() == DType::F32)
}

/// The elements of an operand, in order.
pub(crate) fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let data = storage.as_slice::<f32>()?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&data[start..end]),
        None => Err(Error::RequiresContiguous { op: "fused kernel" }.bt()),
    }
}

/// The elements of a tensor that is changed in place.
pub(crate) fn slice_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        return Err(Error::RequiresContiguous { op: "fused kernel" }.bt());
    };
    match storage {
        CpuStorage::F32(data) => Ok(&mut data[start..end]),
        _ => candle_core::bail!("fused kernel in place: expected f32"),
    }
}

/// What a kernel returns to the tensor library.
pub(crate) fn output(data: Vec<f32>, shape: impl Into<Shape>) -> Result<(CpuStorage, Shape)> {
    Ok((CpuStorage::F32(data), shape.into()))
}

/// A contiguous f32 CPU tensor, readable as a slice while this lives.
pub(crate) struct View<G> {
    storage: G,
    range: Range<usize>,
}

/// Opens a tensor for reading.
pub(crate) fn view(tensor: &Tensor) -> Result<View<impl Deref<Target = Storage> + '_>> {
    let (storage, layout) = tensor.storage_and_layout();
    let bounds = layout.contiguous_offsets();
    match (&*storage, bounds) {
        (Storage::Cpu(CpuStorage::F32(_)), Some((start, end))) => Ok(View {
            storage,
            range: start..end,
        }),
        _ => Err(Error::RequiresContiguous { op: "fused kernel" }.bt()),
    }
}

impl<G: Deref<Target = Storage>> Deref for View<G> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(data)) => &data[self.range.clone()],
            // `view` lets nothing else in.
            _ => &[],
        }
    }
}

/// Runs `work` for every task, in parallel when there are several.
pub(crate) fn for_each_task(tasks: usize, work: impl Fn(usize) + Sync + Send) {
    match tasks {
        0 => {}
        1 => work(0),
        _ => (0..tasks).into_par_iter().with_max_len(1).for_each(work),
    }
}

/// Zeros, written by all threads: the first touch of fresh memory costs more than any kernel.
pub(crate) fn zeros(len: usize) -> Vec<f32> {
    filled(len, |_, piece| {
        piece.fill(MaybeUninit::new(0.0));
    })
}

/// A copy, made by all threads.
pub(crate) fn copied(data: &[f32]) -> Vec<f32> {
    filled(data.len(), |start, piece| {
        let source = &data[start..start + piece.len()];
        for (to, from) in piece.iter_mut().zip(source) {
            to.write(*from);
        }
    })
}

/// A buffer whose pieces `work` writes, given the place of their first element.
fn filled(len: usize, work: impl Fn(usize, &mut [MaybeUninit<f32>]) + Sync + Send) -> Vec<f32> {
    /// Less is done sooner than handed out.
    const LARGE: usize = 16 * PIECE;
    let mut data = Vec::with_capacity(len);
    let room = &mut data.spare_capacity_mut()[..len];
    if len < LARGE {
        work(0, room);
    } else {
        let pieces = room.par_chunks_mut(LARGE / 4).enumerate();
        pieces.for_each(|(i, piece)| work(i * (LARGE / 4), piece));
    }
    // SAFETY: `work` was given every element, and both callers write all of theirs.
    unsafe { data.set_len(len) };
    data
}

/// Runs `work(first element, piece)` over pieces of `size` elements.
pub(crate) fn for_each_piece(
    out: &mut [f32],
    size: usize,
    work: impl Fn(usize, &mut [f32]) + Sync + Send,
) {
    if out.len() <= size {
        if !out.is_empty() {
            work(0, out);
        }
        return;
    }
    out.par_chunks_mut(size)
        .enumerate()
        .for_each(|(i, piece)| work(i * size, piece));
}

/// Like [`for_each_piece`] over two arrays of one length.
pub(crate) fn for_each_pair(
    first: &mut [f32],
    second: &mut [f32],
    size: usize,
    work: impl Fn(usize, &mut [f32], &mut [f32]) + Sync + Send,
) {
    if first.len() <= size {
        if !first.is_empty() {
            work(0, first, second);
        }
        return;
    }
    first
        .par_chunks_mut(size)
        .zip(second.par_chunks_mut(size))
        .enumerate()
        .for_each(|(i, (a, b))| work(i * size, a, b));
}

/// A buffer that several tasks write at disjoint places.
#[derive(Clone, Copy)]
pub(crate) struct Shared {
    start: *mut f32,
    len: usize,
}

// SAFETY: `Shared` only carries the pointer; every access goes through an unsafe function whose
// caller keeps the tasks' places apart.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// Shares a buffer among tasks; it must outlive them.
    pub(crate) fn new(data: &mut [f32]) -> Self {
        Self {
            start: data.as_mut_ptr(),
            len: data.len(),
        }
    }

    /// The place `offset` elements into the buffer.
    ///
    /// # Safety
    /// `offset` lies within the buffer, the buffer is alive, and what is written from here no other
    /// task touches.
    pub(crate) unsafe fn at(self, offset: usize) -> *mut f32 {
        debug_assert!(offset <= self.len);
        // SAFETY: the caller keeps `offset` within the buffer.
        unsafe { self.start.add(offset) }
    }

    /// A range of the buffer.
    ///
    /// # Safety
    /// The range lies within the buffer, the buffer is alive, and no other task touches the range
    /// while the slice lives.
    pub(crate) unsafe fn slice<'a>(self, range: Range<usize>) -> &'a mut [f32] {
        debug_assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: in bounds and exclusive by the contract above.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

/// Adds partial results in order into the first.
pub(crate) fn sum_in_order(partials: Vec<Vec<f32>>, len: usize) -> Vec<f32> {
    let mut partials = partials.into_iter();
    let mut total = partials.next().unwrap_or_else(|| vec![0.0; len]);
    for partial in partials {
        math::add_assign(&mut total, &partial);
    }
    total
}
