//! `key=value` on the command line: dotted paths into the run file, a hint when one is wrong, and the
//! tables that serde cannot refuse.

use mmada_model::Defaults;
use toml::{Table, Value};

use crate::{Error, Result};

/// Applies one override such as `lr.peak=3e-4`, `model.init.from="DIR"` or `data.0.weight=2`.
///
/// A value that is not TOML is taken as a string, so that names and paths need no quotes.
pub(crate) fn apply(table: &mut Table, item: &str) -> Result<()> {
    let wrong = |what: &str| Error::Config(format!("override '{item}': {what}"));
    let (path, value) = item
        .split_once('=')
        .ok_or_else(|| wrong("expected key=value, for example lr.peak=3e-4"))?;
    let value = parse(value.trim());
    let mut keys = path.trim().split('.').peekable();
    if path.split('.').any(|key| key.trim().is_empty()) {
        return Err(wrong(
            "the key has an empty part; expected a path such as run.steps",
        ));
    }
    let first = keys.next().unwrap_or_default();
    if keys.peek().is_none() {
        table.insert(first.to_owned(), value);
        return Ok(());
    }
    let empty = || Value::Table(Table::new());
    let mut here = table.entry(first).or_insert_with(empty);
    while let Some(key) = keys.next() {
        let is_last = keys.peek().is_none();
        let place = match here {
            Value::Table(table) => table.entry(key).or_insert_with(empty),
            Value::Array(items) => {
                let count = items.len();
                let index = key.parse::<usize>().ok();
                let found = index.and_then(|index| items.get_mut(index));
                found.ok_or_else(|| {
                    wrong(&format!(
                        "expected an index below {count} for a list, got '{key}'"
                    ))
                })?
            }
            _ => {
                return Err(wrong(&format!(
                    "what '{key}' should be in is a plain value"
                )));
            }
        };
        if is_last {
            *place = value;
            return Ok(());
        }
        here = place;
    }
    Ok(())
}

fn parse(text: &str) -> Value {
    let parsed = toml::from_str::<Table>(&format!("value = {text}"));
    let value = parsed.ok().and_then(|mut table| table.remove("value"));
    value.unwrap_or_else(|| Value::String(text.to_owned()))
}

/// The parser's message, with the nearest known key when one is unknown, and what to do where two
/// choices are made at once.
pub(crate) fn explain(error: &toml::de::Error) -> Error {
    let message = error.to_string();
    let hint = match error.message().starts_with("wanted exactly 1 element") {
        true => Some(
            "these keys are a choice, of which the run makes two; an override adds to what the \
             file says, so write the whole table, such as model.init={ from = \"DIR\" }"
                .to_owned(),
        ),
        false => suggestion(error.message()).map(|name| format!("did you mean `{name}`?")),
    };
    Error::Config(match hint {
        Some(hint) => format!("{}; {hint}", message.trim_end()),
        None => message.trim_end().to_owned(),
    })
}

/// A parser's message about keys, with the nearest known one when one is unknown.
pub(crate) fn hinted(message: &str) -> String {
    match suggestion(message) {
        Some(name) => format!("{message}; did you mean `{name}`?"),
        None => message.to_owned(),
    }
}

/// Of a message "unknown field `a`, expected one of `b`, `c`": the expected name nearest to `a`.
fn suggestion(message: &str) -> Option<&str> {
    let names: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let (unknown, known) = names.split_first()?;
    if !message.contains("unknown") {
        return None;
    }
    let nearest = known.iter().min_by_key(|name| distance(unknown, name))?;
    // Beyond half the length the names have nothing in common.
    let is_near = distance(unknown, nearest) * 2 <= nearest.len().max(unknown.len());
    is_near.then_some(*nearest)
}

/// Letters to insert, delete or replace to turn one word into the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Sampling settings of a model under what a run says of them. A `generation_config.json` may hold what
/// others put there; a run holds what its author meant, so that names no model has are refused.
///
/// # Errors
/// [`Error::Config`] for such a name, and for values that do not fit.
pub(crate) fn generation(defaults: &Defaults, written: &Table) -> Result<Defaults> {
    let mut table = Table::try_from(defaults).map_err(|error| Error::Config(error.to_string()))?;
    if let Some(key) = written.keys().find(|key| !table.contains_key(*key)) {
        return Err(Error::Config(format!(
            "model.generation.{key}: expected one of {}",
            table.keys().cloned().collect::<Vec<_>>().join(", ")
        )));
    }
    for (key, value) in written {
        match (table.get_mut(key), value) {
            (Some(Value::Table(known)), Value::Table(more)) => known.extend(more.clone()),
            _ => drop(table.insert(key.clone(), value.clone())),
        }
    }
    let refused = |problem| Error::Config(format!("model.generation.{problem}"));
    let merged: Defaults = table.try_into().map_err(|error| match explain(&error) {
        Error::Config(problem) => Error::Config(format!("model.generation: {problem}")),
        other => other,
    })?;
    merged.check().map_err(refused)?;
    Ok(merged)
}
