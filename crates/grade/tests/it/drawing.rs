//! The judge of painted shapes, on drawn and on real pictures.

use mmada_data::Pack;
use mmada_data::picture::Picture;
use mmada_grade::drawing::{Bounds, COLORS, Drawing, OTHER_COLORS, SHAPES};
use mmada_grade::grader::{Grader, Psnr, Reply, Shows, Truth, psnr};

/// A shape of this colour on a pale ground.
fn drawn(shape: &str, color: [u8; 3]) -> Picture {
    let is_inside = |x: i32, y: i32| match shape {
        "circle" => (x - 32).pow(2) + (y - 30).pow(2) <= 15 * 15,
        "rectangle" => (20..50).contains(&x) && (10..35).contains(&y),
        _ => (10..50).contains(&y) && (x - 30).abs() <= (y - 10) / 2,
    };
    let pixels = (0..64 * 64).flat_map(|i| match is_inside(i % 64, i / 64) {
        true => color,
        false => [244, 240, 250],
    });
    Picture::new(64, 64, pixels.collect()).unwrap()
}

#[test]
fn drawn_shapes_are_read() {
    for (color, rgb) in COLORS {
        for shape in SHAPES {
            let picture = drawn(shape, rgb);
            let drawing = Drawing::read(&picture);
            assert_eq!((drawing.color, drawing.shape), (Some(color), Some(shape)));
            assert!(drawing.is_connected() && drawing.is_one_color());
            let (left, top, width, height) = match shape {
                "circle" => (17, 15, 31, 31),
                "rectangle" => (20, 10, 30, 25),
                _ => (11, 10, 39, 40),
            };
            let bounds = Bounds {
                left,
                top,
                width,
                height,
            };
            assert_eq!(drawing.bounds, Some(bounds), "{shape}");
            let truth = Truth::Drawing { color, shape };
            assert_eq!(Shows::Both.grade(Reply::Picture(&picture), truth), 1.0);
            let truth = Truth::Drawing {
                color: "pink",
                shape,
            };
            assert_eq!(Shows::Both.grade(Reply::Picture(&picture), truth), 0.0);
            assert_eq!(Shows::Shape.grade(Reply::Picture(&picture), truth), 1.0);
        }
    }
}

#[test]
fn other_colors_are_seen_where_they_are_asked_for() {
    for (color, rgb) in OTHER_COLORS {
        let picture = drawn("triangle", rgb);
        assert_ne!(Drawing::read(&picture).color, Some(color));
        let truth = |color, shape| Truth::Drawing { color, shape };
        let grade = |by: Shows, truth| by.grade(Reply::Picture(&picture), truth);
        assert_eq!(grade(Shows::Both, truth(color, "triangle")), 1.0, "{color}");
        assert_eq!(grade(Shows::Both, truth(color, "circle")), 0.0, "{color}");
        assert!(
            grade(Shows::Outline, truth(color, "triangle")) > 0.9,
            "{color}"
        );
        for (other, rgb) in COLORS.into_iter().chain(OTHER_COLORS) {
            let is_it = f64::from(u8::from(other == color));
            assert_eq!(
                grade(Shows::Color, truth(other, "triangle")),
                is_it,
                "{other} {color}"
            );
            // What was asked for in this colour and painted in another is that other.
            let seen = Drawing::read_as(&drawn("circle", rgb), color).color;
            assert_eq!(seen == Some(color), other == color, "{other} {color}");
        }
    }
}

#[test]
fn flattened_circles_fill_no_circle() {
    let ellipse = |across: i32, down: i32| {
        let is_inside = |x: i32, y: i32| {
            ((x - 32) * down).pow(2) + ((y - 32) * across).pow(2) <= (across * down).pow(2)
        };
        let pixels = (0..64 * 64).flat_map(|i| match is_inside(i % 64, i / 64) {
            true => [0, 0, 255],
            false => [244, 240, 250],
        });
        Drawing::read(&Picture::new(64, 64, pixels.collect()).unwrap())
    };
    assert!(ellipse(20, 20).outline("circle") > 0.94);
    for (across, down) in [(24, 18), (18, 24)] {
        let drawing = ellipse(across, down);
        // The judge takes it for a circle; the outline says how nearly: by area three in four.
        assert_eq!(drawing.shape, Some("circle"));
        let outline = drawing.outline("circle");
        assert!((0.68..0.76).contains(&outline), "{outline}");
    }
}

