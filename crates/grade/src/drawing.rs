//! What a picture of one plain shape shows, read from its pixels: the judge of painted shapes.
//!
//! ```text
//!   pixels ─ nearest reference colour, if near enough ─► counting pixels
//!          ─ colour with most of them ─► mask ─ box, fill ratio, taper ─► rectangle, triangle, circle
//! ```
//!
//! The rules and thresholds are those of the shapes pack's README, where they read every captioned
//! original right. Painted pictures are less clean, so [`Drawing`] also tells how much counts, how
//! much of it has another colour, and whether the mask is one piece.

use std::f64::consts::PI;

use mmada_data::picture::Picture;

/// Colours of the shapes pack with their reference RGB.
pub const COLORS: [(&str, [u8; 3]); 8] = [
    ("black", [0, 0, 0]),
    ("blue", [0, 0, 255]),
    ("brown", [165, 42, 42]),
    ("gray", [128, 128, 128]),
    ("green", [0, 255, 0]),
    ("red", [255, 0, 0]),
    ("teal", [0, 128, 128]),
    ("yellow", [255, 255, 0]),
];

/// Further colours that a shape can be asked for in. No picture of the pack has them, so they are looked
/// for only where one is asked for.
pub const OTHER_COLORS: [(&str, [u8; 3]); 12] = [
    ("chocolate", [210, 105, 30]),
    ("cyan", [0, 225, 240]),
    ("lime", [120, 240, 0]),
    ("magenta", [255, 0, 255]),
    ("maroon", [128, 0, 0]),
    ("navy", [0, 0, 110]),
    ("olive", [128, 128, 0]),
    ("orange", [255, 165, 0]),
    ("pink", [255, 105, 180]),
    ("purple", [128, 0, 128]),
    ("tan", [210, 180, 140]),
    ("violet", [150, 60, 220]),
];

/// Shapes of the shapes pack.
pub const SHAPES: [&str; 3] = ["circle", "rectangle", "triangle"];

/// A pixel counts when the summed absolute difference to its reference colour is below this.
const NEAR: u32 = 60;
/// Fewer mask pixels than this show no shape.
const FEWEST: usize = 9;

/// What the pixels show.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawing {
    /// The commonest reference colour; `None` when too few pixels count.
    pub color: Option<&'static str>,
    /// The shape of that colour's pixels; `None` when too few pixels count.
    pub shape: Option<&'static str>,
    /// The box of that colour's pixels; `None` when too few pixels count.
    pub bounds: Option<Bounds>,
    /// How well the mask fills each of [`SHAPES`], drawn as large as the mask's box: pixels in both
    /// over pixels in either. What the thresholds of `shape` decide, this tells by degrees.
    pub outlines: [f64; SHAPES.len()],
    /// Pixels near any reference colour.
    pub counting: usize,
    /// Pixels of the commonest reference colour.
    pub mask: usize,
    /// The share of the mask in its largest 8-connected piece; 0 for an empty mask.
    pub largest_piece: f64,
}

impl Drawing {
    /// Reads a picture.
    pub fn read(picture: &Picture) -> Self {
        Self::read_among(picture, &COLORS)
    }

    /// Reads a picture that was asked for in a colour, perhaps one of [`OTHER_COLORS`].
    pub fn read_as(picture: &Picture, color: &str) -> Self {
        let mut colors = COLORS.to_vec();
        colors.extend(OTHER_COLORS.iter().filter(|(name, _)| *name == color));
        Self::read_among(picture, &colors)
    }

    /// The colour and shape that a text names, if it names one of each.
    pub fn named_in(text: &str) -> Option<(&'static str, &'static str)> {
        let text = text.to_lowercase();
        let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).collect();
        let colors = COLORS.iter().chain(&OTHER_COLORS).map(|(name, _)| *name);
        Some((
            only_in(&words, colors)?,
            only_in(&words, SHAPES.into_iter())?,
        ))
    }

    fn read_among(picture: &Picture, colors: &[(&'static str, [u8; 3])]) -> Self {
        let width = picture.width();
        let pixels = picture.pixels().chunks_exact(3);
        let nearest: Vec<Option<usize>> = pixels
            .map(|pixel| nearest_color(colors, [pixel[0], pixel[1], pixel[2]]))
            .collect();
        let mut counts = vec![0usize; colors.len()];
        for color in nearest.iter().flatten() {
            counts[*color] += 1;
        }
        // The first of equal counts, so that ties do not depend on iteration order.
        let best = (0..colors.len())
            .rev()
            .max_by_key(|&c| counts[c])
            .unwrap_or(0);
        let mask: Vec<bool> = nearest.iter().map(|&c| c == Some(best)).collect();
        let shows = counts[best] >= FEWEST;
        let bounds = shows.then(|| bounds_of(&mask, width)).flatten();
        Self {
            color: shows.then_some(colors[best].0),
            shape: bounds.map(|bounds| shape_of(&mask, width, bounds)),
            bounds,
            outlines: bounds.map_or([0.0; SHAPES.len()], |bounds| outlines(&mask, width, bounds)),
            counting: counts.iter().sum(),
            mask: counts[best],
            largest_piece: largest_piece(&mask, width),
        }
    }

    /// How well the mask fills a shape, by name; 0 for a name that is none.
    pub fn outline(&self, shape: &str) -> f64 {
        let index = SHAPES.iter().position(|name| *name == shape);
        index.map_or(0.0, |index| self.outlines[index])
    }

    /// Whether at least 95 % of the mask is one connected piece.
    pub fn is_connected(&self) -> bool {
        self.mask >= FEWEST && self.largest_piece >= 0.95
    }

    /// Whether at least 90 % of the counting pixels have the commonest colour.
    pub fn is_one_color(&self) -> bool {
        self.mask >= FEWEST && self.mask * 10 >= self.counting * 9
    }
}

/// The one name that occurs among the words; `None` for none or several.
fn only_in(words: &[&str], names: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let mut found = names.filter(|name| words.contains(name));
    let name = found.next()?;
    found.next().is_none().then_some(name)
}

fn nearest_color(colors: &[(&str, [u8; 3])], pixel: [u8; 3]) -> Option<usize> {
    let distance = |reference: [u8; 3]| -> u32 {
        pixel
            .iter()
            .zip(reference)
            .map(|(&a, b)| u32::from(a.abs_diff(b)))
            .sum()
    };
    let (index, distance) = colors
        .iter()
        .map(|&(_, reference)| distance(reference))
        .enumerate()
        .min_by_key(|&(_, distance)| distance)?;
    (distance < NEAR).then_some(index)
}

/// A box of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Its first column.
    pub left: usize,
    /// Its first row.
    pub top: usize,
    /// Its columns.
    pub width: usize,
    /// Its rows.
    pub height: usize,
}

