//! Rewards: graders with weights, per task. A grader that panics or gives no number costs a sample,
//! not the run.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mmada_data::Example;
use mmada_grade::drawing::Drawing;
use mmada_grade::grader::{
    ExactAnswer, ExactText, Grader, PlainText, Reply, Shows, ThinkFormat, Truth,
};
use mmada_tokens::Task;
use serde::{Deserialize, Serialize};

/// A grader by name, and what its verdict counts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reward {
    /// What is judged.
    pub grader: GraderName,
    /// Factor of its verdict in the reward.
    #[serde(default = "one")]
    pub weight: f64,
}

fn one() -> f64 {
    1.0
}

/// The graders of [`mmada_grade::grader`] that a run can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GraderName {
    /// The final answer is right.
    Answer,
    /// The form is `<think>…</think>answer`.
    Format,
    /// The text is right to the letter.
    Exact,
    /// The text is right up to case, punctuation and article.
    Plain,
    /// The picture has the colour that the prompt names.
    Color,
    /// The picture has the shape that the prompt names.
    Shape,
    /// The picture has both.
    Drawing,
}

/// The rewards of each task. The defaults are the paper's for answers (§3.3), and the pixel judge
/// for pictures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rewards {
    /// Conversations.
    pub chat: Vec<Reward>,
    /// Answers about pictures.
    pub describe: Vec<Reward>,
    /// Pictures.
    pub paint: Vec<Reward>,
    /// Pictures that were thought about; the reward is the thought's too.
    pub think_paint: Vec<Reward>,
}

impl Default for Rewards {
    fn default() -> Self {
        let reward = |grader, weight| Reward { grader, weight };
        let answers = vec![
            reward(GraderName::Answer, 2.0),
            reward(GraderName::Format, 0.5),
        ];
        let pictures = vec![
            reward(GraderName::Color, 0.5),
            reward(GraderName::Shape, 0.5),
            reward(GraderName::Drawing, 1.0),
        ];
        Self {
            chat: answers.clone(),
            describe: answers,
            paint: pictures.clone(),
            think_paint: pictures,
        }
    }
}

/// The verdicts on one completion.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The weighted sum.
    pub reward: f64,
    /// Each grader's own number.
    pub parts: Vec<(GraderName, f64)>,
}

impl Rewards {
    /// The graders of a task; plain text has none.
    pub fn of(&self, task: Task) -> &[Reward] {
        match task {
            Task::Text => &[],
            Task::Chat => &self.chat,
            Task::Describe => &self.describe,
            Task::Paint => &self.paint,
            Task::ThinkPaint => &self.think_paint,
        }
    }

    /// Judges a completion of an example; `None` when a grader panicked or gave no number.
    pub fn judge(&self, example: &Example, reply: Reply<'_>) -> Option<Verdict> {
        let named = Drawing::named_in(&example.prompt);
        let truth = match (reply, named) {
            (Reply::Picture(_), Some((color, shape))) => Truth::Drawing { color, shape },
            (Reply::Picture(_), None) => Truth::Unknown,
            (Reply::Text(_), _) => Truth::Text(&example.answer),
        };
        let mut verdict = Verdict {
            reward: 0.0,
            parts: Vec::new(),
        };
        for Reward { grader, weight } in self.of(example.task) {
            let value = guarded(grader.grader(), reply, truth)?;
            verdict.reward += weight * value;
            verdict.parts.push((*grader, value));
        }
        Some(verdict)
    }
}

/// A verdict, unless the grader panics or the verdict is no finite number.
pub fn guarded(grader: &dyn Grader, reply: Reply<'_>, truth: Truth<'_>) -> Option<f64> {
    let graded = catch_unwind(AssertUnwindSafe(|| grader.grade(reply, truth)));
    graded.ok().filter(|value| value.is_finite())
}

impl GraderName {
    /// The name of its mean in the metrics.
    pub fn metric(self) -> &'static str {
        match self {
            Self::Answer => "reward/answer",
            Self::Format => "reward/format",
            Self::Exact => "reward/exact",
            Self::Plain => "reward/plain",
            Self::Color => "reward/color",
            Self::Shape => "reward/shape",
            Self::Drawing => "reward/drawing",
        }
    }

    fn grader(self) -> &'static dyn Grader {
        match self {
            Self::Answer => &ExactAnswer,
            Self::Format => &ThinkFormat,
            Self::Exact => &ExactText,
            Self::Plain => &PlainText,
            Self::Color => &Shows::Color,
            Self::Shape => &Shows::Shape,
            Self::Drawing => &Shows::Both,
        }
    }
}
