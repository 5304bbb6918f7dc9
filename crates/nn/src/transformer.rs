//! The bidirectional transformer of LLaDA and MMaDA: config, block, model, top to bottom.
//!
//! ```text
//!   ids ── wte ──► x ──► block 0 ──► … ──► block n-1 ──► ln_f ──► rows wanted ──► ff_out[vocab]
//!
//!   block   x += attn_out( attention( rotary(q_proj n), rotary(k_proj n), v_proj n ) )   n = attn_norm x
//!           x += ff_out( silu(ff_proj n) · up_proj n )                                   n = ff_norm x
//! ```
//!
//! Fields are named like the published weights (`model.transformer.blocks.0.q_proj.weight`).
//! Letters: r packed rows, n wanted rows, d width, h heads, c width of a head, m hidden width of
//! the feed-forward part, v vocabulary.

use mmada_tensor::ops::{self, Heads};
use mmada_tensor::random::{Key, Purpose};
use mmada_tensor::{DType, Device, Rows, Segment, Tensor, Want};

pub use crate::config::{Architecture, Config, Sizes};
use crate::lora::Projection;
use crate::{Error, Init, Lora, Mode, Params, Result};

/// Where the residual stream can be looked at; see [`Transformer::trace`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// The token embeddings, input of the first block.
    Embedding,
    /// After the block of this index.
    Block(usize),
    /// After the final normalisation.
    FinalNorm,
}

/// A bidirectional transformer over packed rows.
#[derive(Debug, Clone)]
pub struct Transformer {
    cfg: Config,
    wte: Tensor,
    blocks: Vec<Block>,
    ln_f: Tensor,
    /// `[v, d]`; the table of embeddings itself when weights are tied.
    head: Tensor,
}

#[derive(Debug, Clone)]
struct Block {
    attn_norm: Tensor,
    q_proj: Projection,
    k_proj: Projection,
    v_proj: Projection,
    attn_out: Projection,
    ff_norm: Tensor,
    ff_proj: Projection,
    up_proj: Projection,
    ff_out: Projection,
}

/// Cosines and sines of the rows' rotary angles, `[r, c/2]`, f32.
struct Angles {
    cos: Tensor,
    sin: Tensor,
}

impl Transformer {
    /// Builds the network on tensors of `params`, whose names and shapes must be the config's.
    pub fn load(cfg: &Config, params: &Params) -> Result<Self> {
        Self::adapted(cfg, params, None)
    }

