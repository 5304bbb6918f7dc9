//! What the blocks of one forward share: angles of the rows, who attends to whom, and what is kept.

use mmada_tensor::ops::{self, Heads, Looking};
use mmada_tensor::{Device, Rows, Segment, Tensor};

use crate::{Cache, Config, Error, Result};

/// Cosines and sines of the rows' rotary angles, `[r, c/2]`, f32.
#[derive(Clone)]
pub(super) struct Angles {
    pub(super) cos: Tensor,
    pub(super) sin: Tensor,
}

/// What the blocks of one forward share.
pub(super) struct Pass<'a> {
    pub(super) angles: Angles,
    /// Who attends to whom; no segment is without queries.
    pub(super) segments: Vec<Segment>,
    /// Where keys and values are kept, and the rows there of the packed rows.
    pub(super) memory: Option<(&'a Cache, &'a [usize])>,
}

/// The rows that are still looked at after a block.
#[derive(Clone)]
pub(super) struct Chosen {
    /// Their indices, `[n]`, rising.
    pub(super) index: Tensor,
    /// Their angles.
    pub(super) angles: Angles,
    /// Their share of every segment.
    pub(super) segments: Vec<Segment>,
}

impl Angles {
    /// Every step in f32, as the original's `rope_full_precision` does (modeling_llada.py).
    pub(super) fn of(cfg: &Config, positions: &[u32], device: &Device) -> Result<Self> {
        let c = cfg.head_width();
        let theta = cfg.rope_theta as f32;
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
        Ok(Self {
            cos: Tensor::from_vec(cos, shape, device)?,
            sin: Tensor::from_vec(sin, shape, device)?,
        })
    }

    /// Turns the heads of every row by its position.
    pub(super) fn turn(&self, x: &Tensor, heads: usize) -> Result<Tensor> {
        Ok(ops::rotary(x, &self.cos, &self.sin, heads)?)
    }
}

impl Pass<'_> {
    /// The same pass, to be made again later. There is none with a memory, which will hold other rows
    /// by then.
    pub(super) fn to_repeat(&self) -> Option<Pass<'static>> {
        match self.memory {
            Some(_) => None,
            None => Some(Pass {
                angles: self.angles.clone(),
                segments: self.segments.clone(),
                memory: None,
            }),
        }
    }

    /// How all rows look at each other.
    pub(super) fn looking(&self, heads: Heads) -> Looking<'_> {
        Looking {
            heads,
            cos: &self.angles.cos,
            sin: &self.angles.sin,
            segments: &self.segments,
        }
    }

    /// The part of the pass that belongs to some rows, rising.
    pub(super) fn choose(&self, rows: &[usize]) -> Result<Chosen> {
        let index: Vec<u32> = rows.iter().map(|row| *row as u32).collect();
        let index = Tensor::new(index, self.angles.cos.device())?;
        let mut segments = Vec::with_capacity(self.segments.len());
        for segment in &self.segments {
            let start = rows.partition_point(|row| *row < segment.queries.start);
            let end = rows.partition_point(|row| *row < segment.queries.end);
            // What a query sees may depend on its place in the segment: part runs of neighbours.
            let mut from = start;
            for to in start + 1..=end {
                let is_run = to < end && rows[to] == rows[to - 1] + 1;
                if to == end || (segment.is_partly_seen() && !is_run) {
                    let skipped = rows[from] - segment.queries.start;
                    segments.push(segment.part(skipped, from..to));
                    from = to;
                }
            }
        }
        Ok(Chosen {
            angles: Angles {
                cos: self.angles.cos.index_select(&index, 0)?,
                sin: self.angles.sin.index_select(&index, 0)?,
            },
            index,
            segments,
        })
    }
}

pub(super) fn check_wanted(rows: &Rows, wanted: &[usize]) -> Result<()> {
    match wanted.iter().find(|row| **row >= rows.len()) {
        Some(row) => {
            let expected = format!("an index below {}", rows.len());
            Err(Error::input("wanted row", expected, row))
        }
        None => Ok(()),
    }
}

/// Attention relies on query ranges that follow each other and on keys that exist.
pub(super) fn check_segments(r: usize, key_rows: usize, segments: &[Segment]) -> Result<()> {
    let mut next = 0;
    for segment in segments {
        let Segment {
            queries,
            keys,
            past,
            rising,
            ..
        } = segment;
        let is_before = past.start <= past.end && (past.end <= keys.start || rising.is_some());
        if queries.start != next || keys.is_empty() || keys.end > key_rows || !is_before {
            let expected = format!(
                "queries from {next} on, keys within 0..{key_rows}, a past before the keys"
            );
            let got = format!("queries {queries:?}, keys {keys:?} and past {past:?}");
            return Err(Error::input("attention segment", expected, got));
        }
        next = queries.end;
    }
    if next != r {
        return Err(Error::input("rows covered by attention segments", r, next));
    }
    Ok(())
}
