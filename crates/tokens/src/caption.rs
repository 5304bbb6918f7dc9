//! Captions to ids, for frozen judges such as CLIP: any `tokenizer.json` with the begin and end that
//! it puts around a text itself.

use std::path::Path;

use tokenizers::Tokenizer as Inner;

use crate::error::{Error, Result};
use crate::file;

/// The tokenizer of a judge.
#[derive(Debug, Clone)]
pub struct CaptionTokenizer {
    inner: Inner,
}

impl CaptionTokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::TooLarge`], [`Error::Tokenizer`].
    pub fn load(path: &Path) -> Result<Self> {
        let mut inner = Inner::from_bytes(file::read(path)?)?;
        inner.with_padding(None);
        inner.with_truncation(None)?;
        Ok(Self { inner })
    }

    /// Ids of a text between its begin and end. A longer one than `longest` loses its tail, not
    /// its end.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] when the tokenizer refuses the text, or has no begin and end.
    pub fn ids(&self, text: &str, longest: usize) -> Result<Vec<u32>> {
        let mut ids = self.inner.encode_fast(text, true)?.get_ids().to_vec();
        let Some(&end) = ids.last() else {
            let what = "an empty text has no ids, so nothing is put around a text".to_owned();
            return Err(Error::Tokenizer(what));
        };
        if ids.len() > longest {
            ids.truncate(longest.saturating_sub(1));
            ids.push(end);
        }
        Ok(ids)
    }
}
