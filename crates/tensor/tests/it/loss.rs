//! The fused head and cross-entropy.

use mmada_tensor::{Device, Tensor, composed, ops};

use crate::support::{check, normal, numbers, run};

fn targets(r: usize, v: usize) -> Vec<u32> {
    (0..r).map(|i| ((i * 7919 + 3) % v) as u32).collect()
}

#[test]
fn nll_matches_its_twin() {
    for (r, d, v) in [
        (1, 1, 1),
        (1, 8, 5),
        (33, 16, 1000),
        (70, 24, 3001),
        (600, 8, 40),
    ] {
        let targets = targets(r, v);
        check(
            &format!("nll {r}×{d}→{v}"),
            4e-6,
            &[normal(1, &[r, d]), normal(2, &[v, d])],
            &|t| ops::nll(&t[0], &t[1], &targets),
            &|t| composed::nll(&t[0], &t[1], &targets),
        );
    }
}

#[test]
fn nll_survives_extreme_logits() {
    // Logits of a row: 3e4·x for x in the head column, so only the largest matters.
    let hidden = Tensor::from_vec(vec![3e4f32, -3e4, 0.0], (3, 1), &Device::Cpu).unwrap();
    let head = Tensor::from_vec(vec![-1f32, 0.5, 1.0, 0.0], (4, 1), &Device::Cpu).unwrap();
    for target in 0..4u32 {
        let results = run(&[hidden.clone(), head.clone()], &|t| {
            ops::nll(&t[0], &t[1], &[target; 3])
        });
        assert!(
            results.iter().flatten().all(|x| x.is_finite()),
            "target {target}: {results:?}"
        );
        let head = numbers(&head);
        let want = [
            3e4 * (1.0 - head[target as usize]),
            3e4 * (1.0 + head[target as usize]),
            4f32.ln(),
        ];
        for (got, want) in results[0].iter().zip(want) {
            assert!(
                (got - want).abs() <= 1e-6 * want.max(1.0),
                "got {got}, want {want}"
            );
        }
    }
}

#[test]
fn frozen_operands_get_no_gradient() {
    let hidden = mmada_tensor::Var::from_tensor(&normal(1, &[6, 4])).unwrap();
    let head = normal(2, &[9, 4]);
    let loss = ops::nll(&hidden, &head, &targets(6, 9)).unwrap();
    let grads = loss.sum_all().unwrap().backward().unwrap();
    assert!(grads.get(&hidden).is_some());
    assert!(grads.get(&head).is_none());
}

#[test]
fn nothing_to_predict_is_no_error() {
    let loss = ops::nll(&normal(1, &[0, 4]), &normal(2, &[9, 4]), &[]).unwrap();
    assert_eq!(loss.dims(), &[0]);
}

#[test]
fn exponentials_are_those_of_double_precision() {
    for n in [1usize, 2, 15, 16, 33, 5000] {
        let logits: Vec<f32> = numbers(&normal(n as u64, &[n]))
            .iter()
            .map(|x| 9.0 * x)
            .collect();
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exact = |x: &f32| (f64::from(*x) - f64::from(largest)).exp();
        let sum: f64 = logits.iter().map(exact).sum();
        let mut row = logits.clone();
        let got = ops::exponentials(&mut row);
        assert_eq!(got.0, largest);
        assert!((got.1 / sum - 1.0).abs() < 1e-6, "{n}: {} {sum}", got.1);
        for (got, logit) in row.iter().zip(&logits) {
            assert!((f64::from(*got) - exact(logit)).abs() < 3e-7, "{n}: {got}");
        }
    }
    let mut row = [0.0, f32::NEG_INFINITY, 0.0];
    assert_eq!(ops::exponentials(&mut row), (0.0, 2.0));
    assert_eq!(row, [1.0, 0.0, 1.0]);
    for bad in [f32::NAN, f32::INFINITY] {
        let (largest, sum) = ops::exponentials(&mut [0.0, bad]);
        assert!(!largest.is_finite() || !sum.is_finite(), "{bad}");
    }
    let (largest, _) = ops::exponentials(&mut [f32::NEG_INFINITY]);
    assert!(!largest.is_finite());
}
