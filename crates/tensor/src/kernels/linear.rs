//! `x · weightᵀ`, alone or added to something, and its gradients. r rows.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

use super::{copied, output, slice, view};
use crate::Precision;
use crate::gemm::{Into, Matrix, Workers, product, product_into};

/// x `[r, in]`, weight `[out, in]` to `[r, out]`.
pub(crate) struct Linear(pub(crate) Precision);

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
        output(product(self.0, x, weight.t()), (r, width_out))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        gradients(self.0, x, weight, &grad.contiguous()?)
    }
}

/// residual `[r, out]`, x `[r, in]`, weight `[out, in]` to `residual + x · weightᵀ`.
pub(crate) struct AddLinear(pub(crate) Precision);

impl CustomOp3 for AddLinear {
    fn name(&self) -> &'static str {
        "add_linear"
    }

    fn cpu_fwd(
        &self,
        residual: &CpuStorage,
        residual_layout: &Layout,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (r, width_in) = x_layout.shape().dims2()?;
        let (width_out, _) = weight_layout.shape().dims2()?;
        let x = Matrix::new(slice(x, x_layout)?, r, width_in);
        let weight = Matrix::new(slice(weight, weight_layout)?, width_out, width_in);
        let mut out = copied(slice(residual, residual_layout)?);
        let pair = (x, weight.t());
        product_into(self.0, 1.0, pair, Into::Add, &mut out, Workers::Pool);
        output(out, (r, width_out))
    }

    fn bwd(
        &self,
        _: &Tensor,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let (dx, dweight) = gradients(self.0, x, weight, &grad)?;
        Ok((Some(grad), dx, dweight))
    }
}

/// The gradients of x and weight; none for what is frozen.
fn gradients(
    precision: Precision,
    x: &Tensor,
    weight: &Tensor,
    grad: &Tensor,
) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let (r, width_in) = x.dims2()?;
    let (width_out, _) = weight.dims2()?;
    let grad = view(grad)?;
    let grad = Matrix::new(&grad, r, width_out);
    let mut results = (None, None);
    if x.track_op() {
        let weight = view(weight)?;
        let dx = product(precision, grad, Matrix::new(&weight, width_out, width_in));
        results.0 = Some(Tensor::from_vec(dx, (r, width_in), x.device())?);
    }
    if weight.track_op() {
        let x = view(x)?;
        let dweight = product(precision, grad.t(), Matrix::new(&x, r, width_in));
        results.1 = Some(Tensor::from_vec(
            dweight,
            (width_out, width_in),
            weight.device(),
        )?);
    }
    Ok(results)
}
