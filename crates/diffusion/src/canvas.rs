//! A sequence in progress: its ids, which positions are to be filled, the plan, and how far it is.

mod next;
mod revise;

use std::ops::Range;

pub(crate) use self::next::Asked;
use crate::error::{Error, Result};
use crate::guidance::{Guidance, Unconditional};
use crate::noise::Dice;
use crate::plan::{Count, Finish, ImagePlan, Order, Plan, Rest, Stop, TextPlan, TextStep};
use crate::scores::{Proposal, Scores, rank, split};
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
    /// Positions of the region in the order of a picture that fixes it beforehand.
    order: Vec<usize>,
    steps: usize,
    /// How many of the steps revise a picture that is complete.
    revisions: usize,
    /// Revisions begun.
    revised: usize,
    /// What stood at the positions that the next revision draws anew.
    replaced: Vec<(usize, u32)>,
    steps_taken: usize,
    /// Index into the agenda: blocks that are decided early leave steps out.
    cursor: usize,
    guidance: Option<Guidance>,
    /// What else stands before the region: first position and ids.
    also: Vec<(usize, Vec<u32>)>,
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
    /// What was drawn but masked again.
    pub held: Vec<Decision>,
    /// Committed positions that are masked again after this step, in order: doubted ones of a text,
    /// those of a picture that the next step revises.
    pub revoked: Vec<usize>,
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
        let revisions = plan.revisions_for(&region);
        let steps = plan.steps_for(region.len()) + revisions;
        Ok(Self {
            revisions,
            ..Self::new(ids, mask, region, Plan::Image(plan), Vec::new(), steps)
        })
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
            order: Vec::new(),
            steps,
            revisions: 0,
            revised: 0,
            replaced: Vec::new(),
            steps_taken: 0,
            cursor: 0,
            guidance: None,
            also: Vec::new(),
            example: None,
            held: Vec::new(),
            is_finished: steps == 0,
        }
    }

    /// Adds guidance; a scale of 0 adds none.
    pub fn guided(mut self, scale: f32, unconditional: Unconditional) -> Result<Self> {
        unconditional.check(self.ids.len(), &self.region)?;
        if scale.is_nan() || scale.abs() > LARGEST_SCALE {
            let hint = "0 is no guidance, 3.5 is usual for pictures";
            return Err(Error::setting("guidance", "-1000 to 1000", scale, hint));
        }
        self.guidance = (scale != 0.0).then_some(Guidance {
            scale,
            unconditional,
            share: 1.0,
        });
        Ok(self)
    }

    /// Guides only this share of the steps, from the first on; the others cost half as much.
    /// Revisions are guided as the last step before them.
    pub fn guided_for(mut self, share: f32) -> Result<Self> {
        if !(0.0..=1.0).contains(&share) {
            let hint = "1 guides every step";
            let what = "share of guided steps";
            return Err(Error::setting(what, "0 to 1", share, hint));
        }
        if let Some(guidance) = &mut self.guidance {
            guidance.share = share;
        }
        Ok(self)
    }

    /// Lets the same answer be asked of other conditions too: each is the canvas with these ids from
    /// that position on. Logits are the mean over the canvas and all of them, which is the geometric
    /// mean of the distributions. Each costs one more sequence a step.
    pub fn given_also(mut self, conditions: Vec<(usize, Vec<u32>)>) -> Result<Self> {
        let first = self.region.first().copied().unwrap_or(self.ids.len());
        for (start, ids) in &conditions {
            let end = start.saturating_add(ids.len());
            if end > first {
                return Err(Error::setting(
                    "positions of another condition",
                    format!("before {first}, the first masked position"),
                    format!("{start}..{end}"),
                    "replace what is given only",
                ));
            }
        }
        self.also = conditions;
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
        let held = self.held.iter().map(|held| (held.position, held.id));
        for (position, id) in held.chain(self.replaced.iter().copied()) {
            ids[position] = id;
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

    /// Steps that this canvas takes at most.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Whether the canvas takes no further step.
    pub fn is_finished(&self) -> bool {
        self.is_finished
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

    /// Takes one step. `Err` is the position whose logits are not finite.
    pub(crate) fn advance(
        &mut self,
        index: usize,
        asked: &Asked,
        scores: &Scores,
        dice: &mut Dice,
    ) -> Result<Move, usize> {
        let candidates = &asked.candidates;
        let (mut proposals, verdicts, temperature) = match &self.plan {
            Plan::Text(plan) => {
                let proposals = text::propose(plan, candidates, scores, dice)?;
                let committed = asked.committed.iter().map(|&p| (p, self.ids[p]));
                let committed: Vec<_> = committed.collect();
                let verdicts = text::verdicts(plan, &committed, candidates.len(), scores)?;
                (proposals, verdicts, f64::from(plan.temperature))
            }
            Plan::Image(plan) => {
                let (step, steps) = (self.steps_taken, self.painting_steps());
                // A revision commits all that it draws; their order does not matter.
                let drawn = plan.token_temperature;
                let noise = match (self.is_revising(), plan.order) {
                    (true, _) => (0.0, plan.revision_temperature.unwrap_or(drawn)),
                    // Which positions come next is given: no noise is added to their order.
                    (false, Order::Halton) => (0.0, drawn),
                    (false, Order::Confidence) => {
                        let annealed = plan.anneal.temperature(plan.temperature, step, steps);
                        (annealed, drawn)
                    }
                };
                let proposals = image::propose(plan, noise, candidates, scores, dice)?;
                (proposals, Vec::new(), noise.0)
            }
        };
        rank(&mut proposals);
        let keep = self.quota(&proposals);
        let (committed, held) = split(proposals, keep);
        for proposal in &committed {
            self.ids[proposal.position] = proposal.id;
        }
        let drafts = match &self.plan {
            Plan::Text(plan) if plan.commit.verifies() => {
                committed.iter().map(|it| it.position).collect()
            }
            _ => Vec::new(),
        };
        let revoked = match &self.plan {
            Plan::Text(_) => self.revoke(verdicts, committed.len()),
            Plan::Image(_) => self.revise(),
        };
        self.held = held.into_iter().map(Decision::from).collect();
        let step = self.steps_taken;
        self.steps_taken += 1;
        self.settle(&drafts);
        Ok(Move {
            canvas: index,
            step,
            committed: committed.into_iter().map(Decision::from).collect(),
            held: self.held.clone(),
            revoked,
            masked: self.masked(),
            temperature,
            is_finished: self.is_finished,
        })
    }

    /// How many of the ranked proposals this step commits.
    fn quota(&self, proposals: &[Proposal]) -> usize {
        match &self.plan {
            Plan::Text(plan) => plan.commit.count(proposals, self.agenda[self.cursor].quota),
            Plan::Image(plan) => match plan.order {
                Order::Confidence => self.image_quota(plan, proposals.len()),
                Order::Halton => proposals.len(),
            },
        }
    }

    /// Masks committed tokens again that their stand-ins doubt.
    fn revoke(&mut self, verdicts: Vec<(usize, f64)>, committed: usize) -> Vec<usize> {
        let Plan::Text(plan) = &self.plan else {
            return Vec::new();
        };
        let quota = self.agenda[self.cursor].quota.min(committed);
        let doubted = plan.commit.doubted(verdicts, committed, quota);
        for &position in &doubted {
            self.ids[position] = self.mask;
        }
        doubted
    }

    /// How many of `unknown` masked positions this step of a picture commits.
    fn image_quota(&self, plan: &ImagePlan, unknown: usize) -> usize {
        let total = match plan.count {
            Count::Whole => plan.range.len(),
            Count::Hole => self.region.len(),
        };
        let (step, steps) = (self.steps_taken, self.painting_steps());
        let left = match plan.finish {
            _ if self.is_revising() => 0,
            Finish::Complete if step + 1 == steps || unknown == 1 => 0,
            Finish::Complete | Finish::LeaveOne => {
                plan.schedule.masked_after(step, steps, total, unknown)
            }
        };
        unknown.saturating_sub(left)
    }

    /// Decides whether the canvas is finished, and fills the rest after an early stop. Tokens at
    /// `drafts` have not been verified yet.
    fn settle(&mut self, drafts: &[usize]) {
        let is_stopped = self.is_stopped(drafts);
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
        let is_spent = match &self.plan {
            Plan::Text(_) => {
                self.turn_page();
                self.cursor >= self.agenda.len()
            }
            Plan::Image(_) => self.steps_taken >= self.steps,
        };
        let runs_idle_steps = match &self.plan {
            Plan::Image(plan) => plan.finish == Finish::LeaveOne,
            Plan::Text(_) => false,
        };
        self.is_finished = is_stopped || is_spent || (self.masked() == 0 && !runs_idle_steps);
    }

    /// Moves on in the agenda: to the next step, or to the next block once this one is decided.
    fn turn_page(&mut self) {
        let block = self.agenda[self.cursor].block.clone();
        let is_masked = |&position: &usize| self.ids[position] == self.mask;
        let is_decided = !self.region[block.clone()].iter().any(is_masked);
        self.cursor += 1;
        if is_decided {
            let rest = &self.agenda[self.cursor..];
            self.cursor += rest.iter().take_while(|step| step.block == block).count();
        }
    }

    /// Whether the stop rule of a text plan holds after the step just taken. An answer is complete
    /// once nothing of it is a draft.
    fn is_stopped(&self, drafts: &[usize]) -> bool {
        let Plan::Text(plan) = &self.plan else {
            return false;
        };
        match &plan.stop {
            Stop::Never => false,
            Stop::Complete { end } => {
                let is_decided = |position: &&usize| {
                    self.ids[**position] != self.mask && !drafts.contains(position)
                };
                let mut decided = self.region.iter().take_while(is_decided);
                decided.any(|&position| end.contains(&self.ids[position]))
            }
            Stop::BlockEnd { token } => {
                let step = &self.agenda[self.cursor];
                let block = &self.region[step.block.clone()];
                let is_decided = block
                    .iter()
                    .all(|&position| self.ids[position] != self.mask);
                let last = block[block.len() - 1];
                (step.is_last_of_block || is_decided) && self.ids[last] == *token
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

/// Of guidance; products of logits with much larger ones are no longer finite.
const LARGEST_SCALE: f32 = 1e3;

fn masked_in(ids: &[u32], mask: u32, range: Range<usize>) -> Vec<usize> {
    range.filter(|&position| ids[position] == mask).collect()
}
