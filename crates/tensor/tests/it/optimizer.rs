//! AdamW and the gradient norm.

use mmada_tensor::ops::{self, AdamwStep};
use mmada_tensor::{Tensor, Var, composed};

use crate::support::{assert_close, normal, numbers};

type Update = fn(&Tensor, &Tensor, &Tensor, &Tensor, &AdamwStep) -> mmada_tensor::Result<()>;

fn steps(update: Update, shape: &[usize]) -> [Vec<f32>; 3] {
    let var = |x: Tensor| Var::from_tensor(&x).unwrap();
    let param = var(normal(1, shape));
    let zeros = param.zeros_like().unwrap();
    let (m, v) = (var(zeros.clone()), var(zeros));
    for step in 1..=3 {
        let grad = (normal(step, shape) * 4.0).unwrap();
        let step = AdamwStep {
            lr: 1e-2,
            beta1: 0.9,
            beta2: 0.99,
            eps: 1e-8,
            weight_decay: 0.1,
            step,
            grad_scale: 0.25,
        };
        update(&param, &grad, &m, &v, &step).unwrap();
    }
    [numbers(&param), numbers(&m), numbers(&v)]
}

#[test]
fn adamw_matches_its_twin() {
    for shape in [&[1][..], &[3, 5], &[40, 1000]] {
        let (got, want) = (
            steps(ops::adamw_step, shape),
            steps(composed::adamw_step, shape),
        );
        for (got, want) in got.iter().zip(&want) {
            assert_close("adamw", 1e-6, got, want);
        }
    }
}

#[test]
fn adamw_takes_the_first_step_by_hand() {
    // m = 0.1·g, v = 0.001·g², corrected: g and g²; so the step is lr·g/|g| after the decay.
    let device = &mmada_tensor::Device::Cpu;
    let param = Var::new(&[2f32, -1.0], device).unwrap();
    let grad = Tensor::new(&[0.5f32, -4.0], device).unwrap();
    let (m, v) = (grad.zeros_like().unwrap(), grad.zeros_like().unwrap());
    let step = AdamwStep {
        lr: 0.1,
        beta1: 0.9,
        beta2: 0.999,
        eps: 0.0,
        weight_decay: 0.5,
        step: 1,
        grad_scale: 1.0,
    };
    ops::adamw_step(&param, &grad, &m, &v, &step).unwrap();
    assert_close(
        "first step",
        1e-6,
        &numbers(&param),
        &[2.0 * 0.95 - 0.1, -0.95 + 0.1],
    );
    let again = AdamwStep { step: 0, ..step };
    assert!(ops::adamw_step(&param, &grad, &m, &v, &again).is_err());
}

#[test]
fn sum_of_squares_matches_its_twin() {
    for n in [0, 1, 17, 100_000] {
        let x = normal(5, &[n]);
        let (got, want) = (
            ops::sum_of_squares(&x).unwrap(),
            composed::sum_of_squares(&x).unwrap(),
        );
        assert!(
            (got - want).abs() <= 1e-12 * want.max(1.0),
            "{n}: got {got}, want {want}"
        );
    }
}

#[test]
fn blend_matches_its_twin() {
    for shape in [&[1][..], &[3, 5], &[40, 1000]] {
        let [got, want] = [ops::blend, composed::blend].map(|blend| {
            let (x, y) = (normal(1, shape), normal(2, shape));
            blend(&x, &y, 0.75, -2.0).unwrap();
            numbers(&x)
        });
        assert_close("blend", 1e-6, &got, &want);
    }
}

#[test]
fn orthogonalize_matches_its_twin() {
    for shape in [&[1, 1][..], &[8, 8], &[5, 33], &[70, 24]] {
        let x = normal(3, shape);
        let (got, want) = (
            numbers(&ops::orthogonalize(&x).unwrap()),
            numbers(&composed::orthogonalize(&x).unwrap()),
        );
        assert_close("orthogonalize", 1e-4, &got, &want);
    }
}

#[test]
fn orthogonalize_makes_columns_nearly_orthonormal() {
    // A diagonal matrix has its singular values in sight; signs stay, sizes become alike.
    let device = &mmada_tensor::Device::Cpu;
    let x = Tensor::new(
        &[[3f32, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 0.5]],
        device,
    )
    .unwrap();
    let out = numbers(&ops::orthogonalize(&x).unwrap());
    for (i, value) in out.iter().enumerate() {
        match i {
            0 | 8 => assert!((0.65..1.25).contains(value), "{out:?}"),
            4 => assert!((0.65..1.25).contains(&-value), "{out:?}"),
            _ => assert!(value.abs() < 1e-5, "{out:?}"),
        }
    }
}
