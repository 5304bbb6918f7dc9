//! Pack folders: small data sets whose files are told apart by their names and contents.
//!
//! ```text
//! SPLIT.tar.gz  SPLIT-0000.tar.gz  SPLIT_more.tar.gz   samples: picture + json (WebDataset)
//! SPLIT_images.tar.gz (or a folder SPLIT_images/)      pictures named by the files below
//! SPLIT_conversations.json                             questions about pictures (LLaVA style)
//! SPLIT_captions.jsonl                                 {image, caption, color?, shape?, image_split?}
//! SPLIT.jsonl                                          {messages, answer} or {question, answer}
//! ```
//! Every file may be plain or compressed (`.gz`, `.zst`, `.tgz`). A file whose name has more words
//! than the split (`test_seen_concept` for `test`) counts where no exact one exists.

mod items;

use std::fs;
use std::path::{Path, PathBuf};

use mmada_tokens::Task;

pub use items::{
    AnswerKind, CaptionItem, Items, KindItem, PaintItem, QuestionItem, ReasoningItem,
    ReconstructionItem,
};

use crate::error::DataError;
use crate::part::{self, Part};
use crate::source::{SourceConfig, SourceKind};
use crate::template::Template;
use crate::view::View;

/// The question under which packs ask for a caption, in training and evaluation.
pub const CAPTION_PROMPT: &str = "Describe the picture.";

/// The question under which packs ask for group and subgroup, which are answered `GROUP: SUBGROUP`.
pub const KIND_PROMPT: &str = "What kind of thing is it?";

/// What a pack can be used to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PackTask {
    /// Encoding and decoding pictures.
    Reconstruction,
    /// Captions of pictures.
    Captions,
    /// Group and subgroup of what pictures show.
    Kinds,
    /// Questions about pictures.
    Questions,
    /// Pictures from words.
    Paint,
    /// Problems with one exact answer.
    Reasoning,
}

/// A pack folder.
#[derive(Debug, Clone)]
pub struct Pack {
    dir: PathBuf,
    files: Vec<PackFile>,
}

/// What a file's name says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// `SPLIT.tar…`: samples.
    Shard,
    /// `SPLIT_images.tar…` or a folder.
    Images,
    /// `SPLIT_conversations.json…`.
    Conversations,
    /// `SPLIT_captions.jsonl…`.
    Captions,
    /// `SPLIT.jsonl…`.
    Lines,
}

#[derive(Debug, Clone)]
struct PackFile {
    path: PathBuf,
    stem: String,
    role: Role,
}

/// Files of a role, and which of their records belong to the split that was asked for.
type Found<'a> = (Vec<&'a PackFile>, Option<Part>);

/// Endings of (archives, JSON lines, JSON).
const ARCHIVES: [&str; 4] = [".tar.gz", ".tar.zst", ".tgz", ".tar"];
const LINES: [&str; 3] = [".jsonl.zst", ".jsonl.gz", ".jsonl"];
const LISTS: [&str; 3] = [".json.zst", ".json.gz", ".json"];

