//! Right operands packed once, and what is multiplied with them: rows are packed on the way, by the
//! thread that needs them.

use std::ops::Range;

use super::kernel::{Kernel, Values};
use super::pack::{self, Line, Operand, Side};
use super::product::{Finish, Panels, Product, Quantised, Target};
use super::quantise::{quantise, row_sums};
use super::{Buffers, PANEL, chunks, for_each_chunk, with_buffers};
use crate::gemm::packed::{Input, Part};
use crate::gemm::{Matrix, Workers, threads};

/// A right operand packed once, `[k, columns]`.
#[derive(Debug)]
pub(crate) struct Packed {
    kernel: Kernel,
    lines: Vec<Line>,
    depth: usize,
    lanes: usize,
    /// Of int8: the quantisation step and the sum of every column.
    steps: Vec<f32>,
    sums: Vec<i32>,
}

impl Packed {
    /// Packs `weightᵀ`, where `weight` is `[columns, k]`, row after row.
    pub(in crate::gemm) fn of(kernel: Kernel, weight: Matrix<'_>) -> Self {
        let (mut lines, mut steps, mut sums) = (Vec::new(), Vec::new(), Vec::new());
        let is_shared = threads(usize::MAX, Workers::Pool) > 1;
        match kernel.values {
            Values::Bf16 => {
                let b = Operand::right(weight.t().into());
                pack::round(b, Side::Right, &mut lines, is_shared);
            }
            Values::Int8 => {
                quantise(weight, Side::Right, (&mut lines, &mut steps), is_shared);
                sums = row_sums(weight, &steps);
            }
        }
        Self {
            kernel,
            lines,
            depth: weight.cols,
            lanes: weight.rows,
            steps,
            sums,
        }
    }

