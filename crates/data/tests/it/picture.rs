//! Pictures: the original's transforms, files of all kinds and none, masks, sample sheets.

use std::io::Cursor;
use std::path::PathBuf;

use image::{DynamicImage, ExtendedColorType, ImageFormat, Rgba, RgbaImage};
use mmada_data::picture::{Fit, Limits, Mask, Picture, PictureError};
use mmada_tensor::{Device, Tensor, candle};
use proptest::prelude::*;

fn golden(name: &str) -> PathBuf {
    let root = std::env::var_os("MMADA_GOLDEN").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden")),
        PathBuf::from,
    );
    root.join(name)
}

/// Every `PICTURE.KIND_SIZE[_unnormalized]` of the folder, within the tolerance stated for it.
#[test]
fn golden_image_transform() {
    let dir = golden("image_transform");
    let io = candle::safetensors::load(dir.join("io.safetensors"), &Device::Cpu).unwrap();
    assert!(!io.is_empty());
    for (key, expected) in io {
        let (name, kind) = key.split_once('.').unwrap();
        let fit = match kind {
            _ if kind.starts_with("center_crop") => Fit::CenterCrop,
            _ if kind.starts_with("squash") => Fit::Squash,
            _ => panic!("unknown transform in {key}"),
        };
        let bytes = std::fs::read(dir.join(format!("{name}.png"))).unwrap();
        let picture = Picture::decode(&bytes, &Limits::default()).unwrap();
        let (_, height, width) = expected.dims3().unwrap();
        let mut got = picture
            .fit(width, height, fit)
            .to_tensor(&Device::Cpu)
            .unwrap();
        if kind.ends_with("_unnormalized") {
            got = got.affine(0.5, 0.5).unwrap();
        }
        let gap = (got - expected)
            .unwrap()
            .abs()
            .unwrap()
            .flatten_all()
            .unwrap();
        let mean = gap.mean_all().unwrap().to_scalar::<f32>().unwrap();
        let max = gap.max(0).unwrap().to_scalar::<f32>().unwrap();
        assert!(
            max <= 4.0 / 127.5 && mean <= 0.004,
            "{key}: at most {max}, on average {mean}"
        );
    }
}

fn encode(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    image
        .write_to(&mut Cursor::new(&mut bytes), format)
        .unwrap();
    bytes
}

fn decode(bytes: &[u8]) -> Result<Picture, PictureError> {
    Picture::decode(bytes, &Limits::default())
}

#[test]
fn reads_png_jpeg_and_webp() {
    let image = DynamicImage::ImageRgb8(image::RgbImage::from_fn(16, 8, |x, y| {
        image::Rgb([x as u8 * 8, y as u8 * 8, 60])
    }));
    let exact = image.to_rgb8().into_raw();
    for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Jpeg] {
        let picture = decode(&encode(&image, format)).unwrap();
        assert_eq!((picture.width(), picture.height()), (16, 8));
        if format == ImageFormat::Jpeg {
            let far = |(a, b): (&u8, &u8)| a.abs_diff(*b) > 24;
            assert!(!picture.pixels().iter().zip(&exact).any(far));
        } else {
            assert_eq!(picture.pixels(), exact);
        }
    }
}

#[test]
fn transparency_is_laid_on_white() {
    let image = RgbaImage::from_raw(3, 1, vec![10, 20, 30, 0, 10, 20, 30, 255, 0, 0, 0, 128]);
    let bytes = encode(&DynamicImage::ImageRgba8(image.unwrap()), ImageFormat::Png);
    let picture = decode(&bytes).unwrap();
    assert_eq!(picture.pixel(0, 0), Some([255; 3]));
    assert_eq!(picture.pixel(1, 0), Some([10, 20, 30]));
    assert_eq!(picture.pixel(2, 0), Some([127; 3]));
    assert_eq!(picture.pixel(3, 0), None);
}

/// A PNG file whose header announces a size that its data does not hold.
fn png_announcing(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Picture::new(1, 1, vec![0; 3])
        .unwrap()
        .encode_png()
        .unwrap();
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let crc = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&crc.to_be_bytes());
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |c, _| {
            (c >> 1) ^ (0xEDB8_8320 * (c & 1))
        })
    })
}

