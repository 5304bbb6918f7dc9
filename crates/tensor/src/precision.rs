//! Mixed precision: in what the factors of matrix products are, for everything that runs within a
//! scope.
//!
//! ```text
//!   Precision::Bf16.scope(|| loss(batch)?.backward())     products of both passes in bf16
//! ```
//!
//! Weights, activations, sums and gradients stay f32; only what enters a product is rounded. An
//! operation remembers the precision it was made in, and so does its backward pass.

use std::cell::Cell;

use serde::{Deserialize, Serialize};

/// In what the factors of a matrix product are. Sums, and all that is no product, are f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 24 bits: what the golden numbers are held against.
    #[default]
    F32,
    /// 8 bits, rounded when they are multiplied. Several times as fast where the processor multiplies
    /// bf16 (AMX, AVX-512); elsewhere nearly the same numbers, at the speed of f32. (There sums have another
    /// order, and attention rounds its weights after they are divided by their sum, not before.)
    Bf16,
}

thread_local! {
    static CURRENT: Cell<Precision> = const { Cell::new(Precision::F32) };
}

impl Precision {
    /// That of the innermost scope on this thread; f32 outside of all.
    pub fn current() -> Self {
        CURRENT.get()
    }

    /// Runs `work` in this precision, on this thread. Threads that `work` starts begin outside.
    pub fn scope<T>(self, work: impl FnOnce() -> T) -> T {
        /// Goes back to what was, also when `work` panics.
        struct Back(Precision);
        impl Drop for Back {
            fn drop(&mut self) {
                CURRENT.set(self.0);
            }
        }
        let _back = Back(CURRENT.replace(self));
        work()
    }
}
