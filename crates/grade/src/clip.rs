//! CLIP as a judge: how well a picture and a text fit each other.
//!
//! ```text
//!   painted     prompt  + the reply's picture ─┐
//!   captions    the reply's answer + picture   ├─ CLIP ─► 100 · cosine, 0 at least
//! ```
//!
//! The score is that of the usual CLIPScore (Hessel et al. 2021, in its form of 100 · cosine), so
//! the paper's reward is its tenth.

use std::path::Path;

use mmada_data::picture::{Fit, Picture};
use mmada_nn::Clip;
use mmada_nn::clip::cosines;
use mmada_tensor::{DType, Device, Tensor};
use mmada_tokens::CaptionTokenizer;

use crate::answer::final_answer;
use crate::grader::Reply;
use crate::judge::{Case, Judge};
use crate::{Error, Result};

/// CLIP with its tokenizer.
#[derive(Debug)]
pub struct ClipScore {
    clip: Clip,
    tokenizer: CaptionTokenizer,
}

/// Pairs in one forward.
const BATCH: usize = 32;
/// Mean of the channels of CLIP's training pictures.
pub(crate) const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
/// Their standard deviation.
pub(crate) const STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

impl ClipScore {
    /// Opens a model folder of the published layout: `config.json`, safetensors, `tokenizer.json`.
    ///
    /// # Errors
    /// When one of them cannot be read, or they do not belong together.
    pub fn open(dir: &Path, device: &Device) -> Result<Self> {
        let clip = Clip::open(dir, device).map_err(Error::Network)?;
        let tokenizer = CaptionTokenizer::load(&dir.join("tokenizer.json"))?;
        Ok(Self { clip, tokenizer })
    }

    /// The score of each pair.
    ///
    /// # Errors
    /// Those of the network and the tokenizer.
    pub fn scores(&self, pairs: &[(&Picture, &str)]) -> Result<Vec<f64>> {
        let longest = self.clip.config().text_config.max_position_embeddings;
        let side = self.clip.config().vision_config.image_size;
        let mut scores = Vec::with_capacity(pairs.len());
        for pairs in pairs.chunks(BATCH) {
            let texts = pairs
                .iter()
                .map(|(_, text)| self.tokenizer.ids(text, longest));
            let texts: Vec<Vec<u32>> = texts.collect::<mmada_tokens::Result<_>>()?;
            let pictures: Vec<&Picture> = pairs.iter().map(|(picture, _)| *picture).collect();
            let pixels = pixels(&pictures, side, self.clip.device())?;
            let texts = self.clip.text_features(&texts).map_err(Error::Network)?;
            let images = self.clip.image_features(&pixels).map_err(Error::Network)?;
            let cosines = cosines(&images, &texts).map_err(Error::Network)?;
            let cosines = cosines.to_vec1::<f32>().map_err(Error::tensor)?;
            scores.extend(
                cosines
                    .iter()
                    .map(|cosine| f64::from(100.0 * cosine).max(0.0)),
            );
        }
        Ok(scores)
    }
}

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
pub(crate) fn pair<'a>(case: &Case<'a>) -> Option<(&'a Picture, &'a str)> {
    match (case.reply, case.shown) {
        (Reply::Picture(picture), _) => Some((picture, case.prompt)),
        (Reply::Text(text), Some(shown)) => Some((shown, final_answer(text))),
        (Reply::Text(_), None) => None,
    }
}

/// Scores the cases that make a pair; where the scoring fails, no case has a verdict.
pub(crate) fn judge_pairs(
    cases: &[Case<'_>],
    scores: impl FnOnce(&[(&Picture, &str)]) -> Result<Vec<f64>>,
) -> Vec<Option<f64>> {
    let pairs: Vec<_> = cases.iter().map(pair).collect();
    let present: Vec<_> = pairs.iter().flatten().copied().collect();
    let mut scores = scores(&present).unwrap_or_default().into_iter();
    let verdict = |pair: Option<_>| pair.and_then(|_| scores.next().filter(|s| s.is_finite()));
    pairs.into_iter().map(verdict).collect()
}

impl Judge for ClipScore {
    fn judge(&self, cases: &[Case<'_>]) -> Vec<Option<f64>> {
        judge_pairs(cases, |pairs| self.scores(pairs))
    }

    fn looks_at_pictures(&self) -> bool {
        true
    }
}
