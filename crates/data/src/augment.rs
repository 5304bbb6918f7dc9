//! More pictures of the same things: each record several times, made smaller, turned, leant, moved,
//! mirrored, in other colours, or with a box erased.
//!
//! ```toml
//! augment = { variants = 4, shift = 6, mirror = true }
//! augment = { variants = 16, shift = 6, shrink = 0.25, turn = 8.0 }
//! augment = { variants = 32, shift = 6, grow = 0.2, shear = 0.2, colors = 0.12, gray = 0.12, erase = 0.5 }
//! augment = { variants = 4, mirror = true, figures = { teal = [0, 128, 128], red = [255, 0, 0] } }
//! augment = { variants = 8, figures = { pink = [255, 105, 180] }, ground = [255, 255, 255] }
//! ```
//!
//! A variant depends on the record and its own number alone, so its image codes can be cached.
//! Without `figures` the first variant is the picture as it is.

mod alteration;

use std::collections::BTreeMap;

use mmada_tensor::random::{Key, Purpose, Stream};
use serde::{Deserialize, Serialize};

pub(crate) use crate::augment::alteration::Figure;
pub use crate::augment::alteration::{Alteration, Erased};
use crate::record::{Record, hash64};

/// Largest move: more than any picture is wide.
const FURTHEST: usize = 1 << 16;
/// Largest share of its size that a picture may lose.
const SMALLEST: f32 = 0.9;
/// Shares of a side that an erased box may have.
const ERASED: [f32; 2] = [0.125, 0.4375];
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
    /// Largest share by which a picture is made larger, about its middle; what lies beyond the border
    /// is lost.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub grow: f32,
    /// Furthest turn about the middle either way, in degrees.
    #[serde(default)]
    pub turn: f32,
    /// How much a picture is made wider and as much lower, or narrower and higher: at most by a factor of
    /// e to the power of this.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub stretch: f32,
    /// Furthest that a picture is leant to either side: pixels across for each pixel down.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub shear: f32,
    /// How much colours change: the standard deviation of what is added to each of the nine numbers by
    /// which red, green and blue are mixed anew. White stays white.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub colors: f32,
    /// Share of the variants that are grey.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub gray: f32,
    /// Share of the variants of which a box is erased: an eighth to seven sixteenths of the picture wide
    /// and high, anywhere, black or white (Zhong et al. 2017).
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub erase: f32,
    /// Whether half of the variants are mirrored left to right.
    #[serde(default)]
    pub mirror: bool,
    /// For figures of one colour on a ground of one colour, that of the top left corner: colours, by
    /// name, in which they are painted on a pale ground. The name becomes the record's field `color`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub figures: BTreeMap<String, [u8; 3]>,
    /// The ground of all those figures, in place of a pale one for each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ground: Option<[u8; 3]>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_nothing(share: &f32) -> bool {
    *share == 0.0
}

impl Augment {
    /// Most variants of a record: all of them are in the shuffle buffer.
    pub const MOST: usize = 64;

    /// Whether the table makes sense.
    ///
    /// # Errors
    /// In words.
    pub fn check(&self) -> Result<(), String> {
        for (name, share, most) in [
            ("shrink", self.shrink, SMALLEST),
            ("grow", self.grow, 1.0),
            ("stretch", self.stretch, 1.0),
            ("shear", self.shear, 1.0),
            ("colors", self.colors, 1.0),
            ("gray", self.gray, 1.0),
            ("erase", self.erase, 1.0),
        ] {
            if !(0.0..=most).contains(&share) {
                return Err(format!(
                    "augment.{name} is {share}, expected a share of 0 to {most}"
                ));
            }
        }
        if !(0.0..=180.0).contains(&self.turn) {
            return Err(format!(
                "augment.turn is {}, expected 0 to 180 degrees",
                self.turn
            ));
        }
        if self.ground.is_some() && self.figures.is_empty() {
            return Err(
                "augment.ground is that of augment.figures, of which there are none".into(),
            );
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
        let pale_ground = [pale(), pale(), pale()];
        let ground = self.ground.unwrap_or(pale_ground);
        let shrink = stream.uniform() * (self.shrink + self.grow) - self.grow;
        let mut either_way = |most: f32| (2.0 * stream.uniform() - 1.0) * most;
        let turn = (either_way(self.turn) * 10.0) as i16;
        let stretch = thousandths(either_way(self.stretch).exp() - 1.0);
        let shear = thousandths(either_way(self.shear));
        let alteration = Alteration {
            shrink: thousandths(shrink),
            turn,
            stretch,
            shear,
            shift,
            is_mirrored,
            paint: figure.map(|(_, &color)| (color, ground)),
            colors: self.draw_colors(stream),
            erased: (stream.uniform() < self.erase).then(|| draw_box(stream)),
        };
        (alteration, figure.map(|(name, _)| name.as_str()))
    }

    /// How red, green and blue are mixed anew, in thousandths.
    fn draw_colors(&self, stream: &mut Stream) -> Option<[[i16; 3]; 3]> {
        let mut mixed = [[0.0; 3]; 3];
        for (channel, shares) in mixed.iter_mut().enumerate() {
            *shares = [0, 1, 2]
                .map(|of| f32::from(u8::from(of == channel)) + stream.normal() * self.colors);
        }
        let is_gray = stream.uniform() < self.gray;
        if is_gray {
            let mean = [0, 1, 2].map(|of| mixed.iter().map(|shares| shares[of]).sum::<f32>() / 3.0);
            mixed = [mean; 3];
        }
        (is_gray || self.colors > 0.0).then(|| mixed.map(|shares| shares.map(thousandths)))
    }
}

/// A box somewhere within the picture.
fn draw_box(stream: &mut Stream) -> Erased {
    let mut within = |least: f32, most: f32| least + stream.uniform() * (most - least);
    let [width, height] = [(); 2].map(|()| within(ERASED[0], ERASED[1]));
    let [left, top] = [width, height].map(|side| within(0.0, 1.0 - side));
    Erased {
        left: thousandths(left),
        top: thousandths(top),
        width: thousandths(width),
        height: thousandths(height),
        is_white: stream.below(2) == 1,
    }
}

/// Truncated, as alterations have it: whole numbers can be compared and hashed.
fn thousandths(share: f32) -> i16 {
    (share * 1000.0) as i16
}
