//! Packed layers against naive products of rounded or quantised factors, on odd shapes.

use half::bf16;
use mmada_tensor::ops;
use mmada_tensor::{Device, Normed, PackedLinear, Packing, Precision, Tensor};

use crate::support::{assert_close, normal, numbers};

/// A matrix as packing leaves it: rounded to bf16, or in whole steps of each row's 127th.
fn as_packed(packing: Packing, values: &[f32], width: usize) -> Vec<f64> {
    let row = |row: &[f32]| -> Vec<f64> {
        let largest = row.iter().fold(0f32, |m, x| m.max(x.abs()));
        let step = largest / 127.0;
        let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
        row.iter()
            .map(|x| match packing {
                Packing::F32 => f64::from(*x),
                Packing::Bf16 => f64::from(bf16::from_f32(*x).to_f32()),
                Packing::Int8 => f64::from((x * inverse).round_ties_even() * step),
            })
            .collect()
    };
    values.chunks(width).flat_map(row).collect()
}

/// `x · weightᵀ` of packed factors.
fn naive(packing: Packing, x: &Tensor, weight: &Tensor) -> Vec<f32> {
    let ((r, d), (out, _)) = (x.dims2().unwrap(), weight.dims2().unwrap());
    let x = as_packed(packing, &numbers(x), d);
    let weight = as_packed(packing, &numbers(weight), d);
    let dot = |i: usize, j: usize| {
        (0..d)
            .map(|k| x[i * d + k] * weight[j * d + k])
            .sum::<f64>()
    };
    let places = (0..r).flat_map(|i| (0..out).map(move |j| (i, j)));
    places.map(|(i, j)| dot(i, j) as f32).collect()
}

fn plain(x: &Tensor) -> Normed<'_> {
    Normed { x, norm: None }
}

/// Rows, inputs and outputs; in the last ones rows are enough for a chunk per thread.
const SIZES: [(usize, usize, usize); 9] = [
    (1, 1, 1),
    (1, 40, 70),
    (16, 32, 16),
    (17, 33, 15),
    (33, 192, 47),
    (64, 31, 96),
    (3, 4100, 5),
    (300, 130, 75),
    (390, 1100, 64),
];

const PACKINGS: [Packing; 3] = [Packing::F32, Packing::Bf16, Packing::Int8];

#[test]
fn products_are_those_of_packed_factors() {
    for packing in PACKINGS {
        for (r, d, out) in SIZES {
            let x = normal(1, &[r, d]);
            let weights = [normal(2, &[out, d]), normal(3, &[out + 5, d])];
            let packed = PackedLinear::pack(packing, &[&weights[0], &weights[1]]).unwrap();
            let what = format!("{packing:?} {r}×{d}×{out}");
            let got = packed.forward(&plain(&x), 0..2).unwrap();
            for (got, weight) in got.iter().zip(&weights) {
                let expected = naive(packing, &x, weight);
                assert_close(&what, 2e-5, &numbers(got), &expected);
            }
            let one = packed.forward(&plain(&x), 1..2).unwrap();
            assert_eq!(numbers(&one[0]), numbers(&got[1]), "{what}");

            let residual = normal(4, &[r, out]);
            let sum = packed.add_to(&residual, &x).unwrap();
            let products = numbers(&got[0]).into_iter().zip(numbers(&residual));
            let expected: Vec<f32> = products.map(|(a, b)| a + b).collect();
            assert_close(&what, 1e-6, &numbers(&sum), &expected);

            let (first, last) = (out / 3, out / 3 + out.div_ceil(2));
            let part = packed.part(&x, first..last).unwrap();
            let whole = got[0].narrow(1, first, last - first).unwrap();
            assert_eq!(numbers(&part), numbers(&whole), "{what}");
        }
    }
}

/// Kernels compute as few rows as are wanted; their bits are those of the same rows among others.
#[test]
fn rows_are_the_same_however_few_they_are() {
    let (most, d, out) = (40, 70, 96);
    for packing in PACKINGS {
        let (x, weight) = (normal(1, &[most, d]), normal(2, &[out, d]));
        let packed = PackedLinear::pack(packing, &[&weight]).unwrap();
        let all = numbers(&packed.forward(&plain(&x), 0..1).unwrap()[0]);
        for rows in 1..most {
            let some = x.narrow(0, most - rows, rows).unwrap();
            let got = numbers(&packed.forward(&plain(&some), 0..1).unwrap()[0]);
            let expected = &all[(most - rows) * out..];
            match packing.is_native() {
                true => assert_eq!(got, expected, "{packing:?}, {rows} rows"),
                // Other engines may sum few rows in another order.
                false => assert_close("few rows", 2e-5, &got, expected),
            }
        }
    }
}

