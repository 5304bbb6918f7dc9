//! Rows of image codes that move together, by their bits.

use mmada_nn::LoraConfig;
use mmada_tensor::{Device, Tensor, Var};
use mmada_train::Mode;
use mmada_train::config::{Init, RunConfig};
use mmada_train::optimizer::{
    CodeBits, CodeTables, Gradients, GroupConfig, Method, Optimizer, OptimizerConfig,
};

use crate::runs::train;
use crate::world::World;

const LR: f64 = 0.01;

/// Two rows of text, then four codes of two bits.
fn table() -> (Vec<(String, Var)>, CodeTables) {
    let var = Var::zeros((6, 3), mmada_tensor::DType::F32, &Device::Cpu).unwrap();
    let tables = CodeTables {
        names: vec!["wte".to_owned()],
        rows: 2..6,
    };
    (vec![("wte".to_owned(), var)], tables)
}

fn config(lr_scale: f64) -> OptimizerConfig {
    OptimizerConfig {
        weight_decay: 0.0,
        clip: 0.0,
        code_bits: Some(CodeBits { lr_scale }),
        ..OptimizerConfig::default()
    }
}

/// The gradient of `Σ row · (1, -2, 3)` of one row.
fn gradient(vars: &[(String, Var)], row: usize) -> Gradients {
    let weights = Tensor::new(&[1f32, -2.0, 3.0], &Device::Cpu).unwrap();
    let own = vars[0].1.as_tensor().get(row).unwrap();
    let loss = (own * weights).unwrap().sum_all().unwrap();
    let mut sum = Gradients::default();
    sum.add(vars, &loss.backward().unwrap()).unwrap();
    sum
}

fn rows(vars: &[(String, Var)]) -> Vec<Vec<f32>> {
    vars[0].1.as_tensor().to_vec2().unwrap()
}

#[test]
fn a_code_takes_those_along_that_share_its_bits() {
    let moved = |row: usize, lr_scale: f64| {
        let (vars, tables) = table();
        let mut optimizer = Optimizer::new(&vars, &config(lr_scale), None, Some(&tables)).unwrap();
        optimizer.step(&gradient(&vars, row), LR).unwrap();
        rows(&vars)
    };
    // AdamW's first step goes by the sign of the gradient. A code follows its own row, the vector
    // of all codes, and the vector of each bit: with it where the bits agree, against it where not.
    for scale in [1.0, 0.5] {
        let code_0 = moved(2, scale);
        let by = |own: f64, shared: f64| LR * (own + scale * shared);
        let expected = [
            0.0,
            0.0,
            by(1.0, 3.0),
            by(0.0, 1.0),
            by(0.0, 1.0),
            by(0.0, -1.0),
        ];
        for (row, expected) in code_0.iter().zip(expected) {
            for (value, sign) in row.iter().zip([-1.0, 1.0, -1.0]) {
                assert!(
                    (f64::from(*value) - sign * expected).abs() < 1e-6,
                    "{code_0:?}"
                );
            }
        }
    }
    let text = moved(1, 1.0);
    assert!(text[1].iter().all(|value| value.abs() > 0.009));
    for (number, row) in text.iter().enumerate().filter(|(number, _)| *number != 1) {
        assert_eq!(row, &[0.0; 3], "row {number} has nothing to do with row 1");
    }
}

#[test]
fn vectors_are_saved_and_go_on_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("optimizer.safetensors");
    let (vars, tables) = table();
    let open =
        |vars: &[(String, Var)]| Optimizer::new(vars, &config(1.0), None, Some(&tables)).unwrap();
    let mut optimizer = open(&vars);
    for row in [2, 3, 2] {
        optimizer.step(&gradient(&vars, row), LR).unwrap();
    }
    optimizer.save(&path).unwrap();
    let copy = Var::from_tensor(&vars[0].1.as_tensor().copy().unwrap()).unwrap();
    let copies = vec![("wte".to_owned(), copy)];
    optimizer.step(&gradient(&vars, 5), LR).unwrap();

    let mut resumed = open(&copies);
    resumed.load(&path, 3).unwrap();
    resumed.step(&gradient(&copies, 5), LR).unwrap();
    assert_eq!(rows(&vars), rows(&copies));

    let without = OptimizerConfig {
        code_bits: None,
        ..config(1.0)
    };
    Optimizer::new(&copies, &without, None, None)
        .unwrap()
        .save(&path)
        .unwrap();
    let error = open(&copies).load(&path, 3).unwrap_err().to_string();
    assert!(error.contains("first.bits.wte"), "{error}");
}