impl Pack {
    /// Lists a folder; opens no file of it.
    ///
    /// # Errors
    /// [`DataError::Pack`] when it is not a folder or none of its files is a pack's.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, DataError> {
        let dir = dir.as_ref().to_path_buf();
        let mut paths: Vec<PathBuf> = fs::read_dir(&dir)
            .map_err(|error| DataError::Pack {
                path: dir.clone(),
                wanted: format!("cannot be listed: {error}"),
                looked_for: "a folder".into(),
                found: "nothing".into(),
            })?
            .flatten()
            .map(|entry| entry.path())
            .collect();
        paths.sort();
        let files: Vec<PackFile> = paths.into_iter().filter_map(classify).collect();
        let pack = Self { dir, files };
        if pack.files.is_empty() {
            return Err(pack.lacks(
                "holds no data file",
                "SPLIT.tar.gz, SPLIT_images.tar.gz, SPLIT_conversations.json, SPLIT_captions.jsonl, SPLIT.jsonl (plain, .gz or .zst)",
            ));
        }
        Ok(pack)
    }

    /// The folder's name.
    pub fn name(&self) -> String {
        let absolute = self.dir.canonicalize();
        let dir = absolute.as_deref().unwrap_or(&self.dir);
        crate::files::file_name(dir)
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Names that can be given as a split, sorted: `test`, `test_composition`, `train`, …, and
    /// `validation`, which is held out of `train` where no file has that name.
    pub fn splits(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .files
            .iter()
            .map(|file| without_number(&file.stem).to_owned())
            .collect();
        if names.iter().any(|name| name == part::TRAIN) {
            names.push(part::VALIDATION.to_owned());
        }
        names.sort();
        names.dedup();
        names
    }

    /// What the split can be used to measure.
    ///
    /// # Errors
    /// When a file that is there cannot be read.
    pub fn tasks(&self, split: &str) -> Result<Vec<PackTask>, DataError> {
        let all = [
            (
                is_there(self.reconstruction(split))?,
                PackTask::Reconstruction,
            ),
            (is_there(self.captions(split))?, PackTask::Captions),
            (is_there(self.kinds(split))?, PackTask::Kinds),
            (is_there(self.questions(split))?, PackTask::Questions),
            (is_there(self.paint(split))?, PackTask::Paint),
            (is_there(self.reasoning(split))?, PackTask::Reasoning),
        ];
        let there = all.into_iter().filter(|(is_there, _)| *is_there);
        Ok(there.map(|(_, task)| task).collect())
    }

    /// Ready-made training sources: painting and captions, questions, reasoning, whichever the
    /// split's files allow. Names are `PACK-paint`, `PACK-captions`, `PACK-questions`, `PACK-chat`.
    ///
    /// # Errors
    /// [`DataError::Pack`] when the split has no file; [`DataError::Shard`] when one that must be
    /// looked into is broken.
    pub fn sources(&self, split: &str) -> Result<Vec<SourceConfig>, DataError> {
        let mut sources: Vec<SourceConfig> = Vec::new();
        let mut add = |what: &str, kind, paths: &[&PackFile], images: Option<&Path>, view: View| {
            let paths = paths.iter().map(|file| text(&file.path)).collect();
            let name = format!("{}-{what}", self.name());
            let twins = |source: &&SourceConfig| source.name.starts_with(&name);
            let name = match sources.iter().filter(twins).count() {
                0 => name,
                before => format!("{name}-{}", before + 1),
            };
            sources.push(SourceConfig {
                images: images.map(text),
                ..SourceConfig::new(name, kind, paths, view)
            });
        };
        let mut part = None;
        if let Some((shards, held_out)) = self.sample_shards(split)? {
            part = held_out;
            let fields = self.first_fields(&shards)?;
            let prompt = if fields.contains_key("style") {
                "{style} style: {caption}"
            } else {
                "{caption}"
            };
            add(
                "paint",
                SourceKind::WebDataset,
                &shards,
                None,
                paint(prompt),
            );
            add(
                "captions",
                SourceKind::WebDataset,
                &shards,
                None,
                describe(CAPTION_PROMPT, "{caption}"),
            );
        }
        for file in self.find(split, Role::Captions) {
            let images = self.images(&file.stem).map(|file| file.path.as_path());
            let kind = SourceKind::Jsonl;
            add("paint", kind, &[file], images, paint("{caption}"));
            add(
                "captions",
                kind,
                &[file],
                images,
                describe(CAPTION_PROMPT, "{caption}"),
            );
        }
        for file in self.find(split, Role::Conversations) {
            let images = self.images(&file.stem).map(|file| file.path.as_path());
            add(
                "questions",
                SourceKind::Conversations,
                &[file],
                images,
                describe("{question}", "{answer}"),
            );
        }
        let lines = self.find(split, Role::Lines);
        if !lines.is_empty() {
            let mut view = View::new(Task::Chat);
            if !self.first_fields(&lines)?.contains_key("messages") {
                view.prompt = Template::parse("{question}").ok();
                view.answer = Template::parse("{answer}").ok();
            }
            add("chat", SourceKind::Jsonl, &lines, None, view);
        }
        let of_shards = |source: &&mut SourceConfig| source.kind == SourceKind::WebDataset;
        for source in sources.iter_mut().filter(of_shards) {
            source.part = part;
        }
        if sources.is_empty() {
            return Err(self.lacks(
                &format!("has no training data for the split '{split}'"),
                &format!(
                    "{split}*.tar.gz, {split}_captions.jsonl, {split}_conversations.json, {split}.jsonl"
                ),
            ));
        }
        Ok(sources)
    }

    /// Files of a role for a split: exact ones and numbered shards, else longer names.
    fn find(&self, split: &str, role: Role) -> Vec<&PackFile> {
        let of_role = || self.files.iter().filter(|file| file.role == role);
        // `test_2024` is asked for by its name, or as a shard of `test`.
        let named: Vec<_> = of_role().filter(|file| file.stem == split).collect();
        let exact: Vec<_> = of_role()
            .filter(|file| without_number(&file.stem) == split)
            .collect();
        for found in [exact, named] {
            if !found.is_empty() {
                return found;
            }
        }
        of_role()
            .filter(|file| {
                let rest = file.stem.strip_prefix(split);
                rest.is_some_and(|rest| rest.starts_with(['_', '-', '.']))
            })
            .collect()
    }

    /// The files that hold a split of a role, and which of their records belong to it.
    fn find_part(&self, split: &str, role: Role) -> Found<'_> {
        let files = self.find(split, role);
        if !files.is_empty() || split != part::VALIDATION {
            return (files, None);
        }
        (self.find(part::TRAIN, role), Some(Part::Validation))
    }

    /// Where the pictures of a split are: `SPLIT_images`, or the nearest shorter name
    /// (`test_images` for `test_composition`).
    fn images(&self, split: &str) -> Option<&PackFile> {
        let mut name = split;
        loop {
            let found = self
                .files
                .iter()
                .find(|file| file.role == Role::Images && file.stem == name);
            if found.is_some() {
                return found;
            }
            name = &name[..name.rfind(['_', '-'])?];
        }
    }

    fn lacks(&self, wanted: &str, looked_for: &str) -> DataError {
        let mut names: Vec<String> = fs::read_dir(&self.dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        let more = names.len().saturating_sub(12);
        names.truncate(12);
        if more > 0 {
            names.push(format!("and {more} more"));
        }
        if names.is_empty() {
            names.push("nothing".into());
        }
        DataError::Pack {
            path: self.dir.clone(),
            wanted: wanted.into(),
            looked_for: looked_for.into(),
            found: names.join(", "),
        }
    }
}

