//! Text proposals: the best id of each candidate under Gumbel noise, and how sure the model is of
//! it (`generate.py` of the original).

use mmada_tensor::random::Purpose;

use crate::noise::{Dice, gumbel};
use crate::plan::{Commit, TextPlan};
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
        scores.read(n, &mut row);
        for id in plan.allowed.banned.iter().filter(|id| ids.contains(id)) {
            row[(id - ids.start) as usize] = f32::NEG_INFINITY;
        }
        let best = if temperature > 0.0 {
            dice.fill(position, Purpose::Token, &mut uniforms);
            let noisy = row.iter().zip(&uniforms);
            argmax(noisy.map(|(&logit, &u)| f64::from(logit) + temperature * gumbel(u)))
        } else {
            argmax(&row)
        };
        let odds = Odds::of(&mut row).ok_or(position)?;
        let confidence = odds.probability(best);
        let order = match plan.commit {
            Commit::LowConfidence => confidence,
            Commit::Random => dice.one(position, Purpose::Position),
        };
        proposals.push(Proposal {
            position,
            id: ids.start + best as u32,
            confidence,
            order,
        });
    }
    Ok(proposals)
}
