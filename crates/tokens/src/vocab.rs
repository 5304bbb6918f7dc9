//! One vocabulary for text and pictures. This is the only file where ids occur as numbers.
//!
//! ```text
//! 0 ........ text.end = image.start ........ image.end ........ rows
//! |  words, bytes, special tokens |  image codes 0, 1, …  |  unused  |
//! ```

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The id space of a model: text ids, then image codes, then rows nobody uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vocab {
    /// Ids of the text tokenizer, special ones included.
    pub text: Range<u32>,
    /// Ids of image codes; code k is `image.start + k`.
    pub image: Range<u32>,
    /// Rows of the embedding table; at least `image.end`.
    pub rows: u32,
    /// The ids with a job.
    pub special: Special,
}

/// Ids with a job. Names follow the published tokenizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Special {
    pub mask: u32,
    pub bos: u32,
    pub eos: u32,
    pub pad: u32,
    pub start_header: u32,
    pub end_header: u32,
    pub eot: u32,
    pub soi: u32,
    pub eoi: u32,
    pub sov: u32,
    pub eov: u32,
    pub t2i: u32,
    pub mmu: u32,
    pub t2v: u32,
    pub v2v: u32,
    pub lvg: u32,
    pub image_pad: u32,
    pub r2i: u32,
}

/// The tokens with a job as they are written in a tokenizer and in templates.
///
/// The published tokenizer holds the language model's own names; the names of the picture tasks
/// are given to its reserved ids by the original's `training/prompting_utils.py`.
pub mod names {
    /// A position still to be predicted.
    pub const MASK: &str = "<|mdm_mask|>";
    /// Start of text.
    pub const BOS: &str = "<|startoftext|>";
    /// End of text, also the filler after an answer.
    pub const EOS: &str = "<|endoftext|>";
    /// Opens the name of a role.
    pub const START_HEADER: &str = "<|start_header_id|>";
    /// Closes the name of a role.
    pub const END_HEADER: &str = "<|end_header_id|>";
    /// End of a turn.
    pub const EOT: &str = "<|eot_id|>";
    /// Start of an image.
    pub const SOI: &str = "<|soi|>";
    /// End of an image.
    pub const EOI: &str = "<|eoi|>";
    /// Start of a video.
    pub const SOV: &str = "<|sov|>";
    /// End of a video.
    pub const EOV: &str = "<|eov|>";
    /// Task: text to image.
    pub const T2I: &str = "<|t2i|>";
    /// Task: multimodal understanding.
    pub const MMU: &str = "<|mmu|>";
    /// Task: text to video.
    pub const T2V: &str = "<|t2v|>";
    /// Task: video to video.
    pub const V2V: &str = "<|v2v|>";
    /// Task: language-guided video generation.
    pub const LVG: &str = "<|lvg|>";
    /// Filler before the text of a picture prompt.
    pub const IMAGE_PAD: &str = "[iPAD]";
    /// Task: reasoning, then an image.
    pub const R2I: &str = "<|r2i|>";
    /// Opens the reasoning of an answer. Plain text in the published tokenizer, one id in ours.
    pub const THINK: &str = "<think>";
    /// Closes the reasoning of an answer.
    pub const END_THINK: &str = "</think>";

    /// Every special name, in the order in which our own tokenizers number them.
    pub const SPECIAL: [&str; 17] = [
        MASK,
        BOS,
        EOS,
        START_HEADER,
        END_HEADER,
        EOT,
        SOI,
        EOI,
        SOV,
        EOV,
        T2I,
        MMU,
        T2V,
        V2V,
        LVG,
        IMAGE_PAD,
        R2I,
    ];
}

/// Ids of MMaDA-8B and LLaDA-8B; the picture tasks sit on ids the language model had reserved.
const PUBLISHED: Special = Special {
    mask: 126_336,
    bos: 126_080,
    eos: 126_081,
    pad: 126_081,
    start_header: 126_346,
    end_header: 126_347,
    eot: 126_348,
    soi: 126_084,
    eoi: 126_085,
    sov: 126_086,
    eov: 126_087,
    t2i: 126_088,
    mmu: 126_089,
    t2v: 126_090,
    v2v: 126_091,
    lvg: 126_092,
    image_pad: 126_093,
    r2i: 126_094,
};
const PUBLISHED_TEXT: u32 = 126_349;
const PUBLISHED_CODES: u32 = 8_192;
const MMADA_ROWS: u32 = 134_656;
const LLADA_ROWS: u32 = 126_464;

impl Vocab {
    /// MMaDA-8B: 126349 text ids, 8192 image codes, 134656 rows.
    pub fn published() -> Self {
        Self {
            text: 0..PUBLISHED_TEXT,
            image: PUBLISHED_TEXT..PUBLISHED_TEXT + PUBLISHED_CODES,
            rows: MMADA_ROWS,
            special: PUBLISHED,
        }
    }

    /// LLaDA-8B: the same text ids, no image codes, 126464 rows.
    pub fn llada() -> Self {
        Self {
            text: 0..PUBLISHED_TEXT,
            image: PUBLISHED_TEXT..PUBLISHED_TEXT,
            rows: LLADA_ROWS,
            special: PUBLISHED,
        }
    }

