//! Evaluation items of a pack, one type per task, in the order of the files.
//!
//! A broken sample is an error here, not a skip: an evaluation that drops items in silence
//! reports a wrong number. The caller may count [`DataError::Sample`] and go on.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Found, Pack, PackFile, Role};
use crate::error::DataError;
use crate::example;
use crate::files::{Bounds, file_name};
use crate::images::Stores;
use crate::part::Part;
use crate::readers::{Format, Shard, Turns};
use crate::record::{ImageBytes, ImageRef, Read, Record};

/// A stream of items.
pub type Items<T> = Box<dyn Iterator<Item = Result<T, DataError>> + Send>;

/// A picture to encode and decode.
#[derive(Debug, Clone)]
pub struct ReconstructionItem {
    /// Shard and key.
    pub id: String,
    /// The picture.
    pub image: ImageBytes,
}

/// A picture to caption.
#[derive(Debug, Clone)]
pub struct CaptionItem {
    /// Shard and key.
    pub id: String,
    /// The picture.
    pub image: ImageBytes,
    /// The reference.
    pub caption: String,
    /// Everything else known of it: `style`, `tags`, `group`, `subgroup`, `label`, `color`, …
    pub fields: Map<String, Value>,
}

/// A picture whose pack sorts it.
#[derive(Debug, Clone)]
pub struct KindItem {
    /// Shard and key.
    pub id: String,
    /// The picture.
    pub image: ImageBytes,
    /// The wider kind.
    pub group: String,
    /// The narrower kind.
    pub subgroup: String,
}

/// How a question is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AnswerKind {
    /// By yes or no.
    YesNo,
    /// By anything else.
    Open,
}

/// A question about a picture, to be asked alone.
#[derive(Debug, Clone)]
pub struct QuestionItem {
    /// File, entry and number of the question.
    pub id: String,
    /// The picture. Questions about one picture share its bytes.
    pub image: ImageBytes,
    /// The question, without `<image>`.
    pub question: String,
    /// The reference.
    pub answer: String,
    /// By what it is answered, told by the reference.
    pub kind: AnswerKind,
}

/// A picture to paint.
#[derive(Debug, Clone)]
pub struct PaintItem {
    /// File and line, or shard and key.
    pub id: String,
    /// What to ask for: `STYLE style: CAPTION`, or the caption where no style is known.
    pub prompt: String,
    /// The caption.
    pub caption: String,
    /// Colour to be seen, where the pack says.
    pub color: Option<String>,
    /// Shape to be seen, where the pack says.
    pub shape: Option<String>,
    /// Style, where the pack says.
    pub style: Option<String>,
    /// Everything known of it.
    pub fields: Map<String, Value>,
}

/// A problem with one exact answer.
#[derive(Debug, Clone)]
pub struct ReasoningItem {
    /// File and line.
    pub id: String,
    /// The problem.
    pub question: String,
    /// The answer, without the thought.
    pub answer: String,
    /// The kind of problem, where the pack says (`template`).
    pub template: Option<String>,
}

impl Pack {
    /// Every picture of the split.
    ///
    /// # Errors
    /// [`DataError::Pack`] when there is none.
    pub fn reconstruction(&self, split: &str) -> Result<Items<ReconstructionItem>, DataError> {
        let (mut files, mut part) = self.find_part(split, Role::Shard);
        if files.is_empty() {
            // A file of this split's own: nothing is held out of it.
            (files, part) = (self.find(split, Role::Images), None);
        }
        if files.is_empty() {
            return Err(self.lacks(
                &format!("has no pictures for the split '{split}'"),
                &format!("{split}*.tar.gz, {split}_images.tar.gz, {split}_images/"),
            ));
        }
        let with_image = records(&files, part).filter(|record| match record {
            Ok(record) => record.image.is_some(),
            Err(_) => true,
        });
        Ok(Box::new(with_image.map(|record| {
            let record = record?;
            let image = image(&record)?;
            let id = record.key;
            Ok(ReconstructionItem { id, image })
        })))
    }

    /// Every captioned picture of the split.
    ///
    /// # Errors
    /// [`DataError::Pack`] when there is none.
    pub fn captions(&self, split: &str) -> Result<Items<CaptionItem>, DataError> {
        let records = self.captioned(split)?;
        let mut find_image = self.image_finder();
        Ok(Box::new(records.map(move |record| {
            let (stem, record) = record?;
            let image = find_image(&stem, &record)?;
            Ok(CaptionItem {
                caption: field(&record, "caption")?,
                id: record.key,
                image,
                fields: record.fields,
            })
        })))
    }

