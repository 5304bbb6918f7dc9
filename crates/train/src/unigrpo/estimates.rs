//! From judged completions to what the inner updates learn from: each completion masked once for
//! every update, with the likelihoods of the policy that wrote it and of the reference.

use mmada_model::Mmada;
use mmada_tensor::random::Purpose;
use mmada_tokens::Task;

use super::UniGrpoConfig;
use super::noise::{Masks, Noising};
use super::policy::advantages;
use super::rollout::{self, Completion, Estimate, Group};
use crate::Result;
use crate::objective::Moment;

/// One set for each inner update: all judged completions at that update's noise level, with their
/// advantages and no likelihoods yet.
pub(super) fn masked(
    config: &UniGrpoConfig,
    at: Moment,
    policy: &Mmada,
    groups: &[Group],
) -> Vec<Vec<Estimate>> {
    let longest = policy.config().max_sequence_length;
    let mut sets: Vec<Vec<Estimate>> = vec![Vec::new(); config.updates];
    for group in groups {
        let completions = group.completions.iter().enumerate();
        let judged: Vec<(usize, &Completion, f64)> = completions
            .filter_map(|(sample, completion)| {
                Some((sample, completion, completion.verdict.as_ref().ok()?.reward))
            })
            .collect();
        let rewards: Vec<f64> = judged.iter().map(|(_, _, reward)| *reward).collect();
        let advantages = advantages(&rewards, config.scale);
        // By the group's own number: what became of others changes nothing.
        let mut draw = at.key(group.number, Purpose::NoiseLevel).stream();
        let Some((_, first, _)) = judged.first() else {
            continue;
        };
        let task = first.sequence.task;
        let own = match task {
            Task::Describe => &policy.defaults().describe,
            _ => &policy.defaults().text,
        };
        // As it was sampled.
        let written = config.sampling(at, 0).of_text().text(own);
        let noising = Noising {
            mask: policy.vocab().special.mask,
            masks: config.masks,
            thoughts: config.thoughts,
            prompt_rate: config.prompt_rate,
            block: written.block,
            ahead: written.masks_ahead(),
            canvas: written.length,
            longest,
        };
        let levels = config
            .levels_of(task)
            .draw(config.levels_in_all, config.updates, &mut draw);
        for (update, (set, level)) in sets.iter_mut().zip(levels).enumerate() {
            for ((sample, completion, _), advantage) in judged.iter().zip(&advantages) {
                let which = match config.masks {
                    Masks::Own => group.number * config.group + sample,
                    Masks::Shared | Masks::Unwritten | Masks::Window | Masks::Windows => {
                        group.number
                    }
                };
                let number = update << 16 | which;
                let mut stream = at.key(number, Purpose::Corruption).stream();
                let level = (level, config.levels_in_all);
                let estimate = noising.noise(&completion.sequence, level, &mut stream);
                if !estimate.positions.is_empty() {
                    set.push(Estimate {
                        advantage: *advantage,
                        temperature: temperature(config, task),
                        ..estimate
                    });
                }
            }
        }
    }
    sets
}

/// What logits are divided by where a task's likelihoods are taken. Pictures are drawn as the policy says
/// ([`rollout::completions`]); a thought before one is measured like its picture, which is far longer.
fn temperature(config: &UniGrpoConfig, task: Task) -> f32 {
    let is_text = matches!(task, Task::Text | Task::Chat | Task::Describe);
    match config.tempered && is_text && config.temperature > 0.0 {
        true => config.temperature,
        false => 1.0,
    }
}

/// Writes the likelihoods into a set.
///
/// # Errors
/// Those of the network.
pub(super) fn fill(set: &mut [Estimate], policy: &Mmada, reference: Option<&Mmada>) -> Result<()> {
    let old = rollout::log_likelihoods(policy, set)?;
    let reference = match reference {
        Some(reference) => rollout::log_likelihoods(reference, set)?,
        None => vec![Vec::new(); set.len()],
    };
    for ((estimate, old), reference) in set.iter_mut().zip(old).zip(reference) {
        (estimate.old, estimate.reference) = (old, reference);
    }
    Ok(())
}
