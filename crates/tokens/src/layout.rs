//! Prompt layouts: how ids become the sequence of each task. All five tasks are laid out here.
//!
//! ```text
//! paint        t2i bos  PROMPT  eos soi  IMAGE  eoi
//! describe     mmu soi  IMAGE  eoi bos  PROMPT  ANSWER  eos eos …
//! text         bos  ANSWER  eos …
//! chat         bos  PROMPT  ANSWER  eos eos …
//! think, paint r2i bos  PROMPT  ANSWER  eos … soi  IMAGE  eoi
//! ```
//!
//! Lower case is [`SpanKind::Frame`], the filler `eos …` is [`SpanKind::Tail`]. Source: the
//! original's `training/prompting_utils.py`.

use crate::error::{Error, Result};
use crate::sequence::{Sequence, SpanKind, Task};
use crate::vocab::Vocab;

/// Whether rows are brought to one length as the original does, or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Padding {
    /// Rows have their own length: no `[iPAD]`, and end-of-text only as the caller's [`Tail`] says.
    /// What does not fit is an error.
    #[default]
    None,
    /// The training rows of the original, filled up and cut to fixed lengths; [`Tail`] is ignored.
    /// The answer starts after the last role header that survives the cut.
    Original {
        /// The original's `max_text_len`, in tokens: text beside a picture is cut to it.
        max_text: usize,
        /// The original's `max_seq_len`, in tokens: length of text and chat rows.
        max_sequence: usize,
    },
}

/// How many end-of-text tokens follow an answer. They are learnt: a sampler that fills a fixed
/// canvas must have seen what comes after the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// None: the answer is a canvas to fill, or a cutting of a longer text.
    None,
    /// One.
    One,
    /// At least one, until answer and tail together are a multiple of this many tokens.
    MultipleOf(usize),
    /// At least one, until answer and tail together are this many tokens.
    To(usize),
}

/// Lays out sequences for one vocabulary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    vocab: Vocab,
    context: usize,
    padding: Padding,
}

impl Layout {
    /// Unpadded layouts of at most `context` tokens.
    pub fn new(vocab: &Vocab, context: usize) -> Self {
        Self {
            vocab: vocab.clone(),
            context,
            padding: Padding::None,
        }
    }

    /// The same with another padding rule.
    #[must_use]
    pub fn with_padding(self, padding: Padding) -> Self {
        Self { padding, ..self }
    }

    /// The vocabulary that the ids belong to.
    pub fn vocab(&self) -> &Vocab {
        &self.vocab
    }

    /// The most tokens a sequence may have.
    pub fn context(&self) -> usize {
        self.context
    }

    /// A picture from text. `image` holds image ids, mask ids where it is still to be painted.
    /// An empty text gives the unconditional twin used by guidance and by condition dropout.
    ///
    /// # Errors
    /// [`Error::TooLong`]; with [`Padding::Original`] long text is cut instead.
    pub fn paint(&self, text: &[u32], image: &[u32]) -> Result<Sequence> {
        let special = &self.vocab.special;
        let mut words = self.without_bos(text).to_vec();
        let mut pad = 0;
        if let Padding::Original { max_text, .. } = self.padding {
            // bos and eos belong to the budget; text that reaches it loses its end, never eos.
            let room = max_text.saturating_sub(2);
            words.truncate(room);
            pad = room - words.len();
        }
        let mut row = Sequence::new(Task::Paint);
        row.push(SpanKind::Pad, &vec![special.image_pad; pad]);
        row.push(SpanKind::Frame, &[special.t2i, special.bos]);
        row.push(SpanKind::Prompt, &words);
        row.push(SpanKind::Frame, &[special.eos, special.soi]);
        row.push(SpanKind::Image, image);
        row.push(SpanKind::Frame, &[special.eoi]);
        self.checked(row)
    }

    /// Text about a picture.
    ///
    /// # Errors
    /// [`Error::TooLong`]; with [`Padding::Original`] long text is cut instead.
    pub fn describe(
        &self,
        image: &[u32],
        prompt: &[u32],
        answer: &[u32],
        tail: Tail,
    ) -> Result<Sequence> {
        let mut row = self.seen_image(image);
        match self.padding {
            Padding::None => self.push_turn(&mut row, prompt, answer, tail)?,
            Padding::Original { max_text, .. } => {
                let words = self.joined(prompt, answer);
                let kept = beside_image(&words, max_text);
                self.push_split(&mut row, kept, max_text, WithoutHeader::AllAnswer);
            }
        }
        self.checked(row)
    }

