//! The bidirectional transformer of LLaDA and MMaDA: config, block, model, top to bottom.
//!
//! ```text
//!   ids ── wte ──► x ──► block 0 ──► … ──► block n-1 ──► ln_f ──► rows wanted ──► ff_out[vocab]
//!
//!   block   x += attn_out( attention( rotary(q_proj n), rotary(k_proj n), v_proj n ) )   n = attn_norm x
//!           x += ff_out( silu(ff_proj n) · up_proj n )                                   n = ff_norm x
//! ```
//!
//! After the last block nobody looks at rows that are not wanted, so there only keys and values are
//! made of them: what the wanted rows see.
//!
//! Fields are named like the published weights (`model.transformer.blocks.0.q_proj.weight`).
//! Letters: r packed rows, n wanted rows, d width, h heads, c width of a head, m hidden width of
//! the feed-forward part, v vocabulary.

mod layers;
mod pass;

use std::ops::Range;

use mmada_tensor::ops::{self, Heads};
use mmada_tensor::random::{Key, Purpose};
use mmada_tensor::{
    Activations, DType, Device, Packing, Precision, Recall, Rows, Segment, Tensor, Want, recompute,
};

use self::layers::{Head, Input, Layers};
use self::pass::{Angles, Chosen, Pass, check_segments, check_wanted};
pub use crate::config::{Architecture, Config, Sizes};
use crate::lora::Projection;
use crate::{Cache, Error, Init, Lora, Mode, Params, Result};

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
    /// The table of embeddings itself when weights are tied.
    head: Head,
    /// How the linear layers are packed; see [`Transformer::packed`].
    packing: Option<Packing>,
}

#[derive(Debug, Clone)]
struct Block {
    attn_norm: Tensor,
    /// `q_proj`, `k_proj`, `v_proj`.
    qkv: Layers<3>,
    attn_out: Layers<1>,
    ff_norm: Tensor,
    /// `ff_proj`, `up_proj`.
    gate_up: Layers<2>,
    ff_out: Layers<1>,
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
    /// in bf16 or int8, without gradients. The head is packed in bf16 always.
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
            head: self.head.packed()?,
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

    /// What its embeddings, and so its hidden states, are in.
    pub fn dtype(&self) -> DType {
        self.wte.dtype()
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
        check_wanted(rows, wanted)?;
        if wanted.is_empty() {
            let shape = (0, self.cfg.d_model);
            return Ok(Tensor::zeros(shape, self.dtype(), self.device())?);
        }
        self.wanted_hidden(rows, &self.pass(rows, segments)?, wanted)
    }

    /// The final hidden states of at least one wanted row.
    fn wanted_hidden(&self, rows: &Rows, pass: &Pass, wanted: &[usize]) -> Result<Tensor> {
        let mut looked_at = wanted.to_vec();
        looked_at.sort_unstable();
        looked_at.dedup();
        let x = self.residual(rows, pass, Some(&looked_at), &mut |_, _| Ok(()))?;
        let x = match looked_at == wanted {
            true => x,
            false => {
                let place = |row| looked_at.partition_point(|other| other < row) as u32;
                let places: Vec<u32> = wanted.iter().map(place).collect();
                x.index_select(&Tensor::new(places, self.device())?, 0)?
            }
        };
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
        self.check_vocab(&want.vocab)?;
        if want.rows.is_empty() {
            let shape = (0, want.vocab.len());
            return Ok(Tensor::zeros(shape, DType::F32, self.device())?);
        }
        let hidden = self.hidden_of_segments(rows, segments, &want.rows)?;
        self.head.logits(&hidden, &want.vocab)
    }

    /// As [`Transformer::logits`], where `rows` are the active rows of longer sequences: they see
    /// the keys and values that `cache` remembers of the other rows, and theirs are remembered.
    /// With all rows active this is a full forward. Rows that were never active must not be seen.
    ///
    /// # Errors
    /// Also for places and keys that the recall has no room for.
    pub fn logits_recalled(
        &self,
        rows: &Rows,
        recall: &Recall,
        cache: &mut Cache,
        want: &Want,
    ) -> Result<Tensor> {
        self.check_vocab(&want.vocab)?;
        check_wanted(rows, &want.rows)?;
        cache.fit(self, recall)?;
        let pass = Pass {
            memory: Some((&*cache, &recall.places)),
            ..self.pass_over(rows, &recall.segments, recall.capacity)?
        };
        if want.rows.is_empty() {
            self.residual(rows, &pass, None, &mut |_, _| Ok(()))?;
            let shape = (0, want.vocab.len());
            return Ok(Tensor::zeros(shape, DType::F32, self.device())?);
        }
        let hidden = self.wanted_hidden(rows, &pass, &want.rows)?;
        self.head.logits(&hidden, &want.vocab)
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
        Ok(ops::nll(&hidden, &self.head.weight, targets)?)
    }

    /// A full forward pass that shows the residual stream at every [`Probe`], and returns what the
    /// last one saw.
    pub fn trace(
        &self,
        rows: &Rows,
        segments: &[Segment],
        visit: &mut dyn FnMut(Probe, &Tensor) -> Result<()>,
    ) -> Result<Tensor> {
        let x = self.residual(rows, &self.pass(rows, segments)?, None, visit)?;
        let x = self.norm(&x, &self.ln_f)?;
        visit(Probe::FinalNorm, &x)?;
        Ok(x)
    }

