//! Judges: one trait for rewards and benchmarks alike.
//!
//! A [`Grader`] turns a reply and what is known about the right one into a number. Benchmarks
//! average it; reinforcement learning takes a weighted sum of several as the reward.

use mmada_data::picture::Picture;
use mmada_tokens::Thought;

use crate::answer::{final_answer, plain_text, same_answer};
use crate::drawing::Drawing;

/// What a model gave back.
#[derive(Debug, Clone, Copy)]
pub enum Reply<'a> {
    /// A text, with its thought if it has one.
    Text(&'a str),
    /// A picture.
    Picture(&'a Picture),
}

/// What is known about the right reply.
#[derive(Debug, Clone, Copy)]
pub enum Truth<'a> {
    /// The right final answer or caption.
    Text(&'a str),
    /// The right final answer, and a thought that leads to it.
    Reasoned {
        /// What stands between `<think>` and `</think>`.
        thought: &'a str,
        /// What follows.
        answer: &'a str,
    },
    /// The colour and shape a picture should show.
    Drawing {
        /// A name of [`crate::drawing::COLORS`], or of [`crate::drawing::OTHER_COLORS`].
        color: &'a str,
        /// A name of [`crate::drawing::SHAPES`].
        shape: &'a str,
    },
    /// The picture itself.
    Picture(&'a Picture),
    /// Nothing; only the reply's form can be judged.
    Unknown,
}

impl<'a> Truth<'a> {
    /// The right text, without the thought that leads to it.
    pub(crate) fn text(self) -> Option<&'a str> {
        match self {
            Self::Text(text) | Self::Reasoned { answer: text, .. } => Some(text),
            Self::Drawing { .. } | Self::Picture(_) | Self::Unknown => None,
        }
    }
}

/// Judges one reply. Right is 1, wrong is 0, unless a grader says otherwise; a reply of the wrong
/// kind is wrong.
pub trait Grader {
    /// The name in reports.
    fn name(&self) -> &str;
    /// The judgement.
    fn grade(&self, reply: Reply<'_>, truth: Truth<'_>) -> f64;
}

/// The final answer is right: numbers as exact fractions, other text in plain form.
#[derive(Debug, Clone, Copy)]
pub struct ExactAnswer;

/// How far a thought goes right: the share of the known steps, the answer being the last, that are
/// written before the first that differs. A step is a sentence; space and a final dot do not count.
///
/// Of `<think>41 + 20 = 61. 61 - 58 = 3.</think>3` the reply `<think>41 + 20 = 61. 61 - 58 = 4.</think>4`
/// has a third. A verdict on the answer alone says the same of it as of nonsense, which is little to learn from.
#[derive(Debug, Clone, Copy)]
pub struct Steps;

/// The reply has the form `<think>…</think>answer`.
#[derive(Debug, Clone, Copy)]
pub struct ThinkFormat;

/// The text equals the expected one to the letter, up to space around it.
#[derive(Debug, Clone, Copy)]
pub struct ExactText;

/// The text equals the expected one up to case, punctuation and a leading article.
#[derive(Debug, Clone, Copy)]
pub struct PlainText;

/// The picture shows the colour, the shape or both, judged by [`Drawing`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shows {
    /// The colour.
    Color,
    /// The shape.
    Shape,
    /// Both.
    Both,
    /// How nearly it is the shape, in the colour: [`Drawing::outline`], 0 in another colour.
    Outline,
}

/// Peak signal-to-noise ratio in dB against the true picture; 0 for a picture of another size.
#[derive(Debug, Clone, Copy)]
pub struct Psnr;

impl Grader for ExactAnswer {
    fn name(&self) -> &str {
        "answer"
    }

    fn grade(&self, reply: Reply<'_>, truth: Truth<'_>) -> f64 {
        match (reply, truth.text()) {
            (Reply::Text(reply), Some(truth)) => f64::from(same_answer(final_answer(reply), truth)),
            _ => 0.0,
        }
    }
}

impl Grader for Steps {
    fn name(&self) -> &str {
        "steps"
    }

