//! Products in bf16 against naive ones of rounded factors, on odd shapes, and what a scope covers.

use half::bf16;
use mmada_tensor::ops::{self, Heads};
use mmada_tensor::{Device, Precision, Result, Segment, Tensor};

use crate::support::{assert_close, convolution, normal, numbers, run};

fn rounded(x: &Tensor) -> Vec<f64> {
    let round = |x: f32| f64::from(bf16::from_f32(x).to_f32());
    numbers(x).into_iter().map(round).collect()
}

/// `x · weightᵀ` of rounded factors.
fn naive(x: &Tensor, weight: &Tensor) -> Vec<f32> {
    let ((r, d), (out, _)) = (x.dims2().unwrap(), weight.dims2().unwrap());
    let (x, weight) = (rounded(x), rounded(weight));
    let dot =
        |i: usize, j: usize| -> f64 { (0..d).map(|k| x[i * d + k] * weight[j * d + k]).sum() };
    (0..r)
        .flat_map(|i| (0..out).map(move |j| (i, j)))
        .map(|(i, j)| dot(i, j) as f32)
        .collect()
}

#[test]
fn products_are_those_of_rounded_factors() {
    for (r, d, out) in [
        (1, 1, 1),
        (16, 32, 16),
        (17, 33, 15),
        (32, 64, 32),
        (33, 192, 47),
        (64, 31, 96),
        (3, 4100, 5),
        (100, 257, 130),
    ] {
        let (x, weight) = (normal(1, &[r, d]), normal(2, &[out, d]));
        let got = Precision::Bf16.scope(|| ops::linear(&x, &weight).unwrap());
        let what = format!("{r}×{d}×{out}");
        assert_close(&what, 1e-5, &numbers(&got), &naive(&x, &weight));
        let residual = normal(3, &[r, out]);
        let got = Precision::Bf16.scope(|| ops::add_linear(&residual, &x, &weight).unwrap());
        let sum: Vec<f32> = naive(&x, &weight)
            .iter()
            .zip(numbers(&residual))
            .map(|(a, b)| a + b)
            .collect();
        assert_close(&what, 1e-5, &numbers(&got), &sum);
    }
}

/// Transposed factors too, whose elements lie apart, and enough rows for several threads.
#[test]
fn gradients_are_products_of_rounded_factors() {
    let (x, weight) = (normal(1, &[300, 70]), normal(2, &[90, 70]));
    let inputs = [x.clone(), weight.clone()];
    let passes = Precision::Bf16.scope(|| run(&inputs, &|t| ops::linear(&t[0], &t[1])));
    // What `run` pulls at the outputs with.
    let pull = normal(99, &[300, 90]);
    let turned = |t: &Tensor| t.t().unwrap().contiguous().unwrap();
    let expected = [
        naive(&x, &weight),
        naive(&pull, &turned(&weight)),
        naive(&turned(&pull), &turned(&x)),
    ];
    for (got, expected) in passes.iter().zip(&expected) {
        assert_close("pass", 1e-5, got, expected);
    }
}

#[test]
fn what_is_no_number_stays_none() {
    let x = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -0.0];
    let x = Tensor::new(&x, &Device::Cpu)
        .unwrap()
        .reshape((5, 1))
        .unwrap();
    let one = Tensor::new(&[[1f32]], &Device::Cpu).unwrap();
    let got = numbers(&Precision::Bf16.scope(|| ops::linear(&x, &one).unwrap()));
    assert!(got[0].is_nan());
    assert_eq!(
        got[1..],
        [f32::INFINITY, f32::NEG_INFINITY, f32::INFINITY, 0.0]
    );
}

/// Value and gradients of what is made of products, which are rounded, and not far off.
fn check_near_f32(
    what: &str,
    tolerance: f32,
    inputs: &[Tensor],
    f: &dyn Fn(&[Tensor]) -> Result<Tensor>,
) {
    let exact = run(inputs, f);
    let rounded = Precision::Bf16.scope(|| run(inputs, f));
    assert_ne!(exact[..2], rounded[..2], "{what}");
    for (exact, rounded) in exact.iter().zip(&rounded) {
        assert_close(what, tolerance, rounded, exact);
    }
}

#[test]
fn gradients_are_near_those_of_f32() {
    let inputs = [normal(1, &[70, 200]), normal(2, &[90, 200])];
    let f = |t: &[Tensor]| ops::linear(&t[0], &t[1]);
    check_near_f32("linear", 2e-2, &inputs, &f);
    let targets: Vec<u32> = (0..70).collect();
    let f = |t: &[Tensor]| ops::nll(&t[0], &t[1], &targets);
    let inputs = [normal(1, &[70, 48]), (normal(2, &[500, 48]) * 0.1).unwrap()];
    check_near_f32("nll", 2e-2, &inputs, &f);
}

/// Shapes that leave strips and panels half full.
#[test]
fn convolutions_are_near_those_of_f32() {
    for (b, c, h, w, out, k, stride, padding) in [
        (1, 1, 3, 3, 1, 3, 1, 0),
        (2, 3, 9, 7, 5, 3, 1, 1),
        (1, 4, 8, 1, 6, 3, 1, 1),
        (2, 5, 17, 19, 33, 3, 2, 1),
        (3, 16, 16, 16, 20, 1, 1, 0),
        (1, 6, 21, 33, 17, 5, 3, 2),
    ] {
        let inputs = convolution([b, c, h, w], out, k);
        let what = format!("conv2d {b}×{c}×{h}×{w}→{out}, {k}×{k}, stride {stride}");
        let f = |t: &[Tensor]| ops::conv2d(&t[0], &t[1], &t[2], stride, padding);
        check_near_f32(&what, 3e-2, &inputs, &f);
    }
}

#[test]
fn attention_is_near_that_of_f32() {
    let heads = Heads {
        query: 4,
        key_value: 2,
    };
    let hiding = Segment {
        hidden: Some(40),
        ..Segment::new(30..31, 35..90)
    };
    let segments = [
        Segment::new(0..30, 0..35),
        hiding,
        Segment::new(31..70, 90..101),
    ];
    let inputs = [
        normal(1, &[70, 64]),
        normal(2, &[101, 32]),
        normal(3, &[101, 32]),
    ];
    let f = |t: &[Tensor]| ops::attention(&t[0], &t[1], &t[2], heads, &segments);
    check_near_f32("attention", 3e-2, &inputs, &f);
}

#[test]
fn a_scope_ends_with_its_work() {
    assert_eq!(Precision::current(), Precision::F32);
    Precision::Bf16.scope(|| {
        assert_eq!(Precision::current(), Precision::Bf16);
        Precision::F32.scope(|| assert_eq!(Precision::current(), Precision::F32));
        assert_eq!(Precision::current(), Precision::Bf16);
        let outside = std::thread::spawn(Precision::current).join().unwrap();
        assert_eq!(outside, Precision::F32);
    });
    assert_eq!(Precision::current(), Precision::F32);
}
