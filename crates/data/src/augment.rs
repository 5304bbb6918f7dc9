//! More pictures of the same things: each record several times, made smaller, turned, moved, mirrored
//! or repainted.
//!
//! ```toml
//! augment = { variants = 4, shift = 6, mirror = true }
//! augment = { variants = 16, shift = 6, shrink = 0.25, turn = 8.0 }
//! augment = { variants = 4, mirror = true, figures = { teal = [0, 128, 128], red = [255, 0, 0] } }
//! ```
//!
//! A variant depends on the record and its own number alone, so its image codes can be cached.
//! Without `figures` the first variant is the picture as it is.

use std::collections::BTreeMap;
use std::ops::Range;

use mmada_tensor::random::{Key, Purpose};
use serde::{Deserialize, Serialize};

use crate::picture::{Picture, PictureError};
use crate::record::{Record, hash64};

/// Largest move: more than any picture is wide.
const FURTHEST: usize = 1 << 16;
/// Largest share of its size that a picture may lose.
const SMALLEST: f32 = 0.9;
/// Grounds of repainted figures have no channel below this.
const PALE: usize = 230;

/// How records are multiplied.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Augment {
    /// Pictures made of each.
    pub variants: usize,
    /// Furthest move along either axis, in pixels. What comes in at one side repeats the border; a
    /// move that would push something out at the other side is halved until it does not.
    #[serde(default)]
    pub shift: usize,
    /// Largest share by which a picture is made smaller, about its middle: 0.25 is three quarters to
    /// all of its size. What comes in has the colour of the top left corner.
    #[serde(default)]
    pub shrink: f32,
    /// Furthest turn about the middle either way, in degrees.
    #[serde(default)]
    pub turn: f32,
    /// Whether half of the variants are mirrored left to right.
    #[serde(default)]
    pub mirror: bool,
    /// For figures of one colour on a ground of one colour, that of the top left corner: colours, by
    /// name, in which they are painted on a pale ground. The name becomes the record's field `color`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub figures: BTreeMap<String, [u8; 3]>,
}

/// What is done to the picture of a variant, in this order but for the paint, which is laid on last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Alteration {
    /// Thousandths of its size that a picture loses.
    pub shrink: u16,
    /// Tenths of a degree, clockwise.
    pub turn: i16,
    /// Pixels to the right and down.
    pub shift: (isize, isize),
    /// Mirrored left to right, after it was moved.
    pub is_mirrored: bool,
    /// Colours of figure and ground.
    pub paint: Option<([u8; 3], [u8; 3])>,
}

impl Augment {
    /// Most variants of a record: all of them are in the shuffle buffer.
    pub const MOST: usize = 64;

    /// Whether the table makes sense.
    ///
    /// # Errors
    /// In words.
    pub fn check(&self) -> Result<(), String> {
        if !(0.0..=SMALLEST).contains(&self.shrink) {
            return Err(format!(
                "augment.shrink is {}, expected a share of 0 to {SMALLEST}",
                self.shrink
            ));
        }
        if !(0.0..=180.0).contains(&self.turn) {
            return Err(format!(
                "augment.turn is {}, expected 0 to 180 degrees",
                self.turn
            ));
        }
        match self.variants {
            0 => Err("augment.variants is 0, expected 1 or more".into()),
            1..=Self::MOST if self.shift > FURTHEST => Err(format!(
                "augment.shift is {}, expected at most {FURTHEST} pixels",
                self.shift
            )),
            1..=Self::MOST => Ok(()),
            more => Err(format!(
                "augment.variants is {more}, expected at most {}",
                Self::MOST
            )),
        }
    }

    /// The variants of a record, lazily drawn: a picture is only read when it is needed.
    pub(crate) fn variants(&self, record: Record) -> impl Iterator<Item = Record> {
        let id = hash64(&[crate::part::identity(&record).as_bytes()]);
        (0..self.variants).map(move |number| {
            let mut record = record.clone();
            if number > 0 || !self.figures.is_empty() {
                let (alteration, color) = self.draw(id, number);
                record.image = record.image.map(|image| image.altered(alteration));
                record.key = format!("{}~{number}", record.key);
                if let Some(color) = color {
                    record.fields.insert("color".into(), color.into());
                }
            }
            record
        })
    }

    /// The ways in which one picture is looked at several times: `variants` of them, the first as it
    /// is. They are the same for every picture.
    pub fn looks(&self) -> impl Iterator<Item = Alteration> {
        let altered = (1..self.variants).map(|number| self.draw(0, number).0);
        std::iter::once(Alteration::default()).chain(altered)
    }