#[test]
fn empty_and_broken_pictures_show_nothing_whole() {
    let blank = Picture::new(8, 8, vec![240; 8 * 8 * 3]).unwrap();
    let drawing = Drawing::read(&blank);
    assert_eq!(
        (drawing.color, drawing.shape, drawing.counting),
        (None, None, 0)
    );
    assert!(!drawing.is_connected() && drawing.bounds.is_none());
    // Two blue blocks, and some red.
    let pixels = (0..16 * 16).flat_map(|i| match (i % 16, i / 16) {
        (0..4 | 10..14, 0..4) => [0, 0, 255],
        (0..4, 10..16) => [255, 0, 0],
        _ => [255; 3],
    });
    let drawing = Drawing::read(&Picture::new(16, 16, pixels.collect()).unwrap());
    assert_eq!(
        (drawing.color, drawing.mask, drawing.counting),
        (Some("blue"), 32, 56)
    );
    assert_eq!(drawing.largest_piece, 0.5);
    assert!(!drawing.is_connected() && !drawing.is_one_color());
    // Single pixels and lines have a height and a width of one.
    for (width, height) in [(1, 1), (1, 20), (20, 1)] {
        let line = Picture::new(width, height, vec![0; width * height * 3]).unwrap();
        let _ = Drawing::read(&line);
    }
}

#[test]
fn real_test_pictures_are_judged_right() {
    let pack = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/data/shapes");
    let (mut right, mut fitting, mut filled, mut n) = (0, 0, 0.0, 0);
    for item in Pack::open(pack).unwrap().captions("test").unwrap() {
        let item = item.unwrap();
        let drawing = Drawing::read(&item.image.picture().unwrap());
        let field = |name: &str| item.fields[name].as_str();
        right += usize::from(drawing.color == field("color") && drawing.shape == field("shape"));
        // By degrees too: the shape's own outline is nearly filled, and better than the others.
        let own = drawing.outline(field("shape").unwrap());
        filled += own;
        fitting += usize::from(drawing.outlines.iter().all(|&other| other <= own));
        n += 1;
    }
    assert!(n > 500 && right * 1000 >= n * 995, "{right} of {n}");
    // A shape of a few pixels, or one cut by the edge, may fill another outline as well.
    assert!(fitting * 100 >= n * 95, "{fitting} of {n}");
    assert!(filled > 0.9 * n as f64, "{filled} of {n}");
}

#[test]
fn names_in_a_text_are_found() {
    for (text, expected) in [
        ("a Red circle", Some(("red", "circle"))),
        ("noto style: teal triangle.", Some(("teal", "triangle"))),
        ("an orange circle", Some(("orange", "circle"))),
        ("a circle", None),
        ("a red or blue circle", None),
        ("a redcircle", None),
    ] {
        assert_eq!(Drawing::named_in(text), expected, "{text}");
    }
}

#[test]
fn psnr_is_that_of_the_formula() {
    let flat = |level: u8| Picture::new(2, 2, vec![level; 12]).unwrap();
    assert_eq!(psnr(&flat(7), &flat(7)), Some(100.0));
    // 10 log10(255² / 10²)
    let value = psnr(&flat(100), &flat(110)).unwrap();
    assert!((value - 28.1308).abs() < 1e-3, "{value}");
    assert_eq!(
        psnr(&flat(0), &Picture::new(1, 4, vec![0; 12]).unwrap()),
        None
    );
    assert_eq!(
        Psnr.grade(Reply::Picture(&flat(7)), Truth::Picture(&flat(7))),
        100.0
    );
}
