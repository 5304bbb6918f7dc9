//! AdamW against a scalar reference, groups, clipping, averages, saved state, learning rates.

use mmada_tensor::{Device, Tensor, Var};
use mmada_train::Error;
use mmada_train::lr::{Decay, LrConfig};
use mmada_train::optimizer::{
    EmaConfig, Gradients, GroupConfig, Method, Optimizer, OptimizerConfig,
};

/// One weight, and what AdamW remembers of it, in f64.
struct Scalar {
    weight: f64,
    first: f64,
    second: f64,
}

impl Scalar {
    fn step(&mut self, grad: f64, lr: f64, decay: f64, config: &OptimizerConfig, step: i32) {
        let (b1, b2) = config.betas;
        self.weight *= 1.0 - lr * decay;
        self.first = b1 * self.first + (1.0 - b1) * grad;
        self.second = b2 * self.second + (1.0 - b2) * grad * grad;
        let first = self.first / (1.0 - b1.powi(step));
        let second = self.second / (1.0 - b2.powi(step));
        self.weight -= lr * first / (second.sqrt() + config.eps);
    }
}

fn variables() -> Vec<(String, Var)> {
    let var = |values: &[f32]| Var::new(values, &Device::Cpu).unwrap();
    vec![
        ("block.q_proj.weight".to_owned(), var(&[0.5, -1.0, 2.0])),
        ("block.norm.weight".to_owned(), var(&[1.0, 1.0, 1.0])),
    ]
}

/// Gradients of Σ factor·w² / 2, which are factor·w.
fn gradients(vars: &[(String, Var)], factor: f64) -> Gradients {
    let terms = vars
        .iter()
        .map(|(_, var)| var.as_tensor().sqr().unwrap().sum_all().unwrap());
    let loss = terms.reduce(|a, b| (a + b).unwrap()).unwrap();
    let mut sum = Gradients::default();
    sum.add(vars, &(loss * (factor / 2.0)).unwrap().backward().unwrap())
        .unwrap();
    sum
}

fn values(var: &Var) -> Vec<f32> {
    var.as_tensor().to_vec1().unwrap()
}

fn with_group(clip: f64) -> OptimizerConfig {
    OptimizerConfig {
        weight_decay: 0.1,
        clip,
        groups: vec![GroupConfig {
            names: vec!["norm".to_owned()],
            weight_decay: 0.0,
            method: Method::AdamW,
            lr_scale: 0.5,
        }],
        ..OptimizerConfig::default()
    }
}

#[test]
fn follows_a_scalar_reference() {
    let (vars, config) = (variables(), with_group(0.0));
    let mut optimizer = Optimizer::new(&vars, &config, None, None).unwrap();
    let scalar = |weight: f32| Scalar {
        weight: weight.into(),
        first: 0.0,
        second: 0.0,
    };
    let mut reference: Vec<Vec<Scalar>> = vars
        .iter()
        .map(|(_, var)| values(var).into_iter().map(scalar).collect())
        .collect();
    for step in 1..=20 {
        let lr = 0.01 * f64::from(step);
        optimizer.step(&gradients(&vars, 3.0), lr).unwrap();
        for (index, weights) in reference.iter_mut().enumerate() {
            let (lr, decay) = if index == 0 {
                (lr, 0.1)
            } else {
                (lr * 0.5, 0.0)
            };
            for weight in weights {
                weight.step(3.0 * weight.weight, lr, decay, &config, step);
            }
        }
    }
    for ((_, var), weights) in vars.iter().zip(&reference) {
        for (got, expected) in values(var).iter().zip(weights) {
            assert!(
                (f64::from(*got) - expected.weight).abs() < 1e-5,
                "{got}, expected {}",
                expected.weight
            );
        }
    }
}

#[test]
fn clips_by_the_global_norm_and_tells_it() {
    let vars = variables();
    let mut optimizer = Optimizer::new(&vars, &with_group(1.0), None, None).unwrap();
    let squares: f32 = vars
        .iter()
        .flat_map(|(_, var)| values(var))
        .map(|w| w * w)
        .sum();
    let norms = optimizer.step(&gradients(&vars, 100.0), 0.0).unwrap();
    let norm = norms.all;
    assert!(
        (norm - 100.0 * f64::from(squares.sqrt())).abs() < 1e-3,
        "{norm}"
    );
    // The parts make up the whole, and the whole is clipped to 1.
    let parts: f64 = norms.each.iter().flatten().map(|norm| norm * norm).sum();
    assert_eq!(norms.each.len(), vars.len());
    assert!((parts.sqrt() / norm - 1.0).abs() < 1e-12);
    assert!((norms.scale * norm - 1.0).abs() < 1e-6);
    // A huge and a small gradient of one direction, both clipped, weigh alike beside a later one,
    // which points the other way; not clipped, they do not.
    let moved = |clip: f64, factor: f64| {
        let vars = variables();
        let mut optimizer = Optimizer::new(&vars, &with_group(clip), None, None).unwrap();
        optimizer.step(&gradients(&vars, factor), 0.1).unwrap();
        optimizer.step(&gradients(&vars, -10.0), 0.1).unwrap();
        values(&vars[0].1)
    };
    let are_alike = |clip: f64| {
        let (small, huge) = (moved(clip, 10.0), moved(clip, 1e4));
        small.iter().zip(huge).all(|(a, b)| (a - b).abs() < 1e-5)
    };
    assert!(are_alike(1e-3) && !are_alike(0.0));
}

