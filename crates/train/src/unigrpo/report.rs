//! What the log says of a rollout: rewards and their parts, groups that teach nothing, lengths.

use mmada_tokens::{SpanKind, Task};

use super::rollout::{Completion, Estimate};
use crate::objective::Metric;

/// What is logged of a rollout.
pub(super) fn metrics_of(groups: &[Vec<Completion>]) -> Vec<Metric> {
    let mut metrics = Vec::new();
    let mut tell = |name, value, weight| {
        metrics.push(Metric {
            name,
            value,
            weight,
        });
    };
    for group in groups {
        let verdicts: Vec<_> = group.iter().filter_map(|c| c.verdict.as_ref()).collect();
        let failed = group.len() - verdicts.len();
        tell(
            "dropped_completions",
            failed as f64 / group.len().max(1) as f64,
            1.0,
        );
        let rewards: Vec<f64> = verdicts.iter().map(|verdict| verdict.reward).collect();
        let n = rewards.len().max(1) as f64;
        let mean = rewards.iter().sum::<f64>() / n;
        let deviation = (rewards.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / n).sqrt();
        tell("reward_std", deviation, 1.0);
        tell("dead_groups", f64::from(u8::from(deviation == 0.0)), 1.0);
        for completion in group {
            let Some(verdict) = &completion.verdict else {
                continue;
            };
            tell("reward", verdict.reward, 1.0);
            tell(reward_name(completion.sequence.task), verdict.reward, 1.0);
            for (grader, value) in &verdict.parts {
                tell(grader.metric(), *value, 1.0);
            }
            let answer = completion.sequence.positions(SpanKind::Answer);
            if completion.text.is_some() {
                tell("completion_tokens", answer.count() as f64, 1.0);
            }
        }
    }
    metrics
}

/// The policy's entropy per token, estimated from the tokens that it drew itself: their mean negative
/// log-likelihood, over all noise levels. It falls to 0 as the policy stops exploring.
pub(super) fn entropy_of<'a>(estimates: impl Iterator<Item = &'a Estimate>) -> Option<Metric> {
    let mut tokens = 0;
    let mut sum = 0.0;
    for old in estimates.flat_map(|estimate| &estimate.old) {
        tokens += 1;
        sum -= f64::from(*old);
    }
    (tokens > 0).then(|| Metric {
        name: "entropy",
        value: sum / f64::from(tokens),
        weight: f64::from(tokens),
    })
}

fn reward_name(task: Task) -> &'static str {
    match task {
        Task::Text => "reward_lm",
        Task::Chat => "reward_chat",
        Task::Describe => "reward_mmu",
        Task::Paint => "reward_t2i",
        Task::ThinkPaint => "reward_r2i",
    }
}
