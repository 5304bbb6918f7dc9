//! Rows written into a memory that outlives a forward: keys and values of a cache.

use candle_core::{CpuStorage, InplaceOp2, Layout, Result};

use super::{slice, slice_mut};

/// Row i becomes row `places[i]` of the memory. Checked: places are rows of the memory.
pub(crate) struct PutRows<'a> {
    pub(crate) places: &'a [usize],
}

impl InplaceOp2 for PutRows<'_> {
    fn name(&self) -> &'static str {
        "put_rows"
    }

    fn cpu_fwd(
        &self,
        memory: &mut CpuStorage,
        memory_layout: &Layout,
        rows: &CpuStorage,
        rows_layout: &Layout,
    ) -> Result<()> {
        let width = rows_layout.dims()[1];
        let memory = slice_mut(memory, memory_layout)?;
        let rows = slice(rows, rows_layout)?;
        for (place, row) in self.places.iter().zip(rows.chunks_exact(width.max(1))) {
            memory[place * width..(place + 1) * width].copy_from_slice(row);
        }
        Ok(())
    }
}
