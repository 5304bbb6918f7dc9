//! Linear layers, normalisation, activation, rotary positions.

use mmada_tensor::{DType, composed, ops};

use crate::support::{assert_close, check, normal, numbers};

#[test]
fn linear_matches_its_twin() {
    for (r, width_in, width_out) in [
        (1, 1, 1),
        (1, 64, 300),
        (7, 33, 5),
        (130, 96, 257),
        (300, 256, 768),
    ] {
        let inputs = [normal(1, &[r, width_in]), normal(2, &[width_out, width_in])];
        check(
            &format!("linear {r}×{width_in}→{width_out}"),
            3e-6,
            &inputs,
            &|t| ops::linear(&t[0], &t[1]),
            &|t| composed::linear(&t[0], &t[1]),
        );
    }
}

#[test]
fn linear_takes_strided_rows() {
    let inputs = [normal(1, &[9, 24]), normal(2, &[5, 8])];
    check(
        "linear on a narrowed input",
        3e-6,
        &inputs,
        &|t| ops::linear(&t[0].narrow(1, 8, 8)?, &t[1]),
        &|t| composed::linear(&t[0].narrow(1, 8, 8)?.contiguous()?, &t[1]),
    );
}

#[test]
fn rms_norm_matches_its_twin() {
    for (r, d) in [(1, 1), (3, 17), (65, 256), (400, 48)] {
        let inputs = [normal(3, &[r, d]), normal(4, &[d])];
        check(
            &format!("rms_norm {r}×{d}"),
            2e-6,
            &inputs,
            &|t| ops::rms_norm(&t[0], &t[1], 1e-5),
            &|t| composed::rms_norm(&t[0], &t[1], 1e-5),
        );
    }
}

#[test]
fn swiglu_matches_its_twin() {
    for (r, m, spread) in [(1, 1, 1.0), (5, 33, 30.0), (129, 300, 3.0)] {
        let gate = (normal(5, &[r, m]) * spread).unwrap();
        check(
            &format!("swiglu {r}×{m}"),
            2e-6,
            &[gate, normal(6, &[r, m])],
            &|t| ops::swiglu(&t[0], &t[1]),
            &|t| composed::swiglu(&t[0], &t[1]),
        );
    }
}

#[test]
fn linear_layers_with_neighbours_match_their_twins() {
    for (r, d, m) in [(1, 1, 1), (6, 33, 7), (131, 64, 200)] {
        let weights = [normal(7, &[m, d]), normal(8, &[m, d])].map(|w| (w * 0.3).unwrap());
        let [gate, up] = weights;
        check(
            &format!("gated_linear {r}×{d}→{m}"),
            4e-6,
            &[normal(6, &[r, d]), gate.clone(), up],
            &|t| ops::gated_linear(&t[0], &t[1], &t[2]),
            &|t| composed::gated_linear(&t[0], &t[1], &t[2]),
        );
        check(
            &format!("add_linear {r}×{d}→{m}"),
            4e-6,
            &[normal(9, &[r, m]), normal(6, &[r, d]), gate],
            &|t| ops::add_linear(&t[0], &t[1], &t[2]),
            &|t| composed::add_linear(&t[0], &t[1], &t[2]),
        );
    }
}

#[test]
fn rotary_matches_its_twin() {
    for (r, heads, c) in [(1, 1, 2), (5, 3, 6), (70, 4, 64), (257, 2, 48)] {
        let angles = normal(7, &[r, c / 2]);
        let (cos, sin) = (angles.cos().unwrap(), angles.sin().unwrap());
        check(
            &format!("rotary {r}×{heads}×{c}"),
            2e-6,
            &[normal(8, &[r, heads * c])],
            &|t| ops::rotary(&t[0], &cos, &sin, heads),
            &|t| composed::rotary(&t[0], &cos, &sin, heads),
        );
    }
}

/// Off the processor weights are in the dtype of their file; angles and sums are f32 even then.
#[test]
fn half_precision_takes_the_composed_way() {
    let x = normal(1, &[5, 24]);
    let (angles, weight) = (normal(7, &[5, 4]), normal(3, &[24]));
    let (cos, sin) = (angles.cos().unwrap(), angles.sin().unwrap());
    let of = |dtype| {
        let (x, weight) = (x.to_dtype(dtype).unwrap(), weight.to_dtype(dtype).unwrap());
        let turned = ops::rotary(&x, &cos, &sin, 3).unwrap();
        let normed = ops::rms_norm(&x, &weight, 1e-5).unwrap();
        [turned, normed].map(|y| {
            assert_eq!(y.dtype(), dtype);
            numbers(&y.to_dtype(DType::F32).unwrap())
        })
    };
    let wide = of(DType::F32);
    for dtype in [DType::F16, DType::BF16] {
        for (half, wide) in of(dtype).iter().zip(&wide) {
            assert_close("half", 1e-2, half, wide);
        }
    }
}

#[test]
fn operations_refuse_shapes_that_do_not_fit() {
    let (a, b) = (normal(1, &[4, 6]), normal(2, &[5, 7]));
    assert!(ops::linear(&a, &b).is_err());
    assert!(ops::gated_linear(&a, &normal(3, &[5, 6]), &normal(3, &[4, 6])).is_err());
    assert!(ops::add_linear(&a, &a, &normal(3, &[5, 6])).is_err());
    assert!(ops::rms_norm(&a, &normal(3, &[5]), 1e-5).is_err());
    assert!(ops::swiglu(&a, &b).is_err());
    assert!(ops::rotary(&a, &b, &b, 2).is_err());
    assert!(ops::nll(&a, &normal(4, &[9, 6]), &[0, 1, 2]).is_err());
    assert!(ops::nll(&a, &normal(4, &[9, 6]), &[0, 1, 2, 9]).is_err());
}
