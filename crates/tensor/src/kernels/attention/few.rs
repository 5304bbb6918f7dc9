//! Attention of segments with few queries: keys and values are read where they lie, once, in order.
//!
//! ```text
//!   segment × some heads     (tasks, in parallel)
//!     each query:  q · kᵀ / √c ─► softmax ─► · v      in f32, a row of keys or values after the other
//! ```
//!
//! A sampler that remembers asks for a query or two of each sequence. To pack or round all keys and values
//! for so few products takes longer than the products do, and what is left is reading them from memory.

use std::ops::Range;

use rayon::prelude::*;

use super::{Attention, Geometry, chances};
use crate::kernels::Shared;
use crate::kernels::math::{LANES, fma, fold, multiversion};
use crate::packed::Segment;

/// Queries of a segment up to which they are multiplied one by one.
pub(super) const FEW: usize = 4;

/// Rows of values whose products are added up before the sums are stored.
const TOGETHER: usize = 8;

/// Rows of keys or values, and how the heads of a query meet them.
#[derive(Clone, Copy)]
struct Run {
    /// Rows.
    count: usize,
    /// From a row to the next.
    stride: usize,
    /// Width of a head.
    c: usize,
    /// Query heads that share one key-value head.
    group: usize,
    /// From the scores of a head to those of the next.
    pitch: usize,
}

multiversion! {
    /// `scores[head, i] = q[head] · keys[i, head] · scale`
    fn multiply_keys(run: Run, q: &[f32], keys: &[f32], scale: f32, scores: &mut [f32]) {
        let Run { c, group, .. } = run;
        let width = q.len() / group;
        for key in 0..run.count {
            let of_heads = keys[key * run.stride..][..width].chunks_exact(c);
            let pairs = q.chunks_exact(c * group).zip(of_heads);
            let pairs = pairs.flat_map(|(queries, k)| queries.chunks_exact(c).map(move |q| (q, k)));
            for (head, (q, k)) in pairs.enumerate() {
                let ((blocks, rest), (key_blocks, key_rest)) =
                    (q.as_chunks::<LANES>(), k.as_chunks::<LANES>());
                let mut lanes = [0f32; LANES];
                for i in 0..blocks.len() {
                    let (a, b) = (&blocks[i], &key_blocks[i]);
                    for (l, lane) in lanes.iter_mut().enumerate() {
                        *lane = fma::<FMA>(a[l], b[l], *lane);
                    }
                }
                for (l, (&a, &b)) in rest.iter().zip(key_rest).enumerate() {
                    lanes[l] = fma::<FMA>(a, b, lanes[l]);
                }
                scores[head * run.pitch + key] = fold(&lanes) * scale;
            }
        }
    }
}

multiversion! {
    /// `out[head] += Σ p[head, i] · values[i, head]`
    fn add_values(run: Run, p: &[f32], values: &[f32], out: &mut [f32]) {
        let Run { c, group, .. } = run;
        for first in (0..run.count).step_by(TOGETHER) {
            let n = TOGETHER.min(run.count - first);
            for (head, out) in out.chunks_exact_mut(c).enumerate() {
                let values = &values[first * run.stride + head / group * c..];
                let p = &p[head * run.pitch + first..][..n];
                let (blocks, rest) = out.as_chunks_mut::<LANES>();
                let first_of_rest = blocks.len() * LANES;
                for (nth, block) in blocks.iter_mut().enumerate() {
                    let mut sums = *block;
                    for (i, &p) in p.iter().enumerate() {
                        let value = &values[i * run.stride + nth * LANES..][..LANES];
                        for (l, sum) in sums.iter_mut().enumerate() {
                            *sum = fma::<FMA>(p, value[l], *sum);
                        }
                    }
                    *block = sums;
                }
                for (column, out) in (first_of_rest..).zip(rest) {
                    for (i, &p) in p.iter().enumerate() {
                        *out = fma::<FMA>(p, values[i * run.stride + column], *out);
                    }
                }
            }
        }
    }
}

impl Attention {
    /// Tasks are segments, all heads at once where there are segments enough for all workers.
    pub(super) fn forward_by_query(
        &self,
        segments: &[&Segment],
        factors: [&[f32]; 3],
        g: Geometry,
        out: Shared,
    ) {
        let key_heads = self.heads.key_value;
        let parts = rayon::current_num_threads().div_ceil(segments.len().max(1));
        let some = key_heads.div_ceil(parts);
        let starts = (0..key_heads).step_by(some);
        let heads = starts.map(|first| first..(first + some).min(key_heads));
        let heads: Vec<Range<usize>> = heads.collect();
        let tasks: Vec<(&Segment, &Range<usize>)> = segments
            .iter()
            .flat_map(|segment| heads.iter().map(move |heads| (*segment, heads)))
            .collect();
        tasks
            .into_par_iter()
            .for_each_init(Vec::new, |scores, (segment, heads)| {
                for query in segment.queries.clone() {
                    self.one_query((segment, query), heads, factors, g, (scores, out));
                }
            });
    }

    /// One query, all query heads of some key-value heads.
    fn one_query(
        &self,
        (segment, query): (&Segment, usize),
        key_heads: &Range<usize>,
        [q, k, v]: [&[f32]; 3],
        g: Geometry,
        (scores, out): (&mut Vec<f32>, Shared),
    ) {
        let (c, group, pitch) = (g.c, self.group(), segment.seen());
        let width = key_heads.len() * group * c;
        let place = query * g.query_width + key_heads.start * group * c;
        let q = &q[place..place + width];
        // The runs of keys, each with the column of its first.
        let runs = [(&segment.past, 0), (&segment.keys, segment.past.len())];
        let runs = runs.into_iter().filter(|(rows, _)| !rows.is_empty());
        let runs = runs.map(|(rows, column)| {
            let run = Run {
                count: rows.len(),
                stride: g.key_width,
                c,
                group,
                pitch,
            };
            (run, rows.start * g.key_width + key_heads.start * c, column)
        });
        scores.resize(key_heads.len() * group * pitch, 0.0);
        for (run, start, column) in runs.clone() {
            multiply_keys(run, q, &k[start..], g.scale, &mut scores[column..]);
        }
        for scores in scores.chunks_exact_mut(pitch) {
            chances(segment, query, scores);
        }
        // SAFETY: a query's heads belong to one task, so these columns of its row are written by nobody
        // else; `out` outlives the tasks.
        let out = unsafe { std::slice::from_raw_parts_mut(out.at(place), width) };
        for (run, start, column) in runs {
            add_values(run, &scores[column..], &v[start..], out);
        }
    }
}
