//! Captions to ids, for frozen judges such as CLIP: any `tokenizer.json` with the begin and end that
//! it puts around a text itself.

use std::path::Path;

use tokenizers::Tokenizer as Inner;

use crate::error::{Error, Result};
use crate::{file, library};

/// The tokenizer of a judge.
#[derive(Debug, Clone)]
pub struct CaptionTokenizer {
    inner: Inner,
}

impl CaptionTokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::TooLarge`]; [`Error::Tokenizer`] when it is none, or puts nothing
    /// around a text.
    pub fn load(path: &Path) -> Result<Self> {
        let mut inner = library::parse(&file::read(path)?)?;
        inner.with_padding(None);
        inner.with_truncation(None)?;
        let around = inner.encode_fast("", true)?.len();
        if around < 2 {
            return Err(Error::Tokenizer(format!(
                "an empty text has {around} ids, expected a begin and an end"
            )));
        }
        Ok(Self { inner })
    }

    /// Ids of a text between its begin and end. A longer one than `longest` loses its tail, not
    /// its end.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] when the tokenizer refuses the text.
    pub fn ids(&self, text: &str, longest: usize) -> Result<Vec<u32>> {
        let mut ids = self.inner.encode_fast(text, true)?.get_ids().to_vec();
        if ids.len() > longest {
            let end = ids.split_off(ids.len() - 1);
            ids.truncate(longest.saturating_sub(1));
            ids.extend(end);
        }
        Ok(ids)
    }
}
