//! More pictures of the same things: each record several times, moved, mirrored or repainted.
//!
//! ```toml
//! augment = { variants = 4, shift = 6, mirror = true }
//! augment = { variants = 4, mirror = true, figures = { teal = [0, 128, 128], red = [255, 0, 0] } }
//! ```
//!
//! A variant depends on the record and its own number alone, so its image codes can be cached.
//! Without `figures` the first variant is the picture as it is.

use std::collections::BTreeMap;
use std::ops::Range;

use mmada_tensor::random::{Key, Purpose, Stream};
use serde::{Deserialize, Serialize};

use crate::picture::{Picture, PictureError};
use crate::record::{Record, hash64};

/// Most variants of a record: all of them are in the shuffle buffer.
const MOST: usize = 64;
/// Largest move: more than any picture is wide.
const FURTHEST: usize = 1 << 16;
/// Grounds of repainted silhouettes have no channel below this.
const PALE: usize = 230;

/// How records are multiplied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Augment {
    /// Pictures made of each.
    pub variants: usize,
    /// Furthest move along either axis, in pixels. What comes in at one side repeats the border; a
    /// move that would push something out at the other side is halved until it does not.
    #[serde(default)]
    pub shift: usize,
    /// Whether half of the variants are mirrored left to right.
    #[serde(default)]
    pub mirror: bool,
    /// For light silhouettes on a dark ground: colours, by name, in which they are painted on a pale
    /// ground. The name becomes the record's field `color`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub figures: BTreeMap<String, [u8; 3]>,
}

/// What is done to the picture of a variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alteration {
    /// Pixels to the right and down.
    pub shift: (isize, isize),
    /// Mirrored left to right, after it was moved.
    pub is_mirrored: bool,
    /// Colours of figure and ground.
    pub paint: Option<([u8; 3], [u8; 3])>,
}

impl Augment {
    /// Whether the table makes sense.
    ///
    /// # Errors
    /// In words.
    pub fn check(&self) -> Result<(), String> {
        match self.variants {
            0 => Err("augment.variants is 0, expected 1 or more".into()),
            1..=MOST if self.shift > FURTHEST => Err(format!(
                "augment.shift is {}, expected at most {FURTHEST} pixels",
                self.shift
            )),
            1..=MOST => Ok(()),
            more => Err(format!(
                "augment.variants is {more}, expected at most {MOST}"
            )),
        }
    }

    /// The variants of a record, lazily drawn: a picture is only read when it is needed.
    pub(crate) fn variants(&self, record: Record) -> impl Iterator<Item = Record> {
        let id = hash64(&[crate::part::identity(&record).as_bytes()]);
        (0..self.variants).map(move |number| {
            let mut record = record.clone();
            let mut stream = Key::new(id, Purpose::Augment)
                .example(number as u64)
                .stream();
            if number > 0 || !self.figures.is_empty() {
                let (alteration, color) = self.draw(&mut stream);
                record.image = record.image.map(|image| image.altered(alteration));
                record.key = format!("{}~{number}", record.key);
                if let Some(color) = color {
                    record.fields.insert("color".into(), color.into());
                }
            }
            record
        })
    }

    fn draw(&self, stream: &mut Stream) -> (Alteration, Option<&str>) {
        let mut along = || stream.below(2 * self.shift + 1) as isize - self.shift as isize;
        let shift = (along(), along());
        let is_mirrored = stream.below(2) == 1 && self.mirror;
        let figure = match self.figures.len() {
            0 => None,
            colors => self.figures.iter().nth(stream.below(colors)),
        };
        let mut pale = || (PALE + stream.below(256 - PALE)) as u8;
        let ground = [pale(), pale(), pale()];
        let alteration = Alteration {
            shift,
            is_mirrored,
            paint: figure.map(|(_, &color)| (color, ground)),
        };
        (alteration, figure.map(|(name, _)| name.as_str()))
    }
}

impl Alteration {
    /// The altered picture, as large as the one given.
    ///
    /// # Errors
    /// None in practice: those of [`Picture::new`].
    pub fn apply(&self, picture: &Picture) -> Result<Picture, PictureError> {
        let (w, h) = (picture.width(), picture.height());
        let is_even = |xs: Range<usize>, ys: Range<usize>| {
            let first = picture.pixel(xs.start, ys.start);
            let mut places = ys.flat_map(|y| xs.clone().map(move |x| (x, y)));
            places.all(|(x, y)| picture.pixel(x, y) == first)
        };
        let right = settle(self.shift.0, w, |columns| is_even(columns, 0..h));
        let down = settle(self.shift.1, h, |rows| is_even(0..w, rows));
        let from = |at: usize, by: isize, side: usize| at.saturating_add_signed(-by).min(side - 1);
        let mut pixels = Vec::with_capacity(w * h * 3);
        for y in 0..h {
            for x in 0..w {
                let x = if self.is_mirrored { w - 1 - x } else { x };
                let seen = picture.pixel(from(x, right, w), from(y, down, h));
                let seen = seen.unwrap_or_default();
                pixels.extend(match self.paint {
                    None => seen,
                    Some((figure, ground)) => {
                        let light = seen.into_iter().max().unwrap_or_default();
                        [0, 1, 2].map(|c| blend(figure[c], ground[c], light))
                    }
                });
            }
        }
        Picture::new(w, h, pixels)
    }

    /// All of it as bytes, for hashing.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = vec![u8::from(self.is_mirrored)];
        bytes.extend((self.shift.0 as i64).to_le_bytes());
        bytes.extend((self.shift.1 as i64).to_le_bytes());
        bytes.extend(
            self.paint
                .into_iter()
                .flat_map(|(figure, ground)| [figure, ground])
                .flatten(),
        );
        bytes
    }
}

/// The move, halved until the lines that leave are of one colour, and so the line that is repeated.
fn settle(mut by: isize, side: usize, is_even: impl Fn(Range<usize>) -> bool) -> isize {
    loop {
        let lines = by.unsigned_abs().min(side);
        let (leaving, repeated) = match by {
            0 => return 0,
            1.. => (side - lines..side, 0..1),
            _ => (0..lines, side - 1..side),
        };
        if is_even(leaving) && is_even(repeated) {
            return by;
        }
        by /= 2;
    }
}

/// `over` where `share` is 255, `under` where it is 0.
fn blend(over: u8, under: u8, share: u8) -> u8 {
    let (over, under, share) = (u32::from(over), u32::from(under), u32::from(share));
    ((over * share + under * (255 - share) + 127) / 255) as u8
}