/// The box around the set pixels; `None` where there are none.
fn bounds_of(mask: &[bool], width: usize) -> Option<Bounds> {
    let has = |row: &[bool]| row.contains(&true);
    let top = mask.chunks(width).position(has)?;
    let bottom = mask.chunks(width).rposition(has)?;
    let column = |x: usize| mask.iter().skip(x).step_by(width).any(|&is_set| is_set);
    let left = (0..width).find(|&x| column(x))?;
    let right = (0..width).rfind(|&x| column(x))?;
    Some(Bounds {
        left,
        top,
        width: right - left + 1,
        height: bottom - top + 1,
    })
}

/// Shape of a mask from the fill ratio of its box and the widths of its ends.
fn shape_of(mask: &[bool], width: usize, bounds: Bounds) -> &'static str {
    let rows = mask.chunks(width).skip(bounds.top).take(bounds.height);
    let rows: Vec<usize> = rows
        .map(|row| row.iter().filter(|&&is_set| is_set).count())
        .collect();
    let fill = rows.iter().sum::<usize>() as f64 / (bounds.height * bounds.width) as f64;
    let quarter = (bounds.height / 4).max(1);
    let mean = |rows: &[usize]| rows.iter().sum::<usize>() as f64 / rows.len() as f64;
    let (top, bottom) = (
        mean(&rows[..quarter]),
        mean(&rows[bounds.height - quarter..]),
    );
    if fill > 0.955 {
        "rectangle"
    } else if bottom > 1.6 * top && fill < 0.75 {
        "triangle"
    } else {
        "circle"
    }
}

/// Pixels in both over pixels in either, of the mask and each shape that fills its box; a circle is as wide as the
/// box's longer side, so that an ellipse is less of one.
fn outlines(mask: &[bool], width: usize, bounds: Bounds) -> [f64; SHAPES.len()] {
    let (mut both, mut area) = ([0usize; SHAPES.len()], [0usize; SHAPES.len()]);
    let mut set = 0;
    let longer = bounds.width.max(bounds.height) as f64;
    let (wide, tall) = (bounds.width as f64 / longer, bounds.height as f64 / longer);
    for y in 0..bounds.height {
        for x in 0..bounds.width {
            let is_set = mask[(bounds.top + y) * width + bounds.left + x];
            set += usize::from(is_set);
            // Where the middle of the pixel is, from -1 to 1.
            let across = (2 * x + 1) as f64 / bounds.width as f64 - 1.0;
            let down = (2 * y + 1) as f64 / bounds.height as f64 - 1.0;
            let is_inside = [
                (across * wide).powi(2) + (down * tall).powi(2) <= 1.0,
                true,
                across.abs() <= (1.0 + down) / 2.0,
            ];
            for (shape, is_inside) in is_inside.into_iter().enumerate() {
                both[shape] += usize::from(is_set && is_inside);
                area[shape] += usize::from(is_inside);
            }
        }
    }
    let circle = (PI / 4.0 * longer * longer) as usize;
    std::array::from_fn(|shape| {
        let area = match SHAPES[shape] {
            // It may reach out of the box.
            "circle" => area[shape].max(circle),
            _ => area[shape],
        };
        both[shape] as f64 / (set + area - both[shape]).max(1) as f64
    })
}

/// Share of the mask in its largest piece; pixels that touch by an edge or a corner belong together.
fn largest_piece(mask: &[bool], width: usize) -> f64 {
    let total = mask.iter().filter(|&&is_set| is_set).count();
    if total == 0 {
        return 0.0;
    }
    let height = mask.len() / width;
    let mut is_seen = vec![false; mask.len()];
    let mut largest = 0;
    for start in 0..height * width {
        if !mask[start] || is_seen[start] {
            continue;
        }
        is_seen[start] = true;
        let mut open = vec![start];
        let mut size = 0;
        while let Some(at) = open.pop() {
            size += 1;
            let (x, y) = (at % width, at / width);
            for ny in y.saturating_sub(1)..=(y + 1).min(height - 1) {
                for nx in x.saturating_sub(1)..=(x + 1).min(width - 1) {
                    let next = ny * width + nx;
                    if mask[next] && !is_seen[next] {
                        is_seen[next] = true;
                        open.push(next);
                    }
                }
            }
        }
        largest = largest.max(size);
    }
    largest as f64 / total as f64
}
