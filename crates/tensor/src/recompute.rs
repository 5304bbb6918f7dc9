//! Activations that are computed twice rather than kept: activation checkpointing (Chen et al. 2016,
//! arXiv 1604.06174).
//!
//! ```text
//!   forward    x ──f──▶ y                     kept: x and y; f's own graph is dropped at once
//!   backward   x ──f──▶ y, with a graph ──▶ gradients of x and of f's variables; dropped again
//! ```
//!
//! The gradients of f's variables leave along a way of their own: see `leave.rs`.
//!
//! Forward, backward and the order of every sum are those of the plain graph, so losses and gradients
//! are the same bits. What it costs is one more forward pass.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp2, Layout, Shape, Storage, Tensor, Var};

use crate::leave::{self, Slots};
use crate::{Error, Precision, Result};

/// Takes a variable and its gradient.
pub type Receiver = Arc<dyn Fn(&Tensor, &Tensor) -> Result<()> + Send + Sync>;

/// What a forward pass keeps for its backward pass, for everything that runs within a scope.
#[derive(Clone, Default)]
pub enum Activations {
    /// All of them.
    #[default]
    Kept,
    /// Those between blocks; those within are computed again, block by block.
    Recomputed,
    /// As recomputed. The gradients of a block's variables go to the receiver once the block is done,
    /// and are in no result of the backward pass: nothing needs them, or their variables, any more.
    /// Such a variable must occur in one block only.
    Passed(Receiver),
}

thread_local! {
    static CURRENT: RefCell<Activations> = const { RefCell::new(Activations::Kept) };
}

impl Activations {
    /// That of the innermost scope on this thread; kept outside of all.
    pub fn current() -> Self {
        CURRENT.with_borrow(Self::clone)
    }

    /// Whether [`block`] does more here than to call its function.
    pub fn are_recomputed() -> bool {
        CURRENT.with_borrow(|current| !matches!(current, Self::Kept))
    }

    /// Runs `work` so, on this thread. Threads that `work` starts begin outside.
    pub fn scope<T>(self, work: impl FnOnce() -> T) -> T {
        /// Goes back to what was, also when `work` panics.
        struct Back(Activations);
        impl Drop for Back {
            fn drop(&mut self) {
                CURRENT.set(std::mem::take(&mut self.0));
            }
        }
        let _back = Back(CURRENT.replace(self));
        work()
    }
}

/// `f(x)`, with the activations within f treated as the present scope says. Whatever variables f uses
/// are found by themselves; f must give the same result whenever it is called.
///
/// On devices other than the processor all activations are kept.
///
/// # Errors
/// Those of f.
pub fn block(
    x: &Tensor,
    f: impl Fn(&Tensor) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    let receiver = match Activations::current() {
        Activations::Kept => return f(x),
        Activations::Recomputed => None,
        Activations::Passed(receiver) => Some(receiver),
    };
    if !x.device().is_cpu() {
        return f(x);
    }
    let (y, variables) = without_graph(&f, x)?;
    let (way, gradients) = leave::way(&variables)?;
    let op = Recompute {
        f,
        y: Mutex::new(Some(y)),
        variables,
        gradients,
        receiver,
        precision: Precision::current(),
    };
    Ok(x.apply_op2(&way, op)?)
}

/// The value alone, and the variables that it depends on beside x.
fn without_graph(
    f: &impl Fn(&Tensor) -> Result<Tensor>,
    x: &Tensor,
) -> Result<(Tensor, Vec<Tensor>)> {
    let y = f(&x.detach())?;
    let nodes = y.sorted_nodes().into_iter();
    let variables = nodes.filter(|node| node.is_variable()).cloned().collect();
    let y = y.detach();
    // What is handed out begins where its storage does.
    let y = match y.layout().start_offset() {
        0 => y.contiguous()?,
        _ => y.force_contiguous()?,
    };
    Ok((y, variables))
}

/// x and the way of the variables' gradients to `f(x)`.
struct Recompute<F> {
    f: F,
    /// The value, until the forward pass hands it out.
    y: Mutex<Option<Tensor>>,
    variables: Vec<Tensor>,
    gradients: Slots,
    receiver: Option<Receiver>,
    precision: Precision,
}

impl<F: Fn(&Tensor) -> Result<Tensor>> Recompute<F> {
    /// The gradient of x, if it has one; those of the variables go where they belong.
    fn gradient(&self, x: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let input = match x.track_op() {
            true => Some(Var::from_tensor(&x.detach())?),
            false => None,
        };
        let y = (self.f)(input.as_ref().map_or(x, Var::as_tensor))?;
        // The gradient of Σ y·grad with respect to y is `grad`, to the last bit.
        let mut grads = (y * grad)?.sum_all()?.backward()?;
        for (index, variable) in self.variables.iter().enumerate() {
            match (&self.receiver, grads.remove(variable)) {
                (Some(receiver), Some(gradient)) => receiver(variable, &gradient)?,
                (_, gradient) => self.gradients.put(index, gradient),
            }
        }
        let gradient = input.map(|input| match grads.remove(&input) {
            Some(gradient) => Ok(gradient),
            None => x.zeros_like(),
        });
        Ok(gradient.transpose()?)
    }
}

impl<F: Fn(&Tensor) -> Result<Tensor>> CustomOp2 for Recompute<F> {
    fn name(&self) -> &'static str {
        "recompute"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let y = self.y.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(y) = y else {
            candle_core::bail!("recompute: forward ran a second time");
        };
        let (storage, layout) = y.storage_and_layout();
        match (&*storage, layout.contiguous_offsets()) {
            (Storage::Cpu(storage), Some((0, _))) => Ok((storage.clone(), layout.shape().clone())),
            _ => candle_core::bail!("recompute: expected a value of its own on the processor"),
        }
    }

    fn bwd(
        &self,
        x: &Tensor,
        way: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient = self.precision.scope(|| self.gradient(x, grad));
        let gradient = gradient.map_err(|error| match error {
            Error::Candle(error) => error,
            other => candle_core::Error::wrap(other),
        })?;
        Ok((gradient, Some(way.zeros_like()?)))
    }
}
