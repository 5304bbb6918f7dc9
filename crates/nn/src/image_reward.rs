//! ImageReward: how much people would like a picture for a prompt. Config, parts, model.
//!
//! ```text
//!   pixels ─ patches ─ class + position ─► blocks ─► norm ───────────────┐ every row
//!   ids    ─ token + position ─► norm ─► layers: attend · look at picture · mlp ─► class row
//!                                                     five linear layers ◄────────────┘
//!   reward = (output − mean) / deviation
//! ```
//!
//! BLIP's picture tower and its text tower with cross-attention (Li et al. 2022), then a head (Xu
//! et al. 2023). Names are those of the published weights (`ImageReward.pt`, to be stored as
//! safetensors) and of its `med_config.json`, which has the sizes of the text tower; those of the
//! picture tower are read off the weights. Letters: r rows, d width of text, w width of pictures,
//! b pairs, s side, n patches.

use std::path::Path;

use mmada_tensor::{DType, Device, IndexOp, Rows, Segment, Tensor, ops};
use serde::Deserialize;

use crate::layers::{
    Activation, Affine, Attention, FeedForward, LayerNorm, PreNormBlock, even_segments, patches,
};
use crate::{Error, Mode, Params, Result};

/// Sizes of the text tower, as `med_config.json` states them. Keys that do not change the network
/// are ignored.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct MedConfig {
    /// Width.
    pub hidden_size: usize,
    /// Hidden width of the feed-forward part.
    pub intermediate_size: usize,
    /// Heads.
    pub num_attention_heads: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Most ids of a text.
    pub max_position_embeddings: usize,
    /// Ids.
    pub vocab_size: usize,
    /// Added to variances.
    pub layer_norm_eps: f64,
}

/// Mean of the head's outputs over the training data, subtracted from them.
const MEAN: f64 = 0.167_173_628_300_524_26;
/// Their standard deviation, by which they are divided.
const STD: f64 = 1.033_339_496_605_407_2;
/// Width of a head in every published picture tower of BLIP.
const HEAD_WIDTH: usize = 64;
/// Added to variances in the picture tower.
const VISION_EPS: f64 = 1e-6;
/// Linear layers of the head: number in the published names, and outputs.
const HEAD: [(usize, usize); 5] = [(0, 1024), (2, 128), (4, 64), (6, 16), (7, 1)];
/// File of the sizes in a model folder.
const MED_CONFIG: &str = "med_config.json";
/// Sizes beyond this are no text tower's.
const LARGEST: usize = 1 << 20;

impl MedConfig {
    /// Reads `med_config.json` of a model folder.
    ///
    /// # Errors
    /// When it cannot be read, or a size makes no sense.
    pub fn load(dir: &Path) -> Result<Self> {
        let path = dir.join(MED_CONFIG);
        let cfg: Self = crate::config::read(&path)?;
        cfg.check().map_err(|error| error.in_file(&path))?;
        Ok(cfg)
    }

    fn check(&self) -> Result<()> {
        for (key, size) in [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("max_position_embeddings", self.max_position_embeddings),
            ("vocab_size", self.vocab_size),
        ] {
            if !(1..=LARGEST).contains(&size) {
                return Err(Error::config(key, format!("1 to {LARGEST}"), size));
            }
        }
        let (heads, d) = (self.num_attention_heads, self.hidden_size);
        if heads == 0 || d % heads != 0 {
            return Err(Error::config(
                "num_attention_heads",
                format!("a divisor of {d}"),
                heads,
            ));
        }
        Ok(())
    }
}

/// The whole judge, frozen.
#[derive(Debug, Clone)]
pub struct ImageReward {
    vision: VisionTower,
    text: TextTower,
    head: Vec<Affine>,
}

#[derive(Debug, Clone)]
struct VisionTower {
    class: Tensor,
    /// `[w, 3·p·p]`, a linear layer on the pixels of a patch.
    patch: Tensor,
    patch_bias: Tensor,
    positions: Tensor,
    blocks: Vec<PreNormBlock>,
    norm: LayerNorm,
    /// Height and width of a patch in pixels.
    patch_size: usize,
    /// Height and width of a picture in pixels.
    side: usize,
}

#[derive(Debug, Clone)]
struct TextTower {
    cfg: MedConfig,
    words: Tensor,
    positions: Tensor,
    norm: LayerNorm,
    layers: Vec<MedLayer>,
}

/// A layer that normalises behind each of its three parts.
#[derive(Debug, Clone)]
struct MedLayer {
    attention: Attention,
    attention_norm: LayerNorm,
    cross_attention: Attention,
    cross_attention_norm: LayerNorm,
    mlp: FeedForward,
    mlp_norm: LayerNorm,
}

