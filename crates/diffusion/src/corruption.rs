//! The forward process x0 → xt: which positions of an example are masked, and what each masked
//! position weighs in the loss.
//!
//! ```text
//!   spans     frame  prompt   answer tail        frame  prompt  frame  image        frame
//!   masked             never    each with p             never          round(N·m)
//!   weight                      1/p / length                           1, mean over the batch
//! ```
//!
//! A weight belongs to a target and a `share` to an example: the loss of a task is
//! `Σ weight·nll / Σ share` over the batch. With share 1 that averages examples, with share = the
//! number of targets it averages targets. Several windows of an answer at once are in `tiles`.
//! Source: `modeling_mmada.py` and `training/utils.py` of the original; paper, equations 1 and 2.

use mmada_tensor::random::Stream;
use mmada_tokens::{Sequence, SpanKind, Task};
use serde::de::{Error as _, Unexpected};
use serde::{Deserialize, Deserializer, Serialize};

use crate::schedule::Schedule;

mod patches;
mod tiles;

pub use patches::drop_patches;
pub use tiles::{Piece, Tiles, push_pieces};

/// How examples are noised and what their targets weigh. The defaults are the original's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Corruption {
    /// ε of `p = (1 − ε)·t + ε`, the masking rate of text; bounds the weight 1/p.
    pub smallest_rate: f32,
    /// Masked fraction of pictures at time t.
    pub schedule: Schedule,
    /// Smallest masked fraction of pictures.
    pub min_masking_rate: f32,
    /// Weights of plain text.
    pub text: Weighting,
    /// Weights of answers: chat, description, thought.
    pub answer: Weighting,
    /// Weights of pictures.
    pub image: Weighting,
    /// Whether the tokens that frame a picture are targets.
    pub frames: FrameTargets,
    /// Noise answers as they look while they are sampled, most of the time; absent: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// How a thought and its picture are noised together.
    pub thinking: Thinking,
    /// The share of staged examples of which the thought is learnt and not the picture.
    pub thought_share: f32,
    /// Probability that the prompt of a painting is dropped, for guidance.
    pub condition_dropout: f32,
}

/// What a target weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weighting {
    /// The factor of each target.
    pub scale: Scale,
    /// What the sum is divided by.
    pub average: Average,
}

/// The factor of each target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// 1/p for masking rate p, the 1/t of equations 1 and 2: the loss of a masked-out example is
    /// then an unbiased estimate of the loss of the whole.
    InverseRate,
    /// 1.
    One,
}

/// What the sum over targets is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Average {
    /// The length of the row, then the number of examples (original: plain text).
    Row,
    /// The number of learnable positions, masked or not, then the number of examples (original:
    /// chat and description; end-of-text filler counts).
    Learnable,
    /// The number of targets in the batch (original: pictures).
    Targets,
}

/// An answer half written from left to right: what is before a window of random place is given,
/// what is after it is masked and no target, and only the window is noised and learnt.
///
/// ```text
///   <think> 3 3 + 6 ? = 9 ? ? ? ? ? ? ? ? ?
///   given           └ window ┘ masked, not learnt
/// ```
///
/// With masks anywhere, a result can mostly be copied from where it is used next; here it must be
/// computed, as in semi-autoregressive sampling.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Its length in tokens, at least 1.
    #[serde(deserialize_with = "at_least_1")]
    pub length: usize,
    /// Masks after it; the answer is cut off or prolonged to that, as [`crate::TextPlan::ahead`]
    /// does, so that where the row ends says nothing about where the answer does. Absent: up to the
    /// end of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ahead: Option<usize>,
    /// The share of answers that are noised so; the others are masked anywhere, as in the original.
    pub share: f32,
    /// The share of those of which all windows are learnt in one forward, each with its own past.
    /// Needs `ahead`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tiled: f32,
    /// The share of these that are learnt token by token, each from all before it, as an autoregressive
    /// model learns: windows of one token with nothing ahead.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub by_token: f32,
}

fn at_least_1<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    match usize::deserialize(deserializer)? {
        0 => Err(D::Error::invalid_value(
            Unexpected::Unsigned(0),
            &"a window of at least 1 token",
        )),
        length => Ok(length),
    }
}