    /// The id of an image code; `code` must be below [`Vocab::codes`].
    pub fn image_id(&self, code: u32) -> u32 {
        self.image.start.saturating_add(code)
    }

    /// The image code of an id, `None` for any other token.
    pub fn code(&self, id: u32) -> Option<u32> {
        self.is_image(id).then(|| id - self.image.start)
    }

    /// Whether the id stands for an image code.
    pub fn is_image(&self, id: u32) -> bool {
        self.image.contains(&id)
    }

    /// How many image codes there are.
    pub fn codes(&self) -> u32 {
        self.image.end.saturating_sub(self.image.start)
    }

    /// Ids inside `text` that never win a text position unless a caller allows it: every special
    /// token but end of text and end of turn. Sorted, without repeats.
    ///
    /// The original forbids nothing, so its sampler can commit a position to the mask itself.
    pub fn banned_text(&self) -> Vec<u32> {
        let may_win = [self.special.eos, self.special.pad, self.special.eot];
        let mut banned: Vec<u32> = self.special.named().into_iter().map(|(_, id)| id).collect();
        banned.retain(|id| !may_win.contains(id) && self.text.contains(id));
        banned.sort_unstable();
        banned.dedup();
        banned
    }

    /// Checks that ranges are in order and do not overlap, that every special id is a text id, and
    /// that no two jobs share an id (padding and end of text may).
    ///
    /// # Errors
    /// [`Error::Vocab`] naming the first contradiction.
    pub fn validate(&self) -> Result<()> {
        let Self {
            text,
            image,
            rows,
            special,
        } = self;
        if text.start >= text.end || image.start > image.end {
            return Err(Error::Vocab(format!(
                "empty or reversed range: text {text:?}, image {image:?}"
            )));
        }
        if image.start < text.end {
            return Err(Error::Vocab(format!(
                "image ids {image:?} overlap text ids {text:?}"
            )));
        }
        if *rows < image.end {
            return Err(Error::Vocab(format!(
                "the embedding table has {rows} rows, expected at least {}",
                image.end
            )));
        }
        let named = special.named();
        for (index, (name, id)) in named.iter().enumerate() {
            if !text.contains(id) {
                return Err(Error::Vocab(format!(
                    "{name} is id {id}, outside the text ids {text:?}"
                )));
            }
            if let Some((other, _)) = named[..index].iter().find(|(_, earlier)| earlier == id) {
                return Err(Error::Vocab(format!("{other} and {name} are both id {id}")));
            }
        }
        Ok(())
    }

    /// Whether a tokenizer of this size with these ids is the published one, whose reserved ids
    /// carry no names of their own.
    pub(crate) fn is_published_tokenizer(len: u32, mask: Option<u32>, bos: Option<u32>) -> bool {
        len == PUBLISHED_TEXT && mask == Some(PUBLISHED.mask) && bos == Some(PUBLISHED.bos)
    }
}

impl Special {
    /// Name and id of every token with a job, in the order of [`names::SPECIAL`]; `pad` has no
    /// name of its own and is left out.
    pub fn named(&self) -> [(&'static str, u32); 17] {
        let ids = [
            self.mask,
            self.bos,
            self.eos,
            self.start_header,
            self.end_header,
            self.eot,
            self.soi,
            self.eoi,
            self.sov,
            self.eov,
            self.t2i,
            self.mmu,
            self.t2v,
            self.v2v,
            self.lvg,
            self.image_pad,
            self.r2i,
        ];
        std::array::from_fn(|index| (names::SPECIAL[index], ids[index]))
    }

    /// The ids found by name; names without an id are returned as the error.
    pub(crate) fn from_names(
        find: impl Fn(&str) -> Option<u32>,
    ) -> std::result::Result<Self, Vec<String>> {
        let found = names::SPECIAL.map(&find);
        let missing = names::SPECIAL
            .iter()
            .zip(&found)
            .filter(|(_, id)| id.is_none());
        let missing: Vec<String> = missing.map(|(name, _)| (*name).to_owned()).collect();
        if !missing.is_empty() {
            return Err(missing);
        }
        let ids = found.map(Option::unwrap_or_default);
        let [
            mask,
            bos,
            eos,
            start_header,
            end_header,
            eot,
            soi,
            eoi,
            sov,
            eov,
            t2i,
            mmu,
            t2v,
            v2v,
            lvg,
            image_pad,
            r2i,
        ] = ids;
        Ok(Self {
            mask,
            bos,
            eos,
            pad: eos,
            start_header,
            end_header,
            eot,
            soi,
            eoi,
            sov,
            eov,
            t2i,
            mmu,
            t2v,
            v2v,
            lvg,
            image_pad,
            r2i,
        })
    }

    /// The published id of a name, for tokenizers whose reserved ids carry no names.
    pub(crate) fn published_id(name: &str) -> Option<u32> {
        PUBLISHED
            .named()
            .into_iter()
            .find(|(known, _)| *known == name)
            .map(|(_, id)| id)
    }
}
