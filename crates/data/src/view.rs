//! How a record becomes an example: which task, which words, which records at all.
//!
//! ```toml
//! [[data]]
//! name  = "emoji"
//! kind  = "webdataset"
//! paths = ["assets/data/emoji/train-{0000..0006}.tar.gz"]
//! views = [
//!   { task = "paint", prompt = "{style} style: {caption}" },
//!   { task = "describe", prompts = ["What is this?", "Name the emoji."], answer = "{caption}",
//!     where = { style = ["noto", "twemoji"] }, exclude = [{ group = ["flags"] }], times = 2 },
//! ]
//! ```

use std::collections::BTreeMap;

use mmada_tensor::random::Stream;
use mmada_tokens::Task;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::example::{self, Example, Message, split_thought};
use crate::readers::conversations::without_image_tag;
use crate::record::{Record, hash64};
use crate::template::{Template, lookup};

/// Field names (dots reach inside) and the values that match; a list field matches when any of
/// its items does. All fields must match.
pub type Filter = BTreeMap<String, Vec<Value>>;

/// How records become examples of one task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct View {
    /// `text`, `chat`, `describe`, `paint` or `think-paint`.
    #[serde(with = "TaskName")]
    pub task: Task,
    /// The prompt; `prompts` instead offers several, one chosen at random for each example.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<Template>,
    /// Alternative prompts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prompts: Vec<Template>,
    /// The thought before the answer or the picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thought: Option<Template>,
    /// The answer; for `text` the text itself (default `{text}`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Template>,
    /// Field with the list of turns. Default for chat without a prompt: `messages`,
    /// `conversations`, or the pair `prompt` and `completion`, whichever the record has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<String>,
    /// Only records that match.
    #[serde(default, rename = "where", skip_serializing_if = "Filter::is_empty")]
    pub only: Filter,
    /// No record that matches one of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<Filter>,
    /// How many examples it makes of a record in each pass, each on its own: as if it stood so often in the list.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub times: usize,
    /// Factor of these examples' loss.
    #[serde(default = "one")]
    pub loss_weight: f32,
    /// Share of these examples of which no token of the answer is given, so that it has to be known
    /// from prompt and picture; for chat and describe.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub blank: f32,
    /// Leaves tokens of the picture out of these examples, each with a probability that is drawn evenly
    /// from 0 to this; for describe. Cheaper, and the less a picture is learnt by heart.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub patch_dropout: f32,
    /// How often the thought is learnt, and otherwise the picture after it, where that is not as
    /// `corruption.thought_share` says; for think-paint. 1 learns thoughts alone, 0 pictures alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thought_share: Option<f32>,
    /// What a painted picture shows, in the words that judges know, where the prompt says it in others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shows: Option<Template>,
}

/// More than this is a mistake: a weight of the source was meant.
const MOST_TIMES: usize = 1000;

fn once() -> usize {
    1
}

fn is_once(times: &usize) -> bool {
    *times == 1
}

fn is_zero(share: &f32) -> bool {
    *share == 0.0
}

fn one() -> f32 {
    1.0
}

/// The names of tasks in configuration files.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Task", rename_all = "kebab-case")]
enum TaskName {
    Text,
    Chat,
    Describe,
    Paint,
    ThinkPaint,
}

/// The words of an example.
struct Words {
    messages: Vec<Message>,
    prompt: String,
    thought: Option<String>,
    answer: String,
}

impl View {
    /// A view of a task with nothing else set.
    pub fn new(task: Task) -> Self {
        Self {
            task,
            prompt: None,
            prompts: Vec::new(),
            thought: None,
            answer: None,
            messages: None,
            only: Filter::new(),
            exclude: Vec::new(),
            times: 1,
            loss_weight: 1.0,
            blank: 0.0,
            patch_dropout: 0.0,
            thought_share: None,
            shows: None,
        }
    }

