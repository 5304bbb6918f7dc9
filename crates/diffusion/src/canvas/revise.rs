//! Revisions of a picture: once it is complete, every other code, as on a chessboard, is masked and
//! drawn anew with its neighbours given; in the next revision the others.

use super::Canvas;
use crate::plan::Plan;

impl Canvas {
    /// Steps before the first revision, at most: a schedule may be done earlier.
    pub(super) fn painting_steps(&self) -> usize {
        self.steps - self.revisions
    }

    /// Whether the next step revises the picture.
    pub(super) fn is_revising(&self) -> bool {
        self.revised > 0
    }

    /// After a step: masks what the next revision draws anew, if the picture is complete and one is
    /// left. Returns the positions.
    pub(super) fn revise(&mut self) -> Vec<usize> {
        self.replaced.clear();
        let Plan::Image(plan) = &self.plan else {
            return Vec::new();
        };
        if self.masked() > 0 || self.revised == self.revisions {
            return Vec::new();
        }
        let is_due = |&&position: &&usize| plan.is_revised(position, self.revised);
        let due: Vec<usize> = self.region.iter().filter(is_due).copied().collect();
        for &position in &due {
            self.replaced.push((position, self.ids[position]));
            self.ids[position] = self.mask;
        }
        self.revised += 1;
        due
    }
}
