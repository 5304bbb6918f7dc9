//! Charts: curves over steps as a picture, without a font or a window of the system.
//!
//! ```text
//!   0.8 ┤        ░▒▓──    each label in its colour: the mean as a line,
//!   0.6 ┤   ░▒▓──          the band from its lowest to its highest run
//!       └────────────
//!       0    20    40 step
//! ```

mod canvas;

use anyhow::Result;
use mmada_data::picture::Picture;
use mmada_train::curves::Curve;

use canvas::{Align, Canvas, GLYPH_HEIGHT, GLYPH_WIDTH};

/// Colours that stay apart for colour-blind eyes too (Okabe and Ito 2008).
const COLORS: [[u8; 3]; 7] = [
    [0, 114, 178],
    [213, 94, 0],
    [0, 158, 115],
    [204, 121, 167],
    [86, 180, 233],
    [230, 159, 0],
    [90, 90, 90],
];
const INK: [u8; 3] = [40, 40, 40];
const GRID: [u8; 3] = [225, 225, 225];
/// Opacity of a band.
const BAND: f32 = 0.2;
/// Pixels between parts.
const GAP: f32 = 8.0;

/// The smallest chart with room for axes and a legend, in pixels.
pub(crate) const SMALLEST: (usize, usize) = (240, 160);

/// The part of a chart within its axes, and what it shows.
struct Frame {
    left: f32,
    top: f32,
    right: f32,
    bottom: f32,
    steps: (f64, f64),
    values: (f64, f64),
}

/// Draws curves under a title, `width` by `height` pixels.
pub(crate) fn draw(
    title: &str,
    curves: &[Curve],
    (width, height): (usize, usize),
) -> Result<Picture> {
    let mut canvas = Canvas::new(width, height);
    let spreads = || curves.iter().flat_map(|curve| &curve.spreads);
    let values = bounds(spreads().flat_map(|spread| [spread.low, spread.high]));
    let room = (values.1 - values.0) * 0.05;
    let values = (values.0 - room, values.1 + room);
    let widest = ticks(values).map(|(_, name)| name.len()).max().unwrap_or(0);
    let frame = Frame {
        left: GAP * 2.0 + widest as f32 * GLYPH_WIDTH,
        top: GAP * 2.0 + GLYPH_HEIGHT,
        right: width as f32 - GAP * 2.0,
        bottom: height as f32 - GAP * 2.0 - GLYPH_HEIGHT,
        steps: bounds(spreads().map(|spread| spread.step as f64)),
        values,
    };
    canvas.text((frame.left, GAP), Align::Left, INK, title);
    axes(&mut canvas, &frame);
    for (curve, color) in curves.iter().zip(COLORS.into_iter().cycle()) {
        band(&mut canvas, &frame, curve, color);
    }
    for (curve, color) in curves.iter().zip(COLORS.into_iter().cycle()) {
        let points = curve.spreads.iter();
        let points: Vec<_> = points
            .map(|spread| frame.place(spread.step as f64, spread.mean))
            .collect();
        match points[..] {
            [only] => canvas.line(only, only, 6.0, color),
            _ => points
                .windows(2)
                .for_each(|pair| canvas.line(pair[0], pair[1], 2.0, color)),
        }
    }
    legend(&mut canvas, &frame, curves);
    canvas.picture()
}

/// Lines at round numbers, and the numbers.
fn axes(canvas: &mut Canvas, frame: &Frame) {
    for (value, name) in ticks(frame.values) {
        let (_, y) = frame.place(frame.steps.0, value);
        canvas.line((frame.left, y), (frame.right, y), 1.0, GRID);
        let at = (frame.left - GAP / 2.0, y - GLYPH_HEIGHT / 2.0);
        canvas.text(at, Align::Right, INK, &name);
    }
    let base = frame.bottom + GAP / 2.0;
    for (step, name) in ticks(frame.steps) {
        let (x, _) = frame.place(step, frame.values.0);
        canvas.line((x, frame.bottom), (x, frame.bottom - 4.0), 1.0, INK);
        canvas.text((x, base), Align::Middle, INK, &name);
    }
    let corner = (frame.left, frame.bottom);
    canvas.line(corner, (frame.right, frame.bottom), 1.0, INK);
    canvas.line(corner, (frame.left, frame.top), 1.0, INK);
    canvas.text((frame.right, GAP), Align::Right, INK, "step");
}

