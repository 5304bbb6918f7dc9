//! Image proposals, MaskGIT's way: a code for every masked position, and an annealed confidence
//! that decides which stay (`t2i_generate` and `sampling.py` of the original).

use mmada_tensor::random::Purpose;

use crate::noise::{Dice, gumbel};
use crate::plan::ImagePlan;
use crate::scores::{Odds, Proposal, Scores, argmax};

/// Smallest probability under the logarithm, as in the original.
const SMALLEST_PROBABILITY: f64 = 1e-20;

/// One proposal per position, or the position whose logits are not finite; `temperature` is of the
/// order, `token_temperature` of the codes. Known positions are no candidates, so no temperature can
/// mask them again (the original marks them with the largest float, which noise can outweigh).
pub(crate) fn propose(
    plan: &ImagePlan,
    (temperature, token_temperature): (f64, f32),
    positions: &[usize],
    scores: &Scores,
    dice: &mut Dice,
) -> Result<Vec<Proposal>, usize> {
    let mut row = Vec::with_capacity(plan.codes.len());
    let mut proposals = Vec::with_capacity(positions.len());
    for (n, &position) in positions.iter().enumerate() {
        scores.read(n, &mut row);
        let best = (token_temperature == 0.0).then(|| argmax(&row));
        if token_temperature != 1.0 && best.is_none() {
            row.iter_mut().for_each(|logit| *logit /= token_temperature);
        }
        let odds = Odds::of(&mut row).ok_or(position)?;
        let code = match best {
            Some(code) => code,
            None => odds.inverse_cdf(dice.one(position, Purpose::Token)),
        };
        let confidence = odds.probability(code);
        let mut order = confidence.max(SMALLEST_PROBABILITY).ln();
        if temperature > 0.0 {
            order += temperature * gumbel(dice.one(position, Purpose::Position));
        }
        proposals.push(Proposal {
            position,
            id: plan.codes.start + code as u32,
            confidence,
            entropy: 0.0,
            order,
        });
    }
    Ok(proposals)
}