    /// Whether the parts fit the task.
    ///
    /// # Errors
    /// In words: what is missing or too much.
    pub fn check(&self) -> Result<(), String> {
        let has_prompt = self.prompt.is_some() || !self.prompts.is_empty();
        if self.prompt.is_some() && !self.prompts.is_empty() {
            return Err("a view has 'prompt' or 'prompts', not both".into());
        }
        if self.messages.is_some() && (has_prompt || self.answer.is_some()) {
            return Err("a view has 'messages', or a prompt and an answer, not both".into());
        }
        if !(1..=MOST_TIMES).contains(&self.times) {
            return Err(format!(
                "times is {}, expected 1 to {MOST_TIMES} examples of a record",
                self.times
            ));
        }
        if !(self.loss_weight.is_finite() && self.loss_weight >= 0.0) {
            return Err(format!(
                "loss_weight is {}, expected 0 or more",
                self.loss_weight
            ));
        }
        if !(0.0..=1.0).contains(&self.blank) {
            return Err(format!(
                "blank is {}, expected a share from 0 to 1",
                self.blank
            ));
        }
        if !(0.0..=1.0).contains(&self.patch_dropout) {
            return Err(format!(
                "patch_dropout is {}, expected a share from 0 to 1",
                self.patch_dropout
            ));
        }
        if let Some(share) = self.thought_share {
            if self.task != Task::ThinkPaint {
                return Err("only think-paint views have 'thought_share'".into());
            }
            if !(0.0..=1.0).contains(&share) {
                return Err(format!(
                    "thought_share is {share}, expected a share from 0 to 1"
                ));
            }
        }
        if self.shows.is_some() && !matches!(self.task, Task::Paint | Task::ThinkPaint) {
            return Err("only paint and think-paint views have 'shows'".into());
        }
        if self.blank > 0.0 && !matches!(self.task, Task::Chat | Task::Describe) {
            return Err("only chat and describe views have 'blank'".into());
        }
        if self.patch_dropout > 0.0 && self.task != Task::Describe {
            return Err("only describe views have 'patch_dropout'".into());
        }
        let is_complete = has_prompt && self.answer.is_some();
        match self.task {
            Task::Paint if !has_prompt => Err("a paint view needs 'prompt'".into()),
            Task::Paint if self.thought.is_some() => {
                Err("a paint view has no 'thought'; use task = \"think-paint\"".into())
            }
            Task::ThinkPaint if !has_prompt || self.thought.is_none() => {
                Err("a think-paint view needs 'prompt' and 'thought'".into())
            }
            Task::Describe if !is_complete && self.messages.is_none() => {
                Err("a describe view needs 'prompt' and 'answer', or 'messages'".into())
            }
            Task::Chat if has_prompt != self.answer.is_some() => {
                Err("a chat view needs both 'prompt' and 'answer', or neither".into())
            }
            Task::Text if has_prompt || self.thought.is_some() || self.messages.is_some() => {
                Err("a text view has only 'answer', the text itself".into())
            }
            Task::Paint | Task::ThinkPaint if self.answer.is_some() => {
                Err("the answer of a paint view is the picture; remove 'answer'".into())
            }
            _ => Ok(()),
        }
    }

    /// The example this view makes of a record; `None` when the filters leave it out. `stream`
    /// chooses among alternative prompts.
    ///
    /// # Errors
    /// In words, why the sample has to be skipped: a missing field or picture.
    pub fn apply(
        &self,
        record: &Record,
        index: usize,
        stream: &mut Stream,
    ) -> Result<Option<Example>, String> {
        if !self.admits(record) {
            return Ok(None);
        }
        let words = self.words(record, stream)?;
        let image = match self.task {
            Task::Text | Task::Chat => None,
            Task::Describe | Task::Paint | Task::ThinkPaint => {
                let image = record.image.as_ref().ok_or("no picture")?;
                Some(image.load()?)
            }
        };
        let shows = self.shows.as_ref().map(|shows| shows.fill(&record.fields));
        Ok(Some(Example {
            name: record.key.clone(),
            key: hash64(&[
                record.source.as_bytes(),
                &(record.shard as u64).to_le_bytes(),
                record.key.as_bytes(),
                &(index as u64).to_le_bytes(),
            ]),
            source: record.source.clone(),
            task: self.task,
            messages: words.messages,
            prompt: words.prompt,
            thought: words.thought,
            answer: words.answer,
            image,
            weight: self.loss_weight,
            blank: self.blank,
            patch_dropout: self.patch_dropout,
            thought_share: self.thought_share,
            shows: shows.transpose()?,
        }))
    }

