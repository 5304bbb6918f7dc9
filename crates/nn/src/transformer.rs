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

mod build;
mod grow;
pub use build::{MOST_PARAMETERS, table_names};
mod layers;
mod pass;

use std::ops::Range;

use mmada_tensor::ops::{self, Heads};
use mmada_tensor::{
    Activations, DType, Device, Packing, Precision, Recall, Rows, Segment, Tensor, Want, recompute,
};

use self::layers::{Head, Input, Layers};
use self::pass::{Angles, Chosen, Pass, check_segments, check_wanted};
pub use crate::config::{Architecture, Config, Sizes};
use crate::{Cache, Error, Result};

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
    /// The sizes of the network.
    pub fn config(&self) -> &Config {
        &self.cfg
    }

    /// What its hidden states are in: the format of its embeddings, f32 when packed.
    pub fn dtype(&self) -> DType {
        match self.packing {
            Some(_) => DType::F32,
            None => self.wte.dtype(),
        }
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
        self.tempered_nll(rows, wanted, targets, &vec![1.0; wanted.len()])
    }

    /// The same of a softmax whose logits are divided by a temperature, one for each wanted row: how
    /// likely the target is to be drawn at it.
    pub fn tempered_nll(
        &self,
        rows: &Rows,
        wanted: &[usize],
        targets: &[u32],
        temperatures: &[f32],
    ) -> Result<Tensor> {
        let are_positive = temperatures.iter().all(|t| *t > 0.0);
        if temperatures.len() != wanted.len() || !are_positive {
            let expected = format!("one above 0 for each of {} wanted rows", wanted.len());
            return Err(Error::input(
                "temperatures",
                expected,
                format!("{temperatures:?}"),
            ));
        }
        if targets.len() != wanted.len() {
            let expected = format!("one for each of {} wanted rows", wanted.len());
            return Err(Error::input("targets", expected, targets.len()));
        }
        self.check_ids("target of wanted row", targets)?;
        if wanted.is_empty() {
            return Ok(Tensor::zeros(0, DType::F32, self.device())?);
        }
        let mut hidden = self.hidden_of(rows, wanted)?;
        if temperatures.iter().any(|t| *t != 1.0) {
            let factors: Vec<f32> = temperatures.iter().map(|t| t.recip()).collect();
            let factors = Tensor::from_vec(factors, (wanted.len(), 1), self.device())?;
            hidden = hidden.broadcast_mul(&factors)?;
        }
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
        let packed = self.packing.map(Packing::precision);
        let precision = packed.unwrap_or_else(Precision::current);
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
        let x = match (
            chosen,
            pass.memory,
            layers::plain(&block.qkv, &block.attn_out),
        ) {
            (None, None, Some(([q, k, v], out))) => {
                let norm = (&block.attn_norm, self.cfg.rms_norm_eps);
                let looking = pass.looking(self.heads());
                ops::self_attention(x, norm, [q, k, v, out], &looking)?
            }
            _ => self.self_attention(index, x, pass, chosen)?,
        };
        let norm = (&block.ff_norm, self.cfg.rms_norm_eps);
        layers::feed_forward(&x, norm, &block.gate_up, &block.ff_out)
    }

    fn heads(&self) -> Heads {
        Heads {
            query: self.cfg.n_heads,
            key_value: self.cfg.n_kv_heads,
        }
    }

    /// The first half of a block where it is more than [`ops::self_attention`].
    fn self_attention(
        &self,
        index: usize,
        x: &Tensor,
        pass: &Pass,
        chosen: Option<&Chosen>,
    ) -> Result<Tensor> {
        let (block, heads) = (&self.blocks[index], self.heads());
        let (gain, eps) = (&block.attn_norm, self.cfg.rms_norm_eps);
        let n = Input::new(x, gain, eps, self.packing.is_some())?;
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
        block.attn_out.add_to(&n.x, &mixed)
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
