//! Softmax attention within segments of packed rows; nothing of size `[l, l]` outlives a tile.
//!
//! ```text
//!   segment × head × tile of queries          (tasks, in parallel; of few queries, see `few`)
//!     scores = q · kᵀ / √c  ─► softmax ─► · v
//!   segments that share keys × key-value head, backward    (tiles one after another: they add into dk and dv)
//!     p again from q and k     dp = g · vᵀ     ds = p ∘ (dp - rowsum(g ∘ out))
//!     dq = ds · k / √c         dk += dsᵀ · q / √c         dv += pᵀ · g
//! ```
//!
//! Rows interleave their heads, `[rows, heads·c]`; a head is read and written in place, strided.
//! l keys of a segment, its past and then the others, c width of one head.

mod few;

use std::ops::Range;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::math::{dot, multiversion, softmax_row};
use super::{Shared, output, slice, view, zeros};
use crate::Precision;
use crate::gemm::{Into, Matrix, Workers, attend, has_attention, product_at};
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

/// One head of the keys that a segment sees, in two runs: of its past and the others.
fn seen_by<'a>(
    segment: &Segment,
    data: &'a [f32],
    head: usize,
    c: usize,
    width: usize,
) -> [Matrix<'a>; 2] {
    [&segment.past, &segment.keys].map(|rows| head_of(data, rows.clone(), head, c, width))
}

/// The columns of a tile, `[rows, l]`, that belong to the two runs of its keys.
fn columns<'a>(segment: &Segment, tile: &'a [f32], rows: usize) -> [Matrix<'a>; 2] {
    let (past, l) = (segment.past.len(), segment.seen());
    let run = |from: usize, count: usize| match count {
        0 => Matrix::new(&[], rows, 0),
        _ => Matrix::strided(&tile[from..], rows, count, l),
    };
    [run(0, past), run(past, l - past)]
}

/// Query rows of one tile: the whole segment when its scores are few.
fn tile_rows(keys: usize) -> usize {
    (TILE_ELEMENTS / keys.max(1)).clamp(16, 256)
}

/// Cuts the queries of a segment into tiles.
fn tiles(segment: &Segment) -> impl Iterator<Item = Range<usize>> + use<> {
    let queries = segment.queries.clone();
    let rows = tile_rows(segment.seen());
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
        let is_few = |segment: &&Segment| segment.queries.len() <= few::FEW;
        let (few, many): (Vec<&Segment>, Vec<&Segment>) = self.segments.iter().partition(is_few);
        self.forward_by_query(&few, [q, k, v], g, shared);
        // Whole heads are packed from one run of keys.
        let is_whole = many.iter().all(|segment| segment.past.is_empty());
        if is_whole && has_attention(self.precision) {
            self.forward_by_head(&many, [q, k, v], g, shared);
        } else {
            self.forward_by_tile(&many, [q, k, v], g, shared);
        }
        out
    }

    /// Tasks are whole heads: keys and values are packed once for all queries.
    fn forward_by_head(
        &self,
        segments: &[&Segment],
        [q, k, v]: [&[f32]; 3],
        g: Geometry,
        out: Shared,
    ) {
        let heads = |segment| (0..self.heads.query).map(move |head| (segment, head));
        let tasks: Vec<(&Segment, usize)> = segments.iter().copied().flat_map(heads).collect();
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

    fn forward_by_tile(
        &self,
        segments: &[&Segment],
        [q, k, v]: [&[f32]; 3],
        g: Geometry,
        shared: Shared,
    ) {
        let tasks: Vec<(&Segment, Range<usize>, usize)> = segments
            .iter()
            .flat_map(|&segment| tiles(segment).map(move |tile| (segment, tile)))
            .flat_map(|(segment, tile)| {
                (0..self.heads.query).map(move |head| (segment, tile.clone(), head))
            })
            .collect();
        tasks.into_par_iter().with_max_len(1).for_each_init(
            Vec::new,
            |scores, (segment, tile, head)| {
                let key_head = head / self.group();
                let q = head_of(q, tile.clone(), head, g.c, g.query_width);
                let k = seen_by(segment, k, key_head, g.c, g.key_width);
                let v = seen_by(segment, v, key_head, g.c, g.key_width);
                let p = probabilities((q, k), (segment, &tile), g, scores);
                let pairs = columns(segment, p, tile.len()).into_iter().zip(v);
                // SAFETY: each (tile, head) is one task, so its rows and columns of `out` are
                // written by nobody else; `out` outlives the tasks.
                unsafe {
                    let out = shared.at(tile.start * g.query_width + head * g.c);
                    sum_of_products(g.precision, 1.0, pairs, (out, g.query_width));
                }
            },
        );
    }

    /// Segments whose keys may overlap add into the same rows of dk and dv, so they take turns: each
    /// list is one task's, in order, and the lists can run side by side.
    fn apart(&self) -> Vec<Vec<&Segment>> {
        let mut lists: Vec<(Range<usize>, Vec<&Segment>)> = Vec::new();
        for segment in &self.segments {
            let mut hull = segment.keys.clone();
            if !segment.past.is_empty() {
                hull = hull.start.min(segment.past.start)..hull.end.max(segment.past.end);
            }
            let mut list = (hull.clone(), Vec::new());
            let meets = |(other, _): &mut (Range<usize>, Vec<&Segment>)| {
                other.start < hull.end && hull.start < other.end
            };
            for (other, segments) in lists.extract_if(.., meets) {
                list.0 = list.0.start.min(other.start)..list.0.end.max(other.end);
                list.1.extend(segments);
            }
            list.1.push(segment);
            lists.push(list);
        }
        lists.into_iter().map(|(_, segments)| segments).collect()
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
        let lists = self.apart();
        let tasks: Vec<(&[&Segment], usize)> = lists
            .iter()
            .flat_map(|list| (0..self.heads.key_value).map(move |head| (list.as_slice(), head)))
            .collect();
        tasks.into_par_iter().with_max_len(1).for_each_init(
            Scratch::default,
            |scratch, (list, key_head)| {
                let heads = key_head * self.group()..(key_head + 1) * self.group();
                for (segment, head) in list
                    .iter()
                    .flat_map(|s| heads.clone().map(move |h| (*s, h)))
                {
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

/// The sum of the products of some pairs, of which one at least is not empty, times `scale`.
///
/// # Safety
/// As of [`product_at`].
unsafe fn sum_of_products<'a>(
    precision: Precision,
    scale: f32,
    pairs: impl Iterator<Item = (Matrix<'a>, Matrix<'a>)>,
    out: (*mut f32, usize),
) {
    let mut into = Into::Replace;
    for pair in pairs.filter(|(_, b)| b.rows() > 0) {
        // SAFETY: the caller's.
        unsafe { product_at(precision, scale, pair, into, out, Workers::Caller) };
        into = Into::Add;
    }
}

/// x · keysᵀ · scale in the buffer, a column for each of the keys that a segment sees.
fn by_keys<'b>(
    g: Geometry,
    scale: f32,
    x: Matrix<'_>,
    keys: [Matrix<'_>; 2],
    buffer: &'b mut Vec<f32>,
) -> &'b mut [f32] {
    let (rows, l) = (x.rows(), keys[0].rows() + keys[1].rows());
    if buffer.len() < rows * l {
        buffer.resize(rows * l, 0.0);
    }
    let tile = &mut buffer[..rows * l];
    let place = Shared::new(tile);
    let mut column = 0;
    for keys in keys.into_iter().filter(|keys| keys.rows() > 0) {
        let pair = (x, keys.t());
        // SAFETY: the columns lie within the tile, which nobody else writes.
        unsafe {
            let out = (place.at(column), l);
            product_at(
                g.precision,
                scale,
                pair,
                Into::Replace,
                out,
                Workers::Caller,
            );
        }
        column += keys.rows();
    }
    tile
}

/// softmax(q · kᵀ · scale) in the buffer.
fn probabilities<'b>(
    (q, k): (Matrix<'_>, [Matrix<'_>; 2]),
    (segment, tile): (&Segment, &Range<usize>),
    g: Geometry,
    buffer: &'b mut Vec<f32>,
) -> &'b [f32] {
    let scores = by_keys(g, g.scale, q, k, buffer);
    for (query, row) in tile.clone().zip(scores.chunks_exact_mut(segment.seen())) {
        chances(segment, query, row);
    }
    scores
}