    /// A picture and a question, with an answer of `answer_len` masks. Never padded.
    ///
    /// # Errors
    /// [`Error::TooLong`].
    pub fn describe_prompt(
        &self,
        image: &[u32],
        prompt: &[u32],
        answer_len: usize,
    ) -> Result<Sequence> {
        self.describe_canvas(image, prompt, &self.bounded_masks(answer_len)?)
    }

    /// A picture, a question and a half-given answer: mask ids where it is to be filled. Never
    /// padded.
    ///
    /// # Errors
    /// [`Error::TooLong`].
    pub fn describe_canvas(
        &self,
        image: &[u32],
        prompt: &[u32],
        answer: &[u32],
    ) -> Result<Sequence> {
        let mut row = self.seen_image(image);
        self.push_turn(&mut row, prompt, answer, Tail::None)?;
        self.checked(row)
    }

    /// Plain text, all of it learnt.
    ///
    /// # Errors
    /// [`Error::TooLong`]; with [`Padding::Original`] long text is cut instead, and bos is learnt too.
    pub fn text(&self, text: &[u32], tail: Tail) -> Result<Sequence> {
        let mut row = Sequence::new(Task::Text);
        match self.padding {
            Padding::None => self.push_turn(&mut row, &[], self.without_bos(text), tail)?,
            Padding::Original { max_sequence, .. } => {
                let words = self.joined(&[], text);
                let kept = &words[..words.len().min(max_sequence)];
                row.push(SpanKind::Answer, kept);
                row.push(
                    SpanKind::Tail,
                    &vec![self.vocab.special.eos; max_sequence - kept.len()],
                );
            }
        }
        self.checked(row)
    }

    /// A conversation whose last answer is learnt.
    ///
    /// # Errors
    /// [`Error::TooLong`]; with [`Padding::Original`] long text is cut instead.
    pub fn chat(&self, prompt: &[u32], answer: &[u32], tail: Tail) -> Result<Sequence> {
        let mut row = Sequence::new(Task::Chat);
        match self.padding {
            Padding::None => self.push_turn(&mut row, prompt, answer, tail)?,
            Padding::Original { max_sequence, .. } => {
                let words = self.joined(prompt, answer);
                let kept = &words[..words.len().min(max_sequence)];
                self.push_split(&mut row, kept, max_sequence, WithoutHeader::AllAnswer);
            }
        }
        self.checked(row)
    }

    /// A conversation with an answer of `answer_len` masks. Never padded.
    ///
    /// # Errors
    /// [`Error::TooLong`].
    pub fn chat_prompt(&self, prompt: &[u32], answer_len: usize) -> Result<Sequence> {
        self.chat_canvas(prompt, &self.bounded_masks(answer_len)?)
    }

    /// A conversation with a half-given answer: mask ids where it is to be filled. Never padded.
    ///
    /// # Errors
    /// [`Error::TooLong`].
    pub fn chat_canvas(&self, prompt: &[u32], answer: &[u32]) -> Result<Sequence> {
        let mut row = Sequence::new(Task::Chat);
        self.push_turn(&mut row, prompt, answer, Tail::None)?;
        self.checked(row)
    }

    /// A thought about what to paint, then the picture.
    ///
    /// # Errors
    /// [`Error::TooLong`]; with [`Padding::Original`] long text is cut instead.
    pub fn think_paint(
        &self,
        prompt: &[u32],
        thought: &[u32],
        image: &[u32],
        tail: Tail,
    ) -> Result<Sequence> {
        let mut row = Sequence::new(Task::ThinkPaint);
        row.push(SpanKind::Frame, &[self.vocab.special.r2i]);
        match self.padding {
            Padding::None => self.push_turn(&mut row, prompt, thought, tail)?,
            Padding::Original { max_text, .. } => {
                let words = self.joined(prompt, thought);
                let kept = beside_image(&words, max_text);
                self.push_split(&mut row, kept, max_text, WithoutHeader::AllPrompt);
            }
        }
        self.push_image(&mut row, image);
        self.checked(row)
    }

    /// The same with `answer_len` masks for the thought and `image_len` for the picture. Never
    /// padded.
    ///
    /// # Errors
    /// [`Error::TooLong`].
    pub fn think_paint_prompt(
        &self,
        prompt: &[u32],
        answer_len: usize,
        image_len: usize,
    ) -> Result<Sequence> {
        let mut row = Sequence::new(Task::ThinkPaint);
        row.push(SpanKind::Frame, &[self.vocab.special.r2i]);
        self.push_turn(
            &mut row,
            prompt,
            &self.bounded_masks(answer_len)?,
            Tail::None,
        )?;
        self.push_image(&mut row, &self.bounded_masks(image_len)?);
        self.checked(row)
    }

