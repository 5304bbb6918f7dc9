//! What a painting shows, told by the training picture that is nearest: a judge that needs no weights.
//!
//! Pictures are compared as 16x16 RGB by the mean squared error, as the baselines of the packs are.
//! A painting nearer to a training picture, pixel by pixel, than two drawings of one thing ever
//! are is a copy of it.

use mmada_data::picture::{Fit, Picture};

/// Side of the reduced pictures.
const SIDE: usize = 16;
/// Mean squared error, pixels in 0..1, below which pictures count as the same: the packs drop
/// such pairs from their test splits.
const SAME: f32 = 0.004;

/// Named pictures to compare with.
#[derive(Debug, Default)]
pub struct Gallery {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    name: String,
    small: Vec<u8>,
    picture: Picture,
}

/// The nearest entry.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Nearest<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whether the picture is a copy of it.
    pub is_copy: bool,
}

impl Gallery {
    /// Adds a picture.
    pub fn add(&mut self, name: &str, picture: Picture) {
        self.entries.push(Entry {
            name: name.to_owned(),
            small: small(&picture),
            picture,
        });
    }

    /// Whether there is nothing to compare with.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The nearest entry, the first of equals; `None` of an empty gallery.
    pub fn nearest(&self, picture: &Picture) -> Option<Nearest<'_>> {
        let seen = small(picture);
        let distances = self.entries.iter().enumerate();
        let distances = distances.map(|(index, entry)| (distance(&seen, &entry.small), index));
        let (_, index) = distances.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)))?;
        let entry = &self.entries[index];
        let is_alike = entry.picture.pixels().len() == picture.pixels().len();
        let apart = distance(entry.picture.pixels(), picture.pixels());
        Some(Nearest {
            name: &entry.name,
            is_copy: is_alike && apart < SAME,
        })
    }
}

fn small(picture: &Picture) -> Vec<u8> {
    picture.fit(SIDE, SIDE, Fit::default()).pixels().to_vec()
}

/// Mean squared error of pixels in 0..1.
fn distance(a: &[u8], b: &[u8]) -> f32 {
    let pairs = a.iter().zip(b);
    let total: u64 = pairs.map(|(&a, &b)| u64::from(a.abs_diff(b)).pow(2)).sum();
    total as f32 / (a.len().max(1) as f32 * 255.0 * 255.0)
}
