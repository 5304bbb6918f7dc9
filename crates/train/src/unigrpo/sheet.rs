//! What a rollout looks like: completions with their scores, as text and as a sheet of pictures.
//!
//! ```text
//!   rollout: What is 12 + 30?
//!     2.50 (answer 1.00, format 1.00): <think>12 + 30 = 42.</think>42
//!     0.50 (answer 0.00, format 1.00): <think>12 + 30 = 44.</think>44
//!   rollout: a blue circle
//!     1.2  2.00 (color 1.00, shape 1.00, drawing 1.00)        line 1, second picture of the sheet
//! ```

use std::fmt::Write as _;

use mmada_data::picture::Picture;

use super::judges::Verdict;
use super::rollout::{Completion, Group};
use crate::objective::Sheet;
use crate::{Error, Result};

/// Groups of a rollout with their prompts.
#[derive(Debug, Default)]
pub(super) struct Groups(Vec<(String, Vec<Completion>)>);

/// Groups on a sheet.
const MOST: usize = 4;
/// Completions of a group on a sheet.
const MOST_OF_GROUP: usize = 8;

impl Groups {
    /// The first groups of a rollout.
    pub(super) fn of(groups: Vec<Group>) -> Self {
        let shown = groups.into_iter().take(MOST);
        let shown = shown.map(|group| (group.prompt.example.prompt, group.completions));
        Self(shown.collect())
    }

    /// Adds them to a sheet: words to its text, pictures as the panel `rollout`, one group per line.
    ///
    /// # Errors
    /// When pictures of different sizes meet.
    pub(super) fn show(&self, sheet: &mut Sheet) -> Result<()> {
        let mut pictures: Vec<Picture> = Vec::new();
        let mut columns = 1;
        for (prompt, group) in &self.0 {
            let _ = writeln!(sheet.text, "\nrollout: {prompt}");
            let group = &group[..group.len().min(MOST_OF_GROUP)];
            let line = pictures.len() / columns + 1;
            for (index, completion) in group.iter().enumerate() {
                let verdict = written(completion.verdict.as_ref().ok());
                if let Some(picture) = &completion.picture {
                    columns = group.len();
                    pictures.push(picture.clone());
                    let _ = write!(sheet.text, "  {line}.{}  {verdict}", index + 1);
                } else {
                    let _ = write!(sheet.text, "  {verdict}");
                }
                let _ = match &completion.text {
                    Some(text) => writeln!(sheet.text, ": {}", text.replace('\n', " ")),
                    None => writeln!(sheet.text),
                };
            }
        }
        if !pictures.is_empty() {
            let grid = Picture::grid(&pictures, columns, 2).map_err(Error::data)?;
            sheet.pictures.push(("rollout", grid));
        }
        Ok(())
    }
}

/// The reward and its parts in words.
fn written(verdict: Option<&Verdict>) -> String {
    let Some(verdict) = verdict else {
        return "dropped".to_owned();
    };
    let parts = verdict.parts.iter();
    let parts = parts.map(|(grader, value)| format!("{grader} {value:.2}"));
    let parts = parts.collect::<Vec<_>>().join(", ");
    format!("{:.2} ({parts})", verdict.reward)
}
