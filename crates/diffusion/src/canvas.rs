//! A sequence in progress: its ids, which positions are to be filled, the plan, and how far it is.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::guidance::{Guidance, Unconditional};
use crate::noise::Dice;
use crate::plan::{Count, Finish, ImagePlan, Plan, Rest, Stop, TextPlan, TextStep};
use crate::scores::{Proposal, Scores, split};
use crate::{image, text};

/// A sequence in progress.
#[derive(Debug, Clone)]
pub struct Canvas {
    ids: Vec<u32>,
    mask: u32,
    /// Positions to fill, in order: masked at the start and within the plan's reach.
    region: Vec<usize>,
    plan: Plan,
    /// Steps of a text plan; empty for a picture.
    agenda: Vec<TextStep>,
    steps: usize,
    steps_taken: usize,
    guidance: Option<Guidance>,
    example: Option<u64>,
    /// The last draw at positions that stayed masked.
    held: Vec<Decision>,
    is_finished: bool,
}

/// An id for a position.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decision {
    /// Position on the canvas.
    pub position: usize,
    /// The id drawn there.
    pub id: u32,
    /// Softmax probability of the id, without noise.
    pub confidence: f32,
}

/// What one step did to one canvas.
#[derive(Debug, Clone, PartialEq)]
pub struct Move {
    /// Index of the canvas in the batch.
    pub canvas: usize,
    /// Step of this canvas, from 0.
    pub step: usize,
    /// Positions fixed by this step, in order of position.
    pub committed: Vec<Decision>,
    /// What was drawn but masked again: with the committed, a preview of the whole.
    pub held: Vec<Decision>,
    /// Positions of the region that are still masked.
    pub masked: usize,
    /// Scale of the noise on the choice of ids (text) or positions (picture) in this step.
    pub temperature: f64,
    /// Whether the canvas takes no further step.
    pub is_finished: bool,
}

impl Canvas {
    /// A canvas whose masked positions, wherever they lie, are filled with text. Several holes are
    /// one region: blocks are runs of masked positions.
    pub fn text(ids: Vec<u32>, mask: u32, plan: TextPlan) -> Result<Self> {
        let all = 0..ids.len();
        Self::text_within(ids, mask, all, plan)
    }

    /// The same, but only masked positions in `range` are filled; others stay masked.
    pub fn text_within(
        ids: Vec<u32>,
        mask: u32,
        range: Range<usize>,
        plan: TextPlan,
    ) -> Result<Self> {
        plan.check()?;
        if range.start > range.end || range.end > ids.len() {
            return Err(Error::setting(
                "positions of the text",
                format!("a range within 0..{}", ids.len()),
                format!("{range:?}"),
                "take a span of the laid-out prompt",
            ));
        }
        let region = masked_in(&ids, mask, range);
        let agenda = plan.agenda(region.len());
        let steps = agenda.len();
        Ok(Self::new(
            ids,
            mask,
            region,
            Plan::Text(plan),
            agenda,
            steps,
        ))
    }

    /// A canvas whose masked positions in the plan's range are painted.
    pub fn image(ids: Vec<u32>, mask: u32, plan: ImagePlan) -> Result<Self> {
        plan.check(ids.len())?;
        let region = masked_in(&ids, mask, plan.range.clone());
        let steps = plan.steps_for(region.len());
        Ok(Self::new(
            ids,
            mask,
            region,
            Plan::Image(plan),
            Vec::new(),
            steps,
        ))
    }

    fn new(
        ids: Vec<u32>,
        mask: u32,
        region: Vec<usize>,
        plan: Plan,
        agenda: Vec<TextStep>,
        steps: usize,
    ) -> Self {
        Self {
            ids,
            mask,
            region,
            plan,
            agenda,
            steps,
            steps_taken: 0,
            guidance: None,
            example: None,
            held: Vec::new(),
            is_finished: steps == 0,
        }
    }

    /// Adds guidance; a scale of 0 adds none.
    pub fn guided(mut self, scale: f32, unconditional: Unconditional) -> Result<Self> {
        unconditional.check(self.ids.len(), &self.region)?;
        if !scale.is_finite() {
            let hint = "0 is no guidance, 3.5 is usual for pictures";
            return Err(Error::setting("guidance", "a finite number", scale, hint));
        }
        self.guidance = (scale != 0.0).then_some(Guidance {
            scale,
            unconditional,
        });
        Ok(self)
    }

    /// Numbers the canvas for its random draws. Without a number it is its index in the batch.
    pub fn example(mut self, number: u64) -> Self {
        self.example = Some(number);
        self
    }

    /// The ids as they are now, masks included.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The ids, with the last draw at positions that are still masked: complete where
    /// [`Finish::LeaveOne`] leaves one out, a preview while the canvas is in progress.
    pub fn completed(&self) -> Vec<u32> {
        let mut ids = self.ids.clone();
        for decision in &self.held {
            ids[decision.position] = decision.id;
        }
        ids
    }

    /// The codes of the picture, counted from 0, row by row, from [`Canvas::completed`]. `None`
    /// for text, and while a position of the picture holds no code.
    pub fn codes(&self) -> Option<Vec<u32>> {
        let Plan::Image(plan) = &self.plan else {
            return None;
        };
        let code = |&id: &u32| plan.codes.contains(&id).then(|| id - plan.codes.start);
        let ids = self.completed();
        ids[plan.range.clone()].iter().map(code).collect()
    }