    /// `count` mask ids.
    pub fn masks(&self, count: usize) -> Vec<u32> {
        vec![self.vocab.special.mask; count]
    }

    fn seen_image(&self, image: &[u32]) -> Sequence {
        let special = &self.vocab.special;
        let mut row = Sequence::new(Task::Describe);
        row.push(SpanKind::Frame, &[special.mmu]);
        self.push_image(&mut row, image);
        row
    }

    fn push_image(&self, row: &mut Sequence, image: &[u32]) {
        row.push(SpanKind::Frame, &[self.vocab.special.soi]);
        row.push(SpanKind::Image, image);
        row.push(SpanKind::Frame, &[self.vocab.special.eoi]);
    }

    fn push_turn(
        &self,
        row: &mut Sequence,
        prompt: &[u32],
        answer: &[u32],
        tail: Tail,
    ) -> Result<()> {
        let eos = self.bounded(tail.len(answer.len())?)?;
        row.push(SpanKind::Frame, &[self.vocab.special.bos]);
        row.push(SpanKind::Prompt, self.without_bos(prompt));
        row.push(SpanKind::Answer, answer);
        row.push(SpanKind::Tail, &vec![self.vocab.special.eos; eos]);
        Ok(())
    }

    /// Text of the original up to `length` tokens, split after the last role header.
    fn push_split(
        &self,
        row: &mut Sequence,
        words: &[u32],
        length: usize,
        otherwise: WithoutHeader,
    ) {
        let header = words
            .iter()
            .rposition(|&id| id == self.vocab.special.end_header);
        let filler = vec![self.vocab.special.eos; length - words.len()];
        let (prompt, answer) = match (header, otherwise) {
            (Some(last), _) => words.split_at(last + 1),
            (None, WithoutHeader::AllAnswer) => words.split_at(0),
            (None, WithoutHeader::AllPrompt) => {
                row.push(SpanKind::Prompt, words);
                row.push(SpanKind::Prompt, &filler);
                return;
            }
        };
        row.push(SpanKind::Prompt, prompt);
        row.push(SpanKind::Answer, answer);
        row.push(SpanKind::Tail, &filler);
    }

    /// Prompt and answer as one text that starts with bos.
    fn joined(&self, prompt: &[u32], answer: &[u32]) -> Vec<u32> {
        let text = [prompt, answer].concat();
        [&[self.vocab.special.bos], self.without_bos(&text)].concat()
    }

    fn without_bos<'a>(&self, ids: &'a [u32]) -> &'a [u32] {
        ids.strip_prefix(&[self.vocab.special.bos]).unwrap_or(ids)
    }

    fn checked(&self, row: Sequence) -> Result<Sequence> {
        self.bounded(row.ids.len())?;
        Ok(row)
    }

    /// Lengths are checked before they are allocated: they may come from a request.
    fn bounded_masks(&self, count: usize) -> Result<Vec<u32>> {
        Ok(self.masks(self.bounded(count)?))
    }

    fn bounded(&self, length: usize) -> Result<usize> {
        if length <= self.context {
            return Ok(length);
        }
        Err(Error::TooLong {
            what: "the sequence",
            got: length,
            limit: self.context,
            hint: "shorten the text, ask for a shorter answer or a smaller picture",
        })
    }
}

/// What the original keeps of a text beside a picture: one that reaches the limit is left a token
/// short of it.
fn beside_image(words: &[u32], max_text: usize) -> &[u32] {
    match words.len() < max_text {
        true => words,
        false => &words[..max_text.saturating_sub(1)],
    }
}

/// What the original takes a text for when no role header is left in it.
#[derive(Clone, Copy)]
enum WithoutHeader {
    AllAnswer,
    AllPrompt,
}

impl Tail {
    /// End-of-text tokens after an answer of this length.
    fn len(self, answer: usize) -> Result<usize> {
        match self {
            Self::None => Ok(0),
            Self::One => Ok(1),
            Self::MultipleOf(block) => Ok((answer + 1).next_multiple_of(block.max(1)) - answer),
            Self::To(length) if length > answer => Ok(length - answer),
            Self::To(length) => Err(Error::TooLong {
                what: "the answer with its end",
                got: answer + 1,
                limit: length,
                hint: "shorten the answer or give it more room",
            }),
        }
    }
}