    /// Every picture of the split with its group and subgroup.
    ///
    /// # Errors
    /// [`DataError::Pack`] when the samples do not say them.
    pub fn kinds(&self, split: &str) -> Result<Items<KindItem>, DataError> {
        let (shards, part) = self.find_part(split, Role::Shard);
        let fields = self.first_fields(&shards)?;
        if !(fields.contains_key("group") && fields.contains_key("subgroup")) {
            return Err(self.lacks(
                &format!("has no groups for the split '{split}'"),
                &format!("{split}*.tar.gz whose samples have a .json with group and subgroup"),
            ));
        }
        Ok(Box::new(records(&shards, part).map(|record| {
            let record = record?;
            Ok(KindItem {
                image: image(&record)?,
                group: field(&record, "group")?,
                subgroup: field(&record, "subgroup")?,
                id: record.key,
            })
        })))
    }

    /// Every question of the split; earlier questions about the same picture are not part of it.
    ///
    /// # Errors
    /// [`DataError::Pack`] when there is none.
    pub fn questions(&self, split: &str) -> Result<Items<QuestionItem>, DataError> {
        let (files, part) = self.find_part(split, Role::Conversations);
        if files.is_empty() {
            return Err(self.lacks(
                &format!("has no questions for the split '{split}'"),
                &format!("{split}_conversations.json with {split}_images.tar.gz"),
            ));
        }
        let mut find_image = self.image_finder();
        Ok(Box::new(with_stems(&files, part).map(move |record| {
            let (stem, record) = record?;
            let answer = field(&record, "answer")?;
            let kind = match answer.trim().to_lowercase().as_str() {
                "yes" | "no" => AnswerKind::YesNo,
                _ => AnswerKind::Open,
            };
            Ok(QuestionItem {
                image: find_image(&stem, &record)?,
                question: field(&record, "question")?,
                id: record.key,
                answer,
                kind,
            })
        })))
    }

    /// Every caption of the split, as a picture to paint. Needs no picture.
    ///
    /// # Errors
    /// [`DataError::Pack`] when there is none.
    pub fn paint(&self, split: &str) -> Result<Items<PaintItem>, DataError> {
        let records = self.captioned(split)?;
        Ok(Box::new(records.map(|record| {
            let (_, record) = record?;
            let caption = field(&record, "caption")?;
            let named = |name: &str| {
                let value = record.fields.get(name)?.as_str()?;
                Some(value.to_owned())
            };
            let style = named("style");
            Ok(PaintItem {
                prompt: match &style {
                    Some(style) => format!("{style} style: {caption}"),
                    None => caption.clone(),
                },
                color: named("color"),
                shape: named("shape"),
                id: record.key,
                caption,
                style,
                fields: record.fields,
            })
        })))
    }

    /// Every problem of the split.
    ///
    /// # Errors
    /// [`DataError::Pack`] when there is none.
    pub fn reasoning(&self, split: &str) -> Result<Items<ReasoningItem>, DataError> {
        let (files, part) = self.find_part(split, Role::Lines);
        if files.is_empty() {
            return Err(self.lacks(
                &format!("has no problems for the split '{split}'"),
                &format!("{split}.jsonl (also .gz, .zst) with messages and answer"),
            ));
        }
        Ok(Box::new(
            records(&files, part).map(|record| problem(record?)),
        ))
    }

