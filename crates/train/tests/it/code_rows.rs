//! First rows of image codes made of their bits.

use mmada_model::{LoadOptions, Mmada};
use mmada_tensor::DType;
use mmada_train::Mode;
use mmada_train::config::{CodeRows, Init};

use crate::runs::train;
use crate::world::World;

/// Rows of embedding and head, and where the codes are.
pub(crate) fn tables(folder: &std::path::Path) -> ([Vec<Vec<f32>>; 2], std::ops::Range<usize>) {
    let model = Mmada::open(folder, &LoadOptions::default()).unwrap();
    let rows = |name: &str| {
        let table = model.params().any(name, 2).unwrap();
        table
            .to_dtype(DType::F32)
            .unwrap()
            .to_vec2::<f32>()
            .unwrap()
    };
    let codes = model.vocab().image.clone();
    let tables = ["wte", "ff_out"].map(|part| rows(&format!("model.transformer.{part}.weight")));
    (tables, codes.start as usize..codes.end as usize)
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum()
}

#[test]
fn codes_that_share_bits_begin_alike() {
    let world = World::new();
    train(&world.denoise("first", &["run.steps=1"]), Mode::Fresh);
    let from = world.path("first/model");
    let (before, codes) = tables(&from);
    let begun = |name: &str, keep: f32, bits: f32| {
        // A step that moves nothing.
        let overrides = ["run.steps=1", "lr.peak=1e-20", "optimizer.weight_decay=0.0"];
        let mut config = world.denoise(name, &overrides);
        config.model.init = Init::From(from.clone());
        config.model.code_rows = Some(CodeRows { keep, bits });
        train(&config, Mode::Fresh);
        tables(&world.path(&format!("{name}/model"))).0
    };
    let (kept, built, both) = (
        begun("kept", 1.0, 0.0),
        begun("built", 0.0, 1.0),
        begun("both", 1.0, 1.0),
    );
    for part in 0..2 {
        for row in 0..before[part].len() {
            let old = &before[part][row];
            assert!(distance(&kept[part][row], old) < 1e-10, "row {row} is kept");
            let is_text = !codes.contains(&row);
            let moved = distance(&built[part][row], old);
            assert!(!is_text || moved < 1e-10, "row {row} is text");
        }
        let code = |code: usize| &built[part][codes.start + code];
        // Codes 0 and 1 differ in one bit as codes 2 and 3 do, in the same direction.
        let step = |a: usize, b: usize| -> Vec<f32> {
            code(a).iter().zip(code(b)).map(|(a, b)| a - b).collect()
        };
        assert!(distance(&step(0, 1), &step(2, 3)) < 1e-10 * distance(code(0), code(1)).max(1.0));
        assert!(distance(code(0), code(1)) < distance(code(0), code(codes.len() - 1)));
        let length = |rows: &[Vec<f32>]| -> f32 {
            let own = rows[codes.clone()].iter().flatten();
            own.map(|value| value * value).sum()
        };
        let ratio = length(&built[part]) / length(&before[part]);
        assert!((0.5..2.0).contains(&ratio), "{ratio}");
        for row in codes.clone() {
            let sum = before[part][row].iter().zip(&built[part][row]);
            let sum: Vec<f32> = sum.map(|(a, b)| a + b).collect();
            assert!(distance(&sum, &both[part][row]) < 1e-10);
        }
    }
}
