//! Text tasks: chat, description of pictures, and gaps in either.
//!
//! ```text
//!   chat      prompt │ ? ? ? ? ? ? ? ?             whole answer masked
//!   describe  picture, prompt │ ? ? ? ? ? ? ? ?
//!   fill      [picture,] [prompt │] 12 + 30 = ? ? .   only the gaps masked
//! ```

use std::ops::Range;

use mmada_data::picture::Picture;
use mmada_diffusion::{Allowed, CacheRule, Canvas, Commit, Rest, Stop, TextPlan, Unconditional};
use mmada_tokens::{Message, Padding, Sequence, SpanKind, Tail};

use crate::error::{Error, Result};
use crate::gaps::Gapped;
use crate::mmada::Mmada;
use crate::options::{FillOptions, TextOptions};
use crate::pictures::Seen;
use crate::reply::Text;
use crate::run::{Job, MASK_GLYPH, Run};

/// Bytes of keys and values that weigh as a row that is computed: as many as one row of the published
/// 8B model leaves behind.
const REMEMBERED_BYTES: usize = 1 << 20;

/// A conversation to answer.
#[derive(Debug, Clone, Copy)]
pub struct ChatRequest<'a> {
    /// The turns so far, the user's last.
    pub messages: &'a [Message],
    /// Number of the request for its random draws.
    pub example: u64,
}

/// A question about a picture.
#[derive(Debug, Clone, Copy)]
pub struct DescribeRequest<'a> {
    /// The picture; see [`Mmada::look`] and [`Mmada::look_often`].
    pub seen: &'a Seen,
    /// The question; empty asks what [`crate::Defaults::question`] says.
    pub question: &'a str,
    /// Number of the request for its random draws.
    pub example: u64,
}

/// A text with gaps.
#[derive(Debug, Clone, Copy)]
pub struct FillRequest<'a> {
    /// The text; `___` and `[MASK:8]` are gaps, see [`crate::gaps`].
    pub text: &'a str,
    /// What it is part of.
    pub within: Within<'a>,
    /// Number of the request for its random draws.
    pub example: u64,
}

/// What a text with gaps is part of.
#[derive(Debug, Clone, Copy)]
pub enum Within<'a> {
    /// Nothing: it is the whole text.
    Nothing,
    /// A conversation: it is the answer to these messages.
    Chat(&'a [Message]),
    /// A question about a picture: it is the answer.
    Picture {
        /// The picture.
        seen: &'a Seen,
        /// The question; empty asks what [`crate::Defaults::question`] says.
        question: &'a str,
    },
}

