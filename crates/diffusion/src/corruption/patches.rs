//! Patch dropout: a picture that is looked at without some of its tokens.
//!
//! ```text
//!   whole      frame  a b c d e f g h  frame  question  answer
//!   positions  0      1 2 3 4 5 6 7 8  9      10 …
//!   learnt     frame  a   c d     g    frame  question  answer     what is left keeps its position
//! ```
//!
//! Fewer rows, and nothing that can be known by one token alone. As PatchDropout (Liu et al. 2022,
//! arXiv 2208.07220) and FLIP (Li et al. 2022, arXiv 2212.00794); the share differs from example to
//! example, so that whole pictures are among them.

use mmada_tensor::random::Stream;
use mmada_tokens::{Sequence, SpanKind};

use super::{Noised, mask_independently};

/// Leaves tokens of the picture out, each with a probability that is drawn evenly from 0 to `highest`;
/// returns what is left and where it lay, as [`Noised::origins`].
pub fn drop_patches(
    sequence: &Sequence,
    highest: f32,
    stream: &mut Stream,
) -> (Sequence, Vec<u32>) {
    let rate = highest * stream.uniform();
    let image: Vec<usize> = sequence.positions(SpanKind::Image).collect();
    let left_out = mask_independently(&image, rate, stream);
    let is_kept = |position: &usize| left_out.binary_search(position).is_err();
    let kept = (0..sequence.ids.len()).filter(is_kept);
    let origins = kept.map(|position| position as u32).collect();
    (sequence.without(&left_out), origins)
}

impl Noised {
    /// Where a position lies in the whole sequence; masks beyond its end go on from there.
    pub(super) fn origin(&self, position: u32) -> u32 {
        let known = self.origins.get(position as usize).copied();
        known.unwrap_or(position + self.left_out())
    }

    /// How many tokens of the sequence are left out.
    pub fn left_out(&self) -> u32 {
        let whole = self.origins.last().map_or(0, |last| last + 1);
        whole - self.origins.len() as u32
    }
}
