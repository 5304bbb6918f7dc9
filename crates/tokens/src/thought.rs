//! The chain-of-thought format that text, understanding and painting share:
//! `<think>reasoning</think>answer` (paper §3.2).

use crate::vocab::names::{END_THINK, THINK};

/// Instruction that asks for reasoning before an answer, as the original's scripts put it before
/// the user's words.
pub const THINK_PROMPT: &str = "You should first think about the reasoning process in the mind and then provide the user with the answer. The reasoning process is enclosed within <think> </think> tags, i.e. <think> reasoning process here </think> answer here\n";

/// Instruction that asks for a detailed description before a picture (`R2iDataset`).
pub const THINK_PAINT_PROMPT: &str = "You should first think out a more detailed version of the description and then provide the user with the image. The detailed description is enclosed within <think> </think> tags, i.e. <think> detailed description here </think> image here\n";

/// An answer and the reasoning that led to it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Thought {
    /// What stands between the tags, without surrounding white space; `None` without tags.
    pub reasoning: Option<String>,
    /// What follows the reasoning, without surrounding white space.
    pub answer: String,
}

impl Thought {
    /// Reasoning and answer of a generated text, as they stand in it. Reasoning that is never closed has an empty
    /// answer; a closing tag alone means that the opening one stood in the prompt. The last closing tag counts.
    pub fn split(text: &str) -> (Option<&str>, &str) {
        match (text.find(THINK), text.rfind(END_THINK)) {
            (Some(open), Some(close)) if open < close => (
                Some(&text[open + THINK.len()..close]),
                &text[close + END_THINK.len()..],
            ),
            (Some(open), _) => (Some(&text[open + THINK.len()..]), ""),
            (None, Some(close)) => (Some(&text[..close]), &text[close + END_THINK.len()..]),
            (None, None) => (None, text),
        }
    }

    /// Takes a generated text apart, as [`split`](Self::split) does.
    pub fn parse(text: &str) -> Self {
        let (reasoning, answer) = Self::split(text);
        Self {
            reasoning: reasoning.map(|words| words.trim().to_owned()),
            answer: answer.trim().to_owned(),
        }
    }

    /// The text of this thought, without white space around the tags.
    pub fn render(&self) -> String {
        match &self.reasoning {
            Some(reasoning) => format!("{THINK}{reasoning}{END_THINK}{}", self.answer),
            None => self.answer.clone(),
        }
    }

    /// Whether a text keeps the format: it opens with the only `<think>`, has the only `</think>`
    /// after it, and says something in both places. This is the format reward's condition.
    pub fn is_well_formed(text: &str) -> bool {
        let once = |tag: &str| text.matches(tag).count() == 1;
        let thought = Self::parse(text);
        text.trim_start().starts_with(THINK)
            && once(THINK)
            && once(END_THINK)
            && thought.reasoning.is_some_and(|words| !words.is_empty())
            && !thought.answer.is_empty()
    }
}