    /// A forward without memory: keys are the rows themselves.
    fn pass(&self, rows: &Rows, segments: &[Segment]) -> Result<Pass<'static>> {
        self.pass_over(rows, segments, rows.len())
    }

    /// A forward whose segments see `keys` rows.
    fn pass_over(&self, rows: &Rows, segments: &[Segment], keys: usize) -> Result<Pass<'static>> {
        self.check_rows(rows)?;
        // A sequence without rows has nothing to attend to.
        let segments: Vec<Segment> = segments
            .iter()
            .filter(|s| !s.queries.is_empty())
            .cloned()
            .collect();
        check_segments(rows.len(), keys, &segments)?;
        Ok(Pass {
            angles: Angles::of(&self.cfg, &rows.positions, self.device())?,
            segments,
            memory: None,
        })
    }

    /// The residual stream after the last block: of every row, `[r, d]`, or of those looked at
    /// (rising, at least one), `[n, d]`.
    fn residual(
        &self,
        rows: &Rows,
        pass: &Pass,
        looked_at: Option<&[usize]>,
        visit: &mut dyn FnMut(Probe, &Tensor) -> Result<()>,
    ) -> Result<Tensor> {
        let precision = match self.packing {
            Some(_) => Precision::Bf16,
            None => Precision::current(),
        };
        precision.scope(|| self.blocks(rows, pass, looked_at, visit))
    }

    fn blocks(
        &self,
        rows: &Rows,
        pass: &Pass,
        looked_at: Option<&[usize]>,
        visit: &mut dyn FnMut(Probe, &Tensor) -> Result<()>,
    ) -> Result<Tensor> {
        let chosen = match looked_at {
            Some(looked_at) if looked_at.len() < rows.len() => Some(pass.choose(looked_at)?),
            _ => None,
        };
        let ids = Tensor::new(rows.ids.as_slice(), self.device())?;
        let mut x = self.wte.index_select(&ids, 0)?;
        if self.packing.is_some() {
            x = x.to_dtype(DType::F32)?;
        }
        visit(Probe::Embedding, &x)?;
        for index in 0..self.blocks.len() {
            let is_last = index + 1 == self.blocks.len();
            let chosen = chosen.as_ref().filter(|_| is_last);
            x = match Activations::are_recomputed() {
                true => self.repeatable_block(index, &x, pass, chosen)?,
                false => self.block(index, &x, pass, chosen)?,
            };
            visit(Probe::Block(index), &x)?;
        }
        Ok(x)
    }

    /// A block whose activations the backward pass may compute a second time.
    fn repeatable_block(
        &self,
        index: usize,
        x: &Tensor,
        pass: &Pass,
        chosen: Option<&Chosen>,
    ) -> Result<Tensor> {
        let Some(pass) = pass.to_repeat() else {
            return self.block(index, x, pass, chosen);
        };
        let (model, chosen) = (self.clone(), chosen.cloned());
        let block = move |x: &Tensor| Ok(model.block(index, x, &pass, chosen.as_ref())?);
        Ok(recompute::block(x, block)?)
    }

    fn block(
        &self,
        index: usize,
        x: &Tensor,
        pass: &Pass,
        chosen: Option<&Chosen>,
    ) -> Result<Tensor> {
        let block = &self.blocks[index];
        let heads = Heads {
            query: self.cfg.n_heads,
            key_value: self.cfg.n_kv_heads,
        };
        let input = |x: &Tensor, gain: &Tensor| {
            Input::new(x, gain, self.cfg.rms_norm_eps, self.packing.is_some())
        };
        let n = input(x, &block.attn_norm)?;
        let (q, k, v) = match chosen {
            None => {
                let [q, k, v] = block.qkv.forward(&n, 0)?;
                (Some(q), k, v)
            }
            Some(_) => {
                let [k, v] = block.qkv.forward(&n, 1)?;
                (None, k, v)
            }
        };
        let k = pass.angles.turn(&k, heads.key_value)?;
        let (k, v) = match pass.memory {
            None => (k, v),
            Some((cache, places)) => cache.put(index, &k, &v, places)?,
        };

        let (n, angles, segments) = match chosen {
            None => (n, &pass.angles, &pass.segments),
            Some(Chosen {
                index,
                angles,
                segments,
            }) => (n.select(index)?, angles, segments),
        };
        let q = match q {
            Some(q) => q,
            None => {
                let [q] = block.qkv.forward(&n, 0)?;
                q
            }
        };
        let q = angles.turn(&q, heads.query)?;
        let mixed = ops::attention(&q, &k, &v, heads, segments)?;
        let x = block.attn_out.add_to(&n.x, &mixed)?;
        layers::feed_forward(&input(&x, &block.ff_norm)?, &block.gate_up, &block.ff_out)
    }

    fn norm(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        Ok(ops::rms_norm(x, weight, self.cfg.rms_norm_eps)?)
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

    fn check_vocab(&self, vocab: &Range<usize>) -> Result<()> {
        if vocab.start < vocab.end && vocab.end <= self.cfg.embedding_size {
            return Ok(());
        }
        let expected = format!("a non-empty part of 0..{}", self.cfg.embedding_size);
        Err(Error::input("wanted ids", expected, format!("{vocab:?}")))
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

fn name(part: &str) -> String {
    format!("model.transformer.{part}.weight")
}

fn block_name(index: usize, part: &str) -> String {
    format!("model.transformer.blocks.{index}.{part}.weight")
}
