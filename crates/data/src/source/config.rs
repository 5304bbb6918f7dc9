//! The `[[data]]` table of a run: which files, how they are read, what is made of their records.

use serde::{Deserialize, Serialize};

use crate::augment::Augment;
use crate::error::DataError;
use crate::files::Bounds;
use crate::part::Part;
use crate::readers::Turns;
use crate::sketch;
use crate::view::View;

/// Names of the file formats in configuration files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// Tar shards (`.tar`, also gzip or Zstandard).
    WebDataset,
    /// JSON lines (plain, gzip, Zstandard).
    Jsonl,
    /// Apache Parquet.
    Parquet,
    /// LLaVA-style JSON list.
    Conversations,
    /// Folders of pictures.
    Folder,
}

/// Fields that records take over from the lines of a JSONL file which agree with them in one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinConfig {
    /// JSONL files (plain, gzip or Zstandard), held in memory.
    pub paths: Vec<String>,
    /// The field that must be equal; where lines repeat a value, the last one counts.
    pub on: String,
}

/// A `[[data]]` table of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// Name in logs, metrics and saved positions; unique in a run.
    pub name: String,
    /// File format.
    pub kind: SourceKind,
    /// Files or folders; `{0000..0004}`, `{a,b}`, `*` and `?` are expanded.
    pub paths: Vec<String>,
    /// Archive or folder with the pictures that records name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<String>,
    /// Field or column with the picture or its name (JSONL and Parquet), or a list of its image codes (JSONL).
    #[serde(default = "image")]
    pub image_field: String,
    /// Conversations: whether each question stands alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turns: Option<Turns>,
    /// More fields for the records, from another file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join: Option<JoinConfig>,
    /// Only the records that are, or are not, held out for validation; absent: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
    /// More pictures of the same things.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub augment: Option<Augment>,
    /// Cells along a side of the sketch that records gain as the field `sketch`: the colours of their picture, as it is
    /// varied, in words; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sketch: Option<usize>,
    /// Field with the word by which sketches call the figure, where pictures show one on an even ground; absent:
    /// each cell has the word nearest to its colour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub figure: Option<String>,
    /// What is made of each record; every view makes its own example.
    pub views: Vec<View>,
    /// How often the mixture chooses this source, relative to the others.
    #[serde(default = "one")]
    pub weight: f64,
    /// Records held in the shuffle buffer, each with all its variants and views, so that those
    /// of one record lie as far apart as the records do; 1 keeps the order of the files.
    #[serde(default = "shuffle")]
    pub shuffle: usize,
    /// Largest member, line, row or picture, in bytes.
    #[serde(default = "entry_limit")]
    pub entry_limit: u64,
}

fn image() -> String {
    "image".into()
}

fn one() -> f64 {
    1.0
}

fn shuffle() -> usize {
    4096
}

fn entry_limit() -> u64 {
    Bounds::default().entry
}

impl SourceConfig {
    /// A source with one view and defaults elsewhere.
    pub fn new(name: impl Into<String>, kind: SourceKind, paths: Vec<String>, view: View) -> Self {
        Self {
            name: name.into(),
            kind,
            paths,
            images: None,
            image_field: image(),
            turns: None,
            join: None,
            part: None,
            augment: None,
            sketch: None,
            figure: None,
            views: vec![view],
            weight: one(),
            shuffle: shuffle(),
            entry_limit: entry_limit(),
        }
    }

    /// Whether the table makes sense, before any file is opened.
    ///
    /// # Errors
    /// [`DataError::Config`].
    pub fn check(&self) -> Result<(), DataError> {
        let fault = |reason: String| DataError::Config {
            name: self.name.clone(),
            reason,
        };
        if self.paths.is_empty() || self.views.is_empty() {
            return Err(fault("needs at least one path and one view".into()));
        }
        if !(self.weight.is_finite() && self.weight >= 0.0) {
            let weight = self.weight;
            return Err(fault(format!("weight is {weight}, expected 0 or more")));
        }
        if self.shuffle == 0 {
            return Err(fault(
                "shuffle is 0, expected 1 (the order of the files) or more".into(),
            ));
        }
        let has_own_images = matches!(self.kind, SourceKind::WebDataset | SourceKind::Folder);
        if has_own_images && self.images.is_some() {
            return Err(fault(
                "this kind holds its own pictures; remove 'images'".into(),
            ));
        }
        let names_images = matches!(self.kind, SourceKind::Jsonl | SourceKind::Parquet);
        if self.image_field != image() && !names_images {
            return Err(fault(
                "'image_field' belongs to kind = \"jsonl\" and kind = \"parquet\" only".into(),
            ));
        }
        if self.turns.is_some() && self.kind != SourceKind::Conversations {
            return Err(fault(
                "'turns' belongs to kind = \"conversations\" only".into(),
            ));
        }
        if let Some(augment) = &self.augment {
            augment.check().map_err(fault)?;
        }
        if let Some(side) = self.sketch {
            sketch::check(side).map_err(fault)?;
        } else if self.figure.is_some() {
            return Err(fault("'figure' is a word in sketches; add 'sketch'".into()));
        }
        for view in &self.views {
            view.check().map_err(fault)?;
        }
        Ok(())
    }
}
