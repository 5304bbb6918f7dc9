//! What the next step of a canvas looks at: the positions whose logits it needs, the ids a forward
//! sees, and the rows that are computed anew.

use std::ops::Range;

use mmada_tensor::random::Purpose;

use super::Canvas;
use crate::cache::{CacheRule, Refresh, Remembered, Scope};
use crate::guidance::{Guidance, Unconditional};
use crate::halton;
use crate::noise::Dice;
use crate::plan::{Order, Plan, TextStep};

/// Positions whose logits a step needs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    /// Masked positions that the step may fix.
    pub(crate) candidates: Vec<usize>,
    /// Committed positions whose stand-ins are asked.
    pub(crate) committed: Vec<usize>,
}

impl Canvas {
    /// Guidance of the next step.
    pub(crate) fn guidance(&self) -> Option<&Guidance> {
        let guidance = self.guidance.as_ref()?;
        let step = match self.is_revising() {
            true => self.painting_steps() - 1,
            false => self.steps_taken,
        };
        (step < self.guided_steps(guidance)).then_some(guidance)
    }

    /// How many other conditions there are.
    pub(crate) fn conditions(&self) -> usize {
        self.also.len()
    }

    /// What a forward sees under each of the other conditions.
    pub(crate) fn visible_also(&self) -> impl Iterator<Item = Vec<u32>> {
        self.also.iter().map(|(start, given)| {
            let mut ids = self.visible().to_vec();
            ids[*start..][..given.len()].copy_from_slice(given);
            ids
        })
    }

    /// Guidance of any step.
    pub(crate) fn unconditional(&self) -> Option<&Unconditional> {
        Some(&self.guidance.as_ref()?.unconditional)
    }

    fn guided_steps(&self, guidance: &Guidance) -> usize {
        steps_of(guidance.share, self.painting_steps())
    }

    /// Whether steps rely on what a denoiser remembers of earlier ones.
    pub(crate) fn needs_memory(&self) -> bool {
        self.cache() != CacheRule::Off || self.stand_ins() > 0
    }

    /// The most stand-ins that a step asks for.
    pub(crate) fn stand_ins(&self) -> usize {
        match &self.plan {
            Plan::Text(plan) if plan.commit.verifies() => plan.block_length.min(self.region.len()),
            _ => 0,
        }
    }

    pub(crate) fn cache(&self) -> CacheRule {
        match &self.plan {
            Plan::Text(plan) => plan.cache,
            Plan::Image(plan) => plan.cache,
        }
    }

    /// Fixes the order of a picture that is decided in Halton order, shifted at random: pictures of
    /// one prompt begin at different places.
    pub(crate) fn begin(&mut self, dice: &mut Dice) {
        let Plan::Image(plan) = &self.plan else {
            return;
        };
        if plan.order == Order::Confidence || !self.order.is_empty() {
            return;
        }
        let (width, height) = (plan.width, plan.range.len() / plan.width);
        let mut shift = [0.0; 2];
        dice.fill(plan.range.start, Purpose::Position, &mut shift);
        let [right, down] = shift;
        let (right, down) = (
            (right * width as f64) as usize,
            (down * height as f64) as usize,
        );
        let cells = halton::order(width, height).into_iter().map(|cell| {
            let (x, y) = (cell % width + right, cell / width + down);
            plan.range.start + y % height * width + x % width
        });
        let is_in_region = |position: &usize| self.region.binary_search(position).is_ok();
        self.order = cells.filter(is_in_region).collect();
    }

    /// What the next step needs the logits of: masked positions of the current block or of the
    /// picture, and, where they are verified, those of the block that are committed.
    pub(crate) fn asks(&self) -> Asked {
        let is_masked = |position: &&usize| self.ids[**position] == self.mask;
        match (&self.plan, self.agenda.get(self.cursor)) {
            (Plan::Text(plan), Some(step)) => {
                let block = &self.region[step.block.clone()];
                let committed = block
                    .iter()
                    .filter(|p| !is_masked(p) && plan.commit.verifies());
                Asked {
                    candidates: block.iter().filter(is_masked).copied().collect(),
                    committed: committed.copied().collect(),
                }
            }
            (Plan::Image(plan), _) if plan.order == Order::Halton => {
                let quota = self.image_quota(plan, self.masked());
                let next = self.order.iter().filter(is_masked).take(quota);
                let mut candidates: Vec<usize> = next.copied().collect();
                candidates.sort_unstable();
                Asked {
                    candidates,
                    ..Asked::default()
                }
            }
            _ => Asked {
                candidates: self.region.iter().filter(is_masked).copied().collect(),
                ..Asked::default()
            },
        }
    }

