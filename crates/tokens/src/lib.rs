//! Ids and what they mean: vocabulary ranges, sequences with named spans, prompt layouts,
//! tokenizers and chat templates. No tensor is known here.
//!
//! ```text
//! messages ─ template ─ tokenizer ─▶ ids ─ layout ─▶ sequence with spans
//!              └──────── codec ────────┘
//! ```

pub mod caption;
pub mod codec;
pub mod error;
pub mod layout;
pub mod sequence;
pub mod template;
pub mod thought;
pub mod tokenizer;
pub mod vocab;

mod file;
mod library;

pub use caption::CaptionTokenizer;
pub use codec::Codec;
pub use error::{Error, Result};
pub use layout::{Layout, Padding, Tail};
pub use sequence::{Sequence, Span, SpanKind, Task};
pub use template::{ChatTemplate, Message};
pub use thought::Thought;
pub use tokenizer::{Tokenizer, TrainOptions};
pub use vocab::{Special, Vocab, names};
