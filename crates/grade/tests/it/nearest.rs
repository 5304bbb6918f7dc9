//! The nearest training picture as a judge.

use mmada_data::picture::Picture;
use mmada_grade::nearest::Gallery;

fn flat(value: u8) -> Picture {
    Picture::new(32, 32, vec![value; 32 * 32 * 3]).unwrap()
}

#[test]
fn the_nearest_picture_names_what_is_painted() {
    let mut gallery = Gallery::default();
    assert!(gallery.is_empty() && gallery.nearest(&flat(0)).is_none());
    gallery.add("dark", flat(20));
    gallery.add("light", flat(220));
    let name = |value| gallery.nearest(&flat(value)).unwrap().name;
    assert_eq!(
        (name(0), name(119), name(121), name(255)),
        ("dark", "dark", "light", "light")
    );
    // (16 / 255)² is just below 0.004, (17 / 255)² is above.
    let is_copy = |value| gallery.nearest(&flat(value)).unwrap().is_copy;
    assert!(is_copy(36) && !is_copy(37));
    // Another size can be recognised, but is no copy.
    let small = Picture::new(16, 16, vec![20; 16 * 16 * 3]).unwrap();
    let nearest = gallery.nearest(&small).unwrap();
    assert_eq!((nearest.name, nearest.is_copy), ("dark", false));
}