#[test]
fn refuses_what_is_not_finite_and_moves_nothing() {
    let vars = variables();
    let mut optimizer = Optimizer::new(&vars, &with_group(1.0), None, None).unwrap();
    let before = values(&vars[0].1);
    let error = optimizer
        .step(&gradients(&vars, f64::NAN), 0.1)
        .unwrap_err();
    assert!(matches!(error, Error::Diverged { .. }), "{error}");
    assert_eq!(values(&vars[0].1), before);
}

#[test]
fn a_group_that_matches_nothing_is_refused() {
    let mut config = with_group(1.0);
    config.groups[0].names = vec!["nrom".to_owned()];
    let error = Optimizer::new(&variables(), &config, None, None).unwrap_err();
    assert!(error.to_string().contains("nrom"), "{error}");
}

#[test]
fn a_group_with_nothing_of_its_own_is_refused() {
    let mut config = with_group(1.0);
    let group = config.groups[0].clone();
    let refused = |config: &OptimizerConfig, expected: &str| {
        let error = Optimizer::new(&variables(), config, None, None).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    };
    config.groups.push(group.clone());
    refused(&config, "an earlier group");
    // The earlier one may leave something to it.
    config.groups[1].names.push("q_proj".to_owned());
    Optimizer::new(&variables(), &config, None, None).unwrap();
    config.groups = vec![GroupConfig {
        method: Method::Muon,
        ..group
    }];
    refused(&config, "match no matrix");
}

#[test]
fn averages_follow_the_weights_and_swap_back() {
    let vars = variables();
    let ema = EmaConfig { decay: 0.5 };
    let mut optimizer = Optimizer::new(&vars, &with_group(0.0), Some(&ema), None).unwrap();
    let mut expected: Vec<f64> = values(&vars[0].1).into_iter().map(f64::from).collect();
    for step in 1..=4 {
        optimizer.step(&gradients(&vars, 1.0), 0.1).unwrap();
        let keep = f64::min(0.5, (1.0 + f64::from(step)) / (10.0 + f64::from(step)));
        for (average, weight) in expected.iter_mut().zip(values(&vars[0].1)) {
            *average = *average * keep + f64::from(weight) * (1.0 - keep);
        }
    }
    let trained = values(&vars[0].1);
    let averaged = optimizer.with_average(|| Ok(values(&vars[0].1))).unwrap();
    for (got, expected) in averaged.iter().zip(expected) {
        assert!((f64::from(*got) - expected).abs() < 1e-6);
    }
    assert_eq!(values(&vars[0].1), trained, "the trained weights are back");
}

#[test]
fn saved_state_continues_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("optimizer.safetensors");
    let (config, ema) = (with_group(1.0), EmaConfig { decay: 0.9 });
    let vars = variables();
    let mut optimizer = Optimizer::new(&vars, &config, Some(&ema), None).unwrap();
    let run = |optimizer: &mut Optimizer, vars: &[(String, Var)]| {
        for _ in 0..3 {
            optimizer.step(&gradients(vars, 2.0), 0.05).unwrap();
        }
    };
    run(&mut optimizer, &vars);
    optimizer.save(&path).unwrap();
    let copies: Vec<_> = vars
        .iter()
        .map(|(name, var)| {
            (
                name.clone(),
                Var::from_tensor(&var.as_tensor().copy().unwrap()).unwrap(),
            )
        })
        .collect();
    run(&mut optimizer, &vars);

    let mut resumed = Optimizer::new(&copies, &config, Some(&ema), None).unwrap();
    resumed.load(&path, 3).unwrap();
    run(&mut resumed, &copies);
    for ((_, a), (_, b)) in vars.iter().zip(&copies) {
        assert_eq!(values(a), values(b));
    }
    let average =
        |optimizer: &Optimizer, var: &Var| optimizer.with_average(|| Ok(values(var))).unwrap();
    assert_eq!(
        average(&optimizer, &vars[1].1),
        average(&resumed, &copies[1].1)
    );

    let wrong = vec![("other".to_owned(), vars[0].1.clone())];
    let config = OptimizerConfig::default();
    let error = Optimizer::new(&wrong, &config, None, None)
        .unwrap()
        .load(&path, 3)
        .unwrap_err();
    assert!(error.to_string().contains("first.other"), "{error}");
}