/// The area between the lowest and the highest run, column by column.
fn band(canvas: &mut Canvas, frame: &Frame, curve: &Curve, color: [u8; 3]) {
    for pair in curve.spreads.windows(2) {
        let place = |index: usize, value: f64| frame.place(pair[index].step as f64, value);
        let (low, high) = (place(0, pair[0].low), place(0, pair[0].high));
        let (next_low, next_high) = (place(1, pair[1].low), place(1, pair[1].high));
        let (first, last) = (low.0.round(), next_low.0.round());
        let mut x = first;
        while x < last {
            let share = (x - first) / (last - first);
            let between = |a: f32, b: f32| a + (b - a) * share;
            let (top, bottom) = (between(high.1, next_high.1), between(low.1, next_low.1));
            canvas.column(x as usize, (top, bottom), color, BAND);
            x += 1.0;
        }
    }
}

/// The labels in their colours, in the corner where the last values leave most room.
fn legend(canvas: &mut Canvas, frame: &Frame, curves: &[Curve]) {
    let ends = curves.iter().filter_map(|curve| curve.spreads.last());
    let heights: Vec<f32> = ends.map(|end| frame.place(0.0, end.mean).1).collect();
    let mean = heights.iter().sum::<f32>() / heights.len().max(1) as f32;
    let line = GLYPH_HEIGHT + 2.0;
    let top = match mean < (frame.top + frame.bottom) / 2.0 {
        true => frame.bottom - GAP - line * curves.len() as f32,
        false => frame.top + GAP,
    };
    let longest = curves.iter().map(|curve| curve.label.chars().count()).max();
    let left = frame.right - GAP - longest.unwrap_or(0) as f32 * GLYPH_WIDTH;
    for (index, (curve, color)) in curves.iter().zip(COLORS.into_iter().cycle()).enumerate() {
        let y = top + line * index as f32;
        let middle = y + GLYPH_HEIGHT / 2.0;
        canvas.line((left - 28.0, middle), (left - 6.0, middle), 3.0, color);
        canvas.text((left, y), Align::Left, INK, &curve.label);
    }
}

impl Frame {
    /// Where a value at a step is, in pixels.
    fn place(&self, step: f64, value: f64) -> (f32, f32) {
        let share = |(low, high): (f64, f64), x: f64| ((x - low) / (high - low)) as f32;
        let x = share(self.steps, step);
        let y = share(self.values, value);
        (
            self.left + (self.right - self.left) * x,
            self.bottom + (self.top - self.bottom) * y,
        )
    }
}

/// The lowest and the highest value, apart from each other even if all are equal.
fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let start = (f64::INFINITY, f64::NEG_INFINITY);
    let (low, high) = values.fold(start, |(low, high), value| {
        (low.min(value), high.max(value))
    });
    match low < high {
        true => (low, high),
        // Half a unit to either side, or what is left of one beside a large number.
        false => {
            let room = 0.5_f64.max(low.abs() * 1e-9);
            (low - room, high + room)
        }
    }
}

/// No number of 64 bits says more.
const MOST_DECIMALS: f64 = 17.0;

/// Round numbers between two values, some five of them, with their names.
fn ticks((low, high): (f64, f64)) -> impl Iterator<Item = (f64, String)> {
    let rough = (high - low) / 5.0;
    let power = 10_f64.powf(rough.log10().floor());
    let unit = [1.0, 2.0, 5.0, 10.0].into_iter();
    let unit = unit.map(|unit| unit * power).find(|unit| *unit >= rough);
    let unit = unit.unwrap_or(rough);
    let decimals = (-unit.log10().floor()).clamp(0.0, MOST_DECIMALS) as usize;
    let (first, last) = ((low / unit).ceil() as i64, (high / unit).floor() as i64);
    (first..=last).map(move |number| {
        let value = number as f64 * unit;
        (value, format!("{value:.decimals$}"))
    })
}
