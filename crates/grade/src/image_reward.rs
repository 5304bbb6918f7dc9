//! ImageReward as a judge: how much people would like a painted picture for its prompt.
//!
//! Its numbers are about a standard normal over pictures that people compared, so unlike CLIP's they
//! may be negative. Prompts beyond the length that it was trained with are cut.

use std::path::Path;

use mmada_data::picture::Picture;
use mmada_nn::ImageReward;
use mmada_tensor::Device;
use mmada_tokens::CaptionTokenizer;

use crate::judge::{Case, Judge, Judged};
use crate::pairs::{self, judge_pairs};
use crate::{Error, Result};

/// ImageReward with its tokenizer.
#[derive(Debug)]
pub struct ImageRewardScore {
    network: ImageReward,
    tokenizer: CaptionTokenizer,
}

/// Pairs in one forward.
const BATCH: usize = 16;
/// Most ids of a prompt, as in its training.
const LONGEST_PROMPT: usize = 35;

impl ImageRewardScore {
    /// Opens a folder with `med_config.json`, the weights as safetensors, and the `tokenizer.json`
    /// of bert-base-uncased.
    ///
    /// # Errors
    /// When one of them cannot be read, or they do not belong together.
    pub fn open(dir: &Path, device: &Device) -> Result<Self> {
        let network = ImageReward::open(dir, device).map_err(Error::Network)?;
        let tokenizer = CaptionTokenizer::load(&dir.join("tokenizer.json"))?;
        Ok(Self { network, tokenizer })
    }

    /// The score of each pair.
    ///
    /// # Errors
    /// Those of the network and the tokenizer.
    pub fn scores(&self, pairs: &[(&Picture, &str)]) -> Result<Vec<f64>> {
        let mut scores = Vec::with_capacity(pairs.len());
        for pairs in pairs.chunks(BATCH) {
            let texts = pairs
                .iter()
                .map(|(_, text)| self.tokenizer.ids(text, LONGEST_PROMPT));
            let texts: Vec<Vec<u32>> = texts.collect::<mmada_tokens::Result<_>>()?;
            let pictures: Vec<&Picture> = pairs.iter().map(|(picture, _)| *picture).collect();
            let pixels = pairs::pixels(&pictures, self.network.side(), self.network.device())?;
            let rewards = self.network.rewards(&texts, &pixels);
            let rewards = rewards.map_err(Error::Network)?;
            let rewards = rewards.to_vec1::<f32>().map_err(Error::tensor)?;
            scores.extend(rewards.into_iter().map(f64::from));
        }
        Ok(scores)
    }
}

impl Judge for ImageRewardScore {
    fn judge(&self, cases: &[Case<'_>]) -> Vec<Judged> {
        judge_pairs(cases, |pairs| self.scores(pairs))
    }

    fn looks_at_pictures(&self) -> bool {
        true
    }
}
