//! Reading: how well a picture fits words, by the model that painted it.
//!
//! ```text
//!   picture QUESTION │ ? ? ? ? ? ? ? ? │ ? ? ? ?      ln p of the first block of the words
//!   picture QUESTION   a b l u e c i r │ ? ? ? ?      of the next, with what is before it given
//! ```
//!
//! The codes that were painted are the codes that are looked at, so no pixel is needed. With several
//! rivals for one picture, the one that fits its prompt best is kept ([`PaintOptions::best_of`]).
//!
//! [`PaintOptions::best_of`]: crate::PaintOptions::best_of

use mmada_diffusion::CacheRule;
use mmada_diffusion::corruption::{Piece, Tiles, push_pieces};
use mmada_tensor::{DType, Rows, Want, ops};

use crate::error::{Error, Result};
use crate::mmada::Mmada;
use crate::run::chunks;
use crate::text::answer_span;

/// A picture and words to compare it with.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// The image codes, row by row.
    pub codes: &'a [u32],
    /// What it may be a picture of.
    pub words: &'a str,
}

/// A row of a forward, and the places of it whose ids are asked for.
struct Question {
    reading: usize,
    ids: Vec<u32>,
    /// What of them sees what; empty: they are one sequence.
    pieces: Vec<Piece>,
    asked: Vec<usize>,
    truth: Vec<u32>,
}

impl Mmada {
    /// How likely the model answers with the words when it is shown the picture and asked
    /// [`crate::Defaults::question`]: mean of ln p over the tokens of words and end, block by block as answers
    /// are written, each block masked whole.
    ///
    /// # Errors
    /// Too many codes or words for the context; those of the transformer.
    pub fn readings(&self, readings: &[Reading]) -> Result<Vec<f64>> {
        let mut questions = Vec::new();
        for (index, reading) in readings.iter().enumerate() {
            questions.extend(self.questions(index, reading)?);
        }
        let with_rows = questions.into_iter().map(|question| {
            let rows = question.ids.len();
            (question, rows)
        });
        let mut sums = vec![(0.0, 0usize); readings.len()];
        for batch in chunks(with_rows.collect(), self.row_budget()) {
            self.answer(&batch, &mut sums)?;
        }
        let mean = |(sum, count): (f64, usize)| sum / count.max(1) as f64;
        Ok(sums.into_iter().map(mean).collect())
    }

    /// Whether a picture of so many codes can be read for these words.
    ///
    /// # Errors
    /// [`mmada_tokens::Error::TooLong`] when the two do not fit beside each other.
    pub(crate) fn check_readable(&self, codes: usize, words: &str) -> Result<()> {
        let codes = &vec![0; codes];
        match self.questions(0, &Reading { codes, words }) {
            Err(Error::Tokens(mmada_tokens::Error::TooLong { got, limit, .. })) => {
                Err(Error::Tokens(mmada_tokens::Error::TooLong {
                    what: "the picture, read to choose the best of several,",
                    got,
                    limit,
                    hint: "paint one for each (best_of = 1), a smaller picture, or use fewer words",
                }))
            }
            questions => questions.map(drop),
        }
    }

    /// A row for each block of the words; one for all where none sees a later one.
    ///
    /// # Errors
    /// A length of the model's own descriptions that its context does not have; too many codes or
    /// words.
    fn questions(
        &self,
        reading: usize,
        Reading { codes, words }: &Reading,
    ) -> Result<Vec<Question>> {
        let (vocab, options) = (self.vocab(), &self.defaults().describe);
        self.check_length(options.length)?;
        let prompt = self.codec().prompt(&self.defaults().question)?;
        let words = self.codec().answer(words.trim())?;
        let image = self.image_ids(codes);
        let block = options.block.max(1);
        let ahead = |end: usize| {
            let rest = options.length.saturating_sub(end);
            options.masks_ahead().map_or(rest, |ahead| ahead.min(rest))
        };
        if options.rules().cache == CacheRule::BlockCausal {
            let sequence = self.layout().describe_canvas(&image, &prompt, &words)?;
            let first = answer_span(&sequence).start;
            let room = (
                options.masks_ahead().unwrap_or(options.length),
                first + options.length,
            );
            let tiles = Tiles::blocks(&sequence.ids, first, block, room, vocab.special.mask);
            return Ok(vec![Question {
                reading,
                ids: tiles.ids,
                pieces: tiles.pieces,
                asked: tiles.asked.into_iter().flatten().collect(),
                truth: words,
            }]);
        }
        let question = |start: usize| {
            let end = (start + block).min(words.len());
            let mut answer = words.clone();
            answer.resize(end + ahead(end), vocab.special.mask);
            answer[start..].fill(vocab.special.mask);
            let sequence = self.layout().describe_canvas(&image, &prompt, &answer)?;
            let first = answer_span(&sequence).start;
            Ok(Question {
                reading,
                ids: sequence.ids,
                pieces: Vec::new(),
                asked: (first + start..first + end).collect(),
                truth: words[start..end].to_vec(),
            })
        };
        (0..words.len()).step_by(block).map(question).collect()
    }

    /// Adds what one forward says of its rows.
    fn answer(&self, questions: &[Question], sums: &mut [(f64, usize)]) -> Result<()> {
        let text = &self.vocab().text;
        let mut rows = Rows::default();
        let mut want = Want {
            rows: Vec::new(),
            vocab: text.start as usize..text.end as usize,
        };
        for question in questions {
            let first = push_pieces(&question.ids, &question.pieces, &mut rows);
            want.rows.extend(question.asked.iter().map(|at| first + at));
        }
        let logits = self.transformer().logits(&rows, &want)?;
        let logits = logits
            .to_dtype(DType::F32)
            .and_then(|it| it.to_vec2::<f32>());
        let mut logits = logits.map_err(mmada_tensor::Error::from)?.into_iter();
        for question in questions {
            let (sum, count) = &mut sums[question.reading];
            for (&id, mut row) in question.truth.iter().zip(&mut logits) {
                let logit = row[(id - text.start) as usize];
                let (largest, total) = ops::exponentials(&mut row);
                *sum += f64::from(logit - largest) - total.ln();
                *count += 1;
            }
        }
        Ok(())
    }
}