    fn draw(&self, id: u64, number: usize) -> (Alteration, Option<&str>) {
        let key = Key::new(id, Purpose::Augment).example(number as u64);
        let stream = &mut key.stream();
        let mut along = || stream.below(2 * self.shift + 1) as isize - self.shift as isize;
        let shift = (along(), along());
        let is_mirrored = stream.below(2) == 1 && self.mirror;
        let figure = match self.figures.len() {
            0 => None,
            colors => self.figures.iter().nth(stream.below(colors)),
        };
        let mut pale = || (PALE + stream.below(256 - PALE)) as u8;
        let ground = [pale(), pale(), pale()];
        let shrink = (stream.uniform() * self.shrink * 1000.0) as u16;
        let turn = ((2.0 * stream.uniform() - 1.0) * self.turn * 10.0) as i16;
        let alteration = Alteration {
            shrink,
            turn,
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
        match (self.shrink, self.turn) {
            (0, 0) => self.place(picture),
            _ => self.place(&self.warp(picture)?),
        }
    }

    /// Smaller and turned: every pixel is looked up, between four, where it came from.
    fn warp(&self, picture: &Picture) -> Result<Picture, PictureError> {
        let (w, h) = (picture.width(), picture.height());
        let size = 1.0 - f32::from(self.shrink) / 1000.0;
        let (sin, cos) = (f32::from(self.turn) / 10.0).to_radians().sin_cos();
        let middle = [(w - 1) as f32 / 2.0, (h - 1) as f32 / 2.0];
        let ground = picture.pixel(0, 0).unwrap_or_default();
        let seen = |x: f32, y: f32| match x < 0.0 || y < 0.0 {
            true => ground,
            false => picture.pixel(x as usize, y as usize).unwrap_or(ground),
        };
        let mut pixels = Vec::with_capacity(w * h * 3);
        for y in 0..h {
            for x in 0..w {
                let (x, y) = (x as f32 - middle[0], y as f32 - middle[1]);
                let x_from = (cos * x + sin * y) / size + middle[0];
                let y_from = (cos * y - sin * x) / size + middle[1];
                let (left, top) = (x_from.floor(), y_from.floor());
                let (right, down) = (x_from - left, y_from - top);
                let mix = |a: [u8; 3], b: [u8; 3], share: f32| {
                    [0, 1, 2].map(|c| blend(b[c], a[c], (share * 255.0).round() as u8))
                };
                let upper = mix(seen(left, top), seen(left + 1.0, top), right);
                let lower = mix(seen(left, top + 1.0), seen(left + 1.0, top + 1.0), right);
                pixels.extend(mix(upper, lower, down));
            }
        }
        Picture::new(w, h, pixels)
    }

    /// Moved, mirrored and painted.
    fn place(&self, picture: &Picture) -> Result<Picture, PictureError> {
        let (w, h) = (picture.width(), picture.height());
        let is_even = |xs: Range<usize>, ys: Range<usize>| {
            let first = picture.pixel(xs.start, ys.start);
            let mut places = ys.flat_map(|y| xs.clone().map(move |x| (x, y)));
            places.all(|(x, y)| picture.pixel(x, y) == first)
        };
        let right = settle(self.shift.0, w, |columns| is_even(columns, 0..h));
        let down = settle(self.shift.1, h, |rows| is_even(0..w, rows));
        let from = |at: usize, by: isize, side: usize| at.saturating_add_signed(-by).min(side - 1);
        let repaint = self.paint.map(|paint| Repaint::new(picture, paint));
        let mut pixels = Vec::with_capacity(w * h * 3);
        for y in 0..h {
            for x in 0..w {
                let x = if self.is_mirrored { w - 1 - x } else { x };
                let seen = picture.pixel(from(x, right, w), from(y, down, h));
                let seen = seen.unwrap_or_default();
                pixels.extend(repaint.as_ref().map_or(seen, |repaint| repaint.of(seen)));
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
        if (self.shrink, self.turn) != (0, 0) {
            bytes.extend(self.shrink.to_le_bytes());
            bytes.extend(self.turn.to_le_bytes());
        }
        bytes
    }
}

/// Other colours for a picture of two.
struct Repaint {
    /// Of figure and ground.
    colors: ([u8; 3], [u8; 3]),
    /// The ground as it is.
    ground: [u8; 3],
    /// How far from it the figure is, at least 1.
    furthest: u32,
}

impl Repaint {
    fn new(picture: &Picture, colors: ([u8; 3], [u8; 3])) -> Self {
        let ground = picture.pixel(0, 0).unwrap_or_default();
        let pixels = picture.pixels().as_chunks().0.iter();
        let furthest = pixels.map(|pixel| distance(*pixel, ground)).max();
        Self {
            colors,
            ground,
            furthest: furthest.unwrap_or_default().max(1),
        }
    }

    /// A pixel as near to the new figure as it was to the old one.
    fn of(&self, pixel: [u8; 3]) -> [u8; 3] {
        let (figure, ground) = self.colors;
        let share = (distance(pixel, self.ground) * 255 / self.furthest) as u8;
        [0, 1, 2].map(|c| blend(figure[c], ground[c], share))
    }
}

/// The largest difference of a channel.
fn distance(a: [u8; 3], b: [u8; 3]) -> u32 {
    let apart = a.iter().zip(b).map(|(a, b)| a.abs_diff(b)).max();
    u32::from(apart.unwrap_or_default())
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
