//! Which pixels of a picture are to be painted anew, and which image tokens that touches.

use image::DynamicImage;

use super::{Fit, Limits, PictureError, Result, decode_bounded};

/// The region of a picture that inpainting may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    width: usize,
    height: usize,
    is_edited: Vec<bool>,
}

impl Mask {
    /// A mask from one value per pixel, rows from the top; `true` is to be painted anew.
    pub fn new(width: usize, height: usize, is_edited: Vec<bool>) -> Result<Self> {
        let count = width.checked_mul(height);
        if width == 0 || height == 0 || count != Some(is_edited.len()) {
            return Err(PictureError::Size {
                what: "mask",
                expected: format!("{width}x{height} values and no empty side"),
                got: format!("{} values", is_edited.len()),
            });
        }
        Ok(Self {
            width,
            height,
            is_edited,
        })
    }

    /// Reads a mask from a PNG, JPEG or WebP file.
    ///
    /// A picture with transparency is edited where it is fully transparent (alpha 0, the habit of
    /// image editing services); any other is edited where it is bright (luma above 127).
    pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Self> {
        let image = decode_bounded(bytes, limits)?;
        let (width, height) = (image.width() as usize, image.height() as usize);
        Self::new(width, height, edits(&image))
    }

    /// Brings the mask to the size of a picture treated with the same [`Fit`]. A pixel is edited
    /// if any pixel of the mask that it covers is.
    pub fn fit(&self, width: usize, height: usize, fit: Fit) -> Self {
        let (width, height) = (width.max(1), height.max(1));
        let placement = fit.placement((self.width, self.height), (width, height));
        let covered = |source: usize, scaled: u64, at: u64| {
            let start = (u128::from(at) * source as u128 / u128::from(scaled)) as usize;
            let end = (u128::from(at + 1) * source as u128).div_ceil(u128::from(scaled)) as usize;
            start..end.min(source)
        };
        let columns: Vec<_> = (0..width as u64)
            .map(|x| covered(self.width, placement.scaled.0, placement.offset.0 + x))
            .collect();
        let mut is_edited = Vec::with_capacity(width * height);
        for y in 0..height as u64 {
            let rows = covered(self.height, placement.scaled.1, placement.offset.1 + y);
            is_edited.extend(columns.iter().map(|columns| {
                let mut rows = rows.clone();
                rows.any(|y| self.row(y)[columns.clone()].contains(&true))
            }));
        }
        Self {
            width,
            height,
            is_edited,
        }
    }

    /// Which image tokens are edited, row-major: those of whose `factor` x `factor` pixels any is.
    pub fn tokens(&self, factor: usize) -> Result<Vec<bool>> {
        let divides = |side: usize| factor > 0 && side.is_multiple_of(factor);
        if !divides(self.width) || !divides(self.height) {
            return Err(PictureError::Size {
                what: "mask on the token grid",
                expected: format!("sides that are multiples of {factor}; fit the mask first"),
                got: format!("{}x{}", self.width, self.height),
            });
        }
        let columns = self.width / factor;
        let mut tokens = vec![false; columns * (self.height / factor)];
        for (y, row) in self.is_edited.chunks_exact(self.width).enumerate() {
            for (x, block) in row.chunks_exact(factor).enumerate() {
                tokens[y / factor * columns + x] |= block.contains(&true);
            }
        }
        Ok(tokens)
    }

    /// Pixels per row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// One value per pixel, rows from the top; `true` is to be painted anew.
    pub fn is_edited(&self) -> &[bool] {
        &self.is_edited
    }

    fn row(&self, y: usize) -> &[bool] {
        &self.is_edited[y * self.width..(y + 1) * self.width]
    }
}

/// One value per pixel. An alpha channel that is opaque everywhere says nothing, so luma decides.
fn edits(image: &DynamicImage) -> Vec<bool> {
    if image.color().has_alpha() {
        let rgba = image.to_rgba8();
        let alpha = || rgba.as_raw().iter().skip(3).step_by(4);
        if alpha().any(|&a| a < 255) {
            return alpha().map(|&a| a == 0).collect();
        }
    }
    image.to_luma8().as_raw().iter().map(|&v| v > 127).collect()
}
