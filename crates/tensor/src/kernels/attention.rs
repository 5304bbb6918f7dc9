//! Softmax attention within segments of packed rows; nothing of size `[l, l]` outlives a tile.
//!
//! ```text
//!   segment × head × tile of queries          (tasks, in parallel)
//!     scores = q · kᵀ / √c  ─► softmax ─► · v
//!   segment × key-value head, backward        (tiles one after another: they add into dk and dv)
//!     p again from q and k     dp = g · vᵀ     ds = p ∘ (dp - rowsum(g ∘ out))
//!     dq = ds · k / √c         dk += dsᵀ · q / √c         dv += pᵀ · g
//! ```
//!
//! Rows interleave their heads, `[rows, heads·c]`; a head is read and written in place, strided.
//! l keys of a segment, c width of one head.

use std::ops::Range;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::math::{dot, multiversion, softmax_row};
use super::{Shared, output, slice, view, zeros};
use crate::Precision;
use crate::gemm::{Into, Matrix, Workers, attend, has_attention, product_at, product_into};
use crate::ops::Heads;
use crate::packed::Segment;

/// Scores of one tile: 256 KiB, which leaves room for keys and values in a core's own cache.
const TILE_ELEMENTS: usize = 64 * 1024;

/// q `[rq, heads·c]`, k and v `[rk, hkv·c]` to `[rq, heads·c]`.
pub(crate) struct Attention {
    pub(crate) precision: Precision,
    pub(crate) heads: Heads,
    /// Checked: queries cover the rows of q in order, keys lie within k and are not empty unless
    /// the queries are.
    pub(crate) segments: Vec<Segment>,
}

/// Row widths and the scale.
#[derive(Clone, Copy)]
pub(super) struct Geometry {
    precision: Precision,
    c: usize,
    query_width: usize,
    key_width: usize,
    scale: f32,
}

/// One head of some packed rows.
fn head_of(data: &[f32], rows: Range<usize>, head: usize, c: usize, width: usize) -> Matrix<'_> {
    if rows.is_empty() {
        return Matrix::new(&[], 0, c);
    }
    Matrix::strided(&data[rows.start * width + head * c..], rows.len(), c, width)
}

/// Query rows of one tile: the whole segment when its scores are few.
fn tile_rows(keys: usize) -> usize {
    (TILE_ELEMENTS / keys.max(1)).clamp(16, 256)
}

/// Cuts the queries of a segment into tiles.
fn tiles(segment: &Segment) -> impl Iterator<Item = Range<usize>> + use<> {
    let queries = segment.queries.clone();
    let rows = tile_rows(segment.keys.len());
    let end = queries.end;
    queries
        .step_by(rows)
        .map(move |start| start..(start + rows).min(end))
}

multiversion! {
    /// `dp ← p · (dp - centre)`
    fn softmax_backward(p: &[f32], dp: &mut [f32], centre: f32) {
        for (dp, &p) in dp.iter_mut().zip(p) {
            *dp = p * (*dp - centre);
        }
    }
}

impl Attention {
    pub(super) fn geometry(&self, query_width: usize, key_width: usize) -> Geometry {
        let c = query_width / self.heads.query;
        Geometry {
            precision: self.precision,
            c,
            query_width,
            key_width,
            scale: (1.0 / (c as f64).sqrt()) as f32,
        }
    }

    /// Query heads that share one key-value head.
    fn group(&self) -> usize {
        self.heads.query / self.heads.key_value
    }

    pub(super) fn forward(&self, q: &[f32], k: &[f32], v: &[f32], g: Geometry) -> Vec<f32> {
        let mut out = zeros(q.len());
        let shared = Shared::new(&mut out);
        if has_attention(self.precision) {
            self.forward_by_head([q, k, v], g, shared);
        } else {
            self.forward_by_tile([q, k, v], g, shared);
        }
        out
    }

    /// Tasks are whole heads: keys and values are packed once for all queries.
    fn forward_by_head(&self, [q, k, v]: [&[f32]; 3], g: Geometry, out: Shared) {
        let tasks: Vec<(&Segment, usize)> = self
            .segments
            .iter()
            .filter(|segment| !segment.queries.is_empty())
            .flat_map(|segment| (0..self.heads.query).map(move |head| (segment, head)))
            .collect();
        tasks
            .into_par_iter()
            .with_max_len(1)
            .for_each(|(segment, head)| {
                let (queries, keys) = (segment.queries.clone(), segment.keys.clone());
                let key_head = head / self.group();
                let factors = [
                    head_of(q, queries.clone(), head, g.c, g.query_width),
                    head_of(k, keys.clone(), key_head, g.c, g.key_width),
                    head_of(v, keys.clone(), key_head, g.c, g.key_width),
                ];
                let hidden = |query: usize| {
                    let key = segment.hidden_from(queries.start + query);
                    key.map(|key| key - keys.start)
                };
                // SAFETY: each (segment, head) is one task, so its rows and columns of `out` are written
                // by nobody else; `out` outlives the tasks.
                unsafe {
                    let out = out.at(queries.start * g.query_width + head * g.c);
                    attend(factors, g.scale, hidden, (out, g.query_width));
                }
            });
    }