impl Mmada {
    /// Answers a conversation.
    ///
    /// # Errors
    /// [`Error::Empty`] without a message or with a blank last one; too long a conversation.
    pub fn chat(&self, messages: &[Message], options: &TextOptions) -> Result<Run<'_, Text>> {
        self.chat_many(
            &[ChatRequest {
                messages,
                example: 0,
            }],
            options,
        )
    }

    /// Answers conversations in common forwards.
    ///
    /// # Errors
    /// As [`Mmada::chat`].
    pub fn chat_many(
        &self,
        requests: &[ChatRequest],
        options: &TextOptions,
    ) -> Result<Run<'_, Text>> {
        let job = |request: &ChatRequest| {
            let prompt = self.chat_ids(request.messages)?;
            self.check_length(options.length)?;
            let sequence = self.layout().chat_prompt(&prompt, options.length)?;
            self.answer_job(sequence, options, request.example)
        };
        let jobs = requests.iter().map(job).collect::<Result<_>>()?;
        Ok(Run::new(self, options.seed, jobs))
    }

    /// Answers a question about a picture, or describes it where the question is empty. It is looked
    /// at as often as the model's own settings say.
    ///
    /// # Errors
    /// [`Error::NoImageTokenizer`]; too long a question.
    pub fn describe(
        &self,
        picture: &Picture,
        question: &str,
        options: &TextOptions,
    ) -> Result<Run<'_, Text>> {
        let seen = self.look_often(&[picture], None)?;
        let request = |seen| DescribeRequest {
            seen,
            question,
            example: 0,
        };
        self.describe_many(&seen.iter().map(request).collect::<Vec<_>>(), options)
    }

    /// Answers questions about pictures in common forwards.
    ///
    /// # Errors
    /// As [`Mmada::describe`].
    pub fn describe_many(
        &self,
        requests: &[DescribeRequest],
        options: &TextOptions,
    ) -> Result<Run<'_, Text>> {
        let job = |request: &DescribeRequest| {
            let prompt = self.question_ids(request.question)?;
            self.check_length(options.length)?;
            let image = self.image_ids(&request.seen.codes);
            let sequence = self
                .layout()
                .describe_prompt(&image, &prompt, options.length)?;
            let shown = sequence.span(SpanKind::Image);
            let job = self.answer_job(sequence, options, request.example)?;
            self.looked_at_again(job, shown, request.seen)
        };
        let jobs = requests.iter().map(job).collect::<Result<_>>()?;
        Ok(Run::new(self, options.seed, jobs))
    }

    /// Fills the gaps of a text.
    ///
    /// # Errors
    /// [`Error::Request`] without a gap; too long a text.
    pub fn fill(&self, text: &str, options: &FillOptions) -> Result<Run<'_, Text>> {
        let request = FillRequest {
            text,
            within: Within::Nothing,
            example: 0,
        };
        self.fill_many(&[request], options)
    }

    /// Completes a half-given answer (`a red ___`) about a picture.
    ///
    /// # Errors
    /// As [`Mmada::describe`] and [`Mmada::fill`].
    pub fn complete(
        &self,
        picture: &Picture,
        question: &str,
        answer_so_far: &str,
        options: &FillOptions,
    ) -> Result<Run<'_, Text>> {
        let seen = self.look_often(&[picture], None)?;
        let request = |seen| FillRequest {
            text: answer_so_far,
            within: Within::Picture { seen, question },
            example: 0,
        };
        self.fill_many(&seen.iter().map(request).collect::<Vec<_>>(), options)
    }

    /// Fills the gaps of texts in common forwards.
    ///
    /// # Errors
    /// As [`Mmada::fill`].
    pub fn fill_many(
        &self,
        requests: &[FillRequest],
        options: &FillOptions,
    ) -> Result<Run<'_, Text>> {
        let jobs = requests
            .iter()
            .map(|request| self.fill_job(request, options));
        let jobs = jobs.collect::<Result<_>>()?;
        Ok(Run::new(self, options.seed, jobs))
    }

    fn fill_job(&self, request: &FillRequest, options: &FillOptions) -> Result<Job<Text>> {
        // Gaps stand where they stand in the text, whatever rows are padded to in training.
        let layout = self.layout().clone().with_padding(Padding::None);
        let special = &self.vocab().special;
        let Gapped {
            mut ids,
            gaps,
            ends_open,
        } = Gapped::new(request.text, options.gap, layout.context(), self.codec())?;
        // An answer whose end is given has the end that answers are trained with.
        let tail = match (ends_open, request.within) {
            (true, _) => Tail::None,
            (false, Within::Nothing) => Tail::One,
            (false, _) => {
                ids.push(special.eot);
                Tail::One
            }
        };
        let sequence = match request.within {
            Within::Nothing => layout.text(&ids, tail)?,
            Within::Chat(messages) => layout.chat(&self.chat_ids(messages)?, &ids, tail)?,
            Within::Picture { seen, question } => {
                let prompt = self.question_ids(question)?;
                layout.describe(&self.image_ids(&seen.codes), &prompt, &ids, tail)?
            }
        };
        let (span, shown) = (answer_span(&sequence), sequence.span(SpanKind::Image));
        let mut allowed = Allowed::text(self.vocab());
        let ends = [special.eos, special.pad, special.eot];
        match gaps.last() {
            // Something is asked for: the answer may end after a token of it, not before.
            Some(gap) if ends_open => {
                let earlier = gaps[..gaps.len() - 1].iter().cloned().flatten();
                for place in earlier.chain([gap.start]) {
                    let place = span.start + place;
                    allowed.banned_at.extend(ends.map(|end| (place, end)));
                }
            }
            _ => allowed.banned.extend(ends),
        }
        let plan = TextPlan {
            block_length: span.len().max(1),
            ..self.text_plan(options.steps, options.temperature, options.commit, allowed)
        };
        let outcome = Text {
            span,
            gaps,
            ends_open,
        };
        let job = self.text_job(
            sequence.ids,
            outcome,
            plan,
            options.guidance,
            request.example,
        )?;
        match request.within {
            Within::Picture { seen, .. } => self.looked_at_again(job, shown, seen),
            Within::Nothing | Within::Chat(_) => Ok(job),
        }
    }

    /// The same answer, asked of every further look at the picture too.
    fn looked_at_again(
        &self,
        job: Job<Text>,
        shown: Option<Range<usize>>,
        seen: &Seen,
    ) -> Result<Job<Text>> {
        let start = shown.map_or(0, |span| span.start);
        let looks = seen.again.iter();
        let looks: Vec<_> = looks.map(|codes| (start, self.image_ids(codes))).collect();
        Ok(Job {
            rows: job.rows * (1 + looks.len()),
            canvas: job.canvas.given_also(looks)?,
            outcome: job.outcome,
        })
    }

    /// A job that fills the answer of a sequence; whatever else is masked stays so.
    pub(crate) fn answer_job(
        &self,
        sequence: Sequence,
        options: &TextOptions,
        example: u64,
    ) -> Result<Job<Text>> {
        let outcome = Text::whole(answer_span(&sequence));
        let plan = self.answer_plan(options);
        self.text_job(sequence.ids, outcome, plan, options.guidance, example)
    }

    fn answer_plan(&self, options: &TextOptions) -> TextPlan {
        let allowed = Allowed::text(self.vocab());
        let special = &self.vocab().special;
        let rules = options.rules();
        TextPlan {
            block_length: options.block,
            ahead: options.masks_ahead(),
            cache: rules.cache,
            stop: Stop::Complete {
                end: vec![special.eot, special.eos],
            },
            rest: Rest::Fill(special.eos),
            ..self.text_plan(options.steps, options.temperature, rules.commit, allowed)
        }
    }

    fn text_plan(
        &self,
        steps: usize,
        temperature: f32,
        commit: Commit,
        allowed: Allowed,
    ) -> TextPlan {
        TextPlan {
            temperature,
            commit,
            allowed,
            ..TextPlan::greedy(self.vocab(), steps, 1)
        }
    }

    fn text_job(
        &self,
        ids: Vec<u32>,
        outcome: Text,
        plan: TextPlan,
        guidance: f32,
        example: u64,
    ) -> Result<Job<Text>> {
        let mask = self.vocab().special.mask;
        let twins = if guidance == 0.0 { 1 } else { 2 };
        let rows = self.rows_at_once(&ids, &outcome.span, &plan) * twins;
        let unconditional = Unconditional::all_given(&ids, mask);
        let canvas = Canvas::text_within(ids, mask, outcome.span.clone(), plan)?;
        let canvas = canvas.guided(guidance, unconditional)?.example(example);
        Ok(Job {
            canvas,
            rows,
            outcome,
        })
    }

    /// What a text weighs in a common forward: the rows that one computes of it, or as many as what is
    /// remembered of it takes.
    fn rows_at_once(&self, ids: &[u32], answer: &Range<usize>, plan: &TextPlan) -> usize {
        match (plan.cache, plan.ahead) {
            (CacheRule::BlockCausal, Some(ahead)) => {
                let seen = plan.block_length.saturating_add(ahead);
                let config = self.config();
                let numbers = ids.len() * config.n_layers * config.key_value_width() * 2;
                let remembered = (numbers * size_of::<f32>()).div_ceil(REMEMBERED_BYTES);
                let computed = answer.start.saturating_add(seen);
                computed.max(remembered).min(ids.len())
            }
            _ => ids.len(),
        }
    }

    fn chat_ids(&self, messages: &[Message]) -> Result<Vec<u32>> {
        match messages.last() {
            Some(last) if !last.content.trim().is_empty() => Ok(self.codec().chat_ids(messages)?),
            _ => Err(Error::Empty {
                what: "the message",
            }),
        }
    }

    fn question_ids(&self, question: &str) -> Result<Vec<u32>> {
        Ok(self.codec().prompt(self.defaults().asked(question))?)
    }

    pub(crate) fn image_ids(&self, codes: &[u32]) -> Vec<u32> {
        codes
            .iter()
            .map(|&code| self.vocab().image_id(code))
            .collect()
    }

    /// Before masks of that number are allocated.
    pub(crate) fn check_length(&self, length: usize) -> Result<()> {
        let limit = self.layout().context();
        if (1..=limit).contains(&length) {
            return Ok(());
        }
        let hint = "ask for a shorter answer";
        let expected = format!("1 to the model's context of {limit} tokens");
        Err(Error::request(
            "length of the answer",
            expected,
            length,
            hint,
        ))
    }

    /// Text of ids in progress: a glyph for every masked token, nothing for what ends an answer.
    pub(crate) fn text_so_far(&self, ids: &[u32]) -> String {
        let mask = self.vocab().special.mask;
        let mut text = String::new();
        for run in ids.chunk_by(|a, b| (*a == mask) == (*b == mask)) {
            match run[0] == mask {
                true => text.extend(std::iter::repeat_n(MASK_GLYPH, run.len())),
                false => text.push_str(&self.codec().tokenizer.decode(run)),
            }
        }
        text
    }
}

pub(crate) fn answer_span(sequence: &Sequence) -> Range<usize> {
    sequence.span(SpanKind::Answer).unwrap_or(0..0)
}
