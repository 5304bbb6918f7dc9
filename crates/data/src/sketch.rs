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
pub fn sketch(picture: &Picture, side: usize) -> String {
    let cells = (0..side * side).map(|cell| word(picture, side, cell % side, cell / side));
    cells.collect::<Vec<_>>().join(" ")
}

/// The record with its sketch as a field.
///
/// # Errors
/// In words, when it has no picture or none that can be read.
pub(crate) fn sketched(record: &Record, side: usize) -> Result<Record, String> {
    let image = record.image.as_ref().ok_or("no picture to be sketched")?;
    let image = image.load()?;
    if image.codes().is_some() {
        return Err("a picture given as codes has no sketch; leave 'sketch' out".into());
    }
    let picture = image.picture().map_err(|error| error.to_string())?;
    let mut record = record.clone();
    let words = sketch(&picture, side);
    record.fields.insert(FIELD.into(), words.into());
    Ok(record)
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

fn word(picture: &Picture, side: usize, column: usize, row: usize) -> &'static str {
    let along = |at: usize, pixels: usize| {
        let start = at * pixels / side;
        start..((at + 1) * pixels / side).max(start + 1)
    };
    let (mut sum, mut count) = ([0; 3], 0);
    for y in along(row, picture.height()) {
        for pixel in along(column, picture.width()).filter_map(|x| picture.pixel(x, y)) {
            for (sum, channel) in sum.iter_mut().zip(pixel) {
                *sum += i64::from(channel);
            }
            count += 1;
        }
    }
    let mean = sum.map(|sum| sum / count.max(1));
    let distance = |color: &[i64; 3]| -> i64 {
        let channels = color.iter().zip(mean).zip(SEEN);
        channels.map(|((a, b), seen)| seen * (a - b).pow(2)).sum()
    };
    let nearest = COLORS.iter().min_by_key(|(_, color)| distance(color));
    nearest.map_or("white", |(word, _)| word)
}
