//! What a picture looks like from afar, in words: the colours of its cells, row by row. It is a thought before a
//! picture is painted, or an answer about one that is seen. A word for each cell and nothing between them: where
//! there are as many cells as image codes, each code lies at the same distance from its word.
//!
//! ```toml
//! [[data]]
//! sketch = 3     # {sketch} is: white blue white blue yellow blue white blue white
//! views = [{ task = "think-paint", prompt = "{caption}", thought = "colors: {sketch}" }]
//! ```
//!
//! Nine words, each with the space before it a token of the embedded tokenizer. A cell has the colour nearest to the mean of its pixels, so a
//! sketch of eight by eight cells is some hundred bits of a drawing, where its image codes are several hundreds.
//!
//! A picture of one figure on an even ground can be told in two words, its `figure` being called by a field of the
//! record: a mean of red and white is nearer to other words than to red.
//!
//! ```toml
//! sketch = 8
//! figure = "color"   # {sketch} of a red circle is: white white white red red white …
//! ```

use crate::augment::Figure;
use crate::picture::Picture;
use crate::record::Record;

/// The field that a record gains.
const FIELD: &str = "sketch";
/// Most cells along a side: a sketch is words, and has to fit beside a picture.
const MOST: usize = 16;
/// How much a difference of red, green and blue counts: the eye sees green best.
const SEEN: [i64; 3] = [9, 12, 6];

/// Words and what they stand for. Cells are means, and so paler than what is painted: black is a dark grey, teal a
/// light one.
const COLORS: [(&str, [i64; 3]); 9] = [
    ("white", [255, 255, 255]),
    ("black", [40, 40, 40]),
    ("gray", [150, 155, 160]),
    ("red", [210, 50, 60]),
    ("yellow", [250, 200, 80]),
    ("green", [92, 145, 59]),
    ("blue", [59, 136, 195]),
    ("brown", [140, 95, 60]),
    ("teal", [130, 200, 220]),
];

/// The sketch of a picture, of `side` cells along each of its sides; smaller pictures repeat their pixels.
///
/// A `figure` is the word for what is not of the colour of the top left corner; a cell has it where more than half of it
/// is figure, and else the word for that colour. Without one, each cell has the word nearest to its mean.
pub fn sketch(picture: &Picture, side: usize, figure: Option<&str>) -> String {
    let cells = (0..side * side).map(|cell| Cell {
        picture,
        side,
        place: (cell % side, cell / side),
    });
    let words: Vec<&str> = match figure {
        None => cells
            .map(|cell| nearest(cell.mean(|pixel| pixel)))
            .collect(),
        Some(word) => {
            let figure = Figure::of(picture);
            let ground = nearest(figure.ground.map(i64::from));
            let shares = cells.map(|cell| cell.mean(|pixel| [figure.share(pixel)]));
            shares
                .map(|[share]| if 2 * share >= 255 { word } else { ground })
                .collect()
        }
    };
    words.join(" ")
}

/// How pictures of a source are sketched.
#[derive(Debug, Clone)]
pub(crate) struct Sketch {
    pub(crate) side: usize,
    /// The field that names the colour of the figure.
    pub(crate) figure: Option<String>,
}

impl Sketch {
    /// The record with its sketch as a field.
    ///
    /// # Errors
    /// In words, when it has no picture or none that can be read, or no word for its figure.
    pub(crate) fn of(&self, record: &Record) -> Result<Record, String> {
        let image = record.image.as_ref().ok_or("no picture to be sketched")?;
        let image = image.load()?;
        if image.codes().is_some() {
            return Err("a picture given as codes has no sketch; leave 'sketch' out".into());
        }
        let figure = self.figure.as_ref().map(|name| {
            let word = record.fields.get(name).and_then(|word| word.as_str());
            word.ok_or_else(|| {
                format!("no text in the field {name:?}, by which the figure is called")
            })
        });
        let picture = image.picture().map_err(|error| error.to_string())?;
        let words = sketch(&picture, self.side, figure.transpose()?);
        let mut record = record.clone();
        record.fields.insert(FIELD.into(), words.into());
        Ok(record)
    }
}

/// Whether so many cells can be sketched.
///
/// # Errors
/// In words.
pub(crate) fn check(side: usize) -> Result<(), String> {
    match side {
        1..=MOST => Ok(()),
        _ => Err(format!(
            "sketch is {side}, expected 1 to {MOST} cells along a side"
        )),
    }
}

/// One of the cells of a picture.
struct Cell<'a> {
    picture: &'a Picture,
    side: usize,
    /// Column and row.
    place: (usize, usize),
}

impl Cell<'_> {
    /// The mean of what is seen in its pixels, rounded down.
    fn mean<const N: usize>(&self, seen: impl Fn([u8; 3]) -> [u8; N]) -> [i64; N] {
        let along = |at: usize, pixels: usize| {
            let start = at * pixels / self.side;
            start..((at + 1) * pixels / self.side).max(start + 1)
        };
        let (column, row) = self.place;
        let (mut sum, mut count) = ([0; N], 0);
        for y in along(row, self.picture.height()) {
            let columns = along(column, self.picture.width());
            for pixel in columns.filter_map(|x| self.picture.pixel(x, y)) {
                for (sum, value) in sum.iter_mut().zip(seen(pixel)) {
                    *sum += i64::from(value);
                }
                count += 1;
            }
        }
        sum.map(|sum| sum / count.max(1))
    }
}

/// The word for a colour.
fn nearest(seen: [i64; 3]) -> &'static str {
    let distance = |color: &[i64; 3]| -> i64 {
        let channels = color.iter().zip(seen).zip(SEEN);
        channels
            .map(|((a, b), weight)| weight * (a - b).pow(2))
            .sum()
    };
    let nearest = COLORS.iter().min_by_key(|(_, color)| distance(color));
    nearest.map_or("white", |(word, _)| word)
}
