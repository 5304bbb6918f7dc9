//! The original's training curve: AdamW with clipping on a fixed batch.

use std::collections::HashMap;
use std::path::PathBuf;

use mmada_diffusion::loss::{Coefficients, Example, Loss, weighted_cross_entropy};
use mmada_diffusion::{Noised, Target};
use mmada_nn::{Config, Mode, Params, Transformer};
use mmada_tensor::{DType, Device, Rows, Tensor, candle};
use mmada_tokens::Task;
use mmada_train::optimizer::{Gradients, Optimizer, OptimizerConfig};
use serde_json::Value;

type Tensors = HashMap<String, Tensor>;

pub(crate) fn golden(part: &str) -> PathBuf {
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden");
    let root = std::env::var_os("MMADA_GOLDEN").map_or_else(|| here.into(), PathBuf::from);
    root.join(part)
}

fn tensors(file: &str) -> Tensors {
    candle::safetensors::load(golden(file), &Device::Cpu).unwrap()
}

fn count(setup: &Value, name: &str) -> usize {
    setup[name].as_u64().unwrap_or(0) as usize
}

/// The fixed batch as noised examples: two kinds of rows, weighed as the original weighs them.
fn examples(setup: &Value, curve: &Value, batch: &Tensors) -> Vec<Example> {
    let ids = batch["input_ids"].to_vec2::<i64>().unwrap();
    let labels = batch["labels"].to_vec2::<i64>().unwrap();
    let mask = setup["mask_token_id"].as_i64().unwrap();
    let first = count(setup, "max_seq_length") + 1;
    let lm_lengths = curve["use_answer_lengths_lm"].as_bool().unwrap();
    let branches = [
        (Task::Paint, "batch_size_t2i", "", None),
        (
            Task::Text,
            "batch_size_lm",
            "p_mask_lm",
            lm_lengths.then_some("answer_lengths_lm"),
        ),
        (
            Task::Describe,
            "batch_size_mmu",
            "p_mask_mmu",
            Some("answer_lengths"),
        ),
    ];
    let mut examples = Vec::new();
    for (task, size, rates, lengths) in branches {
        for within in 0..count(setup, size) {
            let (ids, labels) = (&ids[examples.len()], &labels[examples.len()]);
            let weight = |position: usize| {
                let rate = batch[rates].to_vec2::<f32>().unwrap()[within][position];
                let length = match lengths {
                    Some(name) => batch[name].to_vec2::<i64>().unwrap()[within][position] as f32,
                    None => ids.len() as f32,
                };
                1.0 / rate / length
            };
            let is_target = |position: &usize| match task {
                Task::Paint => *position >= first && labels[*position] >= 0,
                _ => ids[*position] == mask && labels[*position] >= 0,
            };
            let targets = (0..ids.len()).filter(is_target).map(|position| Target {
                position,
                id: labels[position] as u32,
                weight: if task == Task::Paint {
                    1.0
                } else {
                    weight(position)
                },
            });
            let targets: Vec<_> = targets.collect();
            let share = if task == Task::Paint {
                targets.len() as f32
            } else {
                1.0
            };
            let ids = ids.iter().map(|id| *id as u32).collect();
            let noised = Noised {
                ids,
                targets,
                share,
                ..Noised::default()
            };
            examples.push(Example { task, noised });
        }
    }
    examples
}

fn loss(model: &Transformer, examples: &[Example], setup: &Value) -> Loss {
    let nll = |rows: &Rows, wanted: &[usize], targets: &[u32]| -> mmada_tensor::Result<Tensor> {
        Ok(model
            .nll(rows, wanted, targets)
            .map_err(candle::Error::wrap)?)
    };
    let coefficient = |name: &str| setup[name].as_f64().unwrap() as f32;
    let coefficients = Coefficients {
        text: coefficient("lm_coeff"),
        describe: coefficient("mmu_coeff"),
        paint: coefficient("t2i_coeff"),
        ..Coefficients::default()
    };
    weighted_cross_entropy(&nll, examples, &coefficients).unwrap()
}

fn check_losses(what: &str, loss: &Loss, expected: &Value) {
    let close = |name: &str, got: f64| {
        let expected = expected[name].as_f64().unwrap();
        assert!(
            (got - expected).abs() <= 2e-3,
            "{what}: {name} {got}, expected {expected}"
        );
    };
    close("total", f64::from(loss.total.to_scalar::<f32>().unwrap()));
    for part in &loss.parts {
        match part.task {
            Task::Paint => close("loss_t2i", part.loss),
            Task::Text | Task::Chat => close("loss_lm", part.loss),
            Task::Describe => close("loss_mmu", part.loss),
            Task::ThinkPaint => {}
        }
    }
}

#[test]
fn golden_training_curve() {
    let text = std::fs::read_to_string(golden("losses/losses.json")).unwrap();
    let setup: Value = serde_json::from_str(&text).unwrap();
    let curve = &setup["curve"];
    let batch = tensors(&format!(
        "losses/{}.safetensors",
        curve["batch"].as_str().unwrap()
    ));
    let examples = examples(&setup, curve, &batch);
    let folder = golden("transformer");
    let params = Params::load(&folder, &Device::Cpu, Some(DType::F32), Mode::Trainable).unwrap();
    let model = Transformer::load(&Config::load(&folder).unwrap(), &params).unwrap();

    let given = |name: &str| curve["optimizer"][name].as_f64().unwrap();
    let config = OptimizerConfig {
        betas: (given("beta1"), given("beta2")),
        eps: given("eps"),
        weight_decay: given("weight_decay"),
        clip: given("max_grad_norm"),
        ..OptimizerConfig::default()
    };
    let vars = params.vars();
    let mut optimizer = Optimizer::new(&vars, &config, None, None).unwrap();
    let steps = curve["losses_before_step"].as_array().unwrap();
    assert_eq!(steps.len(), count(curve, "steps"));
    for (step, expected) in steps.iter().enumerate() {
        let loss = loss(&model, &examples, &setup);
        check_losses(&format!("before step {step}"), &loss, expected);
        let mut gradients = Gradients::default();
        gradients
            .add(&vars, &loss.total.backward().unwrap())
            .unwrap();
        let norm = optimizer.step(&gradients, given("lr")).unwrap().all;
        let expected = curve["grad_norm_before_clip"][step].as_f64().unwrap();
        // The weights drift apart along the curve by rounding; see the tolerance of the losses.
        let tolerance = 1e-4 * (1.0 + 10.0 * step as f64);
        assert!(
            (norm - expected).abs() <= tolerance * expected,
            "step {step}: norm {norm}, expected {expected}"
        );
    }
    let loss = loss(&model, &examples, &setup);
    check_losses(
        "after the last step",
        &loss,
        &curve["losses_after_last_step"],
    );

    let expected = tensors("losses/tensors.safetensors");
    for name in curve["final_weights"].as_array().unwrap() {
        let name = name.as_str().unwrap();
        let found = expected
            .iter()
            .find(|(key, _)| *key == &format!("final.{name}"));
        let (_, expected) = found.expect("final weights in tensors.safetensors");
        let got = params.get(name, expected.dims()).unwrap();
        let worst = (got.detach() - expected).unwrap().abs().unwrap();
        let worst = worst
            .flatten_all()
            .unwrap()
            .max(0)
            .unwrap()
            .to_scalar::<f32>()
            .unwrap();
        assert!(worst <= 1e-4, "{name}: off by {worst}");
    }
}