    /// As [`Transformer::load`], with an adapter's changes beside the matrices.
    pub fn adapted(cfg: &Config, params: &Params, lora: Option<&Lora>) -> Result<Self> {
        refuse_further_blocks(cfg, params)?;
        let (d, m, v) = (cfg.d_model, cfg.mlp_hidden_size, cfg.embedding_size);
        let wte = params.get(&name("wte"), &[v, d])?;
        let head = match cfg.weight_tying {
            true => wte.clone(),
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
                q_proj: get("q_proj", q, d)?,
                k_proj: get("k_proj", kv, d)?,
                v_proj: get("v_proj", kv, d)?,
                attn_out: get("attn_out", d, q)?,
                ff_norm: norm("ff_norm")?,
                ff_proj: get("ff_proj", m, d)?,
                up_proj: get("up_proj", m, d)?,
                ff_out: get("ff_out", d, m)?,
            })
        };
        Ok(Self {
            cfg: cfg.clone(),
            blocks: (0..cfg.n_layers).map(block).collect::<Result<_>>()?,
            ln_f: params.get(&name("ln_f"), &[d])?,
            wte,
            head,
        })
    }

    /// A new, trainable model in f32: normal weights of standard deviation 0.02, the projections
    /// back into the residual stream smaller by 1/√(2·layers) so that its variance does not grow
    /// with depth (Radford et al. 2019, GPT-2), gains of one.
    pub fn init(cfg: &Config, seed: u64, device: &Device) -> Result<(Params, Self)> {
        let (d, m, v) = (cfg.d_model, cfg.mlp_hidden_size, cfg.embedding_size);
        let (q, kv) = (cfg.query_width(), cfg.key_value_width());
        let normal = Init::Normal { std: 0.02 };
        let residual = Init::Normal {
            std: 0.02 / (2.0 * cfg.n_layers as f32).sqrt(),
        };
        let key = Key::new(seed, Purpose::Weights);
        let mut params = Params::new(device, Mode::Trainable);
        params.fresh(&name("wte"), &[v, d], normal, key)?;
        params.fresh(&name("ln_f"), &[d], Init::Ones, key)?;
        if !cfg.weight_tying {
            params.fresh(&name("ff_out"), &[v, d], normal, key)?;
        }
        for index in 0..cfg.n_layers {
            for (part, shape, init) in [
                ("attn_norm", &[d][..], Init::Ones),
                ("q_proj", &[q, d], normal),
                ("k_proj", &[kv, d], normal),
                ("v_proj", &[kv, d], normal),
                ("attn_out", &[d, q], residual),
                ("ff_norm", &[d], Init::Ones),
                ("ff_proj", &[m, d], normal),
                ("up_proj", &[m, d], normal),
                ("ff_out", &[d, m], residual),
            ] {
                params.fresh(&block_name(index, part), shape, init, key)?;
            }
        }
        let model = Self::load(cfg, &params)?;
        Ok((params, model))
    }

    /// The sizes of the network.
    pub fn config(&self) -> &Config {
        &self.cfg
    }

    /// Where its tensors live.
    pub fn device(&self) -> &Device {
        self.wte.device()
    }

    /// The hidden state of every row after the final normalisation.
    ///
    /// # Shapes
    /// `[r, d]`
    ///
    /// # Errors
    /// No rows, ids beyond the table, positions beyond the context, segments that do not cover the
    /// rows in order.
    pub fn hidden(&self, rows: &Rows) -> Result<Tensor> {
        self.hidden_segments(rows, &rows.segments())
    }

    /// As [`Transformer::hidden`], with attention inside these segments instead of the rows' own
    /// sequences: real pad rows, for instance, laid out as segments of their own.
    pub fn hidden_segments(&self, rows: &Rows, segments: &[Segment]) -> Result<Tensor> {
        self.trace(rows, segments, &mut |_, _| Ok(()))
    }

    /// The hidden states of some rows, in that order.
    ///
    /// # Shapes
    /// `[n, d]`
    pub fn hidden_of(&self, rows: &Rows, wanted: &[usize]) -> Result<Tensor> {
        self.hidden_of_segments(rows, &rows.segments(), wanted)
    }

    /// As [`Transformer::hidden_of`], with attention inside these segments.
    pub fn hidden_of_segments(
        &self,
        rows: &Rows,
        segments: &[Segment],
        wanted: &[usize],
    ) -> Result<Tensor> {
        if let Some(row) = wanted.iter().find(|row| **row >= rows.len()) {
            let expected = format!("an index below {}", rows.len());
            return Err(Error::input("wanted row", expected, row));
        }
        if wanted.is_empty() {
            let shape = (0, self.cfg.d_model);
            return Ok(Tensor::zeros(shape, self.wte.dtype(), self.device())?);
        }
        let x = self.residual(rows, segments, &mut |_, _| Ok(()))?;
        let wanted: Vec<u32> = wanted.iter().map(|row| *row as u32).collect();
        let x = x.index_select(&Tensor::new(wanted, self.device())?, 0)?;
        self.norm(&x, &self.ln_f)
    }

    /// Logits, f32, of the wanted rows over the wanted ids, and of no others.
    ///
    /// # Shapes
    /// `[want.rows.len(), want.vocab.len()]`
    pub fn logits(&self, rows: &Rows, want: &Want) -> Result<Tensor> {
        self.logits_segments(rows, &rows.segments(), want)
    }

    /// As [`Transformer::logits`], with attention inside these segments.
    pub fn logits_segments(
        &self,
        rows: &Rows,
        segments: &[Segment],
        want: &Want,
    ) -> Result<Tensor> {
        let (start, end) = (want.vocab.start, want.vocab.end);
        if start >= end || end > self.cfg.embedding_size {
            let expected = format!("a non-empty part of 0..{}", self.cfg.embedding_size);
            return Err(Error::input(
                "wanted ids",
                expected,
                format!("{start}..{end}"),
            ));
        }
        if want.rows.is_empty() {
            return Ok(Tensor::zeros((0, end - start), DType::F32, self.device())?);
        }
        let hidden = self.hidden_of_segments(rows, segments, &want.rows)?;
        let head = match end - start == self.cfg.embedding_size {
            true => self.head.clone(),
            false => self.head.narrow(0, start, end - start)?,
        };
        Ok(ops::linear(&hidden, &head)?.to_dtype(DType::F32)?)
    }

    /// Negative log-likelihood of each wanted row's target under the softmax over the whole
    /// vocabulary, with gradients into the weights.
    ///
    /// # Shapes
    /// `[n]`, f32; `targets` holds one id for each wanted row.
    pub fn nll(&self, rows: &Rows, wanted: &[usize], targets: &[u32]) -> Result<Tensor> {
        if targets.len() != wanted.len() {
            let expected = format!("one for each of {} wanted rows", wanted.len());
            return Err(Error::input("targets", expected, targets.len()));
        }
        self.check_ids("target of wanted row", targets)?;
        if wanted.is_empty() {
            return Ok(Tensor::zeros(0, DType::F32, self.device())?);
        }
        let hidden = self.hidden_of(rows, wanted)?;
        Ok(ops::nll(&hidden, &self.head, targets)?)
    }

    /// A full forward pass that shows the residual stream at every [`Probe`], and returns what the
    /// last one saw.
    pub fn trace(
        &self,
        rows: &Rows,
        segments: &[Segment],
        visit: &mut dyn FnMut(Probe, &Tensor) -> Result<()>,
    ) -> Result<Tensor> {
        let x = self.residual(rows, segments, visit)?;
        let x = self.norm(&x, &self.ln_f)?;
        visit(Probe::FinalNorm, &x)?;
        Ok(x)
    }

    /// The residual stream after the last block, `[r, d]`.
    fn residual(
        &self,
        rows: &Rows,
        segments: &[Segment],
        visit: &mut dyn FnMut(Probe, &Tensor) -> Result<()>,
    ) -> Result<Tensor> {
        self.check_rows(rows)?;
        // A sequence without rows has nothing to attend to.
        let segments: Vec<Segment> = segments
            .iter()
            .filter(|s| !s.queries.is_empty())
            .cloned()
            .collect();
        check_segments(rows.len(), &segments)?;
        let angles = self.angles(&rows.positions)?;
        let ids = Tensor::new(rows.ids.as_slice(), self.device())?;
        let mut x = self.wte.index_select(&ids, 0)?;
        visit(Probe::Embedding, &x)?;
        for (index, block) in self.blocks.iter().enumerate() {
            x = self.block(block, &x, &angles, &segments)?;
            visit(Probe::Block(index), &x)?;
        }
        Ok(x)
    }

    fn block(
        &self,
        block: &Block,
        x: &Tensor,
        angles: &Angles,
        segments: &[Segment],
    ) -> Result<Tensor> {
        let heads = Heads {
            query: self.cfg.n_heads,
            key_value: self.cfg.n_kv_heads,
        };
        let n = self.norm(x, &block.attn_norm)?;
        let q = block.q_proj.forward(&n)?;
        let k = block.k_proj.forward(&n)?;
        let v = block.v_proj.forward(&n)?;
        let q = ops::rotary(&q, &angles.cos, &angles.sin, heads.query)?;
        let k = ops::rotary(&k, &angles.cos, &angles.sin, heads.key_value)?;
        let mixed = ops::attention(&q, &k, &v, heads, segments)?;
        let x = block.attn_out.add_to(x, &mixed)?;

        let n = self.norm(&x, &block.ff_norm)?;
        let hidden = Projection::gated(&block.ff_proj, &block.up_proj, &n)?;
        block.ff_out.add_to(&x, &hidden)
    }

    fn norm(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        Ok(ops::rms_norm(x, weight, self.cfg.rms_norm_eps)?)
    }

    /// Every step in f32, as the original's `rope_full_precision` does (modeling_llada.py).
    fn angles(&self, positions: &[u32]) -> Result<Angles> {
        let c = self.cfg.head_width();
        let theta = self.cfg.rope_theta as f32;
        let frequencies: Vec<f32> = (0..c / 2)
            .map(|i| 1.0 / theta.powf((2 * i) as f32 / c as f32))
            .collect();
        let mut cos = Vec::with_capacity(positions.len() * c / 2);
        let mut sin = Vec::with_capacity(positions.len() * c / 2);
        for position in positions {
            for frequency in &frequencies {
                let (s, c) = (*position as f32 * frequency).sin_cos();
                cos.push(c);
                sin.push(s);
            }
        }
        let shape = (positions.len(), c / 2);
        Ok(Angles {
            cos: Tensor::from_vec(cos, shape, self.device())?,
            sin: Tensor::from_vec(sin, shape, self.device())?,
        })
    }

    fn check_rows(&self, rows: &Rows) -> Result<()> {
        if rows.is_empty() {
            return Err(Error::input("packed rows", "at least one", 0));
        }
        if rows.positions.len() != rows.len() {
            let expected = format!("one for each of {} rows", rows.len());
            return Err(Error::input("positions", expected, rows.positions.len()));
        }
        self.check_ids("token id of row", &rows.ids)?;
        let limit = self.cfg.max_sequence_length;
        match rows.positions.iter().max() {
            Some(last) if *last as usize >= limit => Err(Error::input(
                "length of a sequence",
                format!(
                    "at most the model's context of {limit} tokens; shorten the prompt or ask for less"
                ),
                *last as usize + 1,
            )),
            _ => Ok(()),
        }
    }

    fn check_ids(&self, what: &str, ids: &[u32]) -> Result<()> {
        let v = self.cfg.embedding_size;
        match ids.iter().position(|id| *id as usize >= v) {
            Some(row) => {
                let expected = format!("an id below {v}; tokenizer and model must belong together");
                Err(Error::input(format!("{what} {row}"), expected, ids[row]))
            }
            None => Ok(()),
        }
    }
}

