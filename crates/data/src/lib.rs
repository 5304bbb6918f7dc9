//! Files, pixels, mixtures and batches.
//!
//! ```text
//! files ─▶ readers ─▶ Record ─▶ View ─▶ Example ─▶ Source (shuffled, endless) ─▶ Mixture
//!                                          │
//! pack folders ─▶ evaluation items         └─ image: encoded bytes ─▶ Picture (pixels)
//! ```

pub mod augment;
pub mod error;
pub mod example;
pub mod files;
pub mod images;
pub mod mixture;
pub mod packs;
pub mod part;
pub mod picture;
pub mod readers;
pub mod record;
pub mod sketch;
pub mod source;
pub mod template;
pub mod view;

pub use augment::Augment;
pub use error::DataError;
pub use example::{Example, Message};
pub use images::{ImageStore, Stores};
pub use mixture::{Mixture, MixtureState};
pub use packs::Pack;
pub use part::Part;
pub use record::{ImageBytes, ImageRef, Record, Skipped};
pub use source::{Source, SourceConfig, SourceKind, SourceState};
pub use template::Template;
pub use view::View;
