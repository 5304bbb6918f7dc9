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
    let grad = view(grad)?;
    let grad = Matrix::new(&grad, r, weight.dim(0)?);
    let dx = match x.track_op() {
        true => {
            let dx = gradient_of_input(precision, &[(grad, weight)])?;
            Some(Tensor::from_vec(dx, (r, width_in), x.device())?)
        }
        false => None,
    };
    let x = view(x)?;
    let dweight = gradient_of_weight(precision, grad, Matrix::new(&x, r, width_in), weight)?;
    Ok((dx, dweight))
}

/// `x · weightᵀ`.
pub(super) fn forward(precision: Precision, x: Matrix<'_>, weight: &Tensor) -> Result<Vec<f32>> {
    let (width_out, width_in) = weight.dims2()?;
    let weight = view(weight)?;
    let weight = Matrix::new(&weight, width_out, width_in);
    Ok(product(precision, x, weight.t()))
}

/// The gradient of what some layers share as their input, from those of their outputs, added in order.
pub(super) fn gradient_of_input(
    precision: Precision,
    layers: &[(Matrix<'_>, &Tensor)],
) -> Result<Vec<f32>> {
    let mut dx = Vec::new();
    for (index, (grad, weight)) in layers.iter().enumerate() {
        let (width_out, width_in) = weight.dims2()?;
        let weight = view(weight)?;
        let weight = Matrix::new(&weight, width_out, width_in);
        if index == 0 {
            dx = product(precision, *grad, weight);
        } else {
            let pair = (*grad, weight);
            product_into(precision, 1.0, pair, Into::Add, &mut dx, Workers::Pool);
        }
    }
    Ok(dx)
}

/// The gradient of a layer's weight, unless that is frozen.
pub(super) fn gradient_of_weight(
    precision: Precision,
    grad: Matrix<'_>,
    x: Matrix<'_>,
    weight: &Tensor,
) -> Result<Option<Tensor>> {
    if !weight.track_op() {
        return Ok(None);
    }
    let dweight = product(precision, grad.t(), x);
    Tensor::from_vec(dweight, weight.shape(), weight.device()).map(Some)
}
