//! Image proposals, MaskGIT's way: a code for every masked position, and an annealed confidence
//! that decides which stay (`t2i_generate` and `sampling.py` of the original).

use mmada_tensor::random::Purpose;

use crate::noise::{Dice, gumbel};
use crate::plan::{ImagePlan, TokenChoice};
use crate::scores::{Proposal, Scores, argmax, normaliser, weight};

/// Smallest probability under the logarithm, as in the original.
const SMALLEST_PROBABILITY: f64 = 1e-20;

/// One proposal per position, or the position whose logits are not finite. Known positions are no
/// candidates, so no temperature can mask them again (the original marks them with the largest
/// float, which noise can outweigh).
pub(crate) fn propose(
    plan: &ImagePlan,
    temperature: f64,
    positions: &[usize],
    scores: &Scores,
    dice: &mut Dice,
) -> Result<Vec<Proposal>, usize> {
    let mut row = Vec::with_capacity(plan.codes.len());
    let mut proposals = Vec::with_capacity(positions.len());
    for (n, &position) in positions.iter().enumerate() {
        scores.read(n, &mut row);
        let (largest, sum) = normaliser(&row).ok_or(position)?;
        let probability = |logit: f32| weight(logit, largest) / sum;
        let code = match plan.choice {
            TokenChoice::Argmax => argmax(row.iter().map(|&logit| f64::from(logit))),
            TokenChoice::Sample => {
                let u = dice.one(position, Purpose::Token);
                inverse_cdf(row.iter().map(|&logit| probability(logit)), u)
            }
        };
        let confidence = probability(row[code]);
        let mut order = confidence.max(SMALLEST_PROBABILITY).ln();
        if temperature > 0.0 {
            order += temperature * gumbel(dice.one(position, Purpose::Position));
        }
        proposals.push(Proposal {
            position,
            id: plan.codes.start + code as u32,
            confidence,
            order,
        });
    }
    Ok(proposals)
}

/// How many partial sums are at most `u`, but never past the last entry that has probability.
fn inverse_cdf(probabilities: impl Iterator<Item = f64>, u: f64) -> usize {
    let (mut sum, mut last_possible) = (0.0, 0);
    for (index, probability) in probabilities.enumerate() {
        // The original's probabilities are f32, its partial sums f64.
        let probability = f64::from(probability as f32);
        sum += probability;
        if sum > u {
            return index;
        }
        if probability > 0.0 {
            last_possible = index;
        }
    }
    last_possible
}