fn is_zero(value: &f32) -> bool {
    *value == 0.0
}

/// Whether start and end of picture, which are never masked, are targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FrameTargets {
    /// They are, as in the original: two trivial targets in every mean.
    #[default]
    Learn,
    /// They are not.
    Omit,
}

/// How a thought and its picture are noised together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Thinking {
    /// As they are generated: in a share of the examples the thought is noised while the picture is all
    /// masked and no target, or not there if the thought looks only so far ahead; in the others the picture is
    /// noised beside the whole thought.
    #[default]
    Staged,
    /// One masking rate for both, weighed as one answer (`forward_process_with_r2i`).
    Together,
}

/// An example after the forward process.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Noised {
    /// Ids, with the mask where it fell.
    pub ids: Vec<u32>,
    /// What of them sees what; empty: they are one sequence.
    pub pieces: Vec<Piece>,
    /// What is to be predicted, in order of position; may be empty.
    pub targets: Vec<Target>,
    /// What the example adds to the divisor of its task's loss.
    pub share: f32,
    /// Where in a whole sequence the positions lie, if some of it is left out; empty: they are all there.
    pub origins: Vec<u32>,
}

/// A position to predict.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    /// Place among the ids, which is the position in the sequence unless there are pieces.
    pub position: usize,
    /// The clean id.
    pub id: u32,
    /// Factor of its negative log-likelihood.
    pub weight: f32,
}

impl Default for Corruption {
    fn default() -> Self {
        Self {
            smallest_rate: 1e-3,
            schedule: Schedule::Cosine,
            min_masking_rate: 0.0,
            text: Weighting {
                scale: Scale::InverseRate,
                average: Average::Row,
            },
            answer: Weighting {
                scale: Scale::InverseRate,
                average: Average::Learnable,
            },
            image: Weighting {
                scale: Scale::One,
                average: Average::Targets,
            },
            frames: FrameTargets::Learn,
            window: None,
            thinking: Thinking::Staged,
            thought_share: 0.5,
            condition_dropout: 0.1,
        }
    }
}

impl Corruption {
    /// Noises an example at time `t` in `[0, 1]`: for text the masking rate is `t` (from ε), for
    /// pictures it is the schedule at `t`. Which positions fall is drawn from `stream`.
    pub fn corrupt(&self, sequence: &Sequence, mask: u32, t: f32, stream: &mut Stream) -> Noised {
        let mut work = Work::new(sequence, mask);
        match sequence.task {
            Task::Text => work.mask_text(self.text, self.text_rate(t), stream),
            Task::Chat | Task::Describe => self.mask_answer(&mut work, t, stream),
            Task::Paint => self.mask_image(&mut work, t, stream),
            Task::ThinkPaint => self.mask_thought(&mut work, t, stream),
        }
        work.noised()
    }

    /// An answer of which nothing is given yet, as sampling begins: its first window is learnt and
    /// what follows is masked and no target; without windows all of it is learnt. What it says can
    /// then be known from prompt and picture alone.
    pub fn blank(&self, sequence: &Sequence, mask: u32, stream: &mut Stream) -> Noised {
        let mut work = Work::new(sequence, mask);
        match self.window {
            Some(window) => {
                work.mask_window(self.answer, 1.0, window, window.length.max(1), stream);
            }
            None => work.mask_text(self.answer, 1.0, stream),
        }
        work.noised()
    }

    /// The masking rate of text at time `t`.
    pub fn text_rate(&self, t: f32) -> f32 {
        (1.0 - self.smallest_rate) * t + self.smallest_rate
    }

    /// Whether an example loses its condition, for a uniform `draw` in `[0, 1)`: only paintings
    /// do. The example is then [`without_condition`].
    pub fn drops_condition(&self, task: Task, draw: f32) -> bool {
        task == Task::Paint && draw < self.condition_dropout
    }

