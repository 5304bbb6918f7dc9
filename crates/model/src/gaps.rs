//! Text with gaps: `12 + 30 = ___.` and `<think>[MASK:12]</think>42`.
//!
//! ```text
//!   "a ___ circle" ─parse─► Text "a", Gap 9, Text " circle" ─ids─► [a][?]×9[ circle]
//! ```
//!
//! Tokens of words bring the space before them. So the space before a `___` is left to what fills it,
//! with a token more where it is to be one of its own, as before digits.

use std::ops::Range;

use mmada_tokens::Codec;

use crate::error::{Error, Result};

/// A stretch of a text with gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Given text.
    Text(String),
    /// So many tokens to be filled.
    Gap(usize),
}

/// A text with gaps as ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gapped {
    /// Ids, masks in the gaps.
    pub(crate) ids: Vec<u32>,
    /// Where the gaps are.
    pub(crate) gaps: Vec<Range<usize>>,
    /// Whether the text ends with a gap, so that the model may end it earlier.
    pub(crate) ends_open: bool,
}

/// Takes a text apart. Three or more underscores are a gap of `gap` tokens, and of one more in place of
/// a space before them; `[MASK:n]` is one of n tokens and `[MASK]` of one.
///
/// # Errors
/// [`Error::Request`] for a gap of no token or of more than `limit`.
pub fn parse(text: &str, gap: usize, limit: usize) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut given = String::new();
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let Some((tokens, len)) = gap_at(rest, gap) else {
            given.push(next);
            rest = &rest[next.len_utf8()..];
            continue;
        };
        if tokens.is_none_or(|tokens| tokens == 0 || tokens > limit) {
            return Err(Error::request(
                "tokens of a gap",
                format!("1 to the model's context of {limit}"),
                &rest[..len],
                "write [MASK:8] for a gap of eight tokens",
            ));
        }
        let is_word = rest.starts_with('_') && given.ends_with(' ') && !given.ends_with("  ");
        if is_word {
            given.pop();
        }
        if !given.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut given)));
        }
        pieces.push(Piece::Gap(tokens.unwrap_or(gap) + usize::from(is_word)));
        rest = &rest[len..];
    }
    if !given.is_empty() {
        pieces.push(Piece::Text(given));
    }
    Ok(pieces)
}

/// Tokens and bytes of the gap that a text starts with; `Some((None, _))` is a gap whose number is
/// none, or does not fit a machine word.
fn gap_at(text: &str, gap: usize) -> Option<(Option<usize>, usize)> {
    let underscores = text.len() - text.trim_start_matches('_').len();
    if underscores >= 3 {
        return Some((Some(gap), underscores));
    }
    let inside = text.strip_prefix("[MASK")?;
    if inside.starts_with(']') {
        return Some((Some(1), "[MASK]".len()));
    }
    let (number, _) = inside.strip_prefix(':')?.split_once(']')?;
    Some((number.parse().ok(), "[MASK:]".len() + number.len()))
}

impl Gapped {
    /// Ids of the pieces, each piece of text tokenised by itself.
    ///
    /// # Errors
    /// [`Error::Request`] when there is no gap at all.
    pub(crate) fn new(text: &str, gap: usize, limit: usize, codec: &Codec) -> Result<Self> {
        let pieces = parse(text, gap, limit)?;
        let mut ids = Vec::new();
        let mut gaps = Vec::new();
        for piece in &pieces {
            let start = ids.len();
            match piece {
                Piece::Text(text) => ids.extend(codec.text(text)?),
                Piece::Gap(tokens) => {
                    ids.resize(start + tokens, codec.vocab.special.mask);
                    gaps.push(start..ids.len());
                }
            }
            if ids.len() > limit {
                return Err(mmada_tokens::Error::TooLong {
                    what: "the text with its gaps",
                    got: ids.len(),
                    limit,
                    hint: "shorten the text or the gaps",
                }
                .into());
            }
        }
        if gaps.is_empty() {
            let hint = "write ___ or [MASK:8] where something is missing";
            return Err(Error::request("text", "at least one gap", "none", hint));
        }
        Ok(Self {
            ids,
            gaps,
            ends_open: matches!(pieces.last(), Some(Piece::Gap(_))),
        })
    }
}
