//! What a painting shows, told by the training picture that is nearest: a judge that needs no weights.
//!
//! Pictures are compared as 16x16 RGB by the mean squared error, as the baselines of the packs are.
//! A painting nearer to a training picture, pixel by pixel, than two drawings of one thing ever
//! are is a copy of it.

use std::collections::BTreeMap;

use mmada_data::picture::{Fit, Picture};
use mmada_data::{Pack, part};

use crate::error::Result;
use crate::eval::decode;
use crate::grader::Reply;
use crate::judge::{Case, Judge, Judged};

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

    /// The captioned training pictures of a pack, by caption: those that `is_wanted`, as `fitted`.
    ///
    /// # Errors
    /// Files and pictures that cannot be read.
    pub fn of(
        pack: &Pack,
        is_wanted: impl Fn(&str) -> bool,
        fitted: impl Fn(Picture) -> Picture,
    ) -> Result<Self> {
        let mut gallery = Self::default();
        for item in pack.captions(part::TRAIN)? {
            let item = item?;
            if is_wanted(&item.caption) {
                gallery.add(&item.caption, fitted(decode(&item.id, &item.image)?));
            }
        }
        Ok(gallery)
    }

    /// Whether there is nothing to compare with.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The nearest entry, the first of equals; `None` of an empty gallery.
    pub fn nearest(&self, picture: &Picture) -> Option<Nearest<'_>> {
        let (_, entry) = self.nearest_of(&small(picture), |_| true)?;
        Some(Nearest {
            name: &entry.name,
            is_copy: entry.is_copied_by(picture),
        })
    }

    /// The nearest of the entries whose name is wanted, the first of equals, and how far it is.
    fn nearest_of(&self, seen: &[u8], is_wanted: impl Fn(&str) -> bool) -> Option<(f32, &Entry)> {
        let wanted = self.entries.iter().filter(|entry| is_wanted(&entry.name));
        let distances = wanted.map(|entry| (distance(seen, &entry.small), entry));
        distances.min_by(|a, b| a.0.total_cmp(&b.0))
    }
}

impl Entry {
    /// A picture of another size is compared at the entry's.
    fn is_copied_by(&self, picture: &Picture) -> bool {
        let (width, height) = (self.picture.width(), self.picture.height());
        let seen = picture.fit(width, height, Fit::default());
        distance(self.picture.pixels(), seen.pixels()) < SAME
    }
}

/// Judges by how much nearer a painting is to the nearest training picture of its caption than to that
/// of any other: `other / (own + other)` of the two distances, from 0 to 1 and above ½ where the
/// painting is recognised. The caption is that of the prompt, or the truth where the prompt is none of
/// the packs'. A copy has 0, and so has what no caption was known for.
#[derive(Debug, Default)]
pub struct Likeness {
    gallery: Gallery,
    /// The caption behind each prompt that asks for it.
    captions: BTreeMap<String, String>,
}

impl Likeness {
    /// Of the training pictures of packs.
    ///
    /// # Errors
    /// As [`Gallery::of`].
    pub fn of(packs: &[Pack]) -> Result<Self> {
        let mut likeness = Self::default();
        for pack in packs {
            let gallery = Gallery::of(pack, |_| true, |picture| picture)?;
            likeness.gallery.entries.extend(gallery.entries);
            for item in pack.paint(part::TRAIN)? {
                let item = item?;
                likeness.captions.insert(item.prompt, item.caption);
            }
        }
        Ok(likeness)
    }

    fn grade(&self, picture: &Picture, caption: &str) -> f64 {
        let seen = small(picture);
        let own = self.gallery.nearest_of(&seen, |name| name == caption);
        let other = self.gallery.nearest_of(&seen, |name| name != caption);
        let (Some((own, like)), Some((other, unlike))) = (own, other) else {
            return 0.0;
        };
        let nearest = if own <= other { like } else { unlike };
        match nearest.is_copied_by(picture) {
            true => 0.0,
            false => f64::from(other / (own + other).max(f32::MIN_POSITIVE)),
        }
    }
}

impl Judge for Likeness {
    fn judge(&self, cases: &[Case<'_>]) -> Vec<Judged> {
        let grade = |case: &Case<'_>| {
            let asked = self.captions.get(case.prompt.trim());
            match (case.reply, asked.map(String::as_str).or(case.truth.text())) {
                (Reply::Picture(picture), Some(caption)) => self.grade(picture, caption),
                _ => 0.0,
            }
        };
        cases.iter().map(|case| Ok(grade(case))).collect()
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