    fn mask_answer(&self, work: &mut Work, t: f32, stream: &mut Stream) {
        let rate = self.text_rate(t);
        match self.window {
            Some(window) if stream.uniform() < window.share => {
                if let Some(ahead) = window.ahead.filter(|_| window.tiled > 0.0)
                    && stream.uniform() < window.tiled
                    && work.can_be_tiled()
                {
                    if window.by_token > 0.0 && stream.uniform() < window.by_token {
                        work.each_token(self.answer, window.length);
                        return;
                    }
                    let rate = |part: f32| self.text_rate((t + part).fract());
                    work.tile(self.answer, window, ahead, rate, stream);
                    return;
                }
                let end = work.window_end(window, stream);
                work.mask_window(self.answer, rate, window, end, stream);
            }
            _ => work.mask_text(self.answer, rate, stream),
        }
    }

    fn mask_image(&self, work: &mut Work, t: f32, stream: &mut Stream) {
        let image: Vec<usize> = work.sequence.positions(SpanKind::Image).collect();
        if image.is_empty() {
            return;
        }
        let total = image.len();
        let count = self
            .schedule
            .training_count(t, self.min_masking_rate, total);
        let masked = mask_exactly(&image, count, stream);
        let frames = match self.frames {
            FrameTargets::Learn => frame_positions(work.sequence),
            FrameTargets::Omit => Vec::new(),
        };
        work.hide(&masked);
        let rate = count as f32 / total as f32;
        work.learn(self.image, rate, total, &masked, &frames);
    }

    fn mask_thought(&self, work: &mut Work, t: f32, stream: &mut Stream) {
        match self.thinking {
            Thinking::Together => {
                let image = work.sequence.positions(SpanKind::Image);
                let both: Vec<usize> = work.learnable_text().chain(image).collect();
                work.mask_rate(self.answer, self.text_rate(t), &both, stream);
            }
            Thinking::Staged if stream.uniform() < self.thought_share => {
                let looks_only_so_far = self.window.is_some_and(|window| window.ahead.is_some());
                match looks_only_so_far {
                    true => work.cut_behind_text(),
                    false => {
                        let image: Vec<usize> = work.sequence.positions(SpanKind::Image).collect();
                        work.hide(&image);
                    }
                }
                self.mask_answer(work, t, stream);
            }
            Thinking::Staged => self.mask_image(work, t, stream),
        }
        // One example of this task counts once, whichever of its parts was noised.
        let share = std::mem::replace(&mut work.share, 1.0);
        for target in &mut work.targets {
            target.weight /= share;
        }
    }
}

/// A painting without its text: the unconditional example of guidance. A visible pad grows so that
/// the row keeps its length.
pub fn without_condition(sequence: &Sequence) -> Sequence {
    let dropped = sequence.positions(SpanKind::Prompt).count();
    let mut bare = Sequence::new(sequence.task);
    for span in &sequence.spans {
        let ids = &sequence.ids[span.range.clone()];
        match span.kind {
            SpanKind::Prompt => {}
            SpanKind::Pad => bare.push(SpanKind::Pad, &vec![ids[0]; ids.len() + dropped]),
            kind => bare.push(kind, ids),
        }
    }
    bare
}

/// Each position with probability `rate`, independently; in order.
pub fn mask_independently(positions: &[usize], rate: f32, stream: &mut Stream) -> Vec<usize> {
    let is_masked = |_: &usize| stream.uniform() < rate;
    positions.iter().copied().filter(is_masked).collect()
}

/// Exactly `count` of the positions, all choices equally likely; in order.
pub fn mask_exactly(positions: &[usize], count: usize, stream: &mut Stream) -> Vec<usize> {
    let mut chosen = positions.to_vec();
    stream.shuffle(&mut chosen);
    chosen.truncate(count);
    chosen.sort_unstable();
    chosen
}

/// The framing tokens right before and after each picture.
fn frame_positions(sequence: &Sequence) -> Vec<usize> {
    let is_frame = |position: &usize| sequence.positions(SpanKind::Frame).any(|p| p == *position);
    let images = sequence
        .spans
        .iter()
        .filter(|span| span.kind == SpanKind::Image);
    let edges = images.flat_map(|span| [span.range.start.wrapping_sub(1), span.range.end]);
    edges.filter(is_frame).collect()
}