#[test]
fn normalisation_before_is_that_of_its_own_operation() {
    for packing in PACKINGS {
        for (r, d, out) in SIZES {
            let (x, gain, weight) = (normal(1, &[r, d]), normal(2, &[d]), normal(3, &[out, d]));
            let packed = PackedLinear::pack(packing, &[&weight]).unwrap();
            let norm = Some((&gain, 1e-5));
            let got = packed.forward(&Normed { x: &x, norm }, 0..1).unwrap();
            let n = ops::rms_norm(&x, &gain, 1e-5).unwrap();
            let expected = packed.forward(&plain(&n), 0..1).unwrap();
            assert_eq!(numbers(&got[0]), numbers(&expected[0]));
        }
    }
}

#[test]
fn feed_forward_is_its_three_layers() {
    for packing in PACKINGS {
        for (r, d, m) in [(1, 40, 70), (33, 64, 96), (300, 130, 75), (390, 96, 1100)] {
            let (x, gain) = (normal(1, &[r, d]), normal(2, &[d]));
            let weights = [normal(3, &[m, d]), normal(4, &[m, d]), normal(5, &[d, m])];
            let gate_up = PackedLinear::pack(packing, &[&weights[0], &weights[1]]).unwrap();
            let out = PackedLinear::pack(packing, &[&weights[2]]).unwrap();
            let norm = Some((&gain, 1e-5));
            let input = Normed { x: &x, norm };
            let got = PackedLinear::feed_forward(&input, &gate_up, &out).unwrap();

            let hidden = gate_up.forward(&input, 0..2).unwrap();
            let hidden = ops::swiglu(&hidden[0], &hidden[1]).unwrap();
            let expected = out.add_to(&x, &hidden).unwrap();
            let what = format!("{packing:?} {r}×{d}×{m}");
            // The two roundings of hidden values need not fall on the same side.
            assert_close(&what, 2e-3, &numbers(&got), &numbers(&expected));
        }
    }
}

/// A row with a value that is no number has no numbers, whatever the processor; other rows keep theirs.
#[test]
fn what_is_no_number_stays_none() {
    for packing in PACKINGS {
        for broken in [f32::NAN, f32::INFINITY] {
            let (r, d, m) = (35, 40, 70);
            let mut values = numbers(&normal(1, &[r, d]));
            values[17 * d + 3] = broken;
            let x = Tensor::new(values, &Device::Cpu).unwrap();
            let x = x.reshape((r, d)).unwrap();
            let weights = [normal(3, &[m, d]), normal(4, &[m, d]), normal(5, &[d, m])];
            let gate_up = PackedLinear::pack(packing, &[&weights[0], &weights[1]]).unwrap();
            let out = PackedLinear::pack(packing, &[&weights[2]]).unwrap();
            let got = PackedLinear::feed_forward(&plain(&x), &gate_up, &out).unwrap();
            for (row, values) in numbers(&got).chunks_exact(d).enumerate() {
                let lost = values.iter().filter(|value| !value.is_finite()).count();
                assert_eq!(lost, if row == 17 { d } else { 0 }, "{packing:?} {broken}");
            }
        }
    }
}

#[test]
fn attention_in_bf16_is_near_that_in_f32() {
    let heads = ops::Heads {
        query: 4,
        key_value: 2,
    };
    for (c, lengths) in [
        (32, vec![5, 70, 33]),
        (40, vec![100]),
        (64, vec![1, 1, 300]),
    ] {
        let rows = mmada_tensor::Rows::pack(lengths.iter().map(|n| vec![0u32; *n]));
        let r = rows.len();
        let [q, k, v] = [(1, 4), (2, 2), (3, 2)].map(|(seed, n)| normal(seed, &[r, n * c]));
        let attend = || ops::attention(&q, &k, &v, heads, &rows.segments()).unwrap();
        let exact = numbers(&attend());
        let rounded = numbers(&Precision::Bf16.scope(attend));
        assert_ne!(exact, rounded);
        assert_close(&format!("{c} wide"), 2e-2, &rounded, &exact);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let (x, weight) = (normal(1, &[3, 8]), normal(2, &[4, 9]));
    let packed = PackedLinear::pack(Packing::Bf16, &[&weight]).unwrap();
    let error = packed.forward(&plain(&x), 0..1).unwrap_err().to_string();
    assert!(
        error.contains("[r, 9]") && error.contains("[3, 8]"),
        "{error}"
    );
    let error = packed.part(&normal(1, &[3, 9]), 2..5).unwrap_err();
    assert!(error.to_string().contains("within 0..4"), "{error}");
    let reversed = std::ops::Range { start: 3, end: 1 };
    assert!(packed.part(&normal(1, &[3, 9]), reversed).is_err());
    assert!(PackedLinear::pack(Packing::Int8, &[]).is_err());
    assert!(PackedLinear::pack(Packing::Int8, &[&x, &weight]).is_err());
    let residual = normal(1, &[3, 5]);
    assert!(packed.add_to(&residual, &normal(1, &[3, 9])).is_err());
}
