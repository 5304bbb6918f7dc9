//! What the operations ask of the shapes they are given, checked before any kernel runs.

use candle_core::Tensor;

use crate::ops::Heads;
use crate::packed::Segment;
use crate::{Error, Result};

pub(crate) fn same_shape(what: &'static str, x: &Tensor, dims: &[usize]) -> Result<()> {
    if x.dims() == dims {
        return Ok(());
    }
    Err(Error::shape(
        what,
        format!("{dims:?}"),
        format!("{:?}", x.dims()),
    ))
}

pub(crate) fn linear(x: &Tensor, weight: &Tensor) -> Result<()> {
    let ((_, width), (_, width_in)) = (x.dims2()?, weight.dims2()?);
    if width == width_in {
        return Ok(());
    }
    Err(Error::shape(
        "linear x",
        format!("[r, {width_in}]"),
        format!("{:?}", x.dims()),
    ))
}

pub(crate) fn group_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, groups: usize) -> Result<()> {
    let (_, c, _, _) = x.dims4()?;
    if groups == 0 || c == 0 || c % groups != 0 {
        let expected = format!("[b, a multiple of {groups}, height, width]");
        return Err(Error::shape(
            "group_norm x",
            expected,
            format!("{:?}", x.dims()),
        ));
    }
    for vector in [weight, bias] {
        if vector.dims() != [c] {
            let got = format!("{:?}", vector.dims());
            return Err(Error::shape(
                "group_norm weight and bias",
                format!("[{c}]"),
                got,
            ));
        }
    }
    Ok(())
}

pub(crate) fn norm(x: &Tensor, gain: &Tensor) -> Result<()> {
    let (_, d) = x.dims2()?;
    if gain.dims() == [d] && d > 0 {
        return Ok(());
    }
    Err(Error::shape(
        "rms_norm weight",
        format!("[{d}], not empty"),
        format!("{:?}", gain.dims()),
    ))
}

/// `x` is the shape of what is turned.
pub(crate) fn rotary(x: (usize, usize), angles: [&Tensor; 2], heads: usize) -> Result<()> {
    let (r, width) = x;
    if heads == 0 || width == 0 || width % (2 * heads) != 0 {
        let expected = format!("[r, a multiple of 2·{heads}]");
        return Err(Error::shape(
            "rotary x",
            expected,
            format!("[{r}, {width}]"),
        ));
    }
    for angles in angles {
        same_shape("rotary cos and sin", angles, &[r, width / heads / 2])?;
    }
    Ok(())
}

/// `q` is the shape of the queries, `k` that of the keys and of the values.
pub(crate) fn attention(
    q: (usize, usize),
    k: (usize, usize),
    heads: Heads,
    segments: &[Segment],
) -> Result<()> {
    let ((query_rows, width), (key_rows, key_width)) = (q, k);
    let Heads { query, key_value } = heads;
    if key_value == 0 || query == 0 || query % key_value != 0 {
        return Err(Error::shape(
            "attention heads",
            "query a multiple of key_value",
            format!("{heads:?}"),
        ));
    }
    if width == 0 || width % query != 0 || key_width * query != width * key_value {
        let expected = format!("q [rq, {query}·c] and k [rk, {key_value}·c]");
        let got = format!("{q:?} and {k:?}");
        return Err(Error::shape("attention widths", expected, got));
    }
    let mut covered = 0;
    for segment in segments {
        let Segment {
            queries,
            keys,
            past,
            hidden,
            rising,
        } = segment;
        if queries.start != covered || queries.end < queries.start || queries.end > query_rows {
            let expected = format!("queries that start at row {covered}, within {query_rows}");
            return Err(Error::shape(
                "attention segments",
                expected,
                format!("{queries:?}"),
            ));
        }
        if keys.end < keys.start || keys.end > key_rows || (keys.is_empty() && !queries.is_empty())
        {
            let expected = format!("keys within {key_rows} rows, not empty");
            return Err(Error::shape(
                "attention segments",
                expected,
                format!("{keys:?}"),
            ));
        }
        if past.end < past.start || (past.end > keys.start && rising.is_none()) {
            let expected = format!("a past before the keys {keys:?}, or none");
            let got = format!("{past:?}");
            return Err(Error::shape("attention segments", expected, got));
        }
        if let Some(first) = rising {
            let last = first + queries.len().saturating_sub(1);
            if keys.len() != queries.len() || last > past.len() || past.end > key_rows {
                let expected = format!("a key for each query, and a past of {last} rows or more");
                let got = format!("queries {queries:?}, keys {keys:?} and past {past:?}");
                return Err(Error::shape("attention segments", expected, got));
            }
        }
        if let Some(hidden) = hidden.filter(|_| !queries.is_empty()) {
            let is_within = keys.start <= hidden && hidden + queries.len() <= keys.end;
            if !is_within || keys.len() < 2 {
                let expected = format!("hidden keys within {keys:?}, which are two or more");
                let got = format!("{hidden} and on for {} queries", queries.len());
                return Err(Error::shape("attention segments", expected, got));
            }
        }
        covered = queries.end;
    }
    if covered != query_rows {
        let expected = format!("queries that cover {query_rows} rows");
        return Err(Error::shape(
            "attention segments",
            expected,
            format!("{covered} covered"),
        ));
    }
    Ok(())
}

pub(crate) fn put_rows(x: &Tensor, rows: &Tensor, places: &[usize]) -> Result<()> {
    let (capacity, width) = x.dims2()?;
    same_shape("put_rows rows", rows, &[places.len(), width])?;
    let mut is_taken = vec![false; capacity];
    for &place in places {
        if place >= capacity || std::mem::replace(&mut is_taken[place], true) {
            let expected = format!("different rows below {capacity}");
            return Err(Error::shape("put_rows places", expected, place));
        }
    }
    Ok(())
}
