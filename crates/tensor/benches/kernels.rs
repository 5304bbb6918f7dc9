//! Single kernels, at the sizes of the model that benchmarks are about (`mmada bench --shape`): width
//! 512, 8 heads, feed-forward width 1,536, 8,192 ids.
//!
//! ```text
//!   cargo bench -p mmada-tensor                      all of them
//!   cargo bench -p mmada-tensor -- attention         those whose name has this in it
//!   MMADA_CPU=avx2 cargo bench -p mmada-tensor       on a lower instruction set
//! ```
//!
//! Items per second are floating-point operations, two for each multiplication with its addition;
//! bytes per second are of what is read and written once. Nothing is asserted.
#![allow(clippy::unwrap_used, missing_docs)]

use divan::Bencher;
use divan::counter::{BytesCount, IntoCounter, ItemsCount};
use mmada_tensor::ops::{self, AdamwStep, Heads};
use mmada_tensor::random::{Key, Purpose};
use mmada_tensor::{Device, Precision, Result, Rows, Tensor, Var, process};

/// Rows of a forward, and the sizes of the model.
const ROWS: usize = 640;
const WIDTH: usize = 512;
const HEADS: usize = 8;
const HIDDEN: usize = 1536;
const IDS: usize = 8192;

fn main() {
    process::prepare();
    divan::main();
}

/// What is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    Forward,
    /// Forward, and the gradients of all operands.
    AndBack,
}
use Pass::{AndBack, Forward};

const PASSES: [Pass; 2] = [Forward, AndBack];
/// Kernels that multiply matrices do so in either precision.
const PRODUCTS: [(Pass, Precision); 4] = [
    (Forward, Precision::F32),
    (Forward, Precision::Bf16),
    (AndBack, Precision::F32),
    (AndBack, Precision::Bf16),
];

impl Pass {
    /// A product's backward pass is two more of its size.
    fn flops(self, forward: usize) -> ItemsCount {
        ItemsCount::new(match self {
            Forward => forward,
            AndBack => 3 * forward,
        })
    }

    /// A kernel that reads and writes its operands does so for each gradient too.
    fn bytes(self, elements: usize) -> BytesCount {
        BytesCount::new(match self {
            Forward => 4 * elements,
            AndBack => 8 * elements,
        })
    }
}

fn normal(seed: u64, shape: &[usize]) -> Tensor {
    let mut stream = Key::new(seed, Purpose::Weights).stream();
    let numbers: Vec<f32> = (0..shape.iter().product())
        .map(|_| stream.normal())
        .collect();
    Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap()
}

/// Times `f` on operands of these shapes.
fn time(
    bencher: Bencher,
    (pass, counter): (Pass, impl IntoCounter),
    shapes: &[&[usize]],
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    let constants = (1..).zip(shapes).map(|(seed, shape)| normal(seed, shape));
    let operands: Vec<Tensor> = match pass {
        Forward => constants.collect(),
        AndBack => constants
            .map(|constant| Var::from_tensor(&constant).unwrap().as_tensor().clone())
            .collect(),
    };
    bencher.counter(counter).bench_local(|| {
        let y = f(&operands).unwrap();
        let grads = (pass == AndBack).then(|| y.sum_all().unwrap().backward().unwrap());
        (y, grads)
    });
}

#[divan::bench(args = PRODUCTS)]
fn linear(bencher: Bencher, (pass, precision): (Pass, Precision)) {
    let flops = pass.flops(2 * ROWS * WIDTH * HIDDEN);
    let shapes: [&[usize]; 2] = [&[ROWS, WIDTH], &[HIDDEN, WIDTH]];
    precision.scope(|| {
        time(bencher, (pass, flops), &shapes, |t| {
            ops::linear(&t[0], &t[1])
        });
    });
}

#[divan::bench(args = PRODUCTS)]
fn gated_linear(bencher: Bencher, (pass, precision): (Pass, Precision)) {
    let flops = pass.flops(4 * ROWS * WIDTH * HIDDEN);
    let shapes: [&[usize]; 3] = [&[ROWS, WIDTH], &[HIDDEN, WIDTH], &[HIDDEN, WIDTH]];
    precision.scope(|| {
        let f = |t: &[Tensor]| ops::gated_linear(&t[0], &t[1], &t[2]);
        time(bencher, (pass, flops), &shapes, f);
    });
}

