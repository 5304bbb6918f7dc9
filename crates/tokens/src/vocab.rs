//! One vocabulary for text and pictures. This is the only file where ids occur as numbers.

use std::ops::Range;

/// The id space of a model: text ids, then image codes, then rows nobody uses.
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
