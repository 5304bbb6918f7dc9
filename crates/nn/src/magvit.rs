//! The image tokenizer MAGVIT-v2: pictures to codes and back.
//!
//! ```text
//!   image [b, 3, H, W] ─ Encoder ─► z [b, bits, H/f, W/f] ─ signs ─► codes, H/f · W/f per image
//!                                                            │
//!   image              ◄─ Decoder ─ zq, -1 or +1 ◄───────────┘
//! ```
//!
//! Convolutions with residual blocks, attention in the middle only, and lookup-free quantisation
//! ([`crate::quantizer`]). The layers are in [`layers`], named like the published tensors; the
//! sizes are in [`Config`]. Source: MMaDA and Show-o, `models/modeling_magvitv2.py`; Yu et al.
//! 2024, "Language model beats diffusion: tokenizer is key to visual generation".

mod config;
mod layers;

use std::collections::HashSet;
use std::path::Path;

use mmada_tensor::random::{Key, Purpose};
use mmada_tensor::{DType, Device, Tensor};

use crate::quantizer::{self, Losses};
use crate::{Error, Init, Mode, Params, Result};

pub use config::{Coefficients, Config, Stack};
use layers::{Decoder, Encoder};

/// Sees the output of every named part of the network as it runs, such as `encoder.mid.attn_1`.
pub type Visit<'a> = &'a mut dyn FnMut(&str, &Tensor);

/// Pictures to codes and back. Cloning shares the weights.
#[derive(Debug, Clone)]
pub struct ImageTokenizer {
    cfg: Config,
    device: Device,
    encoder: Encoder,
    decoder: Decoder,
}

/// A training pass: everything the losses need.
#[derive(Debug, Clone)]
pub struct Reconstruction {
    /// Decoded images, `[b, 3, H, W]`, not clamped.
    pub reconstruction: Tensor,
    /// The encoder's output, `[b, bits, H/f, W/f]`.
    pub z: Tensor,
    /// Its signs, with the gradient passed straight through to `z`.
    pub zq: Tensor,
    /// The code of every position, row-major, per image.
    pub codes: Vec<Vec<u32>>,
}

impl ImageTokenizer {
    /// Builds the network on tensors of `params`, whose names and shapes must be the config's.
    ///
    /// # Errors
    /// Also when the quantiser's buffers (`quantize.*`) are present but are not those of this
    /// number of bits, or when there are layers that the config does not name: the codes would mean
    /// something else.
    pub fn load(cfg: &Config, params: &Params) -> Result<Self> {
        cfg.check()?;
        quantizer::check_buffers(params, cfg.z_channels)?;
        let mut used = HashSet::new();
        let tokenizer = Self::build(cfg, params.device(), &mut |name, shape, _| {
            used.insert(name.to_owned());
            params.get(name, shape)
        })?;
        let is_layer = |name: &str| name.starts_with("encoder.") || name.starts_with("decoder.");
        match params
            .names()
            .find(|name| is_layer(name) && !used.contains(*name))
        {
            Some(left) => {
                let expected =
                    "the layers of config.json and no more; is num_res_blocks as it was?";
                Err(Error::input(
                    "weights of the image tokenizer",
                    expected,
                    left,
                ))
            }
            None => Ok(tokenizer),
        }
    }

    /// Reads `config.json` and the weights of a folder, as f32: codes are signs of numbers near zero.
    pub fn open(dir: &Path, device: &Device, mode: Mode) -> Result<(Params, Self)> {
        let cfg = Config::load(dir)?;
        let params = Params::load(dir, device, Some(DType::F32), mode)?;
        let tokenizer = Self::load(&cfg, &params)?;
        Ok((params, tokenizer))
    }

    /// A new, trainable tokenizer in f32: convolutions uniform within 1/√fan-in, as PyTorch starts
    /// them, gains of one. The quantiser's buffers are made too, so that the original can read it.
    pub fn init(cfg: &Config, seed: u64, device: &Device) -> Result<(Params, Self)> {
        cfg.check()?;
        let key = Key::new(seed, Purpose::Weights);
        let mut params = Params::new(device, Mode::Trainable);
        quantizer::insert_buffers(&mut params, cfg.z_channels)?;
        let tokenizer = Self::build(cfg, device, &mut |name, shape, init| {
            params.fresh(name, shape, init, key)?;
            params.get(name, shape)
        })?;
        Ok((params, tokenizer))
    }

    fn build(cfg: &Config, device: &Device, make: Make) -> Result<Self> {
        Ok(Self {
            cfg: cfg.clone(),
            device: device.clone(),
            encoder: Encoder::build(cfg, make)?,
            decoder: Decoder::build(cfg, make)?,
        })
    }

    /// The sizes of the network.
    pub fn config(&self) -> &Config {
        &self.cfg
    }

    /// Where its tensors live.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// How many pixels a token is wide and high, f.
    pub fn factor(&self) -> usize {
        self.cfg.factor()
    }

    /// How many codes there are: 2 to the number of bits.
    pub fn codes(&self) -> usize {
        1 << self.cfg.z_channels
    }