/// One long sequence, and as many rows in five.
#[divan::bench(args = PRODUCTS, consts = [1, 5])]
fn attention<const SEQUENCES: usize>(bencher: Bencher, (pass, precision): (Pass, Precision)) {
    let length = ROWS / SEQUENCES;
    let segments = Rows::pack(vec![vec![0u32; length]; SEQUENCES]).segments();
    let heads = Heads {
        query: HEADS,
        key_value: HEADS,
    };
    let flops = pass.flops(4 * SEQUENCES * length * length * WIDTH);
    let shapes: [&[usize]; 3] = [&[ROWS, WIDTH]; 3];
    precision.scope(|| {
        let f = |t: &[Tensor]| ops::attention(&t[0], &t[1], &t[2], heads, &segments);
        time(bencher, (pass, flops), &shapes, f);
    });
}

/// Head and cross-entropy; the backward pass makes the logits again.
#[divan::bench(args = PRODUCTS)]
fn nll(bencher: Bencher, (pass, precision): (Pass, Precision)) {
    let flops = pass.flops(2 * ROWS * WIDTH * IDS);
    let targets: Vec<u32> = (0..ROWS as u32).collect();
    let shapes: [&[usize]; 2] = [&[ROWS, WIDTH], &[IDS, WIDTH]];
    precision.scope(|| {
        let f = |t: &[Tensor]| ops::nll(&t[0], &t[1], &targets);
        time(bencher, (pass, flops), &shapes, f);
    });
}

/// A convolution of the image tokenizer.
#[divan::bench(args = PRODUCTS)]
fn conv2d(bencher: Bencher, (pass, precision): (Pass, Precision)) {
    const CHANNELS: usize = 128;
    const SIDE: usize = 32;
    let flops = pass.flops(2 * 9 * CHANNELS * CHANNELS * SIDE * SIDE);
    let shapes: [&[usize]; 3] = [
        &[1, CHANNELS, SIDE, SIDE],
        &[CHANNELS, CHANNELS, 3, 3],
        &[CHANNELS],
    ];
    precision.scope(|| {
        let f = |t: &[Tensor]| ops::conv2d(&t[0], &t[1], &t[2], 1, 1);
        time(bencher, (pass, flops), &shapes, f);
    });
}

#[divan::bench(args = PASSES)]
fn rms_norm(bencher: Bencher, pass: Pass) {
    let bytes = pass.bytes(2 * ROWS * WIDTH);
    let shapes: [&[usize]; 2] = [&[ROWS, WIDTH], &[WIDTH]];
    time(bencher, (pass, bytes), &shapes, |t| {
        ops::rms_norm(&t[0], &t[1], 1e-5)
    });
}

#[divan::bench(args = PASSES)]
fn swiglu(bencher: Bencher, pass: Pass) {
    let bytes = pass.bytes(3 * ROWS * HIDDEN);
    let shapes: [&[usize]; 2] = [&[ROWS, HIDDEN]; 2];
    time(bencher, (pass, bytes), &shapes, |t| {
        ops::swiglu(&t[0], &t[1])
    });
}

#[divan::bench(args = PASSES)]
fn rotary(bencher: Bencher, pass: Pass) {
    let angles = normal(9, &[ROWS, WIDTH / HEADS / 2]);
    let bytes = pass.bytes(2 * ROWS * WIDTH);
    let shapes: [&[usize]; 1] = [&[ROWS, WIDTH]];
    let f = |t: &[Tensor]| ops::rotary(&t[0], &angles, &angles, HEADS);
    time(bencher, (pass, bytes), &shapes, f);
}

/// One step of a matrix: four tensors are read, three written.
#[divan::bench]
fn adamw(bencher: Bencher) {
    let [param, grad, m, v] = [1, 2, 3, 4].map(|seed| normal(seed, &[HIDDEN, WIDTH]));
    let v = v.sqr().unwrap();
    let step = AdamwStep {
        lr: 1e-4,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.1,
        step: 9,
        grad_scale: 0.5,
    };
    let bytes = BytesCount::new(4 * 7 * HIDDEN * WIDTH);
    bencher
        .counter(bytes)
        .bench_local(|| ops::adamw_step(&param, &grad, &m, &v, &step).unwrap());
}
