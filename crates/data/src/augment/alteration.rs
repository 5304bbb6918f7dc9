//! What is done to one picture: warped, placed, painted, its colours mixed, a box of it erased.

use std::ops::Range;

use crate::picture::{Picture, PictureError};

/// What is done to the picture of a variant, in this order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Alteration {
    /// Thousandths of its size that a picture loses; where negative, it gains them.
    pub shrink: i16,
    /// Tenths of a degree, clockwise.
    pub turn: i16,
    /// Thousandths by which it is wider, and so much lower.
    pub stretch: i16,
    /// Thousandths of a pixel to the left for each pixel down.
    pub shear: i16,
    /// Pixels to the right and down.
    pub shift: (isize, isize),
    /// Mirrored left to right, after it was moved.
    pub is_mirrored: bool,
    /// Colours of figure and ground.
    pub paint: Option<([u8; 3], [u8; 3])>,
    /// Thousandths of red, green and blue, counted from white, that red, green and blue become.
    pub colors: Option<[[i16; 3]; 3]>,
    /// What of it is erased.
    pub erased: Option<Erased>,
}

/// A box without a picture, in thousandths of the width and the height.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Erased {
    /// What is left of it.
    pub left: i16,
    /// What is above it.
    pub top: i16,
    /// From its left to its right.
    pub width: i16,
    /// From its top to its bottom.
    pub height: i16,
    /// White, or else black.
    pub is_white: bool,
}

impl Alteration {
    /// The altered picture, as large as the one given.
    ///
    /// # Errors
    /// None in practice: those of [`Picture::new`].
    pub fn apply(&self, picture: &Picture) -> Result<Picture, PictureError> {
        match self.warps() {
            [0, 0, 0, 0] => self.place(picture),
            _ => self.place(&self.warp(picture)?),
        }
    }

    fn warps(&self) -> [i16; 4] {
        [self.shrink, self.turn, self.stretch, self.shear]
    }

    /// Smaller, turned, stretched and leant: every pixel is looked up, between four, where it came from.
    fn warp(&self, picture: &Picture) -> Result<Picture, PictureError> {
        let (w, h) = (picture.width(), picture.height());
        let [shrink, stretch, lean] =
            [self.shrink, self.stretch, self.shear].map(|share| f32::from(share) / 1000.0);
        let (size, wider) = (1.0 - shrink, 1.0 + stretch);
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
                let x_from = (cos * x + sin * y) / (size * wider) + lean * y + middle[0];
                let y_from = (cos * y - sin * x) / size * wider + middle[1];
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

    /// Moved, mirrored, painted, its colours mixed, and without what is erased.
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
            for to in 0..w {
                if let Some(color) = self.erased.and_then(|erased| erased.at((to, y), (w, h))) {
                    pixels.extend(color);
                    continue;
                }
                let x = if self.is_mirrored { w - 1 - to } else { to };
                let seen = picture.pixel(from(x, right, w), from(y, down, h));
                let seen = seen.unwrap_or_default();
                let seen = repaint.as_ref().map_or(seen, |repaint| repaint.of(seen));
                pixels.extend(self.colors.map_or(seen, |shares| mixed(seen, shares)));
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
        if (self.stretch, self.shear) != (0, 0) {
            // Alone they would pass for what is above.
            if (self.shrink, self.turn) == (0, 0) {
                bytes.push(b's');
            }
            bytes.extend(
                [self.stretch, self.shear]
                    .map(i16::to_le_bytes)
                    .as_flattened(),
            );
        }
        if let Some(shares) = self.colors {
            bytes.push(b'c');
            bytes.extend(
                shares
                    .as_flattened()
                    .iter()
                    .flat_map(|share| share.to_le_bytes()),
            );
        }
        if let Some(erased) = self.erased {
            let Erased {
                left,
                top,
                width,
                height,
                is_white,
            } = erased;
            bytes.extend([b'e', u8::from(is_white)]);
            bytes.extend(
                [left, top, width, height]
                    .map(i16::to_le_bytes)
                    .as_flattened(),
            );
        }
        bytes
    }
}

impl Erased {
    /// The colour of the box where the pixel lies in it, of a picture so wide and high.
    fn at(&self, (x, y): (usize, usize), (width, height): (usize, usize)) -> Option<[u8; 3]> {
        let is_within = |at: usize, side: usize, start: i16, length: i16| {
            let (at, start) = ((at * 1000 / side) as i64, i64::from(start));
            (start..start + i64::from(length)).contains(&at)
        };
        let is_erased = is_within(x, width, self.left, self.width)
            && is_within(y, height, self.top, self.height);
        is_erased.then_some([if self.is_white { 255 } else { 0 }; 3])
    }
}

/// A colour of which each channel takes its shares of all three, in thousandths.
fn mixed(color: [u8; 3], shares: [[i16; 3]; 3]) -> [u8; 3] {
    let dark = color.map(|channel| 255 - i32::from(channel));
    shares.map(|shares| {
        let sum: i32 = shares
            .iter()
            .zip(dark)
            .map(|(&share, dark)| i32::from(share) * dark)
            .sum();
        (255 - sum / 1000).clamp(0, 255) as u8
    })
}

/// Other colours for a picture of two.
struct Repaint {
    /// Of figure and ground.
    colors: ([u8; 3], [u8; 3]),
    figure: Figure,
}

impl Repaint {
    fn new(picture: &Picture, colors: ([u8; 3], [u8; 3])) -> Self {
        let figure = Figure::of(picture);
        Self { colors, figure }
    }

    /// A pixel as near to the new figure as it was to the old one.
    fn of(&self, pixel: [u8; 3]) -> [u8; 3] {
        let (figure, ground) = self.colors;
        let share = self.figure.share(pixel);
        [0, 1, 2].map(|c| blend(figure[c], ground[c], share))
    }
}

/// What a picture of one figure on a ground of one colour, that of the top left corner, shows.
pub(crate) struct Figure {
    pub(crate) ground: [u8; 3],
    /// How far from it the figure is, at least 1.
    furthest: u32,
}

impl Figure {
    pub(crate) fn of(picture: &Picture) -> Self {
        let ground = picture.pixel(0, 0).unwrap_or_default();
        let pixels = picture.pixels().as_chunks().0.iter();
        let furthest = pixels.map(|pixel| distance(*pixel, ground)).max();
        Self {
            ground,
            furthest: furthest.unwrap_or_default().max(1),
        }
    }

    /// How much of a pixel is the figure: 255 is all of it.
    pub(crate) fn share(&self, pixel: [u8; 3]) -> u8 {
        (distance(pixel, self.ground) * 255 / self.furthest) as u8
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
