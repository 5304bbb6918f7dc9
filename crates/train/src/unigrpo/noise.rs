//! Which tokens of a completion are masked, so that its likelihood can be asked for.
//!
//! ```text
//!                    question      answer, half of it masked      a second one of the group
//!   own              what is 2+2   <think> ▒ + 2 ▒ 4 ▒ ▒ 4        ▒ 2 ▒ 2 = ▒ . ▒ 5
//!   shared           what is 2+2   <think> ▒ + 2 ▒ 4 ▒ ▒ 4        <think> ▒ + 2 ▒ 5 ▒ ▒ 5
//!   unwritten        what is 2+2   <think> 2 + 2 = ▒ ▒ ▒ ▒        <think> 2 + 2 = ▒ ▒ ▒ ▒
//!   window           what is 2+2   <think> 2 + 2 = ▒ ▒            <think> 2 + 2 = ▒ ▒
//!   windows          what is 2+2   ▒ ▒ │ <think> 2 ▒ ▒ │ <think> 2 + 2 ▒ ▒ │ …, all at once
//! ```

use std::ops::Range;

use mmada_diffusion::corruption::Tiles;
use mmada_tensor::random::Stream;
use mmada_tokens::{Sequence, SpanKind, Task};
use serde::{Deserialize, Serialize};

use super::rollout::Estimate;

/// Where the completions of a group are masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Masks {
    /// Each at places of its own.
    #[default]
    Own,
    /// All at the same places. Advantages of a group add up to 0, so what its completions have in
    /// common there cancels, and what is learnt is their difference.
    Shared,
    /// The same for pictures; of text the last tokens, those that a sampler which writes from left to
    /// right has not written yet. A wrong result that stands twice is then never there to be copied.
    Unwritten,
    /// The same for pictures; of text only as many tokens as a block that such a sampler would write
    /// next, with nothing behind them but masks: nearly the likelihood of what was sampled, given what
    /// was seen when it was. They begin anywhere, where blocks begin at multiples of their length. Of what
    /// is written token by token that is a single token of a completion.
    Window,
    /// The same for pictures; of text all such blocks, in one forward, where they were written: every
    /// token counts. Of what was written token by token without masks ahead this is the likelihood itself.
    Windows,
}

/// What thoughts before pictures are to those who learn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Thoughts {
    /// Part of the completion: drawn at the temperature of texts, masked and scored with the picture.
    #[default]
    Scored,
    /// What a picture follows from, like its prompt: written as the model does by itself, in a group all
    /// alike where that is the likeliest, never masked. What is learnt is to follow it.
    Given,
}

/// How completions are masked.
#[derive(Debug, Clone, Copy)]
pub struct Noising {
    /// The mask's id.
    pub mask: u32,
    /// Where completions are masked.
    pub masks: Masks,
    /// Whether thoughts before pictures are masked with them.
    pub thoughts: Thoughts,
    /// Share of the prompt's tokens that is masked too and not scored; 0 but for diffu-GRPO.
    pub prompt_rate: f32,
    /// Tokens of a text that are written together, the length of [`Masks::Window`] and [`Masks::Windows`].
    pub block: usize,
    /// Masks after the end of a text, as while it is written; absent: all of the canvas behind
    /// windows, and none behind other masks.
    pub ahead: Option<usize>,
    /// Tokens of the canvas that a text is written on: beyond it there are no masks.
    pub canvas: usize,
    /// The longest row that the model takes: beyond it there are no masks either.
    pub longest: usize,
}

impl Noising {
    /// Masks a completion at `level` of `total`: that share of its tokens, one at least. Completions
    /// that draw from equal streams are masked alike, as far as they are equally long.
    pub fn noise(
        &self,
        sequence: &Sequence,
        (level, total): (u32, u32),
        stream: &mut Stream,
    ) -> Estimate {
        let scored = completion_of(sequence, self.thoughts);
        let is_text = matches!(sequence.task, Task::Chat | Task::Describe);
        let share = f64::from(level) / f64::from(total.max(1));
        let count = ((share * scored.len() as f64).round() as usize).clamp(1, scored.len().max(1));
        let mut ids = sequence.ids.clone();
        for position in sequence.positions(SpanKind::Prompt) {
            if stream.uniform() < self.prompt_rate {
                ids[position] = self.mask;
            }
        }
        if let (true, Masks::Windows, Some(&first)) = (is_text, self.masks, scored.first()) {
            return self.windows(&ids, first..first + scored.len());
        }
        let unwritten = &scored[scored.len().saturating_sub(count)..];
        let positions = match self.masks {
            Masks::Unwritten if is_text => unwritten.to_vec(),
            Masks::Window if is_text => unwritten.iter().copied().take(self.block).collect(),
            Masks::Own | Masks::Shared | Masks::Unwritten | Masks::Window | Masks::Windows => {
                lowest(&scored, count, stream)
            }
        };
        let targets = positions.iter().map(|&position| ids[position]).collect();
        for &position in &positions {
            ids[position] = self.mask;
        }
        if is_text {
            let is_window = self.masks == Masks::Window;
            if let (true, Some(last)) = (is_window, positions.last()) {
                ids.truncate(last + 1);
            }
            let before = scored.first().copied().unwrap_or(ids.len());
            let behind = self.canvas.saturating_sub(ids.len() - before);
            let absent = if is_window { behind } else { 0 };
            let ahead = self.ahead.unwrap_or(absent).min(behind);
            ids.resize(ids.len() + ahead, self.mask);
            ids.truncate(self.longest);
        }
        Estimate::of(ids, Vec::new(), positions, targets)
    }

    /// All blocks of an answer, masked, each with all before it.
    fn windows(&self, ids: &[u32], answer: Range<usize>) -> Estimate {
        let room = (
            self.ahead.unwrap_or(self.canvas),
            self.longest.min(answer.start + self.canvas),
        );
        let tiles = Tiles::blocks(
            &ids[..answer.end],
            answer.start,
            self.block,
            room,
            self.mask,
        );
        let positions = tiles.asked.iter().cloned().flatten().collect();
        Estimate::of(tiles.ids, tiles.pieces, positions, ids[answer].to_vec())
    }
}

/// The positions that are scored, in order: what the policy wrote, without thoughts that are given. A
/// picture that was asked about is none of them.
fn completion_of(sequence: &Sequence, thoughts: Thoughts) -> Vec<usize> {
    let is_written = |kind: &SpanKind| match (sequence.task, kind) {
        (Task::Describe, SpanKind::Image) => false,
        (Task::ThinkPaint, SpanKind::Answer) => thoughts == Thoughts::Scored,
        _ => true,
    };
    let kinds = [SpanKind::Answer, SpanKind::Image].into_iter();
    let written = kinds.filter(is_written);
    let mut positions: Vec<usize> = written
        .flat_map(|kind| sequence.positions(kind).collect::<Vec<_>>())
        .collect();
    positions.sort_unstable();
    positions
}

/// The `count` positions that draw the lowest numbers, in order.
fn lowest(positions: &[usize], count: usize, stream: &mut Stream) -> Vec<usize> {
    let draws = positions
        .iter()
        .map(|&position| (stream.uniform(), position));
    let mut draws: Vec<(f32, usize)> = draws.collect();
    draws.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut chosen: Vec<usize> = draws.into_iter().take(count).map(|(_, p)| p).collect();
    chosen.sort_unstable();
    chosen
}
