//! Rewards as values: which graders judge each task, and what each counts.

use mmada_tokens::Task;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A grader by name, and what its verdict counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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

/// The judges of [`mmada_grade`] that a run can name, or the address of one's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum GraderName {
    /// `answer`: the final answer is right.
    Answer,
    /// `steps`: how far the thought goes as the known one does, answer included, from 0 to 1.
    Steps,
    /// `format`: the form is `<think>…</think>answer`.
    Format,
    /// `exact`: the text is right to the letter.
    Exact,
    /// `plain`: the text is right up to case, punctuation and article.
    Plain,
    /// `color`: the picture has the colour that the prompt names.
    Color,
    /// `shape`: the picture has the shape that the prompt names.
    Shape,
    /// `drawing`: the picture has both.
    Drawing,
    /// `outline`: how nearly the picture is the shape that the prompt names, in its colour, from 0 to 1.
    Outline,
    /// `likeness`: how near the picture is to a training picture of what the prompt names, and how much
    /// nearer than to any other, from 0 to 1; a copy has 0.
    Likeness,
    /// `coverage`: how well the picture covers a training picture of what the prompt names that none of the group's others
    /// is given, from 0 to 1; a copy, and what is recognised as something else, has 0.
    Coverage,
    /// `clip`: how well the painted picture fits its prompt, or a caption the picture it is about;
    /// 100 · cosine.
    Clip,
    /// `image_reward`: how much people would like the painted picture for its prompt.
    ImageReward,
    /// `http://…`, `https://…`: whatever the endpoint says, see [`mmada_grade::endpoint`].
    Endpoint(String),
}

/// Names in run files, with those of their means in the metrics.
const NAMES: [(GraderName, &str, &str); 13] = [
    (GraderName::Answer, "answer", "reward/answer"),
    (GraderName::Steps, "steps", "reward/steps"),
    (GraderName::Format, "format", "reward/format"),
    (GraderName::Exact, "exact", "reward/exact"),
    (GraderName::Plain, "plain", "reward/plain"),
    (GraderName::Color, "color", "reward/color"),
    (GraderName::Shape, "shape", "reward/shape"),
    (GraderName::Drawing, "drawing", "reward/drawing"),
    (GraderName::Outline, "outline", "reward/outline"),
    (GraderName::Likeness, "likeness", "reward/likeness"),
    (GraderName::Coverage, "coverage", "reward/coverage"),
    (GraderName::Clip, "clip", "reward/clip"),
    (
        GraderName::ImageReward,
        "image_reward",
        "reward/image_reward",
    ),
];

impl TryFrom<String> for GraderName {
    type Error = String;

    fn try_from(name: String) -> std::result::Result<Self, String> {
        if name.starts_with("http://") || name.starts_with("https://") {
            return Ok(Self::Endpoint(name));
        }
        let known = NAMES.iter().find(|(_, known, _)| *known == name);
        known.map(|(grader, ..)| grader.clone()).ok_or_else(|| {
            let names: Vec<&str> = NAMES.iter().map(|(_, name, _)| *name).collect();
            format!(
                "grader: expected {} or http://…, got {name:?}",
                names.join(", ")
            )
        })
    }
}

impl From<GraderName> for String {
    fn from(grader: GraderName) -> Self {
        grader.to_string()
    }
}

impl std::fmt::Display for GraderName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let known = NAMES.iter().find(|(grader, ..)| grader == self);
        match (self, known) {
            (Self::Endpoint(url), _) => f.write_str(url),
            (_, Some((_, name, _))) => f.write_str(name),
            (_, None) => Ok(()),
        }
    }
}

impl GraderName {
    /// What it judges, in words, if that is not the replies of a task.
    fn misfit(&self, task: Task) -> Option<&'static str> {
        let paints = matches!(task, Task::Paint | Task::ThinkPaint);
        match self {
            Self::Answer | Self::Steps | Self::Format | Self::Exact | Self::Plain if paints => {
                Some("texts, that is chat and describe")
            }
            Self::Color
            | Self::Shape
            | Self::Drawing
            | Self::Outline
            | Self::Likeness
            | Self::Coverage
                if !paints =>
            {
                Some("paintings, that is paint and think_paint")
            }
            Self::Clip | Self::ImageReward if task == Task::Chat => {
                Some("pictures and captions, that is paint, think_paint and describe")
            }
            _ => None,
        }
    }

    /// The name of its mean in the metrics.
    pub fn metric(&self) -> &'static str {
        let known = NAMES.iter().find(|(grader, ..)| grader == self);
        known.map_or("reward/endpoint", |(_, _, metric)| metric)
    }
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

    /// All of them, task by task.
    pub(super) fn all(&self) -> impl Iterator<Item = &Reward> {
        let tasks = [&self.chat, &self.describe, &self.paint, &self.think_paint];
        tasks.into_iter().flatten()
    }

    /// # Errors
    /// When a grader cannot judge its task, or a weight is no number.
    pub(super) fn check(&self) -> Result<()> {
        for (name, task) in [
            ("chat", Task::Chat),
            ("describe", Task::Describe),
            ("paint", Task::Paint),
            ("think_paint", Task::ThinkPaint),
        ] {
            let mut graders = self.of(task).iter().map(|reward| &reward.grader);
            let misfit = graders.find_map(|grader| Some((grader, grader.misfit(task)?)));
            if let Some((grader, judged)) = misfit {
                let what = format!(
                    "objective.rewards.{name}: expected graders of its replies, got \"{grader}\"; \
                     it judges {judged}"
                );
                return Err(Error::Config(what));
            }
        }
        match self.all().find(|reward| !reward.weight.is_finite()) {
            Some(Reward { grader, weight }) => {
                let what = format!("weight of {grader}: expected a number, got {weight}");
                Err(Error::Config(what))
            }
            None => Ok(()),
        }
    }
}
