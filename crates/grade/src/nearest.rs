//! What a painting shows, told by the training picture that is nearest: a judge that needs no weights.
//!
//! Pictures are compared as 16x16 RGB by the mean squared error, as the baselines of the packs are; [`Likeness`], a
//! reward, looks at 32x32, where a body without legs is no bear.
//! [`Coverage`], another, lets each training picture count once in a group, where one pose painted over and over is one pose.
//! A painting nearer to a training picture, pixel by pixel, than two drawings of one thing ever
//! are is a copy of it.

use std::collections::{BTreeMap, BTreeSet};

use mmada_data::picture::{Fit, Picture};
use mmada_data::{Pack, part};

use crate::error::Result;
use crate::eval::decode;
use crate::grader::Reply;
use crate::judge::{Case, Judge, Judged};

/// Side of the reduced pictures.
const SIDE: usize = 16;
/// The same for a reward, which must see more than the benchmark does: what it does not see is not painted.
const FINE_SIDE: usize = 32;
/// About how far a silhouette is from the nearest other of its caption at that size: of 700 training animals the medians
/// of the ten kinds are 0.013 to 0.034.
const USUAL: f32 = 0.03;
/// The same as a [`mismatch`]: of 700 test animals against the training ones the medians of the ten kinds are 0.05 to 0.12.
const USUAL_MISMATCH: f32 = 0.1;
/// Mean squared error, pixels in 0..1, below which pictures count as the same: the packs drop
/// such pairs from their test splits.
const SAME: f32 = 0.004;

/// Named pictures to compare with.
#[derive(Debug)]
pub struct Gallery {
    side: usize,
    entries: Vec<Entry>,
}

impl Default for Gallery {
    fn default() -> Self {
        Self::at(SIDE)
    }
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
    /// Its place in the gallery.
    pub entry: usize,
    /// Whether the picture is a copy of it.
    pub is_copy: bool,
}

impl Gallery {
    /// An empty one, whose pictures are compared at `side` by `side` pixels.
    fn at(side: usize) -> Self {
        Self {
            side,
            entries: Vec::new(),
        }
    }

    /// Adds a picture.
    pub fn add(&mut self, name: &str, picture: Picture) {
        self.entries.push(Entry {
            name: name.to_owned(),
            small: self.small(&picture),
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
        gallery.add_of(pack, is_wanted, fitted)?;
        Ok(gallery)
    }

    fn add_of(
        &mut self,
        pack: &Pack,
        is_wanted: impl Fn(&str) -> bool,
        fitted: impl Fn(Picture) -> Picture,
    ) -> Result<()> {
        for item in pack.captions(part::TRAIN)? {
            let item = item?;
            if is_wanted(&item.caption) {
                self.add(&item.caption, fitted(decode(&item.id, &item.image)?));
            }
        }
        Ok(())
    }

    /// Whether there is nothing to compare with.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The nearest entry, the first of equals; `None` of an empty gallery.
    pub fn nearest(&self, picture: &Picture) -> Option<Nearest<'_>> {
        let (_, at) = self.nearest_of(&self.small(picture), |_| true)?;
        let entry = &self.entries[at];
        Some(Nearest {
            name: &entry.name,
            entry: at,
            is_copy: entry.is_copied_by(picture),
        })
    }

    /// The nearest of the entries whose name is wanted, the first of equals: how far it is, and its place.
    fn nearest_of(&self, seen: &[u8], is_wanted: impl Fn(&str) -> bool) -> Option<(f32, usize)> {
        let entries = self.entries.iter().enumerate();
        let wanted = entries.filter(|(_, entry)| is_wanted(&entry.name));
        let distances = wanted.map(|(at, entry)| (distance(seen, &entry.small), at));
        distances.min_by(|a, b| a.0.total_cmp(&b.0))
    }

    /// For each picture the entry of a name that it is left with, when the best pair comes first and every entry is
    /// given once: their mismatch; `None` where there are fewer entries.
    fn shared_out(&self, seen: &[Vec<u8>], name: &str) -> Vec<Option<f32>> {
        let entries = self.entries.iter().filter(|entry| entry.name == name);
        let mut pairs: Vec<(f32, usize, usize)> = entries
            .enumerate()
            .flat_map(|(entry, own)| {
                let far =
                    move |(at, seen): (usize, &Vec<u8>)| (mismatch(seen, &own.small), at, entry);
                seen.iter().enumerate().map(far)
            })
            .collect();
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        let (mut given, mut taken) = (vec![None; seen.len()], BTreeSet::new());
        for (far, at, entry) in pairs {
            if given[at].is_none() && taken.insert(entry) {
                given[at] = Some(far);
            }
        }
        given
    }

    fn small(&self, picture: &Picture) -> Vec<u8> {
        let fitted = picture.fit(self.side, self.side, Fit::default());
        fitted.pixels().to_vec()
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

/// Judges by how near a painting is to the nearest training picture of its caption, and how much nearer than to that of
/// any other: `other / (own + other)` of the two distances at 32 × 32 pixels, which is above ½ where the painting is
/// recognised, times `usual / (own + usual)`, ½ where it is as near as another picture would be. Without the second
/// factor a caricature that is like nothing else is worth as much as a likeness. The caption is that of the prompt, or the
/// truth where the prompt is none of the packs'. A copy has 0, and so has what no caption was known for.
#[derive(Debug)]
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
        let mut likeness = Self {
            gallery: Gallery::at(FINE_SIDE),
            captions: BTreeMap::new(),
        };
        for pack in packs {
            likeness.gallery.add_of(pack, |_| true, |picture| picture)?;
            for item in pack.paint(part::TRAIN)? {
                let item = item?;
                likeness.captions.insert(item.prompt, item.caption);
            }
        }
        Ok(likeness)
    }

    /// The painting of a case and the caption that it was to have; `None` of what this cannot judge.
    fn painting<'a>(&'a self, case: &Case<'a>) -> Option<(&'a Picture, &'a str)> {
        let asked = self.captions.get(case.prompt.trim()).map(String::as_str);
        match case.reply {
            Reply::Picture(picture) => Some((picture, asked.or(case.truth.text())?)),
            Reply::Text(_) => None,
        }
    }