fn classify(path: PathBuf) -> Option<PackFile> {
    let name = crate::files::file_name(&path);
    if path.is_dir() {
        let stem = name.strip_suffix("_images")?.to_owned();
        let role = Role::Images;
        return Some(PackFile { path, stem, role });
    }
    let cut = |endings: &[&str]| {
        let stem = endings.iter().find_map(|ending| name.strip_suffix(ending));
        stem.map(str::to_owned)
    };
    let (stem, role) = if let Some(stem) = cut(&ARCHIVES) {
        match stem.strip_suffix("_images") {
            Some(stem) => (stem.to_owned(), Role::Images),
            None => (stem, Role::Shard),
        }
    } else if let Some(stem) = cut(&LINES) {
        match stem.strip_suffix("_captions") {
            Some(stem) => (stem.to_owned(), Role::Captions),
            None => (stem, Role::Lines),
        }
    } else {
        let stem = cut(&LISTS)?;
        let stem = stem.strip_suffix("_conversations")?.to_owned();
        (stem, Role::Conversations)
    };
    Some(PackFile { path, stem, role })
}

/// Whether a task's files are there; what cannot be read is an error.
fn is_there<T>(read: Result<T, DataError>) -> Result<bool, DataError> {
    match read {
        Ok(_) => Ok(true),
        Err(DataError::Pack { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// `train-0003` is a shard of `train`.
fn without_number(stem: &str) -> &str {
    match stem.rsplit_once(['-', '_']) {
        Some((head, number))
            if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) =>
        {
            head
        }
        _ => stem,
    }
}

fn text(path: impl AsRef<Path>) -> String {
    path.as_ref().to_string_lossy().into_owned()
}

fn paint(prompt: &str) -> View {
    View {
        prompt: Template::parse(prompt).ok(),
        ..View::new(Task::Paint)
    }
}

fn describe(prompt: &str, answer: &str) -> View {
    View {
        prompt: Template::parse(prompt).ok(),
        answer: Template::parse(answer).ok(),
        ..View::new(Task::Describe)
    }
}
