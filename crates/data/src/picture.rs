//! Pictures: bounded decoding, fitting to a size, tensors, PNG, sample sheets.
//!
//! ```text
//!   bytes ──decode──► Picture ──fit──► Picture ──to_tensor──► [3, h, w] in [-1, 1]
//!                        ▲                                          │
//!   PNG ◄──encode_png────┴───────────────from_tensor────────────────┘
//! ```
//!
//! A picture is 8-bit RGB. File dimensions are read and checked before any pixel is decoded.
//! [`Fit`] reproduces the transforms of the original (`training/utils.py`, `image_transform`):
//! antialiased bicubic resizing on 8 bits, see [`resample`].

mod jpeg;
mod mask;
mod resample;

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader};
use mmada_tensor::{DType, Device, Tensor};

pub use mask::Mask;
pub use resample::Fit;

/// An 8-bit RGB picture with at least one pixel.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

/// How large a picture file may be; checked on the header, before any pixel is allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest width times height.
    pub max_pixels: u64,
    /// Largest width and largest height.
    pub max_side: u32,
}

/// Why a picture could not be read, made or written.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// The bytes are no picture in a format that is read here.
    #[error("not a picture: expected a PNG, JPEG or WebP file, got {got}; convert it to PNG first")]
    NotAPicture {
        /// What the first bytes look like.
        got: String,
    },
    /// The file announces more pixels than allowed.
    #[error(
        "picture too large: expected at most {max_pixels} pixels and {max_side} per side, \
         got {width}x{height} = {} pixels; shrink it first", u64::from(*width) * u64::from(*height)
    )]
    TooLarge {
        /// Width in the file's header.
        width: u32,
        /// Height in the file's header.
        height: u32,
        /// The limit on pixels.
        max_pixels: u64,
        /// The limit on each side.
        max_side: u32,
    },
    /// The header was fine, the rest was not (or it could not be written).
    #[error("broken picture: {0}; the file may be truncated, try to save it again")]
    Broken(#[from] image::ImageError),
    /// A JPEG file that ends before its picture does, which decoders fill with grey.
    #[error("broken picture: the file ends before its picture does; fetch or save it again")]
    CutOff,
    /// Sizes that do not fit together.
    #[error("{what}: expected {expected}, got {got}")]
    Size {
        /// What was being done.
        what: &'static str,
        /// The size it needs.
        expected: String,
        /// The size it was given.
        got: String,
    },
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] mmada_tensor::Error),
}

/// The result of working with pictures.
pub type Result<T> = std::result::Result<T, PictureError>;

impl Default for Limits {
    /// 64 megapixels (2^26, so 8192x8192 passes), 65535 per side.
    fn default() -> Self {
        Self {
            max_pixels: 1 << 26,
            max_side: u16::MAX.into(),
        }
    }
}

impl Picture {
    /// A picture from interleaved RGB bytes, rows from the top.
    pub fn new(width: usize, height: usize, pixels: Vec<u8>) -> Result<Self> {
        let bytes = width.checked_mul(height).and_then(|n| n.checked_mul(3));
        if width == 0 || height == 0 || bytes != Some(pixels.len()) {
            return Err(PictureError::Size {
                what: "picture",
                expected: format!("{width}x{height}x3 bytes and no empty side"),
                got: format!("{} bytes", pixels.len()),
            });
        }
        Ok(Self {
            width,
            height,
            pixels,
        })
    }

    /// Reads a PNG, JPEG or WebP file (of an animation, the first frame).
    ///
    /// Transparent pixels are laid on white; orientation tags are ignored, as in the original.
    pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Self> {
        let image = decode_bounded(bytes, limits)?;
        let (width, height) = (image.width() as usize, image.height() as usize);
        if !image.color().has_alpha() {
            return Self::new(width, height, image.into_rgb8().into_raw());
        }
        let rgba = image.into_rgba8();
        let on_white = |p: &[u8]| {
            let alpha = u32::from(p[3]);
            let blend = |c: u8| ((u32::from(c) * alpha + 255 * (255 - alpha) + 127) / 255) as u8;
            [blend(p[0]), blend(p[1]), blend(p[2])]
        };
        let pixels = rgba.as_raw().chunks_exact(4).flat_map(on_white).collect();
        Self::new(width, height, pixels)
    }

    /// The picture as a PNG file.
    pub fn encode_png(&self) -> Result<Vec<u8>> {
        let mut png = Vec::new();
        image::write_buffer_with_format(
            &mut Cursor::new(&mut png),
            &self.pixels,
            self.width as u32,
            self.height as u32,
            image::ExtendedColorType::Rgb8,
            ImageFormat::Png,
        )?;
        Ok(png)
    }

    /// The picture of a tensor with values in [-1, 1]; what lies outside is clamped, and values
    /// are rounded to the nearest of the 256 levels (so it undoes [`Picture::to_tensor`]).
    ///
    /// # Shapes
    /// tensor `[3, h, w]`, any float dtype.
    pub fn from_tensor(tensor: &Tensor) -> Result<Self> {
        let (height, width) = match *tensor.dims() {
            [3, height, width] => (height, width),
            _ => {
                return Err(PictureError::Size {
                    what: "picture of a tensor",
                    expected: "shape [3, height, width]".into(),
                    got: format!("{:?}", tensor.dims()),
                });
            }
        };
        let values = planes_to_host(tensor)?;
        let plane = height * width;
        let level = |v: f32| ((v + 1.0) * 127.5).round().clamp(0.0, 255.0) as u8;
        let pixels = (0..plane)
            .flat_map(|i| [0, 1, 2].map(|c| level(values[c * plane + i])))
            .collect();
        Self::new(width, height, pixels)
    }

