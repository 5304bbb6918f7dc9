//! CLIP: how well a text fits a picture. Towers and model, top to bottom.
//!
//! ```text
//!   ids    ─ token + position ─► blocks, each row sees itself and those before ─► norm ─► end row ─┐
//!                                                                        text_projection ◄─────────┘
//!   pixels ─ patches ─ class + position ─► norm ─► blocks ─► class row ─► norm ─► visual_projection
//!
//!   cosine of the two projections
//! ```
//!
//! Names are those of the published weights in the Hugging Face layout (`openai/clip-vit-*`). Texts
//! are packed rows without padding: the pooled row sees nothing behind it. Source: Radford et al.
//! 2021. Letters: r rows, d width, b pictures, s side, n patches, e width of the projection.

mod config;

use std::path::Path;

use mmada_tensor::{D, DType, Device, IndexOp, Rows, Segment, Tensor, ops};

pub use self::config::{ClipConfig, TextConfig, VisionConfig};
use crate::layers::{
    Activation, Affine, Attention, FeedForward, LayerNorm, PreNormBlock, even_segments, patches,
};
use crate::{Error, Mode, Params, Result};

/// The mistaken id of the end in published files.
const OLD_EOS: u32 = 2;

/// Both towers, frozen.
#[derive(Debug, Clone)]
pub struct Clip {
    cfg: ClipConfig,
    text: TextTower,
    vision: VisionTower,
}

#[derive(Debug, Clone)]
struct TextTower {
    tokens: Tensor,
    positions: Tensor,
    blocks: Vec<PreNormBlock>,
    norm: LayerNorm,
    projection: Tensor,
}

#[derive(Debug, Clone)]
struct VisionTower {
    class: Tensor,
    /// `[d, 3·p·p]`, a linear layer on the pixels of a patch.
    patch: Tensor,
    positions: Tensor,
    norm_in: LayerNorm,
    blocks: Vec<PreNormBlock>,
    norm_out: LayerNorm,
    projection: Tensor,
}

impl Clip {
    /// Opens a model folder with `config.json` and safetensors weights.
    ///
    /// # Errors
    /// When a file cannot be read, weights are missing or of other sizes than the config's, or there
    /// are more layers than it names.
    pub fn open(dir: &Path, device: &Device) -> Result<Self> {
        let cfg = ClipConfig::load(dir)?;
        let params = Params::load(dir, device, Some(DType::F32), Mode::Frozen)?;
        Self::load(&cfg, &params).map_err(|error| error.in_file(&dir.join("config.json")))
    }

    /// Builds the network on tensors of `params`.
    ///
    /// # Errors
    /// As [`Clip::open`].
    pub fn load(cfg: &ClipConfig, params: &Params) -> Result<Self> {
        let (text, vision) = (&cfg.text_config, &cfg.vision_config);
        let (d, w, e) = (text.hidden_size, vision.hidden_size, cfg.projection_dim);
        let p = vision.patch_size;
        let places = (vision.image_size / p).pow(2) + 1;
        let norm = |name: &str, width, eps| LayerNorm::load(params, name, width, eps);
        let patch = params.get(
            "vision_model.embeddings.patch_embedding.weight",
            &[w, 3, p, p],
        )?;
        Ok(Self {
            text: TextTower {
                tokens: params.get(
                    "text_model.embeddings.token_embedding.weight",
                    &[text.vocab_size, d],
                )?,
                positions: params.get(
                    "text_model.embeddings.position_embedding.weight",
                    &[text.max_position_embeddings, d],
                )?,
                blocks: blocks(params, "text_model", &Shape::of_text(text)?)?,
                norm: norm("text_model.final_layer_norm", d, text.layer_norm_eps)?,
                projection: params.get("text_projection.weight", &[e, d])?,
            },
            vision: VisionTower {
                class: params.get("vision_model.embeddings.class_embedding", &[w])?,
                patch: patch.reshape((w, 3 * p * p))?,
                positions: params.get(
                    "vision_model.embeddings.position_embedding.weight",
                    &[places, w],
                )?,
                // The published name has this spelling.
                norm_in: norm("vision_model.pre_layrnorm", w, vision.layer_norm_eps)?,
                blocks: blocks(params, "vision_model", &Shape::of_vision(vision)?)?,
                norm_out: norm("vision_model.post_layernorm", w, vision.layer_norm_eps)?,
                projection: params.get("visual_projection.weight", &[e, w])?,
            },
            cfg: cfg.clone(),
        })
    }

