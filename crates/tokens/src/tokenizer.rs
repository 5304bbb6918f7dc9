//! Text to ids and back, over any `tokenizer.json`, and training of our own byte-level BPE.
//!
//! ```text
//! encode        "<|mmu|> hi"  ─▶ [mmu, …]             control tokens in the text count
//! encode_plain  "<|mmu|> hi"  ─▶ [<, |, m, …]         they are only characters
//! ```
//! What a person typed always goes through `encode_plain`, so a prompt cannot smuggle in a control
//! token.

use std::collections::HashSet;
use std::path::Path;

use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{
    AddedToken, DecoderWrapper, Model, ModelWrapper, NormalizedString, Normalizer,
    OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, PreTokenizerWrapper,
    Tokenizer as Inner, Trainer,
};

use crate::error::{Error, Result};
use crate::vocab::{Special, Vocab, names};
use crate::{file, library};

/// A text tokenizer.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: Inner,
    len: u32,
    /// Ids that steer the model rather than spell text.
    control: HashSet<u32>,
    /// Added tokens that are ordinary text, longest first.
    ordinary: Vec<(String, u32)>,
}

/// How to train a tokenizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainOptions {
    /// Ids of the finished tokenizer, special ones included. A small corpus may give fewer.
    pub size: usize,
    /// A pair is merged only if it occurs at least this often.
    pub min_frequency: u64,
    /// Longest merged token, in bytes.
    pub max_token_bytes: usize,
}

impl Default for TrainOptions {
    fn default() -> Self {
        Self {
            size: 1024,
            min_frequency: 2,
            max_token_bytes: 32,
        }
    }
}

