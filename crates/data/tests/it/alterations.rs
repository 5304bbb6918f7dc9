//! What is done to one picture.

use mmada_data::augment::{Alteration, Augment, Erased};
use mmada_data::picture::Picture;

/// 12x8, white from column `from` up to `to`, in rows 2..6.
pub(crate) fn bar(from: usize, to: usize) -> Picture {
    let is_white = |at: usize| (from..to).contains(&(at % 12)) && (2..6).contains(&(at / 12));
    let pixels = (0..12 * 8).flat_map(|at| [if is_white(at) { 255 } else { 0 }; 3]);
    Picture::new(12, 8, pixels.collect()).unwrap()
}

#[test]
fn a_figure_of_any_color_is_repainted() {
    // Blue on a tinted ground, with an edge halfway between the two.
    let (ground, edge, blue) = ([240, 250, 235], [120, 125, 245], [0, 0, 255]);
    let row: Vec<u8> = [ground, ground, edge, blue].concat();
    let picture = Picture::new(4, 2, row.repeat(2)).unwrap();
    let alteration = Alteration {
        paint: Some(([255, 165, 0], [255, 255, 255])),
        ..Alteration::default()
    };
    let repainted = alteration.apply(&picture).unwrap();
    let colors = [0, 1, 2, 3].map(|x| repainted.pixel(x, 1).unwrap());
    assert_eq!(colors, [[255; 3], [255; 3], [255, 210, 128], [255, 165, 0]]);
    // A picture of one colour is all ground.
    let even = Picture::new(2, 1, vec![7; 6]).unwrap();
    assert_eq!(alteration.apply(&even).unwrap().pixels(), [255; 6]);
}

#[test]
fn a_move_stops_before_the_edge_and_comes_before_the_mirror() {
    let moved = |shift: (isize, isize), is_mirrored: bool| {
        let alteration = Alteration {
            shift,
            is_mirrored,
            ..Alteration::default()
        };
        alteration.apply(&bar(3, 5)).unwrap()
    };
    assert!(moved((2, 0), false) == bar(5, 7));
    assert!(moved((-3, 0), false) == bar(0, 2));
    // Eight to the right would push it out: four do not.
    assert!(moved((8, 0), false) == bar(7, 9));
    assert!(moved((-3, 0), true) == bar(10, 12));
    assert!(moved((0, 0), true) == bar(7, 9));
    let (down, up) = (moved((0, 2), false), moved((0, -6), false));
    assert_eq!(down.pixel(3, 7), Some([255; 3]));
    assert_eq!(
        up.pixel(3, 0),
        Some([0; 3]),
        "three up is one too many, so one it is"
    );
    assert_eq!(up.pixel(3, 1), Some([255; 3]));
}

#[test]
fn pictures_are_made_smaller_and_turned_about_their_middle() {
    let warped = |shrink: i16, turn: i16| {
        let alteration = Alteration {
            shrink,
            turn,
            ..Alteration::default()
        };
        alteration.apply(&bar(4, 8)).unwrap()
    };
    // Half a turn takes each pixel to the opposite one.
    assert!(warped(0, 1800) == bar(4, 8));
    let alteration = Alteration {
        turn: 1800,
        ..Alteration::default()
    };
    assert!(alteration.apply(&bar(0, 3)).unwrap() == bar(9, 12));
    // Clockwise, so what was above the middle is to its right.
    let mut pixels = vec![0; 9 * 9 * 3];
    pixels[(9 + 4) * 3..][..3].fill(255);
    let above = Picture::new(9, 9, pixels).unwrap();
    let alteration = Alteration {
        turn: 900,
        ..Alteration::default()
    };
    let turned = alteration.apply(&above).unwrap();
    assert_eq!(turned.pixel(7, 4), Some([255; 3]));
    assert_eq!(turned.pixel(4, 1), Some([0; 3]));
    // Half the size is a quarter of the light.
    let light = |picture: &Picture| picture.pixels().iter().map(|&v| u64::from(v)).sum::<u64>();
    let (whole, half) = (light(&bar(4, 8)), light(&warped(500, 0)));
    assert!((whole / 5..whole / 3).contains(&half), "{half} of {whole}");
    assert_eq!(warped(500, 0).pixel(4, 2), Some([0; 3]));
    // Twice the size is four times the light.
    let twice = light(&warped(-1000, 0));
    assert!(
        (3 * whole..=4 * whole).contains(&twice),
        "{twice} of {whole}"
    );
}