    /// The sizes.
    pub fn config(&self) -> &ClipConfig {
        &self.cfg
    }

    /// Where the weights live.
    pub fn device(&self) -> &Device {
        self.text.tokens.device()
    }

    /// Projections of texts, each its ids with the end's.
    ///
    /// # Shapes
    /// `[texts, e]`
    ///
    /// # Errors
    /// An empty text, one longer than the context, ids beyond the table.
    pub fn text_features(&self, texts: &[Vec<u32>]) -> Result<Tensor> {
        let cfg = &self.cfg.text_config;
        let mut ends = Vec::with_capacity(texts.len());
        let mut rows = Rows::default();
        for ids in texts {
            if ids.is_empty() || ids.len() > cfg.max_position_embeddings {
                let expected = format!("1 to {} ids", cfg.max_position_embeddings);
                return Err(Error::input("text for CLIP", expected, ids.len()));
            }
            if let Some(id) = ids.iter().find(|id| **id as usize >= cfg.vocab_size) {
                let expected = format!("ids below {}", cfg.vocab_size);
                return Err(Error::input("text for CLIP", expected, id));
            }
            let end = pooled(ids, cfg.eos_token_id);
            // What stands behind the pooled row is never seen by it.
            ends.push((rows.push(&ids[..=end]).end - 1) as u32);
        }
        let index = |values: &[u32]| Tensor::new(values, self.device());
        let tower = &self.text;
        let words = tower.tokens.index_select(&index(&rows.ids)?, 0)?;
        let places = tower.positions.index_select(&index(&rows.positions)?, 0)?;
        let segments = causal_segments(&rows);
        let mut x = (words + places)?;
        for block in &tower.blocks {
            x = block.forward(&x, &segments)?;
        }
        let pooled = x.index_select(&index(&ends)?, 0)?;
        Ok(ops::linear(
            &tower.norm.forward(&pooled)?,
            &tower.projection,
        )?)
    }

    /// Projections of pictures, their pixels normalised as CLIP was trained.
    ///
    /// # Shapes
    /// pixels `[b, 3, s, s]`, result `[b, e]`.
    ///
    /// # Errors
    /// Pictures of another size than the config's.
    pub fn image_features(&self, pixels: &Tensor) -> Result<Tensor> {
        let hidden = self.trace_image(pixels, &mut |_, _| {})?;
        let tower = &self.vision;
        let class = hidden.i((.., 0))?.contiguous()?;
        Ok(ops::linear(
            &tower.norm_out.forward(&class)?,
            &tower.projection,
        )?)
    }

    /// The picture tower's last hidden state `[b, 1 + n, d]`; `visit` sees that of every block.
    ///
    /// # Errors
    /// As [`Clip::image_features`].
    pub fn trace_image(
        &self,
        pixels: &Tensor,
        visit: &mut dyn FnMut(usize, &Tensor),
    ) -> Result<Tensor> {
        let side = self.cfg.vision_config.image_size;
        let b = pixels.dim(0)?;
        if pixels.dims() != [b, 3, side, side] || b == 0 {
            let expected = format!("[b, 3, {side}, {side}]");
            return Err(Error::input(
                "pixels for CLIP",
                expected,
                format!("{:?}", pixels.dims()),
            ));
        }
        let tower = &self.vision;
        let places = tower.positions.dim(0)?;
        let d = self.cfg.vision_config.hidden_size;
        let tiles = patches(pixels, self.cfg.vision_config.patch_size)?;
        let tiles = ops::linear(&tiles, &tower.patch)?.reshape((b, places - 1, d))?;
        let class = tower.class.reshape((1, 1, d))?.broadcast_as((b, 1, d))?;
        let x = Tensor::cat(&[&class.contiguous()?, &tiles], 1)?;
        let x = x.broadcast_add(&tower.positions)?;
        let mut x = tower.norm_in.forward(&x.reshape((b * places, d))?)?;
        let segments = even_segments(b, places);
        for (index, block) in tower.blocks.iter().enumerate() {
            x = block.forward(&x, &segments)?;
            visit(index, &x);
        }
        Ok(x.reshape((b, places, d))?)
    }
}

