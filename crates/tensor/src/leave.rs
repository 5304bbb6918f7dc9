//! How the gradients of many tensors leave one operation.
//!
//! ```text
//!   0 ──▶ tensor ──▶ tensor ──▶ … ──▶ way ──▶ f(x, way)     an operation has three inputs at most
//! ```
//!
//! The way is one number that means nothing. It depends on every tensor that f uses, so the backward
//! pass meets f first, which puts their gradients into [`Slots`], and then one by one the tensors, each
//! of which takes its own.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp2, DType, Device, Layout, Result, Shape, Tensor};

/// The gradients of some tensors, from when they are computed to when they leave.
#[derive(Clone)]
pub(crate) struct Slots(Arc<Mutex<Vec<Option<Tensor>>>>);

impl Slots {
    /// For the gradient of the tensor of this index on the way, which must have one.
    pub(crate) fn put(&self, index: usize, gradient: Option<Tensor>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)[index] = gradient;
    }

    fn take(&self, index: usize) -> Option<Tensor> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)[index].take()
    }
}

/// The way of these tensors' gradients, on the processor, and where to put them. Frozen tensors are
/// not on it.
pub(crate) fn way(tensors: &[Tensor]) -> Result<(Tensor, Slots)> {
    let gradients = Slots(Arc::new(Mutex::new(vec![None; tensors.len()])));
    let mut way = Tensor::zeros(1, DType::F32, &Device::Cpu)?;
    for (index, tensor) in tensors.iter().enumerate().filter(|(_, t)| t.track_op()) {
        let gradients = gradients.clone();
        way = way.apply_op2(tensor, Leave { gradients, index })?;
    }
    Ok((way, gradients))
}

/// Hands a tensor its gradient, and passes the number on.
struct Leave {
    gradients: Slots,
    index: usize,
}

impl CustomOp2 for Leave {
    fn name(&self) -> &'static str {
        "leave"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.0]), Shape::from(1)))
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(grad.clone()), self.gradients.take(self.index)))
    }
}