/// An example while it is noised.
struct Work<'a> {
    sequence: &'a Sequence,
    mask: u32,
    ids: Vec<u32>,
    pieces: Vec<Piece>,
    targets: Vec<Target>,
    share: f32,
}

impl<'a> Work<'a> {
    fn new(sequence: &'a Sequence, mask: u32) -> Self {
        Self {
            sequence,
            mask,
            ids: sequence.ids.clone(),
            pieces: Vec::new(),
            targets: Vec::new(),
            share: 1.0,
        }
    }

    fn noised(mut self) -> Noised {
        self.targets.sort_by_key(|target| target.position);
        Noised {
            ids: self.ids,
            pieces: self.pieces,
            targets: self.targets,
            share: self.share,
            origins: Vec::new(),
        }
    }

    fn learnable_text(&self) -> impl Iterator<Item = usize> + use<'a> {
        let spans = self.sequence.spans.iter();
        spans
            .filter(|span| matches!(span.kind, SpanKind::Answer | SpanKind::Tail))
            .flat_map(|span| span.range.clone())
    }

    fn mask_text(&mut self, weighting: Weighting, rate: f32, stream: &mut Stream) {
        let positions: Vec<usize> = self.learnable_text().collect();
        self.mask_rate(weighting, rate, &positions, stream);
    }

    /// The end of a window of random place, from the beginning of the answer. Windows may begin before
    /// the answer and end after it, so that every position is in one equally often. Where targets are
    /// averaged, those of such a window share its weight among fewer: the first and the last token
    /// weigh up to 1 + 1/2 + … + 1/length times what one in the middle does.
    fn window_end(&self, window: Window, stream: &mut Stream) -> usize {
        let learnable = self.learnable_text().count();
        1 + stream.below((learnable + window.length.max(1) - 1).max(1))
    }

    fn mask_window(
        &mut self,
        weighting: Weighting,
        rate: f32,
        window: Window,
        end: usize,
        stream: &mut Stream,
    ) {
        let positions: Vec<usize> = self.learnable_text().collect();
        let start = end.saturating_sub(window.length.max(1));
        let end = end.min(positions.len());
        self.mask_rate(weighting, rate, &positions[start..end], stream);
        self.hide(&positions[end..]);
        let is_last = positions
            .last()
            .is_some_and(|last| last + 1 == self.ids.len());
        if let (Some(ahead), true) = (window.ahead, is_last) {
            self.ids.resize(positions[0] + end + ahead, self.mask);
        }
    }

    fn mask_rate(
        &mut self,
        weighting: Weighting,
        rate: f32,
        positions: &[usize],
        stream: &mut Stream,
    ) {
        let masked = mask_independently(positions, rate, stream);
        self.hide(&masked);
        self.learn(weighting, rate, positions.len(), &masked, &[]);
    }

    /// Leaves out what stands behind the text: what looks only so many masks ahead does not see the picture to come.
    fn cut_behind_text(&mut self) {
        if let Some(last) = self.learnable_text().last() {
            self.ids.truncate(last + 1);
        }
    }

    fn hide(&mut self, positions: &[usize]) {
        for &position in positions {
            self.ids[position] = self.mask;
        }
    }

    /// Adds targets: masked positions, scaled; `visible` ones, which are not masked, with scale 1.
    fn learn(
        &mut self,
        weighting: Weighting,
        rate: f32,
        learnable: usize,
        masked: &[usize],
        visible: &[usize],
    ) {
        let scale = match weighting.scale {
            Scale::InverseRate => 1.0 / rate,
            Scale::One => 1.0,
        };
        let divisor = match weighting.average {
            Average::Row => self.sequence.ids.len() as f32,
            Average::Learnable => learnable as f32,
            Average::Targets => 1.0,
        };
        self.share = match weighting.average {
            Average::Row | Average::Learnable => 1.0,
            Average::Targets => (masked.len() + visible.len()) as f32,
        };
        let scaled = masked.iter().map(|&position| (position, scale / divisor));
        let plain = visible.iter().map(|&position| (position, 1.0 / divisor));
        for (position, weight) in scaled.chain(plain) {
            self.targets.push(Target {
                position,
                id: self.sequence.ids[position],
                weight,
            });
        }
    }
}
