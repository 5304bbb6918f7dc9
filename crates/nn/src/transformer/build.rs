//! How a transformer comes to be: from tensors, new, or packed for inference.

use mmada_tensor::random::{Key, Purpose};
use mmada_tensor::{DType, Device, Packing, Tensor};

use super::layers::{Head, Layers};
use super::{Block, Config, Transformer};
use crate::lora::Projection;
use crate::{Error, Init, Lora, Mode, Params, Result};

/// Names of the tensors with one row per token: the embedding, and the head where it is another.
pub fn table_names(cfg: &Config) -> Vec<String> {
    let tables: &[&str] = match cfg.weight_tying {
        true => &["wte"],
        false => &["wte", "ff_out"],
    };
    tables.iter().map(|table| name(table)).collect()
}

impl Transformer {
    /// Builds the network on tensors of `params`, whose names and shapes must be the config's.
    pub fn load(cfg: &Config, params: &Params) -> Result<Self> {
        Self::adapted(cfg, params, None)
    }

    /// As [`Transformer::load`], with an adapter's changes beside the matrices.
    pub fn adapted(cfg: &Config, params: &Params, lora: Option<&Lora>) -> Result<Self> {
        params.check_layers("model.transformer.blocks.", "n_layers", cfg.n_layers)?;
        let (d, m, v) = (cfg.d_model, cfg.mlp_hidden_size, cfg.embedding_size);
        let wte = params.get(&name("wte"), &[v, d])?;
        let head = match cfg.weight_tying {
            true => {
                check_tied(params, &wte)?;
                wte.clone()
            }
            false => params.get(&name("ff_out"), &[v, d])?,
        };
        let block = |index: usize| -> Result<Block> {
            let norm = |part: &str| params.get(&block_name(index, part), &[d]);
            let get = |part: &str, out: usize, input: usize| {
                let module = format!("model.transformer.blocks.{index}.{part}");
                Projection::load(params, lora, &module, (out, input))
            };
            let (q, kv) = (cfg.query_width(), cfg.key_value_width());
            Ok(Block {
                attn_norm: norm("attn_norm")?,
                qkv: Layers::Apart([
                    get("q_proj", q, d)?,
                    get("k_proj", kv, d)?,
                    get("v_proj", kv, d)?,
                ]),
                attn_out: Layers::Apart([get("attn_out", d, q)?]),
                ff_norm: norm("ff_norm")?,
                gate_up: Layers::Apart([get("ff_proj", m, d)?, get("up_proj", m, d)?]),
                ff_out: Layers::Apart([get("ff_out", d, m)?]),
            })
        };
        Ok(Self {
            cfg: cfg.clone(),
            blocks: (0..cfg.n_layers).map(block).collect::<Result<_>>()?,
            ln_f: params.get(&name("ln_f"), &[d])?,
            wte,
            head: Head::new(head),
            packing: None,
        })
    }

    /// The same network for inference, its linear layers packed once for this processor: faster,
    /// in f32, bf16 or int8, without gradients. The head is packed in bf16 where they are in int8.
    ///
    /// # Errors
    /// Weights that are not in main memory.
    pub fn packed(&self, packing: Packing) -> Result<Self> {
        let norm = |weight: &Tensor| weight.to_dtype(DType::F32);
        let block = |block: &Block| -> Result<Block> {
            Ok(Block {
                attn_norm: norm(&block.attn_norm)?,
                qkv: block.qkv.packed(packing)?,
                attn_out: block.attn_out.packed(packing)?,
                ff_norm: norm(&block.ff_norm)?,
                gate_up: block.gate_up.packed(packing)?,
                ff_out: block.ff_out.packed(packing)?,
            })
        };
        Ok(Self {
            cfg: self.cfg.clone(),
            wte: self.wte.detach(),
            blocks: self.blocks.iter().map(block).collect::<Result<_>>()?,
            ln_f: norm(&self.ln_f)?,
            head: self.head.packed(packing)?,
            packing: Some(packing),
        })
    }

    /// How the linear layers are packed, if they are.
    pub fn packing(&self) -> Option<Packing> {
        self.packing
    }