#[test]
fn asking_for_it_without_such_a_table_is_refused() {
    let (vars, tables) = table();
    let refused = |config: &OptimizerConfig, tables: Option<&CodeTables>| {
        let error = Optimizer::new(&vars, config, None, tables).unwrap_err();
        error.to_string()
    };
    let elsewhere = CodeTables {
        names: vec!["other".to_owned()],
        ..tables.clone()
    };
    for tables in [None, Some(&elsewhere)] {
        let error = refused(&config(1.0), tables);
        assert!(error.contains("optimizer.code_bits"), "{error}");
    }
    let by_muon = OptimizerConfig {
        groups: vec![GroupConfig {
            names: vec!["wte".to_owned()],
            weight_decay: 0.0,
            method: Method::Muon,
            lr_scale: 1.0,
        }],
        ..config(1.0)
    };
    let error = refused(&by_muon, Some(&tables));
    assert!(error.contains("got Muon"), "{error}");
}

#[test]
fn codes_may_be_fewer_than_their_bits_allow() {
    let (vars, tables) = table();
    let tables = CodeTables {
        rows: 2..5,
        ..tables
    };
    let mut optimizer = Optimizer::new(&vars, &config(1.0), None, Some(&tables)).unwrap();
    // Code 2 has the second of two bits: what is no code does not move.
    optimizer.step(&gradient(&vars, 4), LR).unwrap();
    let moved = rows(&vars);
    assert_eq!(moved[5], [0.0; 3]);
    for (row, times) in [(2, 1.0), (3, -1.0), (4, 4.0)] {
        assert!(
            (f64::from(moved[row][0]) + LR * times).abs() < 1e-6,
            "{moved:?}"
        );
    }
}

#[test]
fn clipping_reaches_the_vectors() {
    // Of two gradients the second is cut down to a tenth, so it counts for less.
    let moved = |clip: f64| {
        let (vars, tables) = table();
        let clipped = OptimizerConfig {
            clip,
            ..config(1.0)
        };
        let mut optimizer = Optimizer::new(&vars, &clipped, None, Some(&tables)).unwrap();
        let small = (gradient(&vars, 2), 3);
        optimizer.step(&small.0, LR).unwrap();
        let mut large = Gradients::default();
        let loss = (vars[0]
            .1
            .as_tensor()
            .get(small.1)
            .unwrap()
            .sum_all()
            .unwrap()
            * 1e3)
            .unwrap();
        large.add(&vars, &loss.backward().unwrap()).unwrap();
        optimizer.step(&large, LR).unwrap();
        rows(&vars)
    };
    // Row 5 has no gradient of its own: what moves it are the vectors.
    assert_ne!(moved(0.0)[5], moved(4.0)[5]);
}

#[test]
fn a_run_moves_codes_that_its_pictures_lack() {
    let world = World::new();
    train(&world.denoise("first", &["run.steps=1"]), Mode::Fresh);
    let from = world.path("first/model");
    let codes = |name: &str, more: &[&str]| {
        let mut overrides = vec!["run.steps=2", "optimizer.weight_decay=0.0"];
        overrides.extend(more);
        let mut config = world.denoise(name, &overrides);
        config.model.init = Init::From(from.clone());
        train(&config, Mode::Fresh);
        crate::code_rows::tables(&world.path(&format!("{name}/model")))
    };
    let (before, range) = crate::code_rows::tables(&from);
    let still = |tables: &[Vec<Vec<f32>>; 2]| {
        let same = range
            .clone()
            .filter(|row| tables[0][*row] == before[0][*row]);
        same.count()
    };
    let (alone, _) = codes("alone", &[]);
    let (together, _) = codes("together", &["optimizer.code_bits.lr_scale=1.0"]);
    assert!(still(&alone) > 0, "a small picture has not all codes");
    assert_eq!(still(&together), 0);
    // The softmax reaches every row of the head by itself; by bits it moves elsewhere.
    assert!(range.clone().all(|row| alone[1][row] != together[1][row]));
}

#[test]
fn what_has_no_such_rows_to_train_is_refused_before_it_begins() {
    let world = World::new();
    let mut adapted = world.denoise("a", &[]);
    adapted.model.init = Init::From(world.path("first/model"));
    adapted.model.tokenizer = None;
    adapted.model.lora = Some(LoraConfig {
        r: 4,
        alpha: 8.0,
        target_modules: vec!["q_proj".to_owned()],
    });
    for config in [adapted, world.reconstruct("b", &[])] {
        let text = toml::to_string(&config).unwrap();
        assert!(RunConfig::parse(&text, &[]).is_ok());
        let asked = ["optimizer.code_bits.lr_scale=1.0".to_owned()];
        let error = RunConfig::parse(&text, &asked).unwrap_err().to_string();
        assert!(error.contains("optimizer.code_bits"), "{error}");
    }
}