    /// Multiplies rows of `[rows, k]` with parts of the columns.
    ///
    /// # Safety
    /// Each part's place is valid for writes of a row of its columns for each input, one after the
    /// other, and nobody else touches it meanwhile.
    pub(in crate::gemm) unsafe fn multiply(&self, input: Input<'_>, parts: &[(Part<'_>, Place)]) {
        self.check(input, parts.iter().map(|(part, _)| part));
        if input.rows.rows == 0 || self.depth == 0 {
            return;
        }
        let columns: usize = parts.iter().map(|(part, _)| part.columns.len()).sum();
        let multiply = |rows: Range<usize>, buffers: &mut Buffers, by_columns: bool| {
            self.pack_left(input, rows.clone(), buffers, by_columns);
            let Buffers {
                left, steps, sums, ..
            } = buffers;
            for (part, place) in parts {
                let target = part.target(*place).skipping(rows.start);
                let product = self.product((left, steps), rows.len(), part, target);
                // SAFETY: the caller's promise; chunks of rows are disjoint.
                unsafe {
                    match by_columns {
                        true => product.run_by_columns(),
                        false => product.run(sums),
                    }
                }
            }
        };
        let Matrix { rows, cols, .. } = input.rows;
        match chunks(rows, threads(rows * cols * columns, Workers::Pool)) {
            Some(chunks) => for_each_chunk(chunks, |rows| {
                with_buffers(|buffers| multiply(rows, buffers, false));
            }),
            None => with_buffers(|buffers| multiply(0..rows, buffers, true)),
        }
    }

    /// Whether [`Packed::feed`] can do it: enough rows for every thread, and bf16.
    pub(in crate::gemm) fn can_feed(&self, next: &Self, rows: usize) -> bool {
        let is_bf16 = [self, next].map(|packed| packed.kernel.values == Values::Bf16);
        let work = rows * self.depth * self.lanes;
        is_bf16 == [true, true] && chunks(rows, threads(work, Workers::Pool)).is_some()
    }

    /// Multiplies the product of rows with a part of this weight by a part of the next one: what is
    /// between them stays packed, in a core's own cache.
    ///
    /// # Safety
    /// As for [`Packed::multiply`], of the second part's place; [`Packed::can_feed`] said yes.
    pub(in crate::gemm) unsafe fn feed(
        &self,
        input: Input<'_>,
        part: &Part<'_>,
        (next, last, place): (&Self, &Part<'_>, Place),
    ) {
        self.check(input, std::iter::once(part));
        assert!(
            part.columns.len() == next.depth && part.columns.start.is_multiple_of(PANEL),
            "matrices do not fit together"
        );
        assert!(
            last.columns.end <= next.lanes && last.gated.is_none(),
            "columns beyond a packed weight"
        );
        let rows = input.rows.rows;
        let threads = threads(rows * self.depth * self.lanes, Workers::Pool);
        let pitch = next.pitch();
        for_each_chunk(chunks(rows, threads).unwrap_or_default(), |rows| {
            with_buffers(|buffers| {
                self.pack_left(input, rows.clone(), buffers, false);
                let Buffers {
                    left,
                    steps,
                    sums,
                    between,
                    ..
                } = buffers;
                between.resize(rows.len().div_ceil(PANEL) * pitch, Line::ZERO);
                let target = Target::Lines {
                    out: between.as_mut_ptr(),
                    pitch,
                };
                let product = self.product((left, steps), rows.len(), part, target);
                // SAFETY: there is a line for each row and 32 columns.
                unsafe { product.run(sums) };
                let target = last.target(place).skipping(rows.start);
                let product = next.product((between, &[]), rows.len(), last, target);
                // SAFETY: the caller's promise; chunks of rows are disjoint.
                unsafe { product.run(sums) };
            });
        });
    }

    /// Lines of a panel.
    fn pitch(&self) -> usize {
        self.depth.div_ceil(self.kernel.values.per_line()) * PANEL
    }

    fn check<'p>(&self, input: Input<'_>, parts: impl Iterator<Item = &'p Part<'p>>) {
        assert!(
            input.rows.cols == self.depth,
            "matrices do not fit together"
        );
        for part in parts {
            let distance = part.gated.unwrap_or(0);
            assert!(
                part.columns.start <= part.columns.end
                    && part.columns.end + distance <= self.lanes
                    && distance.is_multiple_of(PANEL),
                "columns beyond a packed weight"
            );
        }
    }

    /// Packs some rows, normalised before if they are to be.
    fn pack_left(
        &self,
        input: Input<'_>,
        rows: Range<usize>,
        buffers: &mut Buffers,
        is_shared: bool,
    ) {
        let mut some = input.rows.below(rows.start, rows.len());
        let Buffers {
            left,
            steps,
            normed,
            ..
        } = buffers;
        if let Some(norm) = input.norm {
            normed.resize(some.rows * some.cols, 0.0);
            norm.apply(some, normed);
            some = Matrix::new(normed, some.rows, some.cols);
        }
        match self.kernel.values {
            Values::Bf16 => pack::round(Operand::left(some), Side::Left, left, is_shared),
            Values::Int8 => quantise(some, Side::Left, (left, steps), is_shared),
        }
    }

    /// Some packed rows with a part of the columns.
    fn product<'a>(
        &'a self,
        (left, steps): (&'a [Line], &'a [f32]),
        rows: usize,
        part: &Part<'_>,
        target: Target,
    ) -> Product<'a> {
        let panels = |lines, lanes| Panels {
            lines,
            pitch: self.pitch(),
            lanes,
        };
        Product {
            kernel: self.kernel,
            left: panels(left, rows),
            right: panels(&self.lines, self.lanes),
            gated: part.gated.map(|lanes| lanes / PANEL),
            cols: (part.columns.start, part.columns.end),
            finish: match self.kernel.values {
                Values::Bf16 => Finish::Scaled(1.0),
                Values::Int8 => Finish::Dequantised(Quantised {
                    rows: steps,
                    cols: &self.steps,
                    sums: &self.sums,
                }),
            },
            target,
        }
    }
}

impl Part<'_> {
    fn target(&self, place: Place) -> Target {
        Target::Rows {
            out: place.0,
            row_stride: self.columns.len(),
            base: self.base.map(<[f32]>::as_ptr),
        }
    }
}

/// The first element of what a part of a product is written to.
#[derive(Clone, Copy)]
pub(in crate::gemm) struct Place(pub(in crate::gemm) *mut f32);

// SAFETY: a place only carries the pointer; see `Packed::multiply` for who writes there.
unsafe impl Send for Place {}
// SAFETY: as above.
unsafe impl Sync for Place {}
