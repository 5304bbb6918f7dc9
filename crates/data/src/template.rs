//! Text with holes: `"{style} style: {caption}"`, `{answer.text}`, `{tags.0}`; `{{` is a brace.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A parsed template. Written and read as a plain string.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Template {
    source: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Field(String),
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// In words, when a brace is not closed or a hole has no name.
    pub fn parse(source: &str) -> Result<Self, String> {
        let (mut parts, mut literal) = (Vec::new(), String::new());
        let mut rest = source;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let brace = &rest[at..at + 1];
            let after = &rest[at + 1..];
            if let Some(doubled) = after.strip_prefix(brace) {
                literal.push_str(brace);
                rest = doubled;
                continue;
            }
            let end = after.find('}').filter(|_| brace == "{").ok_or_else(|| {
                format!("'{brace}' without its partner in template '{source}' (write '{brace}{brace}' for a brace)")
            })?;
            let field = after[..end].trim();
            if field.is_empty() || field.contains('{') {
                return Err(format!(
                    "a hole without a field name in template '{source}'"
                ));
            }
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(Part::Field(field.to_owned()));
            rest = &after[end + 1..];
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self {
            source: source.to_owned(),
            parts,
        })
    }

    /// The text with every hole filled. Lists are joined with ", ".
    ///
    /// # Errors
    /// In words, when a field is missing, null or an object.
    pub fn fill(&self, fields: &Map<String, Value>) -> Result<String, String> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Field(path) => {
                    let value = lookup(fields, path).ok_or_else(|| format!("no field '{path}'"))?;
                    write_value(&mut text, value)
                        .map_err(|kind| format!("field '{path}' is {kind}, expected text"))?;
                }
            }
        }
        Ok(text)
    }
}

fn write_value(text: &mut String, value: &Value) -> Result<(), &'static str> {
    match value {
        Value::String(value) => text.push_str(value),
        Value::Number(value) => {
            // Writing to a string cannot fail.
            let _ = write!(text, "{value}");
        }
        Value::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
        Value::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    text.push_str(", ");
                }
                write_value(text, value)?;
            }
        }
        Value::Null => return Err("null"),
        Value::Object(_) => return Err("an object"),
    }
    Ok(())
}

/// The value at `a.b.0`; a field whose own name holds the dots wins.
pub fn lookup<'a>(fields: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if let Some(value) = fields.get(path) {
        return Some(value);
    }
    let mut names = path.split('.');
    let mut value = fields.get(names.next()?)?;
    for name in names {
        value = match value {
            Value::Object(object) => object.get(name)?,
            Value::Array(list) => list.get(name.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(value)
}

impl TryFrom<String> for Template {
    type Error = String;

    fn try_from(source: String) -> Result<Self, String> {
        Self::parse(&source)
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.source
    }
}