    /// Shards of the split, and which of their records belong to it, if their first sample has
    /// fields beside its picture.
    pub(super) fn sample_shards(&self, split: &str) -> Result<Option<Found<'_>>, DataError> {
        let (shards, part) = self.find_part(split, Role::Shard);
        if shards.is_empty() {
            return Ok(None);
        }
        let has_fields = !self.first_fields(&shards)?.is_empty();
        Ok(has_fields.then_some((shards, part)))
    }

    /// Fields of the first usable sample.
    pub(super) fn first_fields(
        &self,
        files: &[&PackFile],
    ) -> Result<Map<String, Value>, DataError> {
        for record in records(files, None) {
            match record {
                Ok(record) => return Ok(record.fields),
                Err(DataError::Sample { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Map::new())
    }

    fn captioned(&self, split: &str) -> Result<Items<(String, Record)>, DataError> {
        let (lines, part) = self.find_part(split, Role::Captions);
        if !lines.is_empty() {
            return Ok(Box::new(with_stems(&lines, part)));
        }
        match self.sample_shards(split)? {
            Some((shards, part)) => Ok(Box::new(with_stems(&shards, part))),
            None => Err(self.lacks(
                &format!("has no captions for the split '{split}'"),
                &format!(
                    "{split}_captions.jsonl with {split}_images.tar.gz, or {split}*.tar.gz whose samples have a .json"
                ),
            )),
        }
    }

    /// Finds the picture of a record of the file `stem`: its own, or the member it names of the
    /// images of `image_split` or of `stem`.
    fn image_finder(
        &self,
    ) -> impl FnMut(&str, &Record) -> Result<ImageBytes, DataError> + Send + 'static {
        let pack = self.clone();
        let mut stores = Stores::default();
        move |stem, record| {
            if record.image.is_some() {
                return image(record);
            }
            let name = field(record, "image")?;
            let split = record.fields.get("image_split").and_then(Value::as_str);
            let split = split.unwrap_or(stem);
            let file = pack.images(split).ok_or_else(|| {
                pack.lacks(
                    &format!("has no pictures for the split '{split}'"),
                    &format!("{split}_images.tar.gz, {split}_images/"),
                )
            })?;
            let store = stores.get(&file.path, Bounds::default())?;
            let stored = ImageRef::Stored { store, name };
            stored.load().map_err(|reason| DataError::Sample {
                name: record.key.clone(),
                reason,
            })
        }
    }
}

fn problem(record: Record) -> Result<ReasoningItem, DataError> {
    let broken = |reason: String| DataError::Sample {
        name: record.key.clone(),
        reason,
    };
    let (mut question, mut answer) = (None, None);
    if let Some(value) = record.fields.get("messages") {
        let turns = example::messages(value).map_err(broken)?;
        let of = |role: &str| turns.iter().rev().find(|turn| turn.role == role);
        question = of("user").map(|turn| turn.content.clone());
        answer = of("assistant").map(|turn| example::split_thought(&turn.content).1);
    }
    if record.fields.contains_key("answer") {
        answer = Some(field(&record, "answer")?);
    }
    let question = match question {
        Some(question) => question,
        None => field(&record, "question")?,
    };
    let answer = answer.ok_or_else(|| broken("no field 'answer'".into()))?;
    let template = record.fields.get("template").and_then(Value::as_str);
    Ok(ReasoningItem {
        template: template.map(str::to_owned),
        id: record.key,
        question,
        answer,
    })
}

/// A field as text; numbers count.
fn field(record: &Record, name: &str) -> Result<String, DataError> {
    match record.fields.get(name) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        _ => Err(DataError::Sample {
            name: record.key.clone(),
            reason: format!("no text in the field '{name}'"),
        }),
    }
}

fn image(record: &Record) -> Result<ImageBytes, DataError> {
    let loaded = match &record.image {
        Some(image) => image.load(),
        None => Err("no picture".into()),
    };
    loaded.map_err(|reason| DataError::Sample {
        name: record.key.clone(),
        reason,
    })
}

fn records(
    files: &[&PackFile],
    part: Option<Part>,
) -> impl Iterator<Item = Result<Record, DataError>> + Send + 'static {
    with_stems(files, part).map(|pair| pair.map(|(_, record)| record))
}

/// The records of the files, or a part of them, each with the stem of its file.
fn with_stems(
    files: &[&PackFile],
    part: Option<Part>,
) -> impl Iterator<Item = Result<(String, Record), DataError>> + Send + 'static {
    let files: Vec<(usize, PackFile)> =
        files.iter().map(|&file| file.clone()).enumerate().collect();
    files.into_iter().flat_map(move |(index, file)| {
        let stem = file.stem.clone();
        let opened = open(&file, index);
        let (records, error) = match opened {
            Ok(records) => (Some(records), None),
            Err(error) => (None, Some(Err(error))),
        };
        let records = records.into_iter().flatten().map(move |read| match read? {
            Read::Record(record) => Ok((stem.clone(), record)),
            Read::Broken { name, reason } => Err(DataError::Sample { name, reason }),
        });
        let belongs = move |read: &Result<(String, Record), DataError>| match (part, read) {
            (Some(part), Ok((_, record))) => part.admits(record),
            _ => true,
        };
        error.into_iter().chain(records.filter(belongs))
    })
}

fn open(file: &PackFile, index: usize) -> Result<crate::record::Records, DataError> {
    let path: &PathBuf = &file.path;
    let format = match file.role {
        Role::Shard => Format::WebDataset,
        Role::Images if path.is_dir() => Format::Folder,
        Role::Images => Format::WebDataset,
        Role::Conversations => Format::Conversations {
            images: None,
            turns: Turns::Independent,
        },
        Role::Captions | Role::Lines => Format::Jsonl {
            images: None,
            image_field: "image".into(),
        },
    };
    format.read(&Shard {
        path,
        index,
        source: Arc::from(file_name(path)),
        bounds: Bounds::default(),
    })
}
