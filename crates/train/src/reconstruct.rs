//! Training the image tokenizer: a picture through the codes and back.
//!
//! ```text
//!   picture ─encoder─▶ z ─signs─▶ zq ─decoder─▶ picture'
//!                      │                           │
//!                      ├ entropy, commitment       └ |difference|, difference², edges
//! ```
//!
//! Source of the quantiser's losses: Yu et al. 2023 (arXiv 2310.05737) and the original's
//! `models/modeling_magvitv2.py`. The adversarial and perceptual terms of the published tokenizer
//! need networks of their own; plain pixel terms are enough for flat drawings.

use std::collections::HashSet;
use std::path::Path;

use mmada_data::picture::{Fit, Picture};
use mmada_data::{Example, Mixture, Skipped};
use mmada_nn::magvit::{Config, ImageTokenizer};
use mmada_nn::quantizer;
use mmada_nn::{Mode, Params, SaveOptions};
use mmada_tensor::{Device, Tensor, Var};
use serde_json::Value;

use crate::config::{Init, Learnt, ReconstructConfig, RunConfig, SamplesConfig};
use crate::objective::{BatchLoss, Metric, Moment, Network, Objective, Sheet};
use crate::samples::{self, COLUMNS};
use crate::stock::MOST_LEFT_OUT;
use crate::{Error, Result, weights};

/// The image tokenizer as something to train.
pub struct Reconstruct {
    params: Params,
    network: Autoencoder,
    mixture: Mixture,
    /// Pictures of the sample sheet, always the same.
    probes: Vec<Picture>,
    unreadable: Skipped,
}

/// The tokenizer with the weights of its losses.
#[derive(Debug)]
pub struct Autoencoder {
    terms: ReconstructConfig,
    tokenizer: ImageTokenizer,
}

/// Pictures ready for the network.
pub struct Pictures {
    /// `[b, 3, side, side]` in [-1, 1].
    images: Tensor,
}

impl Reconstruct {
    /// Opens the data and makes or reads the tokenizer.
    ///
    /// # Errors
    /// When either cannot be read or the sizes make no network.
    pub fn open(config: &RunConfig, terms: &ReconstructConfig, device: &Device) -> Result<Self> {
        let (params, tokenizer) = match &config.model.init {
            Init::From(folder) => ImageTokenizer::open(folder, device, Mode::Trainable)?,
            Init::Grow(_) => {
                let what = "model.init.grow is for transformers; an image tokenizer begins as \
                            model.init = { from = \"DIR\" }";
                return Err(Error::Config(what.to_owned()));
            }
            Init::Config(file) => {
                let sizes = Config::parse(&weights::read_text(file)?)?;
                ImageTokenizer::init(&sizes, config.run.seed, device)?
            }
            Init::Sizes(table) => {
                let sizes = Config::parse(&weights::to_json(table)?)?;
                ImageTokenizer::init(&sizes, config.run.seed, device)?
            }
        };
        let mixture =
            Mixture::open(&config.data, Path::new("."), config.run.seed).map_err(Error::data)?;
        let (side, factor) = (tokenizer.config().resolution, tokenizer.factor());
        if !side.is_multiple_of(factor) {
            let what = format!(
                "resolution: expected a multiple of {factor} pixels, which a token is wide, got {side}"
            );
            return Err(Error::Config(what));
        }
        let mut probes = samples::first_pictures(&mixture, config.samples.pictures)?;
        for probe in &mut probes {
            *probe = probe.fit(side, side, Fit::default());
        }
        Ok(Self {
            params,
            network: Autoencoder {
                terms: *terms,
                tokenizer,
            },
            mixture,
            probes,
            unreadable: Skipped::default(),
        })
    }

    fn side(&self) -> usize {
        self.network.tokenizer.config().resolution
    }
}

impl Objective for Reconstruct {
    type Batch = Pictures;
    type Network = Autoencoder;

    fn parameters(&self) -> Vec<(String, Var)> {
        let mut vars = self.params.vars();
        vars.retain(|(name, _)| !quantizer::is_buffer(name));
        if self.network.terms.learnt == Learnt::Decoder {
            vars.retain(|(name, _)| name.starts_with("decoder."));
        }
        vars
    }

    fn batch(&mut self, at: Moment) -> Result<Pictures> {
        let (side, device) = (self.side(), self.network.tokenizer.device().clone());
        let tokens = (side / self.network.tokenizer.factor()).pow(2);
        let (mut images, mut unreadable) = (Vec::new(), 0);
        while !at.is_full(images.len(), images.len() * tokens) {
            let example = self.mixture.next_example().map_err(Error::data)?;
            match picture_of(&example, side) {
                Some(picture) => images.push(picture.to_tensor(&device).map_err(Error::data)?),
                None => {
                    let reason = "its picture cannot be read".to_owned();
                    self.unreadable.add(example.name.clone(), reason);
                    unreadable += 1;
                    if unreadable > MOST_LEFT_OUT {
                        return Err(Error::Data(format!(
                            "no picture in {unreadable} examples, the last of them {}; \
                             look at the data, and at the tasks of the views",
                            example.name
                        )));
                    }
                }
            }
        }
        Ok(Pictures {
            images: Tensor::stack(&images, 0)?,
        })
    }

    fn network(&self) -> &Autoencoder {
        &self.network
    }

    fn position(&self) -> Result<Value> {
        serde_json::to_value(self.mixture.state()).map_err(Error::data)
    }

    fn seek(&mut self, position: &Value) -> Result<()> {
        let state = serde_json::from_value(position.clone()).map_err(Error::data)?;
        self.mixture.restore(&state).map_err(Error::data)
    }