#[test]
fn pictures_are_stretched_and_leant_about_their_middle() {
    let altered = |stretch: i16, shear: i16| {
        let alteration = Alteration {
            stretch,
            shear,
            ..Alteration::default()
        };
        alteration.apply(&bar(4, 8)).unwrap()
    };
    // How many pixels of a row or column are more white than black.
    let count = |picture: &Picture, places: &mut dyn Iterator<Item = (usize, usize)>| {
        places
            .filter(|&(x, y)| picture.pixel(x, y).unwrap()[0] > 127)
            .count()
    };
    let wide = altered(1000, 0);
    assert_eq!(count(&wide, &mut (0..12).map(|x| (x, 3))), 8);
    assert_eq!(count(&wide, &mut (0..8).map(|y| (6, y))), 2);
    // Half a pixel to the left for each pixel down: the highest row lies furthest to the right.
    let leant = altered(0, 500);
    let first = |y: usize| {
        (0..12)
            .find(|&x| leant.pixel(x, y).unwrap()[0] > 127)
            .unwrap()
    };
    assert!(first(2) > first(5), "{} and {}", first(2), first(5));
    assert_eq!(count(&leant, &mut (0..12).map(|x| (x, 2))), 4);
}

#[test]
fn colors_are_mixed_from_white_and_boxes_erased() {
    let row: Vec<u8> = [[255, 255, 255], [255, 0, 0], [0, 0, 0], [200, 100, 0]].concat();
    let picture = Picture::new(4, 2, row.repeat(2)).unwrap();
    let mixed = |colors: [[i16; 3]; 3], erased: Option<Erased>| {
        let alteration = Alteration {
            colors: Some(colors),
            erased,
            ..Alteration::default()
        };
        let picture = alteration.apply(&picture).unwrap();
        [0, 1].map(|y| [0, 1, 2, 3].map(|x| picture.pixel(x, y).unwrap()))
    };
    let same = [[1000, 0, 0], [0, 1000, 0], [0, 0, 1000]];
    let as_it_is = [[255; 3], [255, 0, 0], [0; 3], [200, 100, 0]];
    assert_eq!(mixed(same, None), [as_it_is; 2]);
    // Red and green change places, and blue is half as dark.
    let swapped = [[0, 1000, 0], [1000, 0, 0], [0, 0, 500]];
    let expected = [[255; 3], [0, 255, 128], [0, 0, 128], [100, 200, 128]];
    assert_eq!(mixed(swapped, None), [expected; 2]);
    // Beyond black and white there is nothing.
    assert_eq!(
        mixed([[2000, -2000, 0]; 3], None)[0][1..3],
        [[255; 3], [255; 3]]
    );
    // The right half of the lower row.
    let erased = Erased {
        left: 500,
        top: 500,
        width: 500,
        height: 500,
        is_white: false,
    };
    let lower = [as_it_is[0], as_it_is[1], [0; 3], [0; 3]];
    assert_eq!(mixed(same, Some(erased)), [as_it_is, lower]);
    let white = Erased {
        is_white: true,
        ..erased
    };
    assert_eq!(mixed(same, Some(white))[1][2..], [[255; 3]; 2]);
}

/// What was drawn before there were more ways to alter a picture is drawn again.
#[test]
fn further_ways_leave_earlier_draws_alone() {
    let before = Augment {
        variants: 64,
        shift: 5,
        shrink: 0.3,
        turn: 12.0,
        mirror: true,
        ..Augment::default()
    };
    let now = Augment {
        stretch: 0.2,
        shear: 0.2,
        colors: 0.1,
        gray: 0.25,
        erase: 0.5,
        ..before.clone()
    };
    let (looks, further): (Vec<_>, Vec<_>) = (before.looks().collect(), now.looks().collect());
    let kept = |alteration: &Alteration| Alteration {
        stretch: 0,
        shear: 0,
        colors: None,
        erased: None,
        ..*alteration
    };
    assert!(further.iter().map(kept).eq(looks.iter().copied()));
    let share = |is_so: &dyn Fn(&Alteration) -> bool| {
        further
            .iter()
            .filter(|alteration| is_so(alteration))
            .count()
    };
    let is_gray = |shares: [[i16; 3]; 3]| shares[0] == shares[1] && shares[1] == shares[2];
    assert!((20..45).contains(&share(&|look| look.erased.is_some())));
    assert!((6..28).contains(&share(&|look| look.colors.is_some_and(is_gray))));
    assert!(share(&|look| look.stretch != 0 && look.shear != 0) > 50);
    assert!(looks[1..].iter().all(|look| look.shrink >= 0));
    let larger = Augment {
        grow: 0.2,
        ..before
    };
    let grown = larger.looks().filter(|look| look.shrink < 0).count();
    assert!((10..45).contains(&grown), "{grown}");
}
