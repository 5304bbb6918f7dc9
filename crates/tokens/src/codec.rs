//! Tokenizer, chat template and vocabulary of one model as one value: what a person says to ids
//! and back.

use std::path::Path;

use serde_json::json;

use crate::error::{Error, Result};
use crate::file;
use crate::layout::Layout;
use crate::template::{ChatTemplate, Message};
use crate::tokenizer::Tokenizer;
use crate::vocab::{Vocab, names};

/// Marks where a message's content begins and ends in a rendered template. Noncharacters: Unicode
/// keeps them for a program's own use, so text never needs them.
const OPEN: char = '\u{FDD0}';
const CLOSE: char = '\u{FDD1}';

/// Tokenizer, chat template and vocabulary of one model.
#[derive(Debug, Clone)]
pub struct Codec {
    /// Text to ids and back.
    pub tokenizer: Tokenizer,
    /// Messages to text.
    pub template: ChatTemplate,
    /// What the ids mean.
    pub vocab: Vocab,
}

impl Codec {
    /// Reads `tokenizer.json` and the template of a model directory. `codes` and `rows` as in
    /// [`Tokenizer::vocab`].
    ///
    /// # Errors
    /// Those of [`Tokenizer::load`], [`Tokenizer::vocab`] and [`ChatTemplate::load`].
    pub fn load(model_dir: impl AsRef<Path>, codes: u32, rows: Option<u32>) -> Result<Self> {
        let model_dir = model_dir.as_ref();
        let tokenizer = Tokenizer::load(model_dir.join("tokenizer.json"))?;
        let vocab = tokenizer.vocab(codes, rows)?;
        Ok(Self {
            tokenizer,
            template: ChatTemplate::load(model_dir)?,
            vocab,
        })
    }

    /// Writes `tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja` in the layout
    /// that the Python libraries read.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Tokenizer`].
    pub fn save(&self, model_dir: impl AsRef<Path>) -> Result<()> {
        let model_dir = model_dir.as_ref();
        self.tokenizer.save(model_dir.join("tokenizer.json"))?;
        let config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": names::BOS,
            "eos_token": names::EOS,
            "pad_token": names::EOS,
            "mask_token": names::MASK,
            "add_bos_token": false,
            "clean_up_tokenization_spaces": false,
            "chat_template": self.template.source(),
        });
        let config = format!("{config:#}\n");
        file::write(&model_dir.join("tokenizer_config.json"), config.as_bytes())?;
        file::write(
            &model_dir.join("chat_template.jinja"),
            self.template.source().as_bytes(),
        )
    }

    /// Layouts of at most `context` tokens for this vocabulary.
    pub fn layout(&self, context: usize) -> Layout {
        Layout::new(&self.vocab, context)
    }

    /// Ids of a text; control tokens written in it are only characters.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn text(&self, text: &str) -> Result<Vec<u32>> {
        self.tokenizer.encode_plain(text)
    }

    /// Ids of a conversation up to and including the header of the assistant's next turn. Only the
    /// template's own control tokens count; those in contents are only characters.
    ///
    /// # Errors
    /// [`Error::Role`], [`Error::Template`], [`Error::Tokenizer`].
    pub fn chat_ids(&self, messages: &[Message]) -> Result<Vec<u32>> {
        let marked = messages.iter().map(marked).collect::<Result<Vec<_>>>()?;
        let rendered = self.template.render(&marked, names::BOS, true)?;
        let mut ids = Vec::new();
        let mut rest = rendered.as_str();
        while let Some((before, opened)) = rest.split_once(OPEN) {
            ids.extend(self.tokenizer.encode(frame(before)?)?);
            let (content, after) = opened.split_once(CLOSE).ok_or_else(cut)?;
            // Another content that opens within this one: the end of this one was cut off.
            if content.contains(OPEN) {
                return Err(cut());
            }
            ids.extend(self.tokenizer.encode_plain(content)?);
            rest = after;
        }
        ids.extend(self.tokenizer.encode(frame(rest)?)?);
        Ok(ids)
    }

    /// Ids of a single user turn: [`Codec::chat_ids`] of one message.
    ///
    /// # Errors
    /// As [`Codec::chat_ids`].
    pub fn prompt(&self, text: &str) -> Result<Vec<u32>> {
        self.chat_ids(&[Message::user(text)])
    }

    /// Ids of an answer to be learnt: its text and the end of the turn.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn answer(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = self.tokenizer.encode_plain(text.trim())?;
        ids.push(self.vocab.special.eot);
        Ok(ids)
    }
}

/// What a template wrote between contents; the end of a content whose beginning was cut off, in which
/// control tokens would count, is none.
fn frame(text: &str) -> Result<&str> {
    match text.contains(CLOSE) {
        true => Err(cut()),
        false => Ok(text),
    }
}

fn cut() -> Error {
    Error::Template("it cuts the content of a message; it may only trim it".to_owned())
}

/// The message with marks around its content. White space at the ends stays outside the marks, so
/// that a template that trims content still finds it.
fn marked(message: &Message) -> Result<Message> {
    let is_name = |letter: char| letter.is_alphanumeric() || "_-".contains(letter);
    if message.role.is_empty() || !message.role.chars().all(is_name) {
        return Err(Error::Role(message.role.clone()));
    }
    let content = message.content.replace([OPEN, CLOSE], "\u{FFFD}");
    let core = content.trim();
    let start = content.len() - content.trim_start().len();
    let (before, after) = (&content[..start], &content[start + core.len()..]);
    Ok(Message {
        role: message.role.clone(),
        content: format!("{before}{OPEN}{core}{CLOSE}{after}"),
    })
}
