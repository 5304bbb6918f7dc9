//! `mmada train-tokenizer`: a byte-level BPE from the training texts of data packs.

use std::path::Path;

use anyhow::{Context, Result, bail};
use mmada_data::{DataError, Mixture, Pack, SourceConfig, SourceKind, Template, View};
use mmada_tokens::{ChatTemplate, Codec, Task, Tokenizer, TrainOptions};
use serde_json::json;

use crate::args::TrainTokenizerArgs;
use crate::{output, packs, terminal, usage};

/// The only split that is read, with what is held out of it to choose by; the others are for measuring.
const SPLIT: &str = mmada_data::part::TRAIN;

/// Ids of a vocabulary: eight times what the largest in use have.
const MOST_IDS: usize = 1 << 21;

pub(crate) fn run(args: &TrainTokenizerArgs) -> Result<()> {
    if args.size > MOST_IDS {
        return Err(usage(format!(
            "--size: expected at most {MOST_IDS} ids, got {}",
            args.size
        )));
    }
    if args.output.join("config.json").is_file() {
        return Err(usage(format!(
            "--output {}: expected a folder without a model, whose tokenizer would be replaced; name another",
            args.output.display()
        )));
    }
    output::create_dir(&args.output)?;
    let texts = texts(args)?;
    let (count, bytes) = (texts.len(), texts.iter().map(String::len).sum::<usize>());
    output::note(format!(
        "{count} texts, {:.1} MB; learning {} ids",
        bytes as f64 / 1e6,
        args.size
    ));
    let options = TrainOptions {
        size: args.size,
        ..TrainOptions::default()
    };
    let tokenizer = Tokenizer::train(texts.into_iter(), &options)?;
    let vocab = tokenizer.vocab(0, None)?;
    let len = tokenizer.len();
    let codec = Codec {
        tokenizer,
        template: ChatTemplate::published(),
        vocab,
    };
    codec
        .save(&args.output)
        .with_context(|| format!("tokenizer: cannot save to {}", args.output.display()))?;
    if args.json {
        return output::json(&json!({
            "task": "train-tokenizer",
            "output": output::shown(&args.output),
            "ids": len,
            "texts": count,
            "bytes": bytes,
        }));
    }
    output::line(format!("{}  {len} ids", args.output.display()))
}

/// Prompts, answers, captions and tags of every training split below the folders.
fn texts(args: &TrainTokenizerArgs) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    for folder in &args.data {
        for pack in packs::below(folder)? {
            match pack.sources(SPLIT) {
                // It has no texts to train on.
                Err(DataError::Pack { .. }) => {}
                sources => collect(&pack, sources?, &mut texts)?,
            }
        }
    }
    if texts.is_empty() {
        bail!("data: expected training texts, got none; name folders with train files with --data");
    }
    Ok(texts)
}

fn collect(pack: &Pack, mut sources: Vec<SourceConfig>, texts: &mut Vec<String>) -> Result<()> {
    let shards = sources
        .iter()
        .find(|source| source.kind == SourceKind::WebDataset);
    let tags = shards.map(tags);
    sources.extend(tags);
    let mixture = Mixture::open(&sources, Path::new("."), 0)?;
    let bar = match mixture.len_hint() {
        Some(total) => terminal::bar(total as u64, "examples"),
        None => terminal::counter("examples"),
    };
    bar.set_message(pack.name());
    for example in bar.wrap_iter(mixture.iter_once()) {
        let example = example?;
        texts.extend(
            example
                .messages
                .iter()
                .map(|message| message.content.clone()),
        );
        // The template writes role names around every message.
        texts.extend(example.messages.iter().map(|message| message.role.clone()));
        texts.push("assistant".to_owned());
        if !example
            .messages
            .iter()
            .any(|message| message.content == example.prompt)
        {
            texts.push(example.prompt.clone());
        }
        texts.push(example.response());
    }
    texts.retain(|text| !text.is_empty());
    bar.finish_and_clear();
    Ok(())
}

/// The same shards read for their tags; samples without any are passed over.
fn tags(source: &SourceConfig) -> SourceConfig {
    let view = View {
        prompt: Template::parse("{caption}").ok(),
        answer: Template::parse("{tags}").ok(),
        ..View::new(Task::Describe)
    };
    let mut source = source.clone();
    source.name.push_str("-tags");
    source.views = vec![view];
    source
}
