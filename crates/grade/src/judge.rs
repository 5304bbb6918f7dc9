//! Judges of many replies at once: graders one by one, networks and endpoints in batches.
//!
//! ```text
//!   Case { prompt, picture shown, reply, truth } × n ──▶ Judge ──▶ n numbers, or none where it failed
//! ```
//!
//! A judge never stops a run. What it cannot judge has no number, and the sample is left out.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mmada_data::picture::Picture;

use crate::grader::{Grader, Reply, Truth};

/// A reply with all that a judge may look at.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// What was asked for, in words.
    pub prompt: &'a str,
    /// The picture that was asked about.
    pub shown: Option<&'a Picture>,
    /// What the model gave back.
    pub reply: Reply<'a>,
    /// What is known about the right reply.
    pub truth: Truth<'a>,
}

/// Judges replies in batches.
pub trait Judge: Send + Sync {
    /// One verdict for each case, in their order; `None` where there is none.
    fn judge(&self, cases: &[Case<'_>]) -> Vec<Option<f64>>;

    /// Whether it needs [`Case::shown`], which costs a decoding.
    fn looks_at_pictures(&self) -> bool {
        false
    }
}

/// A grader, asked case by case.
#[derive(Debug, Clone, Copy)]
pub struct Each<G>(pub G);

impl<G: Grader + Send + Sync> Judge for Each<G> {
    fn judge(&self, cases: &[Case<'_>]) -> Vec<Option<f64>> {
        let verdict = |case: &Case<'_>| {
            let graded = catch_unwind(AssertUnwindSafe(|| self.0.grade(case.reply, case.truth)));
            graded.ok().filter(|value| value.is_finite())
        };
        cases.iter().map(verdict).collect()
    }
}