/// Turns the scores of a query into probabilities, nothing for what it does not see.
fn chances(segment: &Segment, query: usize, scores: &mut [f32]) {
    for unseen in segment.unseen_by(query) {
        scores[unseen].fill(f32::NEG_INFINITY);
    }
    softmax_row(scores);
}

/// `dp ← p ∘ (dp - rowsum(grad ∘ out))`: the gradient of the scores of a tile.
fn score_gradients(given: &Given<'_>, g: Geometry, tile: &Tile<'_>, p: &[f32], dp: &mut [f32]) {
    let l = tile.segment.seen();
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
    let (c, rows) = (g.c, queries.len());
    let q = head_of(given.q, queries.clone(), *head, c, g.query_width);
    let k = seen_by(segment, given.k, *key_head, c, g.key_width);
    let v = seen_by(segment, given.v, *key_head, c, g.key_width);
    let grad = head_of(given.grad, queries.clone(), *head, c, g.query_width);
    let p = probabilities((q, k), (segment, queries), g, &mut scratch.p);
    let dp = by_keys(g, 1.0, grad, v, &mut scratch.dp);
    score_gradients(given, g, tile, p, dp);
    let (p, ds) = (columns(segment, p, rows), columns(segment, dp, rows));
    let at_queries = queries.start * g.query_width + head * c;
    let at_keys = |run: &Range<usize>| run.start * g.key_width + key_head * c;
    // SAFETY: rows of dq belong to this tile and head alone. Rows of dk and dv belong to this
    // task's segments (see `apart`) and key-value head, whose tiles run one after another. All
    // three buffers outlive the tasks.
    unsafe {
        let dq = (places.dq.at(at_queries), g.query_width);
        sum_of_products(g.precision, g.scale, ds.into_iter().zip(k), dq);
        for (run, (p, ds)) in [&segment.past, &segment.keys]
            .into_iter()
            .zip(p.into_iter().zip(ds))
        {
            if run.is_empty() {
                continue;
            }
            let dk = (places.dk.at(at_keys(run)), g.key_width);
            let dv = (places.dv.at(at_keys(run)), g.key_width);
            let add = |scale, pair, out| {
                product_at(g.precision, scale, pair, Into::Add, out, Workers::Caller);
            };
            add(g.scale, (ds.t(), q), dk);
            add(1.0, (p.t(), grad), dv);
        }
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
