//! Ids and what they mean: vocabulary ranges, sequences with named spans, prompt layouts,
//! tokenizers and chat templates. No tensor is known here.

pub mod sequence;
pub mod vocab;

pub use sequence::{Sequence, Span, SpanKind, Task};
pub use vocab::{Special, Vocab};