    /// Positions that the next step computes anew whether they changed or not.
    pub(crate) fn scope(&self, asked: &Asked, remembered: Option<&Remembered>) -> Scope {
        let is_due = |refresh, step: &TextStep| match refresh {
            Refresh::Block => step.is_first_of_block,
            Refresh::Steps(steps) => self.steps_taken.is_multiple_of(steps),
        };
        match (self.cache(), self.agenda.get(self.cursor)) {
            (CacheRule::BlockCausal, Some(step)) => {
                // The block before was computed last while a part of it was masked.
                let before = step.block.start.saturating_sub(1);
                let start = match self.agenda.iter().find(|it| it.block.contains(&before)) {
                    Some(last) if step.is_first_of_block => last.block.start,
                    _ => step.block.start,
                };
                Scope::Within(self.region[start]..self.ids.len())
            }
            (CacheRule::Prefix(refresh), Some(step)) if !is_due(refresh, step) => {
                Scope::Within(self.region[step.block.start]..self.ids.len())
            }
            (CacheRule::Dual(refresh), Some(step)) if !is_due(refresh, step) => {
                let block = &self.region[step.block.clone()];
                Scope::Within(block[0]..block[block.len() - 1] + 1)
            }
            (
                CacheRule::Uncertain {
                    warm_up,
                    share,
                    refresh,
                },
                _,
            ) => {
                // Half of what others attend to is another in every revision.
                if self.is_revising() {
                    return Scope::All;
                }
                let warm = steps_of(warm_up, self.painting_steps()).max(1);
                let since = self.steps_taken.checked_sub(warm);
                let is_refreshed = since.is_none_or(|since| (since + 1).is_multiple_of(refresh));
                let guided = self.guidance.as_ref().map(|g| self.guided_steps(g));
                // Where guidance ends, the remembered logits are of another kind.
                let is_turn = guided == Some(self.steps_taken);
                if is_refreshed || is_turn {
                    return Scope::All;
                }
                let Some(remembered) = remembered else {
                    return Scope::These(asked.candidates.clone());
                };
                let count = (share * asked.candidates.len() as f32).ceil() as usize;
                Scope::These(remembered.least_certain(&asked.candidates, count.max(1)))
            }
            _ => Scope::All,
        }
    }

    /// Where what is given ends for those who see nothing behind it: before each block, up to the current
    /// one, nothing sees further. Empty where all see everything.
    pub(crate) fn bounds(&self) -> Vec<usize> {
        match (self.cache(), self.agenda.get(self.cursor)) {
            (CacheRule::BlockCausal, Some(step)) => {
                let steps = self.agenda.iter().filter(|it| it.is_first_of_block);
                let starts = steps.map(|it| it.block.start);
                let starts = starts.take_while(|start| *start <= step.block.start);
                starts.map(|start| self.region[start]).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The ids that the next forward sees: without masks further ahead than the plan looks.
    pub(crate) fn visible(&self) -> &[u32] {
        let (Plan::Text(plan), Some(step)) = (&self.plan, self.agenda.get(self.cursor)) else {
            return &self.ids;
        };
        let Some(ahead) = plan.ahead else {
            return &self.ids;
        };
        let last = step.block.end.saturating_add(ahead).min(self.region.len());
        let end = self.region[last - 1] + 1;
        match self.ids[end..].iter().all(|id| *id == self.mask) {
            true => &self.ids[..end],
            false => &self.ids,
        }
    }

    /// Whether logits of positions that are not computed are taken from an earlier step.
    pub(crate) fn remembers_logits(&self) -> Option<(Range<usize>, usize)> {
        match &self.plan {
            Plan::Image(plan)
                if plan.order == Order::Confidence && plan.cache != CacheRule::Off =>
            {
                Some((plan.range.clone(), plan.codes.len()))
            }
            _ => None,
        }
    }
}

/// A share of the steps, rounded up. A share such as 0.3, which is not exact, asks for no step more
/// than the fraction would.
fn steps_of(share: f32, steps: usize) -> usize {
    (f64::from(share) * steps as f64 - ROUNDING * steps as f64).ceil() as usize
}

/// More than the error of an f32 between 0 and 1.
const ROUNDING: f64 = 1e-7;
