//! Results are the same bits whatever the number of threads.

use mmada_tensor::ops::{self, AdamwStep, Heads, Looking};
use mmada_tensor::{Normed, PackedLinear, Packing, Precision, Result, Rows, Tensor};

use crate::support::{normal, numbers, run};

/// Runs in pools of 1 and 3 threads and compares bits.
fn check<T: Send + PartialEq + std::fmt::Debug>(name: &str, work: impl Fn() -> T + Sync) {
    let in_pool = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(&work)
    };
    let (one, three) = (in_pool(1), in_pool(3));
    assert!(one == three, "{name}: 1 and 3 threads differ");
}

fn check_op(name: &str, inputs: &[Tensor], f: &(dyn Fn(&[Tensor]) -> Result<Tensor> + Sync)) {
    check(name, || {
        let results = run(inputs, &|t| f(t));
        let bits = |x: &f32| x.to_bits();
        results.iter().flatten().map(bits).collect::<Vec<u32>>()
    });
}

#[test]
fn layers_do_not_depend_on_threads() {
    for (r, width_in, width_out) in [
        (1, 700, 9000),
        (513, 256, 768),
        (2000, 64, 3),
        (37, 1025, 129),
    ] {
        let inputs = [normal(1, &[r, width_in]), normal(2, &[width_out, width_in])];
        check_op("linear", &inputs, &|t| ops::linear(&t[0], &t[1]));
    }
    check_op(
        "rms_norm",
        &[normal(1, &[999, 130]), normal(2, &[130])],
        &|t| ops::rms_norm(&t[0], &t[1], 1e-5),
    );
    check_op(
        "swiglu",
        &[normal(1, &[300, 333]), normal(2, &[300, 333])],
        &|t| ops::swiglu(&t[0], &t[1]),
    );
    let inputs = [
        normal(1, &[200, 64]),
        normal(2, &[300, 64]),
        normal(3, &[300, 64]),
    ];
    check_op("gated_linear", &inputs, &|t| {
        ops::gated_linear(&t[0], &t[1], &t[2])
    });
    let angles = normal(3, &[500, 16]);
    check_op("rotary", &[normal(1, &[500, 128])], &|t| {
        ops::rotary(&t[0], &angles, &angles, 4)
    });
    let rows = Rows::pack([vec![0u32; 90], vec![0; 1], vec![0; 300]]);
    let heads = Heads {
        query: 4,
        key_value: 2,
    };
    let inputs = [
        normal(1, &[391, 64]),
        normal(2, &[391, 32]),
        normal(3, &[391, 32]),
    ];
    check_op("attention", &inputs, &|t| {
        ops::attention(&t[0], &t[1], &t[2], heads, &rows.segments())
    });
    let targets: Vec<u32> = (0..700).collect();
    check_op(
        "nll",
        &[normal(1, &[700, 32]), normal(2, &[5000, 32])],
        &|t| ops::nll(&t[0], &t[1], &targets),
    );
}

#[test]
fn halves_of_blocks_do_not_depend_on_threads() {
    let rows = Rows::pack([vec![0u32; 90], vec![0; 1], vec![0; 300]]);
    let angles = normal(9, &[391, 8]);
    let looking = Looking {
        heads: Heads {
            query: 4,
            key_value: 2,
        },
        cos: &angles,
        sin: &angles,
        segments: &rows.segments(),
    };
    let inputs = |weights: &[[usize; 2]]| -> Vec<Tensor> {
        let weights = (3..).zip(weights).map(|(seed, shape)| normal(seed, shape));
        let rows = [normal(1, &[391, 96]), normal(2, &[96])];
        rows.into_iter().chain(weights).collect()
    };
    let gated = inputs(&[[700, 96], [700, 96], [96, 700]]);
    let attending = inputs(&[[64, 96], [32, 96], [32, 96], [96, 64]]);
    for precision in [Precision::F32, Precision::Bf16] {
        check_op("feed_forward", &gated, &|t| {
            let weights = [&t[2], &t[3], &t[4]];
            precision.scope(|| ops::feed_forward(&t[0], (&t[1], 1e-5), weights))
        });
        check_op("self_attention", &attending, &|t| {
            let weights = [&t[2], &t[3], &t[4], &t[5]];
            precision.scope(|| ops::self_attention(&t[0], (&t[1], 1e-5), weights, &looking))
        });
    }
}

#[test]
fn packed_layers_do_not_depend_on_threads() {
    let bits = |t: Tensor| {
        numbers(&t)
            .into_iter()
            .map(f32::to_bits)
            .collect::<Vec<_>>()
    };
    for packing in [Packing::F32, Packing::Bf16, Packing::Int8] {
        for (r, d, m) in [(5, 700, 1000), (200, 96, 2100), (777, 160, 320)] {
            let (x, gain) = (normal(1, &[r, d]), normal(2, &[d]));
            let weights = [3, 4].map(|seed| normal(seed, &[m, d]));
            let gate_up = PackedLinear::pack(packing, &[&weights[0], &weights[1]]).unwrap();
            let out = PackedLinear::pack(packing, &[&normal(5, &[d, m])]).unwrap();
            let norm = Some((&gain, 1e-5));
            let input = Normed { x: &x, norm };
            check("packed linear", || {
                let layers = gate_up.forward(&input, 0..2).unwrap();
                layers.into_iter().map(bits).collect::<Vec<_>>()
            });
            check("packed feed-forward", || {
                bits(PackedLinear::feed_forward(&input, &gate_up, &out).unwrap())
            });
        }
    }
    let rows = Rows::pack([vec![0u32; 90], vec![0; 1], vec![0; 300]]);
    let heads = Heads {
        query: 4,
        key_value: 2,
    };
    let [q, k, v] = [64, 32, 32].map(|width| normal(width as u64, &[391, width]));
    check("attention in bf16", || {
        Precision::Bf16.scope(|| bits(ops::attention(&q, &k, &v, heads, &rows.segments()).unwrap()))
    });
}

#[test]
fn pictures_do_not_depend_on_threads() {
    let x = normal(1, &[3, 32, 40, 40]);
    check_op(
        "group_norm_silu",
        &[x.clone(), normal(2, &[32]), normal(3, &[32])],
        &|t| ops::group_norm_silu(&t[0], &t[1], &t[2], 8, 1e-6),
    );
    for (k, stride, padding) in [(3, 1, 1), (3, 2, 1), (1, 1, 0)] {
        let inputs = [x.clone(), normal(2, &[48, 32, k, k]), normal(3, &[48])];
        check_op("conv2d", &inputs, &|t| {
            ops::conv2d(&t[0], &t[1], &t[2], stride, padding)
        });
    }
}

#[test]
fn the_optimiser_does_not_depend_on_threads() {
    check("adamw_step", || {
        let tensors = [1, 2, 3, 4].map(|seed| normal(seed, &[70_001]).sqr().unwrap());
        let [param, grad, m, v] = &tensors;
        let step = AdamwStep {
            lr: 1e-3,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
            step: 9,
            grad_scale: 0.5,
        };
        ops::adamw_step(param, grad, m, v, &step).unwrap();
        (
            tensors.map(|t| numbers(&t)),
            ops::sum_of_squares(&normal(5, &[70_001])).unwrap(),
        )
    });
}