    /// Whether the filters let the record through.
    pub fn admits(&self, record: &Record) -> bool {
        let matches = |filter: &Filter| {
            filter.iter().all(|(path, values)| {
                lookup(&record.fields, path).is_some_and(|field| match field {
                    Value::Array(items) => items.iter().any(|item| values.contains(item)),
                    other => values.contains(other),
                })
            })
        };
        matches(&self.only) && !self.exclude.iter().any(matches)
    }

    fn words(&self, record: &Record, stream: &mut Stream) -> Result<Words, String> {
        let fill = |template: &Template| template.fill(&record.fields);
        if self.task == Task::Text {
            let answer = match &self.answer {
                Some(template) => fill(template)?,
                None => Template::parse("{text}")?.fill(&record.fields)?,
            };
            return Ok(Words {
                messages: Vec::new(),
                prompt: String::new(),
                thought: None,
                answer,
            });
        }
        let template = match (&self.prompt, self.prompts.as_slice()) {
            (Some(prompt), _) => Some(prompt),
            (None, []) => None,
            (None, several) => several.get(stream.below(several.len())),
        };
        let mut words = match template {
            Some(template) => {
                let prompt = fill(template)?;
                let answer = self.answer.as_ref().map(fill).transpose()?;
                let (thought, answer) = split_thought(&answer.unwrap_or_default());
                Words {
                    messages: vec![Message::user(prompt.clone())],
                    prompt,
                    thought,
                    answer,
                }
            }
            None => conversation(self.turns(record)?)?,
        };
        if let Some(template) = &self.thought {
            words.thought = Some(fill(template)?);
        }
        Ok(words)
    }

    /// The turns of a record that holds a conversation.
    fn turns(&self, record: &Record) -> Result<Vec<Message>, String> {
        let read = |field: &str| {
            let value = lookup(&record.fields, field).ok_or(format!("no field '{field}'"))?;
            let turns = example::messages(value);
            let mut turns = turns.map_err(|reason| format!("field '{field}' {reason}"))?;
            // Where the picture stands is known; the tag would be read as words.
            for turn in turns.iter_mut().filter(|turn| turn.role == "user") {
                if self.task == Task::Describe {
                    turn.content = without_image_tag(&turn.content);
                }
            }
            Ok(turns)
        };
        if let Some(field) = &self.messages {
            return read(field);
        }
        let has = |field: &str| record.fields.contains_key(field);
        match () {
            () if has("messages") => read("messages"),
            () if has("conversations") => read("conversations"),
            () if has("prompt") && has("completion") => {
                let mut turns = side(record, "prompt", Message::user)?;
                turns.extend(side(record, "completion", Message::assistant)?);
                Ok(turns)
            }
            () => Err("no field 'messages', 'conversations', or 'prompt' and 'completion'".into()),
        }
    }
}

/// One half of a prompt–completion record: bare text or a list of turns.
fn side(record: &Record, field: &str, turn: fn(String) -> Message) -> Result<Vec<Message>, String> {
    match record.fields.get(field) {
        Some(Value::String(content)) => Ok(vec![turn(content.clone())]),
        Some(value) => {
            example::messages(value).map_err(|reason| format!("field '{field}' {reason}"))
        }
        None => Err(format!("no field '{field}'")),
    }
}

/// Everything before the last turn is given; the last turn, the assistant's, is the answer.
fn conversation(mut turns: Vec<Message>) -> Result<Words, String> {
    let last = turns
        .pop()
        .filter(|turn| turn.role == "assistant")
        .ok_or("the last message is not the assistant's")?;
    let prompt = turns
        .iter()
        .rev()
        .find(|turn| turn.role == "user")
        .map(|turn| turn.content.clone())
        .ok_or("no message of the user before the answer")?;
    let (thought, answer) = split_thought(&last.content);
    Ok(Words {
        messages: turns,
        prompt,
        thought,
        answer,
    })
}
