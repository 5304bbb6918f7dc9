//! Chat templates: messages to one string with control tokens, in the Jinja dialect that
//! checkpoints ship.

use std::io;
use std::path::Path;
use std::sync::OnceLock;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, Value, context};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::file;
use crate::vocab::names;

/// The template the original's text demo installs: each turn is header, stripped content, end of
/// turn; the assistant's header follows, whether or not it was asked for.
const PUBLISHED: &str = "\
{%- for message in messages -%}
    {%- if loop.first -%}{{ bos_token }}{%- endif -%}
    {{- '<|start_header_id|>' ~ message.role ~ '<|end_header_id|>\n' -}}
    {{- message.content | trim ~ '<|eot_id|>' -}}
{%- endfor -%}
{{- '<|start_header_id|>assistant<|end_header_id|>\n' -}}";

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks: `user`, `assistant`, `system`.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A turn of the user.
    pub fn user(content: impl Into<String>) -> Self {
        Self {
            role: "user".to_owned(),
            content: content.into(),
        }
    }

    /// A turn of the assistant.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self {
            role: "assistant".to_owned(),
            content: content.into(),
        }
    }

    /// An instruction that stands above the conversation.
    pub fn system(content: impl Into<String>) -> Self {
        Self {
            role: "system".to_owned(),
            content: content.into(),
        }
    }
}

/// A chat template, checked when it is made.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    source: String,
    /// What `source` was compiled to, when it was first needed.
    compiled: OnceLock<Environment<'static>>,
}

impl ChatTemplate {
    /// The template of the published model.
    pub fn published() -> Self {
        Self {
            source: PUBLISHED.to_owned(),
            compiled: OnceLock::new(),
        }
    }

    /// A template from its source.
    ///
    /// # Errors
    /// [`Error::Template`] with the line where the syntax is wrong.
    pub fn from_source(source: String) -> Result<Self> {
        let compiled = OnceLock::from(compile(&source)?);
        Ok(Self { source, compiled })
    }

    /// The template of a model directory: `chat_template.jinja`, else the `chat_template` of
    /// `tokenizer_config.json` (of several the one named `default`), else the published one.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Template`].
    pub fn load(model_dir: impl AsRef<Path>) -> Result<Self> {
        let model_dir = model_dir.as_ref();
        let own = model_dir.join("chat_template.jinja");
        if own.exists() {
            let source = String::from_utf8(file::read(&own)?);
            return Self::from_source(source.map_err(|error| Error::Template(error.to_string()))?);
        }
        let config = model_dir.join("tokenizer_config.json");
        if !config.exists() {
            return Ok(Self::published());
        }
        let config: serde_json::Value = serde_json::from_slice(&file::read(&config)?)
            .map_err(|error| Error::Template(format!("tokenizer_config.json: {error}")))?;
        match template_of(&config) {
            Some(source) => Self::from_source(source.to_owned()),
            None => Ok(Self::published()),
        }
    }

    /// The Jinja source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Renders messages. `bos` is the name of the start-of-text token.
    ///
    /// # Errors
    /// [`Error::Template`], also when the template itself refuses the messages.
    pub fn render(
        &self,
        messages: &[Message],
        bos: &str,
        add_generation_prompt: bool,
    ) -> Result<String> {
        let turn = |message: &Message| {
            Value::from_pairs([
                ("role", message.role.clone()),
                ("content", message.content.clone()),
            ])
        };
        let turns: Vec<Value> = messages.iter().map(turn).collect();
        let context = context! {
            messages => turns, add_generation_prompt, bos_token => bos, eos_token => names::EOS,
            pad_token => names::EOS, mask_token => names::MASK, tools => (), documents => (),
        };
        let mut environment = match self.compiled.get() {
            Some(compiled) => compiled.clone(),
            None => {
                let compiled = compile(&self.source)?;
                self.compiled.get_or_init(|| compiled).clone()
            }
        };
        environment.set_fuel(Some(STEPS + STEPS_A_TURN * messages.len() as u64));
        let given = |message: &Message| message.role.len() + message.content.len();
        let mut text = Bounded {
            bytes: Vec::new(),
            is_full: false,
            most: LONGEST + LONGEST_A_BYTE * messages.iter().map(given).sum::<usize>(),
        };
        let template = environment.get_template(NAME);
        let rendered =
            template.and_then(|template| template.render_captured_to(context, &mut text).map(drop));
        if text.is_full {
            let what = format!("it writes more than {} bytes", text.most);
            return Err(Error::Template(what));
        }
        rendered.map_err(|error| failed(&error))?;
        String::from_utf8(text.bytes).map_err(|error| Error::Template(error.to_string()))
    }
}

/// Instructions that a template may take, at all and for each turn: templates come with models from
/// anywhere, and may be loops within loops.
const STEPS: u64 = 100_000;
/// See [`STEPS`].
const STEPS_A_TURN: u64 = 20_000;
/// Bytes that a template may write, at all and for each byte that it is given.
const LONGEST: usize = 1 << 20;
/// See [`LONGEST`].
const LONGEST_A_BYTE: usize = 16;

/// Text of a bounded length.
struct Bounded {
    bytes: Vec<u8>,
    most: usize,
    /// Whether more was to be written.
    is_full: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.most - self.bytes.len() {
            self.is_full = true;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The one template of an environment.
const NAME: &str = "chat";

/// A template with the settings under which the Python libraries render it.
fn compile(source: &str) -> Result<Environment<'static>> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build();
    environment.set_syntax(syntax.map_err(|error| failed(&error))?);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function(
        "raise_exception",
        |reason: String| -> std::result::Result<String, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, reason))
        },
    );
    environment
        .add_template_owned(NAME, source.to_owned())
        .map_err(|error| failed(&error))?;
    Ok(environment)
}

fn template_of(config: &serde_json::Value) -> Option<&str> {
    let template = config.get("chat_template")?;
    let named_default = |entry: &&serde_json::Value| entry["name"] == "default";
    template
        .as_str()
        .or_else(|| template.as_array()?.iter().find(named_default)?["template"].as_str())
}

fn failed(error: &minijinja::Error) -> Error {
    Error::Template(format!(
        "{error}; check chat_template.jinja or tokenizer_config.json"
    ))
}
