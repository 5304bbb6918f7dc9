//! A token sequence whose regions have names, so that nobody slices with numbers.

use std::ops::Range;

/// What a sequence is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Task {
    /// Plain text (the original's `lm`).
    Text,
    /// A conversation (`lm_chat`).
    Chat,
    /// Text about a picture (`mmu`).
    Describe,
    /// A picture from text (`t2i`).
    Paint,
    /// A thought, then a picture (`r2i`).
    ThinkPaint,
}

/// What a region of a sequence is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SpanKind {
    /// Filler before the text of a picture prompt (`[iPAD]`); absent unless asked for.
    Pad,
    /// Tokens that frame: task, start and end of text or picture.
    Frame,
    /// What is given and never masked.
    Prompt,
    /// Image codes.
    Image,
    /// Text to be learnt or generated.
    Answer,
    /// End-of-text filler after the answer; it is learnt and attended to.
    Tail,
}

/// A named region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// What it is.
    pub kind: SpanKind,
    /// Its positions.
    pub range: Range<usize>,
}

/// Ids with named spans. The spans are in order, without gaps, and cover every position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence {
    /// What the sequence is for.
    pub task: Task,
    /// Token ids.
    pub ids: Vec<u32>,
    /// The regions.
    pub spans: Vec<Span>,
}

impl Sequence {
    /// An empty sequence.
    pub fn new(task: Task) -> Self {
        Self {
            task,
            ids: Vec::new(),
            spans: Vec::new(),
        }
    }

    /// Appends a region; an empty one leaves no span. Adjacent regions of one kind merge.
    pub fn push(&mut self, kind: SpanKind, ids: &[u32]) {
        if ids.is_empty() {
            return;
        }
        let start = self.ids.len();
        self.ids.extend_from_slice(ids);
        match self.spans.last_mut() {
            Some(last) if last.kind == kind => last.range.end = self.ids.len(),
            _ => self.spans.push(Span {
                kind,
                range: start..self.ids.len(),
            }),
        }
    }

    /// The sequence without some of its positions, which are in order.
    pub fn without(&self, left_out: &[usize]) -> Self {
        let mut rest = Self::new(self.task);
        for span in &self.spans {
            let is_kept = |position: &usize| left_out.binary_search(position).is_err();
            let kept = span.range.clone().filter(is_kept);
            let ids: Vec<u32> = kept.map(|position| self.ids[position]).collect();
            rest.push(span.kind, &ids);
        }
        rest
    }

    /// Positions of every region of this kind, in order.
    pub fn positions(&self, kind: SpanKind) -> impl Iterator<Item = usize> + '_ {
        self.spans
            .iter()
            .filter(move |span| span.kind == kind)
            .flat_map(|span| span.range.clone())
    }

    /// The first region of this kind.
    pub fn span(&self, kind: SpanKind) -> Option<Range<usize>> {
        let span = self.spans.iter().find(|span| span.kind == kind)?;
        Some(span.range.clone())
    }
}