    /// Positions to fill, in order, as they were at the start.
    pub fn region(&self) -> &[usize] {
        &self.region
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Steps that this canvas takes at most.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Whether the canvas takes no further step.
    pub fn is_finished(&self) -> bool {
        self.is_finished
    }

    pub(crate) fn guidance(&self) -> Option<&Guidance> {
        self.guidance.as_ref()
    }

    pub(crate) fn mask(&self) -> u32 {
        self.mask
    }

    pub(crate) fn number(&self, index: usize) -> u64 {
        self.example.unwrap_or(index as u64)
    }

    pub(crate) fn steps_taken(&self) -> usize {
        self.steps_taken
    }

    /// The ids whose logits this canvas needs.
    pub(crate) fn vocab(&self) -> Range<u32> {
        match &self.plan {
            Plan::Text(plan) => plan.allowed.range.clone(),
            Plan::Image(plan) => plan.codes.clone(),
        }
    }

    /// Masked positions that the next step may fix: of the current block, or of the picture.
    pub(crate) fn candidates(&self) -> Vec<usize> {
        let reach = match self.agenda.get(self.steps_taken) {
            Some(step) => &self.region[step.block.clone()],
            None => &self.region[..],
        };
        let is_masked = |position: &usize| self.ids[*position] == self.mask;
        reach.iter().copied().filter(is_masked).collect()
    }

    /// The ids that the next forward sees: without masks further ahead than the plan looks.
    pub(crate) fn visible(&self) -> &[u32] {
        let (Plan::Text(plan), Some(step)) = (&self.plan, self.agenda.get(self.steps_taken)) else {
            return &self.ids;
        };
        let (Some(ahead), None) = (plan.ahead, &self.guidance) else {
            return &self.ids;
        };
        let last = (step.block.end + ahead).min(self.region.len());
        let end = self.region[last - 1] + 1;
        match self.ids[end..].iter().all(|id| *id == self.mask) {
            true => &self.ids[..end],
            false => &self.ids,
        }
    }

    /// Takes one step. `Err` is the position whose logits are not finite.
    pub(crate) fn advance(
        &mut self,
        index: usize,
        candidates: &[usize],
        scores: &Scores,
        dice: &mut Dice,
    ) -> Result<Move, usize> {
        let (proposals, keep, temperature) = match &self.plan {
            Plan::Text(plan) => {
                let proposals = text::propose(plan, candidates, scores, dice)?;
                let quota = self.agenda[self.steps_taken].quota;
                (proposals, quota, f64::from(plan.temperature))
            }
            Plan::Image(plan) => {
                let (step, steps) = (self.steps_taken, self.steps);
                let temperature = plan.anneal.temperature(plan.temperature, step, steps);
                let proposals = image::propose(plan, temperature, candidates, scores, dice)?;
                (
                    proposals,
                    self.image_quota(plan, candidates.len()),
                    temperature,
                )
            }
        };
        let (committed, held) = split(proposals, keep);
        for proposal in &committed {
            self.ids[proposal.position] = proposal.id;
        }
        self.held = held.into_iter().map(Decision::from).collect();
        let step = self.steps_taken;
        self.steps_taken += 1;
        self.settle();
        Ok(Move {
            canvas: index,
            step,
            committed: committed.into_iter().map(Decision::from).collect(),
            held: self.held.clone(),
            masked: self.masked(),
            temperature,
            is_finished: self.is_finished,
        })
    }

    /// How many of `unknown` masked positions this step of a picture commits.
    fn image_quota(&self, plan: &ImagePlan, unknown: usize) -> usize {
        let total = match plan.count {
            Count::Whole => plan.range.len(),
            Count::Hole => self.region.len(),
        };
        let step = self.steps_taken;
        let left = match plan.finish {
            Finish::Complete if step + 1 == self.steps || unknown == 1 => 0,
            Finish::Complete | Finish::LeaveOne => {
                plan.schedule.masked_after(step, self.steps, total, unknown)
            }
        };
        unknown.saturating_sub(left)
    }

    /// Decides whether the canvas is finished, and fills the rest after an early stop.
    fn settle(&mut self) {
        let is_stopped = self.is_stopped();
        if is_stopped {
            self.held.clear();
            if let Plan::Text(TextPlan {
                rest: Rest::Fill(id),
                ..
            }) = self.plan
            {
                for &position in &self.region {
                    if self.ids[position] == self.mask {
                        self.ids[position] = id;
                    }
                }
            }
        }
        let is_spent = self.steps_taken >= self.steps;
        let runs_idle_steps = match &self.plan {
            Plan::Image(plan) => plan.finish == Finish::LeaveOne,
            Plan::Text(_) => false,
        };
        self.is_finished = is_stopped || is_spent || (self.masked() == 0 && !runs_idle_steps);
    }

    /// Whether the stop rule of a text plan holds after the step just taken.
    fn is_stopped(&self) -> bool {
        let Plan::Text(plan) = &self.plan else {
            return false;
        };
        match &plan.stop {
            Stop::Never => false,
            Stop::Complete { end } => {
                let generated = self.region.iter().map(|&position| self.ids[position]);
                let mut decided = generated.take_while(|&id| id != self.mask);
                decided.any(|id| end.contains(&id))
            }
            Stop::BlockEnd { token } => {
                let step = &self.agenda[self.steps_taken - 1];
                let last = self.region[step.block.end - 1];
                step.is_last_of_block && self.ids[last] == *token
            }
        }
    }

    fn masked(&self) -> usize {
        let is_masked = |&&position: &&usize| self.ids[position] == self.mask;
        self.region.iter().filter(is_masked).count()
    }
}

impl From<Proposal> for Decision {
    fn from(proposal: Proposal) -> Self {
        Self {
            position: proposal.position,
            id: proposal.id,
            confidence: proposal.confidence as f32,
        }
    }
}

fn masked_in(ids: &[u32], mask: u32, range: Range<usize>) -> Vec<usize> {
    range.filter(|&position| ids[position] == mask).collect()
}