/// A config with fewer layers than the weights would load, and answer nonsense.
fn refuse_further_blocks(cfg: &Config, params: &Params) -> Result<()> {
    let indices = params.names().filter_map(|name| {
        let rest = name.strip_prefix("model.transformer.blocks.")?;
        rest.split('.').next()?.parse::<usize>().ok()
    });
    match indices.max() {
        Some(last) if last >= cfg.n_layers => {
            let expected = format!("as many blocks as there are weights for, {}", last + 1);
            Err(Error::config("n_layers", expected, cfg.n_layers))
        }
        _ => Ok(()),
    }
}

/// Attention relies on query ranges that follow each other and on keys that exist.
fn check_segments(r: usize, segments: &[Segment]) -> Result<()> {
    let mut next = 0;
    for Segment { queries, keys } in segments {
        if queries.start != next || keys.is_empty() || keys.end > r {
            let expected = format!("queries from {next} on and keys within 0..{r}");
            let got = format!("queries {queries:?} and keys {keys:?}");
            return Err(Error::input("attention segment", expected, got));
        }
        next = queries.end;
    }
    if next != r {
        return Err(Error::input("rows covered by attention segments", r, next));
    }
    Ok(())
}

fn name(part: &str) -> String {
    format!("model.transformer.{part}.weight")
}

fn block_name(index: usize, part: &str) -> String {
    format!("model.transformer.blocks.{index}.{part}.weight")
}
