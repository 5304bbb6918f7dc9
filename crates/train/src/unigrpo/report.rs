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
        let verdicts: Vec<_> = group
            .iter()
            .filter_map(|c| c.verdict.as_ref().ok())
            .collect();
        let failed = group.len() - verdicts.len();
        tell(
            "dropped_completions",
            failed as f64 / group.len().max(1) as f64,
            1.0,
        );
        let rewards = rewards_of(group);
        let n = rewards.len().max(1) as f64;
        let mean = rewards.iter().sum::<f64>() / n;
        let deviation = (rewards.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / n).sqrt();
        tell("reward_std", deviation, 1.0);
        tell("dead_groups", f64::from(u8::from(is_dead(group))), 1.0);
        for completion in group {
            let Ok(verdict) = &completion.verdict else {
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

/// Whether a group teaches nothing: all its rewards are equal.
pub(super) fn is_dead(group: &[Completion]) -> bool {
    rewards_of(group).windows(2).all(|pair| pair[0] == pair[1])
}

/// The rewards of the completions that have one.
fn rewards_of(group: &[Completion]) -> Vec<f64> {
    let verdicts = group.iter().filter_map(|c| c.verdict.as_ref().ok());
    verdicts.map(|verdict| verdict.reward).collect()
}

/// The policy's entropy per token, estimated from the tokens that it drew itself: their mean negative
/// log-likelihood, over all noise levels and the groups that are learnt from. It falls to 0 as the
/// policy stops exploring. Of tokens drawn hotter, or with guidance, it is their cross-entropy, which
/// lies above.
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