#[test]
fn large_pictures_are_refused_on_their_header() {
    for (width, height) in [(10_000, 10_000), (1, 70_000), (0x7fff_ffff, 0x7fff_ffff)] {
        let error = decode(&png_announcing(width, height)).unwrap_err();
        let is_refused = matches!(
            error,
            PictureError::TooLarge { .. } | PictureError::Broken(_)
        );
        assert!(is_refused, "{error}");
    }
    let message = decode(&png_announcing(10_000, 10_000))
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("10000x10000 = 100000000 pixels"),
        "{message}"
    );
    assert!(
        message.contains("expected at most 67108864 pixels"),
        "{message}"
    );
    let limits = Limits {
        max_pixels: 3,
        ..Limits::default()
    };
    let four = Picture::new(2, 2, vec![0; 12])
        .unwrap()
        .encode_png()
        .unwrap();
    let error = Picture::decode(&four, &limits).unwrap_err();
    assert!(matches!(error, PictureError::TooLarge { .. }), "{error}");
}

#[test]
fn what_is_not_a_picture_is_named() {
    for (bytes, got) in [
        (&b""[..], "an empty file"),
        (b"hello world", "bytes that start with [68, 65, 6c"),
        (b"GIF89a\x01\x00\x01\x00", "Gif"),
    ] {
        let error = decode(bytes).unwrap_err();
        assert!(matches!(error, PictureError::NotAPicture { .. }), "{error}");
        let message = error.to_string();
        assert!(
            message.contains("expected a PNG, JPEG or WebP"),
            "{message}"
        );
        assert!(message.contains(got), "{message}");
    }
}

#[test]
fn truncated_files_are_errors() {
    let image = DynamicImage::ImageRgb8(image::RgbImage::from_fn(24, 24, |x, y| {
        image::Rgb([(x * 37) as u8, (y * 91) as u8, (x * y) as u8])
    }));
    for format in [ImageFormat::Png, ImageFormat::WebP] {
        let bytes = encode(&image, format);
        for cut in [9, 20, bytes.len() / 2, bytes.len() - 20] {
            assert!(decode(&bytes[..cut]).is_err(), "{format:?} cut at {cut}");
        }
    }
    // Decoders fill with grey what is missing of these.
    let jpeg = encode(&image, ImageFormat::Jpeg);
    for cut in 2..jpeg.len() {
        assert!(decode(&jpeg[..cut]).is_err(), "cut at {cut}");
    }
    let followed = [&jpeg[..], b"\xff\xda more, as telephones write it"].concat();
    assert_eq!(decode(&followed).unwrap(), decode(&jpeg).unwrap());
}

#[test]
fn sizes_that_do_not_fit_are_errors() {
    assert!(Picture::new(2, 2, vec![0; 11]).is_err());
    assert!(Picture::new(0, 2, vec![]).is_err());
    assert!(Picture::new(usize::MAX, 2, vec![0; 6]).is_err());
    assert!(Mask::new(2, 2, vec![true; 3]).is_err());
    assert!(Picture::grid(&[], 3, 1).is_err());
    let flat = Tensor::zeros((2, 4, 4), candle::DType::F32, &Device::Cpu).unwrap();
    let error = Picture::from_tensor(&flat).unwrap_err().to_string();
    assert!(
        error.contains("[3, height, width]") && error.contains("[2, 4, 4]"),
        "{error}"
    );
}

#[test]
fn tensors_outside_the_range_are_clamped() {
    let values = Tensor::new(&[-9f32, f32::NAN, 0.0, 9.0, 1.0, -1.0], &Device::Cpu).unwrap();
    let picture = Picture::from_tensor(&values.reshape((3, 1, 2)).unwrap()).unwrap();
    assert_eq!(picture.pixels(), [0, 128, 255, 0, 255, 0]);
}

#[test]
fn sheets_have_cells_and_gaps() {
    let dot = |v: u8| Picture::new(1, 1, vec![v; 3]).unwrap();
    let sheet = Picture::grid(&[dot(1), dot(2), dot(3)], 2, 1).unwrap();
    assert_eq!((sheet.width(), sheet.height()), (5, 5));
    let at = |x, y| sheet.pixel(x, y).unwrap()[0];
    assert_eq!(
        [at(1, 1), at(3, 1), at(1, 3), at(3, 3), at(2, 2)],
        [1, 2, 3, 255, 255]
    );
}