    fn grade(&self, reply: Reply<'_>, truth: Truth<'_>) -> f64 {
        let (Reply::Text(reply), Some(answer)) = (reply, truth.text()) else {
            return 0.0;
        };
        let known = match truth {
            Truth::Reasoned { thought, .. } => sentences(thought),
            _ => Vec::new(),
        };
        let written = Thought::parse(reply).reasoning.unwrap_or_default();
        let right = sentences(&written)
            .into_iter()
            .zip(&known)
            .take_while(|(written, known)| written == *known)
            .count();
        let is_answered = right == known.len() && same_answer(final_answer(reply), answer);
        (right + usize::from(is_answered)) as f64 / (known.len() + 1) as f64
    }
}

/// The sentences of a text, each without space and dot around it. A dot inside a number ends none.
fn sentences(text: &str) -> Vec<&str> {
    text.lines()
        .flat_map(|line| line.split(". "))
        .map(|sentence| sentence.trim().trim_end_matches('.'))
        .filter(|sentence| !sentence.is_empty())
        .collect()
}

impl Grader for ThinkFormat {
    fn name(&self) -> &str {
        "format"
    }

    fn grade(&self, reply: Reply<'_>, _: Truth<'_>) -> f64 {
        match reply {
            Reply::Text(reply) => f64::from(Thought::is_well_formed(reply)),
            Reply::Picture(_) => 0.0,
        }
    }
}

impl Grader for ExactText {
    fn name(&self) -> &str {
        "exact"
    }

    fn grade(&self, reply: Reply<'_>, truth: Truth<'_>) -> f64 {
        match (reply, truth.text()) {
            (Reply::Text(reply), Some(truth)) => f64::from(reply.trim() == truth.trim()),
            _ => 0.0,
        }
    }
}

impl Grader for PlainText {
    fn name(&self) -> &str {
        "normalised"
    }

    fn grade(&self, reply: Reply<'_>, truth: Truth<'_>) -> f64 {
        match (reply, truth.text()) {
            (Reply::Text(reply), Some(truth)) => {
                let reply = plain_text(final_answer(reply));
                f64::from(!reply.is_empty() && reply == plain_text(truth))
            }
            _ => 0.0,
        }
    }
}

impl Grader for Shows {
    fn name(&self) -> &str {
        match self {
            Self::Color => "colour",
            Self::Shape => "shape",
            Self::Both => "both",
            Self::Outline => "outline",
        }
    }

    fn grade(&self, reply: Reply<'_>, truth: Truth<'_>) -> f64 {
        let (Reply::Picture(picture), Truth::Drawing { color, shape }) = (reply, truth) else {
            return 0.0;
        };
        let drawing = Drawing::read_as(picture, color);
        let (has_color, has_shape) = (drawing.color == Some(color), drawing.shape == Some(shape));
        match self {
            Self::Color => f64::from(has_color),
            Self::Shape => f64::from(has_shape),
            Self::Both => f64::from(has_color && has_shape),
            Self::Outline => f64::from(has_color) * drawing.outline(shape),
        }
    }
}

impl Grader for Psnr {
    fn name(&self) -> &str {
        "psnr"
    }

    fn grade(&self, reply: Reply<'_>, truth: Truth<'_>) -> f64 {
        match (reply, truth) {
            (Reply::Picture(reply), Truth::Picture(truth)) => psnr(reply, truth).unwrap_or(0.0),
            _ => 0.0,
        }
    }
}

/// Peak signal-to-noise ratio of 8-bit pictures in dB, at most 100 (equal pictures); `None` when
/// their sizes differ.
pub fn psnr(a: &Picture, b: &Picture) -> Option<f64> {
    if (a.width(), a.height()) != (b.width(), b.height()) {
        return None;
    }
    let squares = a
        .pixels()
        .iter()
        .zip(b.pixels())
        .map(|(&a, &b)| f64::from(a.abs_diff(b)).powi(2));
    let mean_square = squares.sum::<f64>() / a.pixels().len() as f64;
    Some((20.0 * 255f64.log10() - 10.0 * mean_square.log10()).min(100.0))
}
