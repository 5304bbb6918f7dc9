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

use mmada_data::picture::Picture;
use mmada_nn::Clip;
use mmada_nn::clip::cosines;
use mmada_tensor::Device;
use mmada_tokens::CaptionTokenizer;

use crate::judge::{Case, Judge, Judged};
use crate::pairs::{self, judge_pairs};
use crate::{Error, Result};

/// CLIP with its tokenizer.
#[derive(Debug)]
pub struct ClipScore {
    clip: Clip,
    tokenizer: CaptionTokenizer,
}

/// Pairs in one forward.
const BATCH: usize = 32;

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

    /// The score of each pair; NaN where the network's numbers are.
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
            let pixels = pairs::pixels(&pictures, side, self.clip.device())?;
            let texts = self.clip.text_features(&texts).map_err(Error::Network)?;
            let images = self.clip.image_features(&pixels).map_err(Error::Network)?;
            let cosines = cosines(&images, &texts).map_err(Error::Network)?;
            let cosines = cosines.to_vec1::<f32>().map_err(Error::tensor)?;
            // `clamp` keeps NaN, of which `max` would make the score of what does not fit.
            let score = |cosine: f32| f64::from(100.0 * cosine).clamp(0.0, f64::INFINITY);
            scores.extend(cosines.into_iter().map(score));
        }
        Ok(scores)
    }
}

impl Judge for ClipScore {
    fn judge(&self, cases: &[Case<'_>]) -> Vec<Judged> {
        judge_pairs(cases, |pairs| {
            let mut scores = self.scores(pairs)?;
            // Words that say nothing fit no picture.
            for (score, (_, text)) in scores.iter_mut().zip(pairs) {
                if text.trim().is_empty() {
                    *score = 0.0;
                }
            }
            Ok(scores)
        })
    }

    fn looks_at_pictures(&self) -> bool {
        true
    }
}