    fn forward_by_tile(&self, [q, k, v]: [&[f32]; 3], g: Geometry, shared: Shared) {
        let tasks: Vec<(&Segment, Range<usize>, usize)> = self
            .segments
            .iter()
            .flat_map(|segment| tiles(segment).map(move |tile| (segment, tile)))
            .flat_map(|(segment, tile)| {
                (0..self.heads.query).map(move |head| (segment, tile.clone(), head))
            })
            .collect();
        tasks.into_par_iter().with_max_len(1).for_each_init(
            Vec::new,
            |scores, (segment, tile, head)| {
                let l = segment.keys.len();
                let key_head = head / self.group();
                let q = head_of(q, tile.clone(), head, g.c, g.query_width);
                let k = head_of(k, segment.keys.clone(), key_head, g.c, g.key_width);
                let v = head_of(v, segment.keys.clone(), key_head, g.c, g.key_width);
                let p = probabilities((q, k), (segment, &tile), g, scores);
                let p = Matrix::new(p, tile.len(), l);
                // SAFETY: each (tile, head) is one task, so its rows and columns of `out` are
                // written by nobody else; `out` outlives the tasks.
                unsafe {
                    let out = shared.at(tile.start * g.query_width + head * g.c);
                    let out = (out, g.query_width);
                    product_at(
                        g.precision,
                        1.0,
                        (p, v),
                        Into::Replace,
                        out,
                        Workers::Caller,
                    );
                }
            },
        );
    }

    /// Segments whose keys overlap add into the same rows of dk and dv, so they take turns:
    /// each inner list can run in parallel.
    fn rounds(&self) -> Vec<Vec<&Segment>> {
        let in_order = self
            .segments
            .windows(2)
            .all(|pair| pair[0].keys.end <= pair[1].keys.start);
        if in_order {
            vec![self.segments.iter().collect()]
        } else {
            self.segments.iter().map(|segment| vec![segment]).collect()
        }
    }

    pub(super) fn backward(&self, given: &Given<'_>, g: Geometry) -> Gradients {
        let mut grads = Gradients {
            dq: zeros(given.q.len()),
            dk: zeros(given.k.len()),
            dv: zeros(given.k.len()),
        };
        let places = Places {
            dq: Shared::new(&mut grads.dq),
            dk: Shared::new(&mut grads.dk),
            dv: Shared::new(&mut grads.dv),
        };
        for round in self.rounds() {
            let tasks: Vec<(&Segment, usize)> = round
                .into_iter()
                .flat_map(|segment| (0..self.heads.key_value).map(move |head| (segment, head)))
                .collect();
            tasks.into_par_iter().with_max_len(1).for_each_init(
                Scratch::default,
                |scratch, (segment, key_head)| {
                    for head in key_head * self.group()..(key_head + 1) * self.group() {
                        for queries in tiles(segment) {
                            let tile = Tile {
                                segment,
                                head,
                                key_head,
                                queries,
                            };
                            backward_tile(given, g, places, &tile, scratch);
                        }
                    }
                },
            );
        }
        grads
    }
}

/// What the backward pass reads.
pub(super) struct Given<'a> {
    pub(super) q: &'a [f32],
    pub(super) k: &'a [f32],
    pub(super) v: &'a [f32],
    pub(super) out: &'a [f32],
    pub(super) grad: &'a [f32],
}

/// The gradients of q, k and v.
pub(super) struct Gradients {
    pub(super) dq: Vec<f32>,
    pub(super) dk: Vec<f32>,
    pub(super) dv: Vec<f32>,
}

/// A tile of queries of one head, within its segment.
struct Tile<'a> {
    segment: &'a Segment,
    head: usize,
    key_head: usize,
    queries: Range<usize>,
}

/// Buffers of one worker, grown to the largest tile it met.
#[derive(Default)]
struct Scratch {
    p: Vec<f32>,
    dp: Vec<f32>,
}

/// Where tasks write the gradients.
#[derive(Clone, Copy)]
struct Places {
    dq: Shared,
    dk: Shared,
    dv: Shared,
}

