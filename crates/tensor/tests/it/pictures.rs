//! Operations on pictures.

use mmada_tensor::{composed, ops};

use crate::support::{check, convolution, normal};

#[test]
fn group_norm_matches_its_twin() {
    for (b, c, h, w, groups) in [
        (1, 1, 1, 2, 1),
        (2, 6, 5, 3, 3),
        (3, 32, 8, 8, 32),
        (1, 8, 33, 17, 2),
    ] {
        let x = (normal(1, &[b, c, h, w]) + 0.7).unwrap();
        let inputs = [x, normal(2, &[c]), normal(3, &[c])];
        let name = format!("group_norm {b}×{c}×{h}×{w}/{groups}");
        check(
            &name,
            5e-6,
            &inputs,
            &|t| ops::group_norm(&t[0], &t[1], &t[2], groups, 1e-6),
            &|t| composed::group_norm(&t[0], &t[1], &t[2], groups, 1e-6),
        );
        check(
            &format!("{name} then silu"),
            5e-6,
            &inputs,
            &|t| ops::group_norm_silu(&t[0], &t[1], &t[2], groups, 1e-6),
            &|t| composed::group_norm_silu(&t[0], &t[1], &t[2], groups, 1e-6),
        );
    }
}

#[test]
fn conv2d_matches_its_twin() {
    // batch, channels in and out, height, width, kernel, stride, padding; sizes that divide evenly
    // where the twin's own backward needs it.
    let cases = [
        (1, 1, 1, 3, 3, 3, 1, 1),
        (2, 3, 5, 8, 11, 3, 1, 1),
        (1, 4, 2, 9, 7, 1, 1, 0),
        (2, 3, 4, 9, 13, 3, 2, 0),
        (2, 3, 4, 9, 9, 3, 2, 1),
        (1, 2, 3, 5, 5, 1, 2, 0),
        (1, 2, 3, 6, 6, 3, 1, 0),
        (1, 70, 5, 64, 64, 3, 1, 1),
        (1, 3, 4, 16, 16, 4, 4, 0),
    ];
    for (b, c, out, h, w, k, stride, padding) in cases {
        let inputs = convolution([b, c, h, w], out, k);
        check(
            &format!("conv2d {b}×{c}×{h}×{w}→{out}, {k}×{k}, stride {stride}, padding {padding}"),
            5e-6,
            &inputs,
            &|t| ops::conv2d(&t[0], &t[1], &t[2], stride, padding),
            &|t| composed::conv2d(&t[0], &t[1], &t[2], stride, padding),
        );
    }
}

#[test]
fn conv2d_refuses_kernels_larger_than_the_picture() {
    let (x, weight) = (normal(1, &[1, 2, 2, 5]), normal(2, &[3, 2, 3, 3]));
    assert!(ops::conv2d(&x, &weight, &normal(3, &[3]), 1, 0).is_err());
    assert!(ops::conv2d(&x, &weight, &normal(3, &[3]), 0, 1).is_err());
}

#[test]
fn padding_and_doubling_match_their_twins() {
    for (b, c, h, w) in [(1, 1, 1, 1), (2, 3, 5, 4), (1, 8, 70, 33)] {
        let inputs = [normal(1, &[b, c, h, w])];
        check(
            "pad_bottom_right",
            0.0,
            &inputs,
            &|t| ops::pad_bottom_right(&t[0], 1),
            &|t| composed::pad_bottom_right(&t[0], 1),
        );
        check(
            "upsample_nearest2",
            1e-6,
            &inputs,
            &|t| ops::upsample_nearest2(&t[0]),
            &|t| composed::upsample_nearest2(&t[0]),
        );
    }
}
