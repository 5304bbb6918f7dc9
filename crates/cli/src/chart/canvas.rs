//! A white sheet to draw on: smooth lines, columns and letters.

use anyhow::Result;
use mmada_data::picture::Picture;
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

const WEIGHT: FontWeight = FontWeight::Regular;
const SIZE: RasterHeight = RasterHeight::Size16;
/// Pixels from one letter to the next.
pub(super) const GLYPH_WIDTH: f32 = get_raster_width(WEIGHT, SIZE) as f32;
/// Pixels of a line of text.
pub(super) const GLYPH_HEIGHT: f32 = SIZE.val() as f32;

/// Which part of a text is at the place that is named.
#[derive(Debug, Clone, Copy)]
pub(super) enum Align {
    Left,
    Middle,
    Right,
}

/// RGB, rows from the top.
pub(super) struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Canvas {
    pub(super) fn new(width: usize, height: usize) -> Self {
        Self {
            width,
            height,
            pixels: vec![255; width * height * 3],
        }
    }

    pub(super) fn picture(self) -> Result<Picture> {
        Ok(Picture::new(self.width, self.height, self.pixels)?)
    }

    /// A line with round ends. A pixel is covered as far as its centre is within half the width.
    pub(super) fn line(&mut self, a: (f32, f32), b: (f32, f32), width: f32, color: [u8; 3]) {
        let reach = width / 2.0 + 1.0;
        let span = |a: f32, b: f32| {
            let (low, high) = (a.min(b) - reach, a.max(b) + reach);
            low.max(0.0) as usize..high.max(0.0) as usize + 1
        };
        let (dx, dy) = (b.0 - a.0, b.1 - a.1);
        let length = (dx * dx + dy * dy).max(f32::MIN_POSITIVE);
        for y in span(a.1, b.1) {
            for x in span(a.0, b.0) {
                let (px, py) = (x as f32 + 0.5 - a.0, y as f32 + 0.5 - a.1);
                let along = ((px * dx + py * dy) / length).clamp(0.0, 1.0);
                let (ox, oy) = (px - along * dx, py - along * dy);
                let distance = (ox * ox + oy * oy).sqrt();
                self.blend(x, y, color, width / 2.0 + 0.5 - distance);
            }
        }
    }

    /// A column of pixels from `top` to `bottom`.
    pub(super) fn column(
        &mut self,
        x: usize,
        (top, bottom): (f32, f32),
        color: [u8; 3],
        opacity: f32,
    ) {
        for y in top.max(0.0).round() as usize..bottom.max(0.0).round() as usize {
            self.blend(x, y, color, opacity);
        }
    }

    /// One line of text; letters outside ASCII are shown as `?`.
    pub(super) fn text(&mut self, (x, y): (f32, f32), align: Align, color: [u8; 3], text: &str) {
        let width = text.chars().count() as f32 * GLYPH_WIDTH;
        let start = match align {
            Align::Left => x,
            Align::Middle => x - width / 2.0,
            Align::Right => x - width,
        };
        let glyph = |letter| get_raster(letter, WEIGHT, SIZE);
        for (index, letter) in text.chars().enumerate() {
            let Some(glyph) = glyph(letter).or_else(|| glyph('?')) else {
                continue;
            };
            let left = (start + index as f32 * GLYPH_WIDTH).max(0.0) as usize;
            for (dy, row) in glyph.rows().enumerate() {
                for (dx, cover) in row.iter().enumerate() {
                    let at = (left + dx, y.max(0.0) as usize + dy);
                    self.blend(at.0, at.1, color, f32::from(*cover) / 255.0);
                }
            }
        }
    }

    /// Lays a colour over a pixel; what is outside is left out.
    fn blend(&mut self, x: usize, y: usize, color: [u8; 3], opacity: f32) {
        if x >= self.width || y >= self.height || opacity <= 0.0 {
            return;
        }
        let start = (y * self.width + x) * 3;
        for (under, over) in self.pixels[start..start + 3].iter_mut().zip(color) {
            let (below, above) = (f32::from(*under), f32::from(over));
            *under = (below + (above - below) * opacity.min(1.0)).round() as u8;
        }
    }
}
