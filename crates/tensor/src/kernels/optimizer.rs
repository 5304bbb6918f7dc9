//! AdamW and moving averages in place: each of m, v and the parameter is read and written once.

use candle_core::{CpuStorage, InplaceOp2, InplaceOp3, Layout, Result};

use super::math::multiversion;
use super::{PIECE, for_each_piece, slice, slice_mut};
use crate::ops::AdamwStep;

/// Which moment of the gradient is updated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The running mean of the gradient.
    First,
    /// The running mean of its square.
    Second,
}

/// `moment ← β·moment + (1 - β)·gradᵖ`, with p the moment's order.
pub(crate) struct UpdateMoment<'a> {
    pub(crate) step: &'a AdamwStep,
    pub(crate) moment: Moment,
}

/// `param ← param·(1 - lr·decay) - lr · m̂ / (√v̂ + eps)`.
pub(crate) struct UpdateParam<'a> {
    pub(crate) step: &'a AdamwStep,
}

/// `x ← keep·x + share·y`.
pub(crate) struct Blend {
    pub(crate) keep: f32,
    pub(crate) share: f32,
}

/// The constants of a step as the kernels use them.
#[derive(Clone, Copy)]
struct Constants {
    keep: f32,
    step_size: f32,
    root_scale: f32,
    eps: f32,
}

multiversion! {
    fn first_moment(m: &mut [f32], grad: &[f32], beta: f32, share: f32, scale: f32) {
        for (m, &g) in m.iter_mut().zip(grad) {
            *m = *m * beta + g * scale * share;
        }
    }
}

multiversion! {
    fn second_moment(v: &mut [f32], grad: &[f32], beta: f32, share: f32, scale: f32) {
        for (v, &g) in v.iter_mut().zip(grad) {
            let g = g * scale;
            *v = *v * beta + g * g * share;
        }
    }
}

multiversion! {
    fn blend(x: &mut [f32], y: &[f32], keep: f32, share: f32) {
        for (x, &y) in x.iter_mut().zip(y) {
            *x = *x * keep + y * share;
        }
    }
}

multiversion! {
    fn update(param: &mut [f32], m: &[f32], v: &[f32], constants: Constants) {
        let Constants { keep, step_size, root_scale, eps } = constants;
        for ((param, &m), &v) in param.iter_mut().zip(m).zip(v) {
            *param = *param * keep - step_size * m / (v.sqrt() * root_scale + eps);
        }
    }
}

impl InplaceOp2 for UpdateMoment<'_> {
    fn name(&self) -> &'static str {
        "adamw_moment"
    }

    fn cpu_fwd(
        &self,
        moment: &mut CpuStorage,
        layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<()> {
        let moment = slice_mut(moment, layout)?;
        let grad = slice(grad, grad_layout)?;
        let beta = match self.moment {
            Moment::First => self.step.beta1,
            Moment::Second => self.step.beta2,
        };
        let (share, scale) = ((1.0 - beta) as f32, self.step.grad_scale as f32);
        for_each_piece(moment, PIECE, |start, moment| {
            let grad = &grad[start..start + moment.len()];
            match self.moment {
                Moment::First => first_moment(moment, grad, beta as f32, share, scale),
                Moment::Second => second_moment(moment, grad, beta as f32, share, scale),
            }
        });
        Ok(())
    }
}

impl InplaceOp3 for UpdateParam<'_> {
    fn name(&self) -> &'static str {
        "adamw_param"
    }

    fn cpu_fwd(
        &self,
        param: &mut CpuStorage,
        layout: &Layout,
        m: &CpuStorage,
        m_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Result<()> {
        let step = self.step;
        let correction1 = 1.0 - step.beta1.powf(step.step as f64);
        let correction2 = 1.0 - step.beta2.powf(step.step as f64);
        let constants = Constants {
            keep: (1.0 - step.lr * step.weight_decay) as f32,
            step_size: (step.lr / correction1) as f32,
            root_scale: (1.0 / correction2.sqrt()) as f32,
            eps: step.eps as f32,
        };
        let param = slice_mut(param, layout)?;
        let (m, v) = (slice(m, m_layout)?, slice(v, v_layout)?);
        for_each_piece(param, PIECE, |start, param| {
            let range = start..start + param.len();
            update(param, &m[range.clone()], &v[range], constants);
        });
        Ok(())
    }
}

impl InplaceOp2 for Blend {
    fn name(&self) -> &'static str {
        "blend"
    }

    fn cpu_fwd(
        &self,
        x: &mut CpuStorage,
        x_layout: &Layout,
        y: &CpuStorage,
        y_layout: &Layout,
    ) -> Result<()> {
        let x = slice_mut(x, x_layout)?;
        let y = slice(y, y_layout)?;
        for_each_piece(x, PIECE, |start, x| {
            let y = &y[start..start + x.len()];
            blend(x, y, self.keep, self.share);
        });
        Ok(())
    }
}
