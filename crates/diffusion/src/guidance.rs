//! Classifier-free guidance: a second sequence without the condition, and the two sets of logits
//! combined.
//!
//! ```text
//!   canvas         [ prompt …… │ ?? ?? ?? ]──► cond   ┐
//!                                                     ├─► uncond + (scale + 1)(cond − uncond)
//!   unconditional  [ other …   │ ?? ?? ?? ]──► uncond ┘
//!                                └ always the present canvas
//! ```
//!
//! The twin is built anew at every step from the canvas as it is then. (The original takes too
//! long a prefix at some lengths, so its unconditional branch keeps seeing the first canvas.)

use crate::error::{Error, Result};

/// Guidance of one canvas.
#[derive(Debug, Clone, PartialEq)]
pub struct Guidance {
    /// 0 is no guidance and costs no second sequence.
    pub scale: f32,
    /// What the second sequence looks like.
    pub unconditional: Unconditional,
    /// Share of the steps before revisions, from the first on, that are guided.
    pub share: f32,
}

/// The canvas without its condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unconditional {
    /// These positions hold the mask instead (text; `generate.py`).
    Masked {
        /// Given positions to hide.
        positions: Vec<usize>,
    },
    /// Other ids stand before `shared_from`; from there on it is the canvas (`t2i_generate`).
    Prefix {
        /// What stands before.
        ids: Vec<u32>,
        /// First position of the canvas that both share.
        shared_from: usize,
    },
}

impl Unconditional {
    /// Every position of `ids` that is not masked is hidden, as the original does for text: task
    /// tokens and, for a question about a picture, the picture too.
    pub fn all_given(ids: &[u32], mask: u32) -> Self {
        let given = |&position: &usize| ids[position] != mask;
        Self::Masked {
            positions: (0..ids.len()).filter(given).collect(),
        }
    }

    /// The second sequence for what is seen of the canvas now.
    pub(crate) fn twin(&self, canvas: &[u32], mask: u32) -> Vec<u32> {
        match self {
            Self::Masked { positions } => {
                let mut twin = canvas.to_vec();
                for &position in positions {
                    // Beyond what is seen of the canvas there are only masks.
                    if let Some(id) = twin.get_mut(position) {
                        *id = mask;
                    }
                }
                twin
            }
            Self::Prefix { ids, shared_from } => [ids, &canvas[*shared_from..]].concat(),
        }
    }

    /// Where a position of the canvas lies in the twin.
    pub(crate) fn position(&self, position: usize) -> usize {
        match self {
            Self::Masked { .. } => position,
            Self::Prefix { ids, shared_from } => position - shared_from + ids.len(),
        }
    }

    /// Which position of the canvas lies at a position of the twin, if one does.
    pub(crate) fn origin(&self, position: usize) -> Option<usize> {
        match self {
            Self::Masked { .. } => Some(position),
            Self::Prefix { ids, shared_from } => {
                let after = position.checked_sub(ids.len())?;
                Some(after + shared_from)
            }
        }
    }

    /// Length of the twin of a canvas.
    pub(crate) fn twin_length(&self, canvas_length: usize) -> usize {
        match self {
            Self::Masked { .. } => canvas_length,
            Self::Prefix { ids, shared_from } => ids.len() + canvas_length - shared_from,
        }
    }

    pub(crate) fn check(&self, canvas_length: usize, region: &[usize]) -> Result<()> {
        match self {
            Self::Masked { positions } => match positions.iter().find(|&&p| p >= canvas_length) {
                Some(outside) => Err(Error::setting(
                    "hidden position",
                    format!("below {canvas_length}"),
                    outside,
                    "hide positions of the same canvas",
                )),
                None => Ok(()),
            },
            Self::Prefix { shared_from, .. } => {
                let first = region.first().copied().unwrap_or(canvas_length);
                if *shared_from <= first {
                    return Ok(());
                }
                Err(Error::setting(
                    "start of the shared part",
                    format!("at most {first}, the first masked position"),
                    shared_from,
                    "replace the prompt only",
                ))
            }
        }
    }
}

/// `uncond + (scale + 1)·(cond − uncond)`, which is `(1 + scale)·cond − scale·uncond`, into `cond`.
pub fn combine(cond: &mut [f32], uncond: &[f32], scale: f32) {
    for (cond, &uncond) in cond.iter_mut().zip(uncond) {
        *cond = uncond + (scale + 1.0) * (*cond - uncond);
    }
}