    /// How far the nearest picture of the caption is, and the nearest of any other; `None` of a copy, and where there
    /// is nothing to be told from.
    fn distances(&self, picture: &Picture, seen: &[u8], caption: &str) -> Option<(f32, f32)> {
        let (own, like) = self.gallery.nearest_of(seen, |name| name == caption)?;
        let (other, unlike) = self.gallery.nearest_of(seen, |name| name != caption)?;
        let nearest = if own <= other { like } else { unlike };
        let is_copy = self.gallery.entries[nearest].is_copied_by(picture);
        (!is_copy).then_some((own, other))
    }

    fn grade(&self, picture: &Picture, caption: &str) -> f64 {
        let seen = self.gallery.small(picture);
        let distances = self.distances(picture, &seen, caption);
        distances.map_or(0.0, |(own, other)| {
            let is_own = other / (own + other).max(f32::MIN_POSITIVE);
            f64::from(is_own * USUAL / (own + USUAL))
        })
    }
}

impl Judge for Likeness {
    fn judge(&self, cases: &[Case<'_>]) -> Vec<Judged> {
        let grade = |case: &Case<'_>| {
            let painting = self.painting(case);
            painting.map_or(0.0, |(picture, caption)| self.grade(picture, caption))
        };
        cases.iter().map(|case| Ok(grade(case))).collect()
    }
}

/// Judges all paintings of a caption together: how well each covers a training picture of its own, where every training
/// picture is given to one painting only, the best pair first. (The share of training pictures that have a painting is
/// called coverage: Naeem et al. 2020, arXiv 2002.09797.) So a group that paints one pose shares the pictures of that
/// pose, and one that paints another has its own. A third for what is recognised, nearer to its caption than to any other,
/// and up to two thirds for `usual / (mismatch + usual)`; nothing for what is not. The mismatch is told by the overlap of
/// two figures: a squared difference forgives what is thin. Copies and captions as in [`Likeness`].
#[derive(Debug)]
pub struct Coverage(Likeness);

impl Coverage {
    /// Of the training pictures of packs.
    ///
    /// # Errors
    /// As [`Gallery::of`].
    pub fn of(packs: &[Pack]) -> Result<Self> {
        Likeness::of(packs).map(Self)
    }
}

impl Judge for Coverage {
    fn judge(&self, cases: &[Case<'_>]) -> Vec<Judged> {
        let Self(likeness) = self;
        let mut groups: BTreeMap<&str, Vec<(usize, &Picture)>> = BTreeMap::new();
        for (at, case) in cases.iter().enumerate() {
            if let Some((picture, caption)) = likeness.painting(case) {
                groups.entry(caption).or_default().push((at, picture));
            }
        }
        let mut grades = vec![0.0; cases.len()];
        for (caption, group) in groups {
            let small = |(_, picture): &(usize, &Picture)| likeness.gallery.small(picture);
            let seen: Vec<Vec<u8>> = group.iter().map(small).collect();
            let given = likeness.gallery.shared_out(&seen, caption);
            for (((at, picture), seen), given) in group.into_iter().zip(&seen).zip(given) {
                let distances = likeness.distances(picture, seen, caption);
                if let (Some((own, other)), Some(given)) = (distances, given)
                    && own <= other
                {
                    let nearness = USUAL_MISMATCH / (given + USUAL_MISMATCH);
                    grades[at] = f64::from((1.0 + 2.0 * nearness) / 3.0);
                }
            }
        }
        grades.into_iter().map(Ok).collect()
    }
}

/// The squared difference of two pictures as a share of what both have: 0 of equal ones, 1 of figures that do not
/// overlap on black, however small they are.
fn mismatch(a: &[u8], b: &[u8]) -> f32 {
    let square = |x: u8| u64::from(x) * u64::from(x);
    let pairs = a.iter().zip(b);
    let (apart, all) = pairs.fold((0, 0), |(apart, all), (&a, &b)| {
        (apart + square(a.abs_diff(b)), all + square(a) + square(b))
    });
    apart as f32 / all.max(1) as f32
}

/// Mean squared error of pixels in 0..1.
fn distance(a: &[u8], b: &[u8]) -> f32 {
    // Sums of so many squares fit in 32 bits.
    const RUN: usize = 1 << 16;
    let runs = a.chunks(RUN).zip(b.chunks(RUN)).map(|(a, b)| {
        let squares = a
            .iter()
            .zip(b)
            .map(|(&a, &b)| u32::from(a.abs_diff(b)).pow(2));
        u64::from(squares.sum::<u32>())
    });
    let total: u64 = runs.sum();
    total as f32 / (a.len().max(1) as f32 * 255.0 * 255.0)
}
