//! `x · weightᵀ` and its two gradients. r rows.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::{output, slice, view};
use crate::gemm::{Matrix, product};

/// x `[r, in]`, weight `[out, in]` to `[r, out]`.
pub(crate) struct Linear;

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (r, width_in) = x_layout.shape().dims2()?;
        let (width_out, _) = weight_layout.shape().dims2()?;
        let x = Matrix::new(slice(x, x_layout)?, r, width_in);
        let weight = Matrix::new(slice(weight, weight_layout)?, width_out, width_in);
        output(product(x, weight.t()), (r, width_out))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (r, width_in) = x.dims2()?;
        let (width_out, _) = weight.dims2()?;
        let grad = grad.contiguous()?;
        let grad = view(&grad)?;
        let grad = Matrix::new(&grad, r, width_out);
        let mut grads = (None, None);
        if x.track_op() {
            let weight = view(weight)?;
            let dx = product(grad, Matrix::new(&weight, width_out, width_in));
            grads.0 = Some(Tensor::from_vec(dx, (r, width_in), x.device())?);
        }
        if weight.track_op() {
            let x = view(x)?;
            let dw = product(grad.t(), Matrix::new(&x, r, width_in));
            grads.1 = Some(Tensor::from_vec(
                dw,
                (width_out, width_in),
                weight.device(),
            )?);
        }
        Ok(grads)
    }
}