    /// The picture as numbers in [-1, 1]: `(value / 255 - 0.5) / 0.5`.
    ///
    /// # Shapes
    /// result `[3, h, w]`, f32.
    pub fn to_tensor(&self, device: &Device) -> Result<Tensor> {
        let mut values = Vec::with_capacity(self.pixels.len());
        for c in 0..3 {
            let channel = self.pixels[c..].iter().step_by(3);
            values.extend(channel.map(|&v| (f32::from(v) / 255.0 - 0.5) / 0.5));
        }
        let shape = (3, self.height, self.width);
        Ok(Tensor::from_vec(values, shape, device).map_err(mmada_tensor::Error::from)?)
    }

    /// Brings the picture to `width` x `height` pixels (a zero counts as one).
    pub fn fit(&self, width: usize, height: usize, fit: Fit) -> Self {
        let (width, height) = (width.max(1), height.max(1));
        let placement = fit.placement((self.width, self.height), (width, height));
        let pixels = resample::bicubic(
            &self.pixels,
            (self.width, self.height),
            &placement,
            (width, height),
        );
        Self {
            width,
            height,
            pixels,
        }
    }

    /// A sample sheet on white: `columns` pictures per line, `gap` pixels between and around.
    /// Cells have the size of the largest picture; smaller ones sit in their top left corner.
    pub fn grid(pictures: &[Picture], columns: usize, gap: usize) -> Result<Self> {
        let cell_width = pictures.iter().map(|p| p.width).max().unwrap_or(0);
        let cell_height = pictures.iter().map(|p| p.height).max().unwrap_or(0);
        let columns = columns.clamp(1, pictures.len().max(1));
        let lines = pictures.len().div_ceil(columns);
        let side = |cells: usize, cell: usize| -> Option<usize> {
            cells.checked_mul(cell.checked_add(gap)?)?.checked_add(gap)
        };
        let size = side(columns, cell_width)
            .zip(side(lines, cell_height))
            .filter(|(w, h)| (*w as u128) * (*h as u128) <= u128::from(u32::MAX));
        let Some((width, height)) = size.filter(|_| !pictures.is_empty()) else {
            return Err(PictureError::Size {
                what: "sample sheet",
                expected: "at least one picture, and a sheet of less than 2^32 pixels".into(),
                got: format!("{} pictures, gap {gap}", pictures.len()),
            });
        };
        let mut pixels = vec![255; width * height * 3];
        for (i, picture) in pictures.iter().enumerate() {
            let left = gap + (i % columns) * (cell_width + gap);
            let top = gap + (i / columns) * (cell_height + gap);
            for (y, row) in picture.pixels.chunks_exact(picture.width * 3).enumerate() {
                let start = ((top + y) * width + left) * 3;
                pixels[start..start + row.len()].copy_from_slice(row);
            }
        }
        Self::new(width, height, pixels)
    }

    /// Pixels per row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Interleaved RGB bytes, rows from the top.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Red, green and blue at column `x` of row `y`; `None` outside.
    pub fn pixel(&self, x: usize, y: usize) -> Option<[u8; 3]> {
        if x >= self.width || y >= self.height {
            return None;
        }
        let i = (y * self.width + x) * 3;
        Some([self.pixels[i], self.pixels[i + 1], self.pixels[i + 2]])
    }
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Picture {}x{}", self.width, self.height)
    }
}

/// Decodes after the header's dimensions have passed the limits.
fn decode_bounded(bytes: &[u8], limits: &Limits) -> Result<DynamicImage> {
    let format = image::guess_format(bytes).ok();
    let format = match format {
        Some(format @ (ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP)) => format,
        other => {
            let got = match other {
                Some(format) => format!("{format:?}"),
                None if bytes.is_empty() => "an empty file".into(),
                None => format!(
                    "bytes that start with {:02x?}",
                    &bytes[..bytes.len().min(8)]
                ),
            };
            return Err(PictureError::NotAPicture { got });
        }
    };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    // Eight bytes per pixel is the widest layout (16-bit RGBA); the rest is for the decoder's tables.
    let mut allocation = image::Limits::no_limits();
    allocation.max_alloc = Some(limits.max_pixels.saturating_mul(8).saturating_add(1 << 26));
    reader.limits(allocation);
    let decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    let is_too_long = width.max(height) > limits.max_side;
    if is_too_long || u64::from(width) * u64::from(height) > limits.max_pixels {
        return Err(PictureError::TooLarge {
            width,
            height,
            max_pixels: limits.max_pixels,
            max_side: limits.max_side,
        });
    }
    let image = DynamicImage::from_decoder(decoder)?;
    if format == ImageFormat::Jpeg && !jpeg::is_whole(bytes) {
        return Err(PictureError::CutOff);
    }
    Ok(image)
}

/// The values of a tensor of any float dtype on any device.
fn planes_to_host(tensor: &Tensor) -> Result<Vec<f32>> {
    let values = || tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
    Ok(values().map_err(mmada_tensor::Error::from)?)
}
