//! A generated text, read off its canvas.

use std::ops::Range;

use mmada_diffusion::Canvas;
use mmada_tokens::Thought;

use crate::error::Result;
use crate::mmada::Mmada;
use crate::pictures::Grid;
use crate::run::Outcome;

/// A generated text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextReply {
    /// All of it, thought included; a filled text with its given parts.
    pub text: String,
    /// The same, taken apart.
    pub thought: Thought,
    /// What was put into each gap; empty when there were none.
    pub gaps: Vec<String>,
    /// Ids of all of it, the end that was written included.
    pub ids: Vec<u32>,
    /// Generated tokens up to the end of the answer.
    pub tokens: usize,
}

/// Outcome of a text canvas.
#[derive(Debug, Clone)]
pub struct Text {
    /// Positions of the answer.
    pub(crate) span: Range<usize>,
    /// Gaps within the answer; none where all of it is generated.
    pub(crate) gaps: Vec<Range<usize>>,
    /// Whether the answer may end before its positions do.
    pub(crate) ends_open: bool,
}

impl Text {
    /// A whole answer at these positions.
    pub(crate) fn whole(span: Range<usize>) -> Self {
        Self {
            span,
            gaps: Vec::new(),
            ends_open: true,
        }
    }
}

impl Outcome for Text {
    type Output = TextReply;

    fn read(&self, model: &Mmada, canvas: &Canvas) -> Result<TextReply> {
        let special = &model.vocab().special;
        let is_end = |id: &u32| [special.eot, special.eos].contains(id);
        let ids = &canvas.ids()[self.span.clone()];
        let decode = |ids: &[u32]| model.codec().tokenizer.decode(ids);
        // Only what is open at the end can end early.
        let open_from = match (self.ends_open, self.gaps.last()) {
            (true, Some(gap)) => gap.start,
            (true, None) => 0,
            (false, _) => ids.len(),
        };
        let end = ids[open_from..]
            .iter()
            .position(is_end)
            .map_or(ids.len(), |at| open_from + at);
        let text = decode(&ids[..end]);
        let gap = |gap: &Range<usize>| decode(&ids[gap.start.min(end)..gap.end.min(end)]);
        let gaps: Vec<String> = self.gaps.iter().map(gap).collect();
        let tokens = match self.gaps.is_empty() {
            true => end,
            false => self
                .gaps
                .iter()
                .map(|gap| gap.end.min(end) - gap.start.min(end))
                .sum(),
        };
        Ok(TextReply {
            thought: Thought::parse(&text),
            text,
            ids: ids[..(end + 1).min(ids.len())].to_vec(),
            gaps,
            tokens,
        })
    }

    fn shown(&self) -> (Range<usize>, Option<Grid>) {
        (self.span.clone(), None)
    }
}