    fn skipped(&self) -> Skipped {
        let mut skipped = self.mixture.skipped();
        skipped.merge(&self.unreadable);
        skipped
    }

    fn save(&self, folder: &Path) -> Result<()> {
        self.network.tokenizer.config().save(folder)?;
        Ok(self.params.save(folder, &SaveOptions::default())?)
    }

    fn restore(&mut self, folder: &Path) -> Result<()> {
        weights::take_over(&self.params, folder)
    }

    fn samples(&self, _: &SamplesConfig, _: u64) -> Result<Sheet> {
        let mut sheet = Sheet::default();
        if self.probes.is_empty() {
            return Ok(sheet);
        }
        let device = self.network.tokenizer.device();
        let mut rows = Vec::new();
        for line in self.probes.chunks(COLUMNS) {
            let images = line
                .iter()
                .map(|probe| probe.to_tensor(device).map_err(Error::data));
            let images = Tensor::stack(&images.collect::<Result<Vec<_>>>()?, 0)?;
            let z = self.network.tokenizer.encode(&images)?.detach();
            let output = self
                .network
                .tokenizer
                .decode(&self.network.tokenizer.quantize(&z)?.0)?;
            rows.extend(line.iter().cloned());
            // A short last line still begins a new one.
            rows.resize(rows.len().next_multiple_of(COLUMNS), white(self.side())?);
            for index in 0..line.len() {
                rows.push(Picture::from_tensor(&output.get(index)?).map_err(Error::data)?);
            }
            rows.resize(rows.len().next_multiple_of(COLUMNS), white(self.side())?);
        }
        let grid = Picture::grid(&rows, COLUMNS, 2).map_err(Error::data)?;
        sheet.pictures.push(("reconstructions", grid));
        Ok(sheet)
    }
}

impl Network<Pictures> for Autoencoder {
    fn loss(&self, batch: &Pictures) -> Result<BatchLoss> {
        let z = self.tokenizer.encode(&batch.images)?;
        let pass = self.tokenizer.reconstruct(match self.terms.learnt {
            Learnt::All => z,
            Learnt::Decoder => z.detach(),
        })?;
        let losses = self.tokenizer.quantizer_losses(&pass.z)?;
        let pixels = self.pixel_terms(&pass.reconstruction, &batch.images)?;
        let entropy = (&losses.entropy * self.terms.entropy)?;
        let commitment = (&losses.commitment * self.terms.commitment)?;
        let total = ((&pixels + entropy)? + commitment)?;
        let count = batch.images.dim(0)?;
        let number =
            |tensor: &Tensor| -> Result<f64> { Ok(f64::from(tensor.detach().to_scalar::<f32>()?)) };
        let metrics = [
            ("pixel_loss", number(&pixels)?),
            ("entropy_loss", number(&losses.entropy)?),
            ("quantizer_loss", number(&losses.commitment)?),
            ("psnr", psnr(&pass.reconstruction, &batch.images)?),
            ("codebook_usage", usage(&pass.codes, self.tokenizer.codes())),
        ];
        let metrics = metrics.map(|(name, value)| Metric {
            name,
            value,
            weight: count as f64,
        });
        Ok(BatchLoss {
            total,
            metrics: metrics.to_vec(),
            examples: count,
            tokens: pass.codes.iter().map(Vec::len).sum(),
        })
    }
}

impl Autoencoder {
    fn pixel_terms(&self, output: &Tensor, images: &Tensor) -> Result<Tensor> {
        let terms = &self.terms;
        let difference = (output - images)?;
        let mut total = (difference.abs()?.mean_all()? * terms.absolute)?;
        if terms.squared > 0.0 {
            total = (total + (difference.sqr()?.mean_all()? * terms.squared)?)?;
        }
        if terms.edges > 0.0 {
            // The difference of gradients is the gradient of the difference.
            let (_, _, height, width) = difference.dims4()?;
            let slope = |axis: usize, length: usize| -> Result<Tensor> {
                let ahead = difference.narrow(axis, 1, length - 1)?;
                let here = difference.narrow(axis, 0, length - 1)?;
                Ok((ahead - here)?.abs()?.mean_all()?)
            };
            let slopes = (slope(2, height)? + slope(3, width)?)?;
            total = (total + (slopes * terms.edges)?)?;
        }
        Ok(total)
    }
}

fn white(side: usize) -> Result<Picture> {
    Picture::new(side, side, vec![255; side * side * 3]).map_err(Error::data)
}

/// The picture of an example at the network's size.
fn picture_of(example: &Example, side: usize) -> Option<Picture> {
    let picture = example.image.as_ref()?.picture().ok()?;
    Some(picture.fit(side, side, Fit::default()))
}

/// Mean peak signal-to-noise ratio over pictures, in dB, pixels clamped to [-1, 1].
fn psnr(output: &Tensor, images: &Tensor) -> Result<f64> {
    let clamped = output.detach().clamp(-1f32, 1f32)?;
    let squared = (clamped - images)?
        .sqr()?
        .flatten_from(1)?
        .mean(1)?
        .to_vec1::<f32>()?;
    // The range of [-1, 1] is 2, and its square is 4.
    let decibel = |error: &f32| 10.0 * (4.0 / f64::from(*error).max(1e-10)).log10();
    Ok(squared.iter().map(decibel).sum::<f64>() / squared.len().max(1) as f64)
}

/// How many different codes occur, as a share of how many could.
fn usage(codes: &[Vec<u32>], codebook: usize) -> f64 {
    let all = codes.iter().flatten();
    let possible = all.clone().count().min(codebook).max(1);
    all.collect::<HashSet<_>>().len() as f64 / possible as f64
}