impl Tokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::TooLarge`], [`Error::Tokenizer`].
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        Self::from_bytes(&file::read(path.as_ref())?)
    }

    /// Reads the content of a `tokenizer.json`. Normalizers of the type `Precompiled` are refused.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Self::from_inner(library::parse(bytes)?)
    }

    /// Writes a `tokenizer.json`, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Tokenizer`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        file::write(path.as_ref(), self.inner.to_string(true)?.as_bytes())
    }

    /// Ids of a text in which control tokens count, as in a rendered template. No bos is added.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.inner.encode_fast(text, false)?.get_ids().to_vec())
    }

    /// Ids of a text in which control tokens are only characters. `<think>` and `</think>` are
    /// text: they keep their ids where the tokenizer has them.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn encode_plain(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::with_capacity(text.len() / 3);
        for piece in self.pieces(text) {
            match piece {
                Piece::Token(id) => ids.push(id),
                Piece::Text(text) => self.encode_piece(text, &mut ids)?,
            }
        }
        if let Some(&id) = ids.iter().find(|id| self.control.contains(id)) {
            return Err(Error::Tokenizer(format!(
                "its model turns plain text into the control token {id}"
            )));
        }
        Ok(ids)
    }

    /// Text of the ids; control tokens, image codes and unknown ids are skipped, bytes that are
    /// not UTF-8 become `�`.
    pub fn decode(&self, ids: &[u32]) -> String {
        let is_text = |id: &u32| *id < self.len && !self.control.contains(id);
        let ids: Vec<u32> = ids.iter().copied().filter(is_text).collect();
        // A decoder that refuses its own tokens leaves their spellings.
        let spelled = || {
            ids.iter()
                .filter_map(|&id| self.inner.id_to_token(id))
                .collect()
        };
        self.inner.decode(&ids, false).unwrap_or_else(|_| spelled())
    }

    /// A single token for display: the name of a control token, the text of any other, `None` for
    /// an id that is not in the tokenizer.
    pub fn token(&self, id: u32) -> Option<String> {
        let name = self.inner.id_to_token(id)?;
        if self.control.contains(&id) {
            return Some(name);
        }
        Some(self.decode(&[id]))
    }

    /// The id of a token by its exact name.
    pub fn id(&self, name: &str) -> Option<u32> {
        self.inner.token_to_id(name)
    }

    /// How many ids there are; image codes begin here.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether the id steers the model rather than spells text.
    pub fn is_control(&self, id: u32) -> bool {
        self.control.contains(&id)
    }

    /// The vocabulary of a model with this tokenizer: `codes` image codes follow the text ids.
    /// `rows` is the size of its embedding table; without one the table ends with the codes.
    ///
    /// Special tokens are found by name; the published tokenizer does not name its reserved ids,
    /// so those are known by number.
    ///
    /// # Errors
    /// [`Error::MissingTokens`] naming them all; [`Error::Vocab`] when sizes do not fit.
    pub fn vocab(&self, codes: u32, rows: Option<u32>) -> Result<Vocab> {
        let (mask, bos) = (self.id(names::MASK), self.id(names::BOS));
        let is_published = Vocab::is_published_tokenizer(self.len, mask, bos);
        let reserved = |name: &str| {
            if is_published {
                Special::published_id(name)
            } else {
                None
            }
        };
        let special = Special::from_names(|name| self.id(name).or_else(|| reserved(name)))
            .map_err(Error::MissingTokens)?;
        let image = self.len..self.len.checked_add(codes).ok_or_else(|| {
            Error::Vocab(format!(
                "{} text ids and {codes} codes exceed 32 bits",
                self.len
            ))
        })?;
        let rows = rows.unwrap_or(image.end);
        let vocab = Vocab {
            text: 0..self.len,
            image,
            rows,
            special,
        };
        vocab.validate()?;
        Ok(vocab)
    }

    /// Trains a byte-level BPE: every byte has an id, digits stay single, then merges, then
    /// `<think>` and `</think>`, then the special tokens, so that ids of text come first. The same
    /// texts in any order give the same tokenizer.
    ///
    /// # Errors
    /// [`Error::VocabTooSmall`], [`Error::Tokenizer`].
    pub fn train(
        texts: impl Iterator<Item = String> + Send,
        options: &TrainOptions,
    ) -> Result<Self> {
        let alphabet: HashSet<char> = ByteLevel::alphabet().into_iter().collect();
        let added = 2 + names::SPECIAL.len();
        let least = alphabet.len() + added;
        if options.size < least {
            return Err(Error::VocabTooSmall {
                got: options.size,
                least,
            });
        }
        let mut trainer = BpeTrainer::builder()
            .show_progress(false)
            .vocab_size(options.size - added)
            .min_frequency(options.min_frequency)
            .max_token_length(Some(options.max_token_bytes))
            .initial_alphabet(alphabet)
            .build();
        let splitter = Sequence::new(vec![
            PreTokenizerWrapper::Digits(Digits::new(true)),
            PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, true, true)),
        ]);
        trainer.feed(texts, |text| words(&splitter, text))?;
        let mut model = BPE::default();
        trainer.train(&mut model)?;

        let mut inner = Inner::new(ModelWrapper::BPE(model));
        inner.with_pre_tokenizer(Some(PreTokenizerWrapper::Sequence(splitter)));
        inner.with_decoder(Some(DecoderWrapper::ByteLevel(ByteLevel::default())));
        let think = [names::THINK, names::END_THINK];
        inner.add_tokens(think.map(|name| AddedToken::from(name, false).normalized(false)))?;
        inner.add_special_tokens(names::SPECIAL.map(|name| AddedToken::from(name, true)))?;
        Self::from_inner(inner)
    }

    fn from_inner(mut inner: Inner) -> Result<Self> {
        // Lengths are the layout's business; a file may bring its own cuts and pads.
        inner.with_truncation(None)?;
        inner.with_padding(None);
        // Dropout of merges belongs to training; with it the same text has other ids each time.
        if let ModelWrapper::BPE(bpe) = inner.get_model()
            && bpe.dropout.is_some()
        {
            let mut bpe = bpe.clone();
            bpe.dropout = None;
            inner.with_model(bpe);
        }
        let len = u32::try_from(inner.get_vocab_size(true))
            .map_err(|_| Error::Tokenizer("it has more than 2^32 tokens".to_owned()))?;
        let mut control = HashSet::new();
        let mut ordinary = Vec::new();
        for (id, token) in inner.get_added_tokens_decoder() {
            if token.special || looks_like_control(&token.content) {
                control.insert(id);
            } else if !token.content.is_empty() {
                ordinary.push((token.content, id));
            }
        }
        // Image codes follow the text ids, so no text id may be among them.
        let highest = inner.get_vocab(true).into_values().max();
        if let Some(highest) = highest.filter(|highest| *highest >= len) {
            return Err(Error::Tokenizer(format!(
                "it has {len} tokens, but one with the id {highest}; expected ids without gaps"
            )));
        }
        control.extend(
            names::SPECIAL
                .iter()
                .filter_map(|name| inner.token_to_id(name)),
        );
        ordinary.sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        Ok(Self {
            inner,
            len,
            control,
            ordinary,
        })
    }

    /// Runs normalizer, pre-tokenizer and model without the added vocabulary.
    fn encode_piece(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        let mut normalized = NormalizedString::from(text);
        if let Some(normalizer) = self.inner.get_normalizer() {
            normalizer.normalize(&mut normalized)?;
        }
        let mut split = PreTokenizedString::from(normalized);
        if let Some(pre_tokenizer) = self.inner.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut split)?;
        }
        split.tokenize(|word| self.inner.get_model().tokenize(word.get()))?;
        for (_, _, tokens) in split.get_splits(OffsetReferential::Original, OffsetType::None) {
            ids.extend(tokens.iter().flatten().map(|token| token.id));
        }
        Ok(())
    }

    /// Cuts a text at the ordinary added tokens: leftmost first, the longest of several.
    fn pieces<'a>(&self, text: &'a str) -> Vec<Piece<'a>> {
        let mut pieces = Vec::new();
        let mut here = 0;
        // Where each name comes next. It is looked for again only when it has been passed, so that
        // a text is searched once for each name.
        let find = |name: &str, from: usize| Some(from + text[from..].find(name)?);
        let mut next: Vec<_> = self
            .ordinary
            .iter()
            .map(|(name, _)| find(name, 0))
            .collect();
        while here < text.len() {
            for (at, (name, _)) in next.iter_mut().zip(&self.ordinary) {
                if at.is_some_and(|at| at < here) {
                    *at = find(name, here);
                }
            }
            let found = next.iter().zip(&self.ordinary);
            let found = found.filter_map(|(at, (name, id))| Some(((*at)?, name, *id)));
            // `min_by_key` keeps the first of equals, and longer names come first.
            let Some((start, name, id)) = found.min_by_key(|(start, ..)| *start) else {
                pieces.push(Piece::Text(&text[here..]));
                break;
            };
            if start > here {
                pieces.push(Piece::Text(&text[here..start]));
            }
            pieces.push(Piece::Token(id));
            here = start + name.len();
        }
        pieces
    }
}

enum Piece<'a> {
    Text(&'a str),
    Token(u32),
}

/// Some tokenizers do not mark all their control tokens as special.
fn looks_like_control(content: &str) -> bool {
    content.starts_with("<|") && content.ends_with("|>")
}

/// The words of a training text. Tags and special tokens get ids of their own, so no merge is
/// spent on them.
fn words(splitter: &Sequence, text: &str) -> tokenizers::Result<Vec<String>> {
    let mut parts = vec![text];
    for name in names::SPECIAL
        .iter()
        .chain(&[names::THINK, names::END_THINK])
    {
        parts = parts
            .into_iter()
            .flat_map(|part| part.split(name))
            .collect();
    }
    let mut words = Vec::new();
    for part in parts.into_iter().filter(|part| !part.is_empty()) {
        let mut split = PreTokenizedString::from(part);
        splitter.pre_tokenize(&mut split)?;
        let found = split.get_splits(OffsetReferential::Original, OffsetType::None);
        words.extend(found.into_iter().map(|(word, ..)| word.to_owned()));
    }
    Ok(words)
}