    /// The continuous latents, before quantisation, in f32.
    ///
    /// # Shapes
    /// images `[b, 3, H, W]` in [-1, 1], result `[b, bits, H/f, W/f]`
    ///
    /// # Errors
    /// Another number of channels, or sides that are not multiples of f.
    pub fn encode(&self, images: &Tensor) -> Result<Tensor> {
        self.encode_visited(images, &mut |_, _| {})
    }

    /// [`Self::encode`], showing the parts on the way.
    pub fn encode_visited(&self, images: &Tensor, visit: Visit) -> Result<Tensor> {
        let f = self.factor();
        let fits = |side: usize| side > 0 && side.is_multiple_of(f);
        match *images.dims() {
            [b, c, h, w] if b > 0 && c == self.cfg.in_ch && fits(h) && fits(w) => {}
            _ => {
                let expected = format!(
                    "shape [b, {}, h, w] with h and w multiples of {f}; resize or crop first",
                    self.cfg.in_ch
                );
                return Err(Error::input(
                    "images",
                    expected,
                    format!("{:?}", images.dims()),
                ));
            }
        }
        let z = self.encoder.forward(images, visit)?;
        Ok(z.to_dtype(DType::F32)?)
    }

    /// The codes of images, row-major, one list per image.
    ///
    /// # Shapes
    /// images `[b, 3, H, W]` in [-1, 1], result b lists of H/f · W/f
    pub fn encode_codes(&self, images: &Tensor) -> Result<Vec<Vec<u32>>> {
        quantizer::codes(&self.encode(images)?)
    }

    /// Signs of the latents with a straight-through gradient, and their codes.
    ///
    /// # Shapes
    /// z `[b, bits, h, w]`, result like z, and b lists of h · w codes
    pub fn quantize(&self, z: &Tensor) -> Result<(Tensor, Vec<Vec<u32>>)> {
        self.check_latents("z", z)?;
        Ok((quantizer::straight_through(z)?, quantizer::codes(z)?))
    }

    /// The latents of codes: -1 or +1.
    ///
    /// # Shapes
    /// b lists of height · width codes below [`Self::codes`], row-major; result
    /// `[b, bits, height, width]`, f32
    pub fn latents(&self, codes: &[Vec<u32>], height: usize, width: usize) -> Result<Tensor> {
        quantizer::latents(codes, (height, width), self.cfg.z_channels, &self.device)
    }

    /// Images from codes, not clamped. The grid need not be square.
    ///
    /// # Shapes
    /// codes: b lists of height · width, row-major; result `[b, 3, f·height, f·width]`, f32
    pub fn decode_codes(&self, codes: &[Vec<u32>], height: usize, width: usize) -> Result<Tensor> {
        self.decode(&self.latents(codes, height, width)?)
    }

    /// Images from quantised latents, not clamped.
    ///
    /// # Shapes
    /// zq `[b, bits, h, w]`, result `[b, 3, f·h, f·w]`, f32
    pub fn decode(&self, zq: &Tensor) -> Result<Tensor> {
        self.decode_visited(zq, &mut |_, _| {})
    }

    /// [`Self::decode`], showing the parts on the way.
    pub fn decode_visited(&self, zq: &Tensor, visit: Visit) -> Result<Tensor> {
        self.check_latents("zq", zq)?;
        let images = self.decoder.forward(zq, visit)?;
        Ok(images.to_dtype(DType::F32)?)
    }

    /// Encodes, quantises and decodes, ready for the losses.
    ///
    /// # Shapes
    /// images `[b, 3, H, W]` in [-1, 1]
    pub fn forward_train(&self, images: &Tensor) -> Result<Reconstruction> {
        self.reconstruct(self.encode(images)?)
    }

    /// Quantises and decodes the encoder's output: detached, it trains the decoder alone.
    ///
    /// # Shapes
    /// z `[b, bits, h, w]`
    pub fn reconstruct(&self, z: Tensor) -> Result<Reconstruction> {
        let (zq, codes) = self.quantize(&z)?;
        Ok(Reconstruction {
            reconstruction: self.decode(&zq)?,
            z,
            zq,
            codes,
        })
    }

    /// The quantiser's losses on the encoder's output, with the config's coefficients.
    ///
    /// # Shapes
    /// z `[b, bits, h, w]`, results scalars
    pub fn quantizer_losses(&self, z: &Tensor) -> Result<Losses> {
        self.check_latents("z", z)?;
        quantizer::losses(z, &self.cfg.quantizer)
    }

    fn check_latents(&self, what: &str, z: &Tensor) -> Result<()> {
        match *z.dims() {
            [b, bits, h, w] if b * h * w > 0 && bits == self.cfg.z_channels => Ok(()),
            _ => {
                let expected = format!("shape [b, {}, h, w], none zero", self.cfg.z_channels);
                Err(Error::input(what, expected, format!("{:?}", z.dims())))
            }
        }
    }
}

/// Gives the tensor of a name and shape: looked up, or made with the [`Init`].
type Make<'a> = &'a mut dyn FnMut(&str, &[usize], Init) -> Result<Tensor>;