/// The cosine of each pair of rows.
///
/// # Shapes
/// a and b `[n, e]`, result `[n]`.
pub fn cosines(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let unit = |x: &Tensor| -> Result<Tensor> {
        Ok(x.broadcast_div(&x.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?)?)
    };
    Ok((unit(a)? * unit(b)?)?.sum(D::Minus1)?)
}

/// The row at which a text is pooled: the first end, or the first of the highest ids.
fn pooled(ids: &[u32], eos: u32) -> usize {
    let highest = ids.iter().max().copied().unwrap_or_default();
    let end = if eos == OLD_EOS { highest } else { eos };
    let found = ids.iter().position(|id| *id == end);
    found.unwrap_or(ids.len() - 1)
}

/// Every row sees itself and the rows before it in its sequence.
fn causal_segments(rows: &Rows) -> Vec<Segment> {
    let rows = rows.sequences.iter().flat_map(|sequence| {
        let start = sequence.start;
        let of_row = move |row| Segment::new(row..row + 1, start..row + 1);
        sequence.clone().map(of_row)
    });
    rows.collect()
}

/// What a tower's blocks have in common.
struct Shape {
    width: usize,
    hidden: usize,
    heads: usize,
    layers: usize,
    activation: Activation,
    eps: f64,
}

impl Shape {
    fn of_text(cfg: &TextConfig) -> Result<Self> {
        Ok(Self {
            width: cfg.hidden_size,
            hidden: cfg.intermediate_size,
            heads: cfg.num_attention_heads,
            layers: cfg.num_hidden_layers,
            activation: activation("text_config.hidden_act", &cfg.hidden_act)?,
            eps: cfg.layer_norm_eps,
        })
    }

    fn of_vision(cfg: &VisionConfig) -> Result<Self> {
        Ok(Self {
            width: cfg.hidden_size,
            hidden: cfg.intermediate_size,
            heads: cfg.num_attention_heads,
            layers: cfg.num_hidden_layers,
            activation: activation("vision_config.hidden_act", &cfg.hidden_act)?,
            eps: cfg.layer_norm_eps,
        })
    }
}

fn activation(key: &str, name: &str) -> Result<Activation> {
    match name {
        "quick_gelu" => Ok(Activation::QuickGelu),
        "gelu" => Ok(Activation::Gelu),
        other => Err(Error::config(key, "quick_gelu or gelu", other)),
    }
}

fn blocks(params: &Params, tower: &str, shape: &Shape) -> Result<Vec<PreNormBlock>> {
    let (d, m) = (shape.width, shape.hidden);
    let stem = format!("{tower}.encoder.layers.");
    let block = |index: usize| {
        let name = |part: &str| format!("{stem}{index}.{part}");
        let affine = |part: &str, out, input| Affine::load(params, &name(part), out, input);
        let norm = |part: &str| LayerNorm::load(params, &name(part), d, shape.eps);
        Ok(PreNormBlock {
            norm1: norm("layer_norm1")?,
            attention: Attention {
                query: affine("self_attn.q_proj", d, d)?,
                key: affine("self_attn.k_proj", d, d)?,
                value: affine("self_attn.v_proj", d, d)?,
                out: affine("self_attn.out_proj", d, d)?,
                heads: shape.heads,
            },
            norm2: norm("layer_norm2")?,
            mlp: FeedForward {
                into: affine("mlp.fc1", m, d)?,
                out: affine("mlp.fc2", d, m)?,
                activation: shape.activation,
            },
        })
    };
    params.check_layers(&stem, "num_hidden_layers", shape.layers)?;
    (0..shape.layers).map(block).collect()
}