    /// A new, trainable model in f32: normal weights of standard deviation 0.02, the projections
    /// back into the residual stream smaller by 1/√(2·layers) so that its variance does not grow
    /// with depth (Radford et al. 2019, GPT-2), gains of one.
    pub fn init(cfg: &Config, seed: u64, device: &Device) -> Result<(Params, Self)> {
        let normal = Init::Normal { std: 0.02 };
        let residual = Init::Normal {
            std: 0.02 / (2.0 * cfg.n_layers as f32).sqrt(),
        };
        let key = Key::new(seed, Purpose::Weights);
        let mut params = Params::new(device, Mode::Trainable);
        let parts = parts(cfg);
        check_total(&parts)?;
        for Part { name, shape, role } in parts {
            let init = match role {
                Role::Gain => Init::Ones,
                Role::Embeds | Role::Reads => normal,
                Role::Writes => residual,
            };
            params.fresh(&name, &shape, init, key)?;
        }
        let model = Self::load(cfg, &params)?;
        Ok((params, model))
    }
}

/// What a tensor has to do with the residual stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Scales what is read from it.
    Gain,
    /// Begins it: the embedding.
    Embeds,
    /// Its inputs come from it, through a norm.
    Reads,
    /// Its outputs are added to it.
    Writes,
}

/// One tensor of a network of given sizes.
pub(super) struct Part {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) role: Role,
}

/// Of a network that is begun: 128 GiB in f32.
pub const MOST_PARAMETERS: u128 = 1 << 35;

/// Refuses a network that no machine here has room for, before room is asked for.
pub(super) fn check_total(parts: &[Part]) -> Result<()> {
    let count = |part: &Part| -> u128 { part.shape.iter().map(|&size| size as u128).product() };
    let total: u128 = parts.iter().map(count).sum();
    match total <= MOST_PARAMETERS {
        true => Ok(()),
        false => Err(Error::config(
            "d_model, n_layers, mlp_hidden_size and embedding_size",
            format!("a network of at most {MOST_PARAMETERS} parameters"),
            total,
        )),
    }
}

/// Every tensor of a network.
pub(super) fn parts(cfg: &Config) -> Vec<Part> {
    let (d, m, v) = (cfg.d_model, cfg.mlp_hidden_size, cfg.embedding_size);
    let (q, kv) = (cfg.query_width(), cfg.key_value_width());
    let part = |name: String, shape: &[usize], role: Role| Part {
        name,
        shape: shape.to_vec(),
        role,
    };
    let mut parts = vec![
        part(name("wte"), &[v, d], Role::Embeds),
        part(name("ln_f"), &[d], Role::Gain),
    ];
    if !cfg.weight_tying {
        parts.push(part(name("ff_out"), &[v, d], Role::Reads));
    }
    for index in 0..cfg.n_layers {
        for (module, shape, role) in [
            ("attn_norm", &[d][..], Role::Gain),
            ("q_proj", &[q, d], Role::Reads),
            ("k_proj", &[kv, d], Role::Reads),
            ("v_proj", &[kv, d], Role::Reads),
            ("attn_out", &[d, q], Role::Writes),
            ("ff_norm", &[d], Role::Gain),
            ("ff_proj", &[m, d], Role::Reads),
            ("up_proj", &[m, d], Role::Reads),
            ("ff_out", &[d, m], Role::Writes),
        ] {
            parts.push(part(block_name(index, module), shape, role));
        }
    }
    parts
}

/// Refuses a head that would be left aside though it is another table than the embedding.
fn check_tied(params: &Params, wte: &Tensor) -> Result<()> {
    let head = name("ff_out");
    if !params.contains(&head) {
        return Ok(());
    }
    let head = params.get(&head, wte.dims())?;
    let apart = head.ne(wte)?.to_dtype(DType::U32)?.sum_all()?;
    match apart.to_scalar::<u32>()? {
        0 => Ok(()),
        apart => Err(crate::Error::config(
            "weight_tying",
            "false where the head is not the embedding",
            format!("true, and {apart} numbers that differ"),
        )),
    }
}

fn name(part: &str) -> String {
    format!("model.transformer.{part}.weight")
}

fn block_name(index: usize, part: &str) -> String {
    format!("model.transformer.blocks.{index}.{part}.weight")
}
