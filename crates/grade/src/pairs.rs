//! Pictures with the texts that they are to fit: what judges of both have in common.

use mmada_data::picture::{Fit, Picture};
use mmada_tensor::{DType, Device, Precision, Tensor};

use crate::answer::final_answer;
use crate::grader::Reply;
use crate::judge::{Case, Judged, finite};
use crate::{Error, Result};

/// Mean of the channels of CLIP's training pictures.
const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
/// Their standard deviation.
const STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

/// Pictures as CLIP and its relatives see them: the shorter side to the network's, the middle cut
/// out, every channel to mean 0 and deviation 1 over their training pictures.
///
/// # Shapes
/// `[b, 3, side, side]`
pub(crate) fn pixels(pictures: &[&Picture], side: usize, device: &Device) -> Result<Tensor> {
    let fitted = pictures.iter().map(|picture| {
        let picture = picture.fit(side, side, Fit::CenterCrop);
        picture.to_tensor(device).map_err(|source| Error::Picture {
            item: "a picture to judge".to_owned(),
            source,
        })
    });
    let fitted: Vec<Tensor> = fitted.collect::<Result<_>>()?;
    let normalised = || -> mmada_tensor::candle::Result<Tensor> {
        // From [-1, 1] to [0, 1], then to the training pictures' mean and deviation.
        let pixels = ((Tensor::stack(&fitted, 0)?.to_dtype(DType::F32)? + 1.0)? * 0.5)?;
        let channel = |values: [f32; 3]| Tensor::new(&values, device)?.reshape((1, 3, 1, 1));
        pixels
            .broadcast_sub(&channel(MEAN)?)?
            .broadcast_div(&channel(STD)?)
    };
    normalised().map_err(Error::tensor)
}

/// The picture and the text of a case: what was painted and what was asked for, or what was shown
/// and what was said of it.
fn pair<'a>(case: &Case<'a>) -> Option<(&'a Picture, &'a str)> {
    match (case.reply, case.shown) {
        (Reply::Picture(picture), _) => Some((picture, case.prompt)),
        (Reply::Text(text), Some(shown)) => Some((shown, final_answer(text))),
        (Reply::Text(_), None) => None,
    }
}

/// Scores the cases that make a pair, in f32 whatever is being trained in; where the scoring fails, no
/// case has a number.
pub(crate) fn judge_pairs(
    cases: &[Case<'_>],
    scores: impl FnOnce(&[(&Picture, &str)]) -> Result<Vec<f64>>,
) -> Vec<Judged> {
    let scores = |pairs: &[_]| Precision::F32.scope(|| scores(pairs));
    let pairs: Vec<_> = cases.iter().map(pair).collect();
    let present: Vec<_> = pairs.iter().flatten().copied().collect();
    let mut scores = match scores(&present) {
        Ok(scores) => scores.into_iter(),
        Err(error) => return vec![Err(error.to_string()); cases.len()],
    };
    let verdict = |pair: Option<_>| match pair.and_then(|_| scores.next()) {
        Some(score) => finite(score),
        None => Err("there is no picture to go with the words".to_owned()),
    };
    pairs.into_iter().map(verdict).collect()
}