impl ImageReward {
    /// Opens a folder with `med_config.json` and safetensors weights.
    ///
    /// # Errors
    /// When a file cannot be read, weights are missing or of other sizes than the config's, or there
    /// are more layers than it names.
    pub fn open(dir: &Path, device: &Device) -> Result<Self> {
        let cfg = MedConfig::load(dir)?;
        let params = Params::load(dir, device, Some(DType::F32), Mode::Frozen)?;
        Self::load(&cfg, &params).map_err(|error| error.in_file(&dir.join(MED_CONFIG)))
    }

    /// Builds the network on tensors of `params`.
    ///
    /// # Errors
    /// As [`ImageReward::open`].
    pub fn load(cfg: &MedConfig, params: &Params) -> Result<Self> {
        cfg.check()?;
        let vision = VisionTower::load(params)?;
        let text = TextTower::load(cfg, params, vision.class.elem_count())?;
        let mut input = cfg.hidden_size;
        let layer = |(number, output): (usize, usize)| {
            let layer = Affine::load(params, &format!("mlp.layers.{number}"), output, input);
            input = output;
            layer
        };
        let head = HEAD.into_iter().map(layer).collect::<Result<_>>()?;
        Ok(Self { vision, text, head })
    }

    /// Height and width of the pictures it looks at, in pixels.
    pub fn side(&self) -> usize {
        self.vision.side
    }

    /// Where the weights live.
    pub fn device(&self) -> &Device {
        self.vision.class.device()
    }

    /// The reward of each pair of a text, its ids with begin and end, and a picture, its pixels
    /// normalised as CLIP's.
    ///
    /// # Shapes
    /// pixels `[b, 3, s, s]`, result `[b]`.
    ///
    /// # Errors
    /// Other numbers of texts than pictures, pictures of another size, texts that are empty or too
    /// long, ids beyond the table.
    pub fn rewards(&self, texts: &[Vec<u32>], pixels: &Tensor) -> Result<Tensor> {
        let b = texts.len();
        let side = self.vision.side;
        if pixels.dims() != [b, 3, side, side] || b == 0 {
            let expected = format!("[{b}, 3, {side}, {side}], one picture per text");
            let got = format!("{:?}", pixels.dims());
            return Err(Error::input("pixels for ImageReward", expected, got));
        }
        let seen = self.vision.forward(pixels)?;
        let mut x = self.text.forward(texts, &seen)?;
        for layer in &self.head {
            x = layer.forward(&x)?;
        }
        Ok(((x.squeeze(1)? - MEAN)? / STD)?)
    }
}

impl VisionTower {
    fn load(params: &Params) -> Result<Self> {
        let name = |part: &str| format!("blip.visual_encoder.{part}");
        let patch = params.any(&name("patch_embed.proj.weight"), 4)?;
        let (w, channels, p, _) = patch.dims4()?;
        let positions = params.any(&name("pos_embed"), 3)?;
        let places = positions.dim(1)?;
        let across = places.saturating_sub(1).isqrt();
        if across == 0 || across * across + 1 != places || w % HEAD_WIDTH != 0 || channels != 3 {
            let expected = format!(
                "3 channels, a square of patches and one position more, a multiple of {HEAD_WIDTH} wide"
            );
            let got = format!(
                "patches {:?}, positions {:?}",
                patch.dims(),
                positions.dims()
            );
            return Err(Error::input("ImageReward's picture tower", expected, got));
        }
        let stem = name("blocks.");
        let blocks = (0..params.layers(&stem))
            .map(|index| vision_block(params, &format!("{stem}{index}"), w))
            .collect::<Result<_>>()?;
        Ok(Self {
            class: params.get(&name("cls_token"), &[1, 1, w])?,
            patch: patch.reshape((w, channels * p * p))?,
            patch_bias: params.get(&name("patch_embed.proj.bias"), &[w])?,
            positions,
            blocks,
            norm: LayerNorm::load(params, &name("norm"), w, VISION_EPS)?,
            patch_size: p,
            side: across * p,
        })
    }

    /// # Shapes
    /// pixels `[b, 3, s, s]`, result `[b·(1 + n), w]`.
    fn forward(&self, pixels: &Tensor) -> Result<Tensor> {
        let (b, places, w) = (
            pixels.dim(0)?,
            self.positions.dim(1)?,
            self.positions.dim(2)?,
        );
        let tiles = ops::linear(&patches(pixels, self.patch_size)?, &self.patch)?;
        let tiles = tiles.broadcast_add(&self.patch_bias)?;
        let class = self.class.broadcast_as((b, 1, w))?.contiguous()?;
        let x = Tensor::cat(&[&class, &tiles.reshape((b, places - 1, w))?], 1)?;
        let mut x = x.broadcast_add(&self.positions)?.reshape((b * places, w))?;
        let segments = even_segments(b, places);
        for block in &self.blocks {
            x = block.forward(&x, &segments)?;
        }
        self.norm.forward(&x)
    }
}

