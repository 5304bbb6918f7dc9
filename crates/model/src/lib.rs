//! The whole model as one type, and everything a person asks of it.
//!
//! ```text
//!   Mmada::open(dir) ──► chat, describe, fill      ──► Run<Text>     ─ iterate: View ─ finish: TextReply
//!                   ├──► paint, inpaint, extend    ──► Run<Painting> ─ iterate: View ─ finish: Painting
//!                   └──► think_paint               ──► ThinkPaint: the thought, then the picture
//! ```
//!
//! Every task also takes many requests at once (`chat_many`, …), which share forwards. A request
//! draws its random numbers by its own number, so its result does not depend on its company.

mod adapter;
pub mod denoiser;
pub mod error;
pub mod gaps;
pub mod mmada;
pub mod options;
pub mod overrides;
pub mod paint;
pub mod pictures;
pub mod preset;
pub mod reading;
pub mod repaint;
pub mod reply;
pub mod run;
pub mod text;
pub mod think;

pub use denoiser::{Network, Work};
pub use error::{Error, Result};
pub use mmada::{ImageParts, LoadOptions, Mmada, Numbers};
pub use mmada_tokens::Message;
pub use options::{Defaults, FillOptions, ImageOptions, Outside, PaintOptions, TextOptions, Think};
pub use overrides::Overrides;
pub use paint::{PaintRequest, Painting};
pub use pictures::{Grid, Seen};
pub use preset::{PictureRules, Preset, TextRules};
pub use reading::Reading;
pub use repaint::{RepaintRequest, Sides};
pub use reply::TextReply;
pub use run::{Effort, MASK_GLYPH, Progress, Run, View};
pub use text::{ChatRequest, DescribeRequest, FillRequest, Within};
pub use think::ThinkPaint;