#[test]
fn masks_read_alpha_or_brightness() {
    let rgba = |pixels: &[[u8; 4]]| {
        let image = RgbaImage::from_fn(pixels.len() as u32, 1, |x, _| Rgba(pixels[x as usize]));
        let bytes = encode(&DynamicImage::ImageRgba8(image), ImageFormat::Png);
        Mask::decode(&bytes, &Limits::default()).unwrap()
    };
    let holes = rgba(&[[255, 255, 255, 255], [0, 0, 0, 0], [9, 9, 9, 1]]);
    assert_eq!(holes.is_edited(), [false, true, false]);
    let opaque = rgba(&[
        [255, 255, 255, 255],
        [127, 127, 127, 255],
        [128, 128, 128, 255],
    ]);
    assert_eq!(opaque.is_edited(), [true, false, true]);
    let mut grey = Vec::new();
    let cursor = Cursor::new(&mut grey);
    let png = image::codecs::png::PngEncoder::new(cursor);
    image::ImageEncoder::write_image(png, &[0, 200], 2, 1, ExtendedColorType::L8).unwrap();
    let grey = Mask::decode(&grey, &Limits::default()).unwrap();
    assert_eq!(grey.is_edited(), [false, true]);
    assert!(Mask::decode(b"no", &Limits::default()).is_err());
}

#[test]
fn masks_come_down_to_tokens() {
    let mut is_edited = vec![false; 8 * 4];
    is_edited[3 * 8 + 4] = true;
    let mask = Mask::new(8, 4, is_edited).unwrap();
    assert_eq!(mask.tokens(4).unwrap(), [false, true]);
    assert_eq!(
        mask.tokens(2).unwrap(),
        [false, false, false, false, false, false, true, false]
    );
    assert_eq!(mask.tokens(1).unwrap(), mask.is_edited());
    for factor in [0, 3, 8] {
        assert!(mask.tokens(factor).is_err());
    }
    let cropped = mask.fit(4, 4, Fit::CenterCrop);
    assert!(cropped.is_edited()[3 * 4 + 2]);
    assert_eq!(mask.fit(2, 1, Fit::Squash).is_edited(), [false, true]);
}

#[test]
fn extreme_shapes_fit_without_extreme_memory() {
    let thread = Picture::new(60_000, 1, (0..180_000).map(|i| i as u8).collect()).unwrap();
    let picture = thread.fit(64, 64, Fit::CenterCrop);
    assert_eq!((picture.width(), picture.height()), (64, 64));
    assert_eq!(thread.fit(0, 0, Fit::Squash).pixels().len(), 3);
    let thread = Picture::new(1, 60_000, thread.pixels().to_vec()).unwrap();
    for fit in [Fit::CenterCrop, Fit::Squash] {
        assert_eq!(thread.fit(64, 32, fit).pixels().len(), 64 * 32 * 3);
    }
}

proptest! {
    #[test]
    fn tensors_and_files_give_the_picture_back(width in 1usize..9, height in 1usize..9, seed: u8) {
        let bytes = (0..width * height * 3).map(|i| (i * 73 + i / 3) as u8 ^ seed).collect();
        let picture = Picture::new(width, height, bytes).unwrap();
        let tensor = picture.to_tensor(&Device::Cpu).unwrap();
        prop_assert_eq!(&Picture::from_tensor(&tensor).unwrap(), &picture);
        prop_assert_eq!(&decode(&picture.encode_png().unwrap()).unwrap(), &picture);
        prop_assert_eq!(&picture.fit(width, height, Fit::CenterCrop), &picture);
    }

    #[test]
    fn flat_colours_stay_flat(
        from in (1usize..40, 1usize..40), to in (1usize..40, 1usize..40), v: u8, crop: bool,
    ) {
        let fit = if crop { Fit::CenterCrop } else { Fit::Squash };
        let picture = Picture::new(from.0, from.1, vec![v; from.0 * from.1 * 3]).unwrap();
        let fitted = picture.fit(to.0, to.1, fit);
        prop_assert_eq!(fitted.pixels(), vec![v; to.0 * to.1 * 3]);
        let mask = Mask::new(from.0, from.1, vec![true; from.0 * from.1]).unwrap();
        prop_assert!(mask.fit(to.0, to.1, fit).is_edited().iter().all(|&e| e));
    }

    #[test]
    fn arbitrary_bytes_never_panic(tail in proptest::collection::vec(any::<u8>(), 0..200), kind in 0..3usize) {
        let small = DynamicImage::new_rgb8(3, 3);
        let format = [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP][kind];
        let mut bytes = encode(&small, format);
        let keep = bytes.len().min(12 + tail.len());
        bytes.truncate(keep);
        bytes.extend(tail);
        let _ = decode(&bytes);
    }
}
