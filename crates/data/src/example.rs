//! One example for the trainer: words and an encoded picture, no tokens and no pixels yet.

use std::sync::Arc;

use mmada_tokens::names;
use mmada_tokens::thought::Thought;
pub use mmada_tokens::{Message, Task};
use serde_json::Value;

use crate::record::ImageBytes;

/// One training example.
///
/// | task | `messages` / `prompt` | `thought` | `answer` | `image` |
/// |---|---|---|---|---|
/// | text | empty | – | the text | – |
/// | chat | turns before the answer | optional | last assistant turn | – |
/// | describe | the question (or turns) | optional | the answer | the picture |
/// | paint | the description | – | empty | the picture |
/// | think-paint | the description | the thought | empty | the picture |
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// Stable number of (source, shard, record, view): the same in every epoch and process.
    pub key: u64,
    /// The record's key, to name it to a person.
    pub name: String,
    /// Name of the source.
    pub source: Arc<str>,
    /// What is to be learnt.
    pub task: Task,
    /// Everything said before the answer; the last one is `prompt`.
    pub messages: Vec<Message>,
    /// What the person said last.
    pub prompt: String,
    /// What stands between `<think>` and `</think>`.
    pub thought: Option<String>,
    /// What follows the thought.
    pub answer: String,
    /// The encoded picture.
    pub image: Option<ImageBytes>,
    /// Factor of this example's loss.
    pub weight: f32,
    /// Probability that no token of its answer is given while it is learnt.
    pub blank: f32,
    /// Highest share of its picture's tokens that it is learnt without.
    pub patch_dropout: f32,
    /// Probability that its thought is learnt and not the picture after it, where it has its own.
    pub thought_share: Option<f32>,
    /// What a painted picture shows, in the words that judges know; absent: what the prompt says.
    pub shows: Option<String>,
}

impl Example {
    /// Thought and answer in the unified chain-of-thought format,
    /// `<think>THOUGHT</think>ANSWER`, or the bare answer when there is no thought.
    pub fn response(&self) -> String {
        let thought = Thought {
            reasoning: self.thought.clone(),
            answer: self.answer.clone(),
        };
        thought.render()
    }
}

/// Splits `<think>THOUGHT</think>ANSWER`; a text that does not open with a thought, or never
/// closes it, is all answer.
pub fn split_thought(text: &str) -> (Option<String>, String) {
    if text.trim_start().starts_with(names::THINK) && text.contains(names::END_THINK) {
        let thought = Thought::parse(text);
        (thought.reasoning, thought.answer)
    } else {
        (None, text.to_owned())
    }
}

/// Reads a list of turns as chat data has them: `{role, content}`, or `{from, value}` with human
/// and gpt; `content` is text or a list of parts `{type: "text", text}`.
///
/// # Errors
/// In words, when the value is not such a list.
pub fn messages(value: &Value) -> Result<Vec<Message>, String> {
    let Value::Array(turns) = value else {
        return Err("is not a list of messages".into());
    };
    turns
        .iter()
        .enumerate()
        .map(|(index, turn)| {
            let role = first_of(turn, ["role", "from"], role_of).ok_or_else(|| {
                let got = turn.get("role").or_else(|| turn.get("from"));
                let got = got.unwrap_or(&Value::Null);
                format!(
                    "message {index} has the role {got}, expected user or human, assistant or gpt, \
                     or system"
                )
            })?;
            let content = first_of(turn, ["content", "value"], text_of)
                .ok_or_else(|| format!("message {index} has no text"))?;
            Ok(Message {
                role: role.to_owned(),
                content,
            })
        })
        .collect()
}

/// What is read under the first of the keys that has it.
fn first_of<T>(turn: &Value, keys: [&str; 2], read: fn(&Value) -> Option<T>) -> Option<T> {
    keys.into_iter().find_map(|key| read(turn.get(key)?))
}

fn role_of(name: &Value) -> Option<&'static str> {
    match name.as_str()? {
        "user" | "human" => Some("user"),
        "assistant" | "gpt" => Some("assistant"),
        "system" => Some("system"),
        _ => None,
    }
}

fn text_of(content: &Value) -> Option<String> {
    match content {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => Some(
            parts
                .iter()
                .filter_map(|part| part.get("text")?.as_str())
                .collect::<Vec<_>>()
                .join("\n"),
        ),
        _ => None,
    }
}
