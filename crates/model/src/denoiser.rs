//! The transformer as the sampler's [`Denoiser`], and what its forwards come to.

use mmada_diffusion::Denoiser;
use mmada_nn::{Cache, Config, Transformer};
use mmada_tensor::{Recall, Rows, Segment, Tensor, Want};

/// Bidirectional forwards of a transformer, and what it remembers of them where a sampler asks.
#[derive(Debug, Clone)]
pub struct Network<'m> {
    transformer: &'m Transformer,
    cache: Cache,
    work: Work,
}

/// What forwards came to: the sizes that their cost depends on.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Work {
    /// Forwards.
    pub forwards: usize,
    /// Rows of all forwards.
    pub rows: usize,
    /// Rows looked at after the last block.
    pub wanted: usize,
    /// Pairs of a query and a key in the attention of one block.
    pub pairs: usize,
    /// The same in the last block, where only wanted rows are queries.
    pub last_pairs: usize,
    /// Logits.
    pub logits: usize,
}

impl<'m> Network<'m> {
    /// A network that remembers nothing yet.
    pub fn new(transformer: &'m Transformer) -> Self {
        Self {
            transformer,
            cache: Cache::default(),
            work: Work::default(),
        }
    }

    /// What its forwards came to so far.
    pub fn work(&self) -> Work {
        self.work
    }
}

impl Denoiser for Network<'_> {
    fn logits(&mut self, rows: &Rows, want: &Want) -> mmada_tensor::Result<Tensor> {
        self.work.add(&rows.segments(), want);
        Ok(self.transformer.logits(rows, want)?)
    }

    fn logits_recalled(
        &mut self,
        rows: &Rows,
        recall: &Recall,
        want: &Want,
    ) -> mmada_tensor::Result<Tensor> {
        self.work.add(&recall.segments, want);
        let logits = self
            .transformer
            .logits_recalled(rows, recall, &mut self.cache, want);
        Ok(logits?)
    }
}

impl Work {
    /// Adds a forward whose rows attend within these segments.
    pub fn add(&mut self, segments: &[Segment], want: &Want) {
        self.forwards += 1;
        self.wanted += want.rows.len();
        self.logits += want.rows.len() * want.vocab.len();
        for segment in segments {
            let wanted = want.rows.iter().filter(|row| segment.queries.contains(row));
            self.rows += segment.queries.len();
            self.pairs += segment.queries.len() * segment.seen();
            self.last_pairs += wanted.count() * segment.seen();
        }
    }

    /// Floating-point operations of matrix products and attention, two for each multiplication with
    /// its addition.
    pub fn flops(&self, cfg: &Config) -> f64 {
        let (d, q, kv) = (cfg.d_model, cfg.query_width(), cfg.key_value_width());
        let (of_keys, of_rest) = (2 * d * kv, 2 * d * q + 3 * d * cfg.mlp_hidden_size);
        let early = cfg.n_layers.saturating_sub(1);
        let products = early * self.rows * (of_keys + of_rest);
        let last = self.rows * of_keys + self.wanted * of_rest + d * self.logits;
        let attention = 2 * q * (early * self.pairs + self.last_pairs);
        2.0 * (products + last + attention) as f64
    }
}