/// softmax(q · kᵀ · scale) in the buffer.
fn probabilities<'a>(
    (q, k): (Matrix<'_>, Matrix<'_>),
    (segment, tile): (&Segment, &Range<usize>),
    g: Geometry,
    buffer: &'a mut Vec<f32>,
) -> &'a [f32] {
    let (rows, l) = (tile.len(), segment.keys.len());
    if buffer.len() < rows * l {
        buffer.resize(rows * l, 0.0);
    }
    let scores = &mut buffer[..rows * l];
    product_into(
        g.precision,
        g.scale,
        (q, k.t()),
        Into::Replace,
        scores,
        Workers::Caller,
    );
    for (query, row) in tile.clone().zip(scores.chunks_exact_mut(l)) {
        if let Some(key) = segment.hidden_from(query) {
            row[key - segment.keys.start] = f32::NEG_INFINITY;
        }
        softmax_row(row);
    }
    scores
}

/// `dp ← p ∘ (dp - rowsum(grad ∘ out))`: the gradient of the scores of a tile.
fn score_gradients(given: &Given<'_>, g: Geometry, tile: &Tile<'_>, p: &[f32], dp: &mut [f32]) {
    let l = tile.segment.keys.len();
    let pairs = p.chunks_exact(l).zip(dp.chunks_exact_mut(l));
    for (row, (p, dp)) in tile.queries.clone().zip(pairs) {
        let start = row * g.query_width + tile.head * g.c;
        let of_head = start..start + g.c;
        let centre = dot(&given.out[of_head.clone()], &given.grad[of_head]) as f32;
        softmax_backward(p, dp, centre);
    }
}

/// One tile of queries of one head: its dq, and its share of dk and dv.
fn backward_tile(
    given: &Given<'_>,
    g: Geometry,
    places: Places,
    tile: &Tile<'_>,
    scratch: &mut Scratch,
) {
    let Tile {
        segment,
        head,
        key_head,
        queries,
    } = tile;
    let l = segment.keys.len();
    let (c, rows) = (g.c, queries.len());
    let q = head_of(given.q, queries.clone(), *head, c, g.query_width);
    let k = head_of(given.k, segment.keys.clone(), *key_head, c, g.key_width);
    let v = head_of(given.v, segment.keys.clone(), *key_head, c, g.key_width);
    let grad = head_of(given.grad, queries.clone(), *head, c, g.query_width);
    let p = probabilities((q, k), (segment, queries), g, &mut scratch.p);
    if scratch.dp.len() < rows * l {
        scratch.dp.resize(rows * l, 0.0);
    }
    let dp = &mut scratch.dp[..rows * l];
    product_into(
        g.precision,
        1.0,
        (grad, v.t()),
        Into::Replace,
        dp,
        Workers::Caller,
    );
    score_gradients(given, g, tile, p, dp);
    let (p, ds) = (Matrix::new(p, rows, l), Matrix::new(dp, rows, l));
    let at_queries = queries.start * g.query_width + head * c;
    let at_keys = segment.keys.start * g.key_width + key_head * c;
    // SAFETY: rows of dq belong to this tile and head alone. Rows of dk and dv belong to this
    // task's segment (see `rounds`) and key-value head, whose tiles run one after another. All
    // three buffers outlive the tasks.
    unsafe {
        let dq = places.dq.at(at_queries);
        let (dk, dv) = (places.dk.at(at_keys), places.dv.at(at_keys));
        let (dq, dk, dv) = ((dq, g.query_width), (dk, g.key_width), (dv, g.key_width));
        let multiply = |scale, pair, into, out| {
            product_at(g.precision, scale, pair, into, out, Workers::Caller);
        };
        multiply(g.scale, (ds, k), Into::Replace, dq);
        multiply(g.scale, (ds.t(), q), Into::Add, dk);
        multiply(1.0, (p.t(), grad), Into::Add, dv);
    }
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (q, k, v) = (
            slice(q, q_layout)?,
            slice(k, k_layout)?,
            slice(v, v_layout)?,
        );
        let geometry = self.geometry(q_layout.dims()[1], k_layout.dims()[1]);
        output(self.forward(q, k, v, geometry), q_layout.shape())
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let geometry = self.geometry(q.dims()[1], k.dims()[1]);
        let (qs, ks, vs) = (view(q)?, view(k)?, view(v)?);
        let (outs, grads) = (view(out)?, view(&grad)?);
        let given = Given {
            q: &qs,
            k: &ks,
            v: &vs,
            out: &outs,
            grad: &grads,
        };
        let Gradients { dq, dk, dv } = self.backward(&given, geometry);
        Ok((
            Some(Tensor::from_vec(dq, q.shape(), q.device())?),
            Some(Tensor::from_vec(dk, k.shape(), k.device())?),
            Some(Tensor::from_vec(dv, v.shape(), v.device())?),
        ))
    }
}
