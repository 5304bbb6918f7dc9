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

/// A number, or in words why there is none.
pub type Judged = std::result::Result<f64, String>;

/// Judges replies in batches.
pub trait Judge: Send + Sync {
    /// One verdict for each case, in their order.
    fn judge(&self, cases: &[Case<'_>]) -> Vec<Judged>;

    /// Whether it needs [`Case::shown`], which costs a decoding.
    fn looks_at_pictures(&self) -> bool {
        false
    }
}

/// What is said of a judge that panicked.
pub const PANICKED: &str = "it panicked";

/// A number that can be counted.
///
/// # Errors
/// For NaN and infinities, in words.
pub fn finite(value: f64) -> Judged {
    match value.is_finite() {
        true => Ok(value),
        false => Err(format!("it gave {value}")),
    }
}

/// A grader, asked case by case.
#[derive(Debug, Clone, Copy)]
pub struct Each<G>(pub G);

impl<G: Grader + Send + Sync> Judge for Each<G> {
    fn judge(&self, cases: &[Case<'_>]) -> Vec<Judged> {
        let verdict = |case: &Case<'_>| {
            let graded = catch_unwind(AssertUnwindSafe(|| self.0.grade(case.reply, case.truth)));
            graded.map_err(|_| PANICKED.to_owned()).and_then(finite)
        };
        cases.iter().map(verdict).collect()
    }
}
