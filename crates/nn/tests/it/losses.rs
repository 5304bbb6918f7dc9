//! The training losses of the original and their gradients, from the network alone.
//!
//! Every loss is a weighted sum of one negative log-likelihood per position:
//! text-to-image 1/(labelled positions); text 1/(p·rows·L) or 1/(p·answer·rows); understanding and
//! reasoning-to-image 1/(p·answer·rows).

use mmada_nn::{Mode, Transformer};
use mmada_tensor::{Device, Rows, Tensor, Want};
use serde_json::Value;

use crate::common::{Golden, assert_close, assert_near, golden, golden_model};

/// One batch, packed without its pads.
struct Batch {
    rows: Rows,
    wanted: Vec<usize>,
    targets: Vec<u32>,
    /// Name of the loss and, for each wanted row, its weight in it.
    parts: Vec<(&'static str, Vec<f64>)>,
    has_pads: bool,
}

fn number(value: &Value, key: &str) -> usize {
    value[key].as_u64().unwrap_or(0) as usize
}

/// Which positions count in which loss, and how much: rows of (row, column, loss, weight).
fn weights(setup: &Value, case: &Value, io: &Golden) -> Vec<(usize, usize, &'static str, f64)> {
    let (ids, labels) = (io.integers("input_ids"), io.integers("labels"));
    let mask = setup["mask_token_id"].as_i64().unwrap();
    let mut weights = Vec::new();
    let t2i = number(setup, "batch_size_t2i");
    let from = number(setup, "max_seq_length") + 1;
    for (row, labels) in labels.iter().enumerate().take(t2i) {
        for column in (from..labels.len()).filter(|c| labels[*c] != -100) {
            weights.push((row, column, "loss_t2i", 1.0));
        }
    }
    let count = weights.len() as f64;
    weights.iter_mut().for_each(|w| w.3 /= count);

    let lm_lengths = case["use_answer_lengths_lm"].as_bool().unwrap();
    let sizes = [
        number(setup, "batch_size_lm"),
        number(setup, "batch_size_mmu"),
        number(case, "batch_size_r2i"),
    ];
    let mut first = t2i;
    for (part, size, p_mask, lengths) in [
        (
            "loss_lm",
            sizes[0],
            "p_mask_lm",
            lm_lengths.then_some("answer_lengths_lm"),
        ),
        ("loss_mmu", sizes[1], "p_mask_mmu", Some("answer_lengths")),
        // The original's name is the task's; absent from batches without that task.
        (
            "loss_r2i",
            sizes[2],
            "p_mask_r2i",
            Some("answer_lengths_r2i"),
        ),
    ] {
        if size == 0 || case[part].is_null() {
            continue;
        }
        let p_mask = io.numbers(p_mask);
        // The understanding loss of ordinary and chat batches alike divides by answer lengths.
        let lengths = lengths.map(|name| io.integers(name));
        for row in 0..size {
            let (ids, labels) = (&ids[first + row], &labels[first + row]);
            for column in (0..ids.len()).filter(|c| ids[*c] == mask && labels[*c] != -100) {
                let length = match &lengths {
                    Some(lengths) => lengths[row][column] as f64,
                    None => ids.len() as f64,
                };
                let weight = 1.0 / (f64::from(p_mask[row][column]) * length * size as f64);
                weights.push((first + row, column, part, weight));
            }
        }
        first += size;
    }
    weights
}

fn batch(setup: &Value, case: &Value) -> Batch {
    let file = format!("losses/{}.safetensors", case["batch"].as_str().unwrap());
    let io = Golden::read(&golden(&file));
    let is_valid = io.integers("t2i_masks");
    let mut rows = Rows::default();
    // Packed row of (row, column); none for a pad.
    let mut packed = Vec::new();
    for (index, ids) in io.ids("input_ids").into_iter().enumerate() {
        let is_kept = |column: usize| is_valid.get(index).is_none_or(|v| v[column] == 1);
        let kept: Vec<usize> = (0..ids.len()).filter(|c| is_kept(*c)).collect();
        let range = rows.push(&kept.iter().map(|c| ids[*c]).collect::<Vec<_>>());
        let mut places = vec![None; ids.len()];
        kept.iter()
            .zip(range)
            .for_each(|(column, row)| places[*column] = Some(row));
        packed.push(places);
    }
    let weights = weights(setup, case, &io);
    let labels = io.integers("labels");
    let mut parts: Vec<(&'static str, Vec<f64>)> = Vec::new();
    for (i, (_, _, part, weight)) in weights.iter().enumerate() {
        if !parts.iter().any(|(name, _)| name == part) {
            parts.push((part, vec![0.0; weights.len()]));
        }
        parts.iter_mut().find(|(name, _)| name == part).unwrap().1[i] = *weight;
    }
    Batch {
        wanted: weights
            .iter()
            .map(|(r, c, ..)| packed[*r][*c].expect("a labelled pad"))
            .collect(),
        targets: weights
            .iter()
            .map(|(r, c, ..)| labels[*r][*c] as u32)
            .collect(),
        has_pads: rows.len() < io.tensor("input_ids").elem_count(),
        rows,
        parts,
    }
}

fn coefficient(setup: &Value, part: &str) -> f64 {
    let task = part.trim_start_matches("loss_");
    setup[format!("{task}_coeff")].as_f64().unwrap_or(0.0)
}

fn check_gradients(name: &str, case: &Value, setup: &Value, batch: &Batch, tensors: &Golden) {
    let (params, model) = golden_model(Mode::Trainable);
    let nll = model
        .nll(&batch.rows, &batch.wanted, &batch.targets)
        .unwrap();
    let mut weight = vec![0f32; batch.wanted.len()];
    for (part, weights) in &batch.parts {
        let coefficient = coefficient(setup, part);
        weight
            .iter_mut()
            .zip(weights)
            .for_each(|(sum, w)| *sum += (coefficient * w) as f32);
    }
    let weight = Tensor::new(weight, &Device::Cpu).unwrap();
    let grads = (nll * weight)
        .unwrap()
        .sum_all()
        .unwrap()
        .backward()
        .unwrap();
    let norms = case["grad_norms"].as_object().unwrap();
    assert_eq!(norms.len(), params.len(), "{name}: number of gradients");
    let mut total = 0.0;
    for (tensor, var) in params.vars() {
        let grad = grads.get(&var).expect(&tensor);
        let values = crate::common::values(grad);
        let square: f64 = values.iter().map(|x| f64::from(*x).powi(2)).sum();
        total += square;
        let what = format!("{name}: gradient norm of {tensor}");
        assert_near(&what, square.sqrt(), norms[&tensor].as_f64().unwrap(), 1e-4);
        let key = format!("{name}.{tensor}");
        if let Some((_, expected)) = tensors.iter().find(|(n, _)| *n == key) {
            assert_close(&key, grad, expected, 1e-4);
        }
    }
    let expected = case["global_grad_norm"].as_f64().unwrap();
    assert_near(
        &format!("{name}: norm of all"),
        total.sqrt(),
        expected,
        1e-4,
    );
}

fn check_logits(name: &str, model: &Transformer, batch: &Batch, tensors: &Golden) {
    for (key, expected) in tensors.iter() {
        let Some(row) = key.strip_prefix(&format!("{name}.logits_row")) else {
            continue;
        };
        let rows = batch.rows.sequences[row.parse::<usize>().unwrap()].clone();
        let want = Want::new(rows, 0..model.config().embedding_size);
        let logits = model.logits(&batch.rows, &want).unwrap();
        assert_close(key, &logits, expected, 2e-4);
    }
}

#[test]
fn golden_losses_gradients_and_logits_of_the_network() {
    let text = std::fs::read_to_string(golden("losses/losses.json")).unwrap();
    let setup: Value = serde_json::from_str(&text).unwrap();
    let tensors = Golden::read(&golden("losses/tensors.safetensors"));
    let (_, model) = golden_model(Mode::Frozen);
    let mut checked = 0;
    for (name, case) in setup["cases"].as_object().unwrap() {
        let batch = batch(&setup, case);
        // The released code adds the padding mask to the scores, which leaves pads visible; here
        // there are no pads.
        if batch.has_pads && name.ends_with("as_released") {
            continue;
        }
        let nll = model
            .nll(&batch.rows, &batch.wanted, &batch.targets)
            .unwrap();
        let nll = nll.to_vec1::<f32>().unwrap();
        let mut total = 0.0;
        for (part, weights) in &batch.parts {
            let loss: f64 = nll
                .iter()
                .zip(weights)
                .map(|(l, w)| f64::from(*l) * w)
                .sum();
            assert_near(
                &format!("{name}: {part}"),
                loss,
                case[*part].as_f64().unwrap(),
                1e-5,
            );
            total += coefficient(&setup, part) * loss;
        }
        if let Some(expected) = case["total"].as_f64() {
            assert_near(&format!("{name}: total"), total, expected, 1e-5);
        }
        check_logits(name, &model, &batch, &tensors);
        if case["grad_norms"].is_object() {
            check_gradients(name, case, &setup, &batch, &tensors);
        }
        checked += 1;
    }
    assert!(checked > 0, "no case found");
}
