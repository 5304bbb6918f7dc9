//! Text proposals: the best id of each candidate under Gumbel noise, and how sure the model is of
//! it (`generate.py` of the original).

use mmada_tensor::random::Purpose;

use crate::commit::Commit;
use crate::noise::{Dice, gumbel};
use crate::plan::TextPlan;
use crate::scores::{Odds, Proposal, Scores, argmax};

/// One proposal per position, or the position whose logits are not finite.
///
/// Gumbel noise in log space, `logits + T·g`, picks the same id as the original's
/// `exp(logits) / (−ln u)^T` and cannot overflow. Confidence is the softmax of the noiseless
/// logits at that id.
pub(crate) fn propose(
    plan: &TextPlan,
    positions: &[usize],
    scores: &Scores,
    dice: &mut Dice,
) -> Result<Vec<Proposal>, usize> {
    let ids = &plan.allowed.range;
    let temperature = f64::from(plan.temperature);
    let mut row = Vec::with_capacity(ids.len());
    let mut uniforms = vec![0.0; if temperature > 0.0 { ids.len() } else { 0 }];
    let mut proposals = Vec::with_capacity(positions.len());
    for (n, &position) in positions.iter().enumerate() {
        read_allowed(plan, scores, (n, position), &mut row);
        let best = if temperature > 0.0 {
            dice.fill(position, Purpose::Token, &mut uniforms);
            let noisy = row.iter().zip(&uniforms);
            argmax(noisy.map(|(&logit, &u)| f64::from(logit) + temperature * gumbel(u)))
        } else {
            argmax(&row)
        };
        let odds = Odds::of(&mut row).ok_or(position)?;
        let confidence = odds.probability(best);
        let entropy = match plan.commit.needs_entropy() {
            true => odds.entropy(),
            false => 0.0,
        };
        let order = match plan.commit {
            Commit::Random => dice.one(position, Purpose::Position),
            _ => confidence,
        };
        proposals.push(Proposal {
            position,
            id: ids.start + best as u32,
            confidence,
            entropy,
            order,
        });
    }
    Ok(proposals)
}

/// How likely the stand-ins of committed tokens find them: each position with the probability of
/// its token. The stand-ins' rows come after `skipped` others.
pub(crate) fn verdicts(
    plan: &TextPlan,
    committed: &[(usize, u32)],
    skipped: usize,
    scores: &Scores,
) -> Result<Vec<(usize, f64)>, usize> {
    let ids = &plan.allowed.range;
    let mut row = Vec::with_capacity(ids.len());
    let verdict = |(n, &(position, id)): (usize, &(usize, u32))| {
        read_allowed(plan, scores, (skipped + n, position), &mut row);
        let odds = Odds::of(&mut row).ok_or(position)?;
        Ok((position, odds.probability((id - ids.start) as usize)))
    };
    committed.iter().enumerate().map(verdict).collect()
}

/// Logits of the n-th position asked for, without those of ids that are banned there.
fn read_allowed(
    plan: &TextPlan,
    scores: &Scores,
    (n, position): (usize, usize),
    row: &mut Vec<f32>,
) {
    let allowed = &plan.allowed;
    let ids = &allowed.range;
    scores.read(n, row);
    let here = allowed.banned_at.iter().filter(|(at, _)| *at == position);
    let banned = allowed.banned.iter().chain(here.map(|(_, id)| id));
    for id in banned.filter(|id| ids.contains(id)) {
        row[(id - ids.start) as usize] = f32::NEG_INFINITY;
    }
}