#[test]
fn accumulated_gradients_are_the_sum() {
    let vars = variables();
    let once = gradients(&vars, 3.0).norms().unwrap().all;
    let mut twice = Gradients::default();
    for factor in [1.0, 2.0] {
        let terms = vars
            .iter()
            .map(|(_, var)| var.as_tensor().sqr().unwrap().sum_all().unwrap());
        let loss: Tensor = terms.reduce(|a, b| (a + b).unwrap()).unwrap();
        twice
            .add(&vars, &(loss * (factor / 2.0)).unwrap().backward().unwrap())
            .unwrap();
    }
    assert!((twice.norms().unwrap().all - once).abs() < 1e-5);
}

#[test]
fn learning_rates() {
    let lr = LrConfig {
        peak: 1.0,
        decay: Decay::Cosine,
        warmup: 10,
        floor_ratio: 0.1,
    };
    let table = [
        (0, 0.1),
        (4, 0.5),
        (9, 1.0),
        (10, 1.0),
        (60, 0.55),
        (109, 0.100_222),
        (110, 0.1),
        (500, 0.1),
    ];
    for (step, expected) in table {
        let got = lr.at(step, 110);
        assert!(
            (got - expected).abs() < 1e-6,
            "step {step}: {got}, expected {expected}"
        );
    }
    let linear = LrConfig {
        decay: Decay::Linear,
        warmup: 0,
        ..lr.clone()
    };
    assert!((linear.at(50, 100) - 0.55).abs() < 1e-12);
    let constant = LrConfig {
        decay: Decay::Constant,
        warmup: 2,
        ..lr
    };
    assert_eq!(
        (constant.at(0, 9), constant.at(2, 9), constant.at(8, 9)),
        (0.5, 1.0, 1.0)
    );
}

#[test]
fn muon_moves_matrices_by_one_size_and_keeps_only_a_momentum() {
    let device = &Device::Cpu;
    let tensor = |seed: f32| {
        let numbers: Vec<f32> = (0..24).map(|i| (i as f32 * 1.7 + seed).sin()).collect();
        Tensor::from_vec(numbers, (4, 6), device).unwrap()
    };
    let vars = vec![
        (
            "hidden.matrix".to_owned(),
            Var::from_tensor(&tensor(0.0)).unwrap(),
        ),
        (
            "hidden.gain".to_owned(),
            Var::ones(6, mmada_tensor::DType::F32, device).unwrap(),
        ),
    ];
    let config = OptimizerConfig {
        clip: 0.0,
        groups: vec![GroupConfig {
            names: vec!["hidden".to_owned()],
            weight_decay: 0.0,
            method: Method::Muon,
            lr_scale: 1.0,
        }],
        ..OptimizerConfig::default()
    };
    let mut optimizer = Optimizer::new(&vars, &config, None, None).unwrap();
    // The size of the gradient does not matter, only its direction.
    let [small, large] = [1e-3, 1e3].map(|size| {
        let before = vars[0].1.as_tensor().copy().unwrap();
        let loss = (vars[0].1.as_tensor() * (tensor(1.0) * size).unwrap()).unwrap();
        let loss = (loss.sum_all().unwrap() + vars[1].1.sum_all().unwrap()).unwrap();
        let mut gradients = Gradients::default();
        gradients.add(&vars, &loss.backward().unwrap()).unwrap();
        optimizer.step(&gradients, 0.1).unwrap();
        let moved = (vars[0].1.as_tensor() - before).unwrap();
        let square = moved.sqr().unwrap().mean_all().unwrap();
        square.sqrt().unwrap().to_scalar::<f32>().unwrap()
    });
    // 0.1 · 0.2 · √6 · (root mean square of a matrix of rank 2 with singular values near 1).
    for moved in [small, large] {
        assert!((0.008..0.02).contains(&moved), "{small} {large}");
    }

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("optimizer.safetensors");
    optimizer.save(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let saved = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut names = saved.names();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "first.hidden.gain",
            "first.hidden.matrix",
            "second.hidden.gain"
        ]
    );
    Optimizer::new(&vars, &config, None, None)
        .unwrap()
        .load(&path, 2)
        .unwrap();
}