/// A block of the picture tower; queries, keys and values are one matrix in the file.
fn vision_block(params: &Params, name: &str, w: usize) -> Result<PreNormBlock> {
    let norm = |part: &str| LayerNorm::load(params, &format!("{name}.{part}"), w, VISION_EPS);
    let affine =
        |part: &str, out, input| Affine::load(params, &format!("{name}.{part}"), out, input);
    let [query, key, value] = affine("attn.qkv", 3 * w, w)?.thirds()?;
    let hidden = params.any(&format!("{name}.mlp.fc1.weight"), 2)?.dim(0)?;
    Ok(PreNormBlock {
        norm1: norm("norm1")?,
        attention: Attention {
            query,
            key,
            value,
            out: affine("attn.proj", w, w)?,
            heads: w / HEAD_WIDTH,
        },
        norm2: norm("norm2")?,
        mlp: FeedForward {
            into: affine("mlp.fc1", hidden, w)?,
            out: affine("mlp.fc2", w, hidden)?,
            activation: Activation::Gelu,
        },
    })
}

impl TextTower {
    fn load(cfg: &MedConfig, params: &Params, w: usize) -> Result<Self> {
        let d = cfg.hidden_size;
        let name = |part: &str| format!("blip.text_encoder.{part}");
        let count = cfg.num_hidden_layers;
        params.check_layers(&name("encoder.layer."), "num_hidden_layers", count)?;
        let layer = |index: usize| {
            let name = |part: &str| name(&format!("encoder.layer.{index}.{part}"));
            let affine = |part: &str, out, input| Affine::load(params, &name(part), out, input);
            let norm = |part: &str| LayerNorm::load(params, &name(part), d, cfg.layer_norm_eps);
            let attention = |part: &str, context: usize| {
                Ok::<_, Error>(Attention {
                    query: affine(&format!("{part}.self.query"), d, d)?,
                    key: affine(&format!("{part}.self.key"), d, context)?,
                    value: affine(&format!("{part}.self.value"), d, context)?,
                    out: affine(&format!("{part}.output.dense"), d, d)?,
                    heads: cfg.num_attention_heads,
                })
            };
            Ok(MedLayer {
                attention: attention("attention", d)?,
                attention_norm: norm("attention.output.LayerNorm")?,
                cross_attention: attention("crossattention", w)?,
                cross_attention_norm: norm("crossattention.output.LayerNorm")?,
                mlp: FeedForward {
                    into: affine("intermediate.dense", cfg.intermediate_size, d)?,
                    out: affine("output.dense", d, cfg.intermediate_size)?,
                    activation: Activation::Gelu,
                },
                mlp_norm: norm("output.LayerNorm")?,
            })
        };
        let table =
            |part: &str, rows| params.get(&name(&format!("embeddings.{part}.weight")), &[rows, d]);
        Ok(Self {
            words: table("word_embeddings", cfg.vocab_size)?,
            positions: table("position_embeddings", cfg.max_position_embeddings)?,
            norm: LayerNorm::load(params, &name("embeddings.LayerNorm"), d, cfg.layer_norm_eps)?,
            layers: (0..count).map(layer).collect::<Result<_>>()?,
            cfg: cfg.clone(),
        })
    }

    /// The first row of each text after it has looked at its picture.
    ///
    /// # Shapes
    /// seen `[b·(1 + n), w]`, result `[b, d]`.
    fn forward(&self, texts: &[Vec<u32>], seen: &Tensor) -> Result<Tensor> {
        let (longest, ids) = (self.cfg.max_position_embeddings, self.cfg.vocab_size);
        let mut rows = Rows::default();
        for text in texts {
            let fits = (1..=longest).contains(&text.len());
            if !fits || text.iter().any(|id| *id as usize >= ids) {
                let expected = format!("1 to {longest} ids below {ids}");
                return Err(Error::input(
                    "text for ImageReward",
                    expected,
                    format!("{text:?}"),
                ));
            }
            rows.push(text);
        }
        let index = |values: &[u32]| Tensor::new(values, self.words.device());
        let words = self.words.index_select(&index(&rows.ids)?, 0)?;
        let places = self.positions.index_select(&index(&rows.positions)?, 0)?;
        let own = rows.segments();
        let places_seen = seen.dim(0)? / texts.len();
        let pictures = even_segments(texts.len(), places_seen);
        let pairs = own.iter().zip(pictures);
        let across: Vec<Segment> = pairs
            .map(|(text, picture)| Segment::new(text.queries.clone(), picture.keys))
            .collect();
        let mut x = self.norm.forward(&(words + places)?)?;
        for layer in &self.layers {
            let attended = layer.attention.forward(&x, &x, &own)?;
            x = layer.attention_norm.forward(&(x + attended)?)?;
            let looked = layer.cross_attention.forward(&x, seen, &across)?;
            x = layer.cross_attention_norm.forward(&(x + looked)?)?;
            let thought = layer.mlp.forward(&x)?;
            x = layer.mlp_norm.forward(&(x + thought)?)?;
        }
        let first = rows.sequences.iter().map(|rows| x.i(rows.start));
        let first: Vec<Tensor> = first.collect::<mmada_tensor::candle::Result<_>>()?;
        Ok(Tensor::stack(&first, 0)?)
    }
}
