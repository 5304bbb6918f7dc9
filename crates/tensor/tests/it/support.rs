//! Runs an operation and its twin on the same numbers and compares values and gradients.

use mmada_tensor::random::{Key, Purpose};
use mmada_tensor::{Device, Result, Tensor, Var};

/// Normal numbers that depend on the seed and the shape alone.
pub(crate) fn normal(seed: u64, shape: &[usize]) -> Tensor {
    let mut stream = Key::new(seed, Purpose::Weights).stream();
    let n = shape.iter().product();
    let data: Vec<f32> = (0..n).map(|_| stream.normal()).collect();
    Tensor::from_vec(data, shape, &Device::Cpu).unwrap()
}

/// The value, and the gradient of every input, of `Σ weights ∘ f(inputs)`.
pub(crate) fn run(inputs: &[Tensor], f: &dyn Fn(&[Tensor]) -> Result<Tensor>) -> Vec<Vec<f32>> {
    let vars: Vec<Var> = inputs
        .iter()
        .map(|x| Var::from_tensor(x).unwrap())
        .collect();
    let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let out = f(&tensors).unwrap();
    let weights = normal(99, out.dims());
    let loss = (&out * weights).unwrap().sum_all().unwrap();
    let grads = loss.backward().unwrap();
    let mut results = vec![numbers(&out)];
    for var in &vars {
        results.push(grads.get(var).map(numbers).unwrap_or_default());
    }
    results
}

/// All elements in order.
pub(crate) fn numbers(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

/// A picture `[b, c, h, w]`, weights `[out, c, k, k]` and a bias to convolve it with.
pub(crate) fn convolution(picture: [usize; 4], out: usize, k: usize) -> [Tensor; 3] {
    [
        normal(1, &picture),
        normal(2, &[out, picture[1], k, k]),
        normal(3, &[out]),
    ]
}

/// Checks `fused` against `composed`: the largest difference stays below `tolerance` times the
/// largest magnitude (or 1).
pub(crate) fn check(
    name: &str,
    tolerance: f32,
    inputs: &[Tensor],
    fused: &dyn Fn(&[Tensor]) -> Result<Tensor>,
    composed: &dyn Fn(&[Tensor]) -> Result<Tensor>,
) {
    let (got, want) = (run(inputs, fused), run(inputs, composed));
    for (i, (got, want)) in got.iter().zip(&want).enumerate() {
        let what = if i == 0 {
            "value".into()
        } else {
            format!("gradient {i}")
        };
        assert_close(&format!("{name}: {what}"), tolerance, got, want);
    }
}

/// Compares two lists of numbers, relative to the largest magnitude.
pub(crate) fn assert_close(name: &str, tolerance: f32, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "{name}: length");
    let scale = want.iter().fold(1f32, |a, x| a.max(x.abs()));
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        let far = (g - w).abs();
        assert!(far <= tolerance * scale, "{name}[{i}]: got {g}, want {w}");
    }
}
