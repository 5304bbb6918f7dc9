//! The transformer against the original, and its own invariants.

use mmada_nn::transformer::Probe;
use mmada_nn::{Config, Error, Mode, Params, Transformer};
use mmada_tensor::{Device, IndexOp, Rows, Segment, Tensor, Want};
use proptest::prelude::*;

use crate::common::{self, Golden, assert_close, golden_model, small_sizes};

const LOGITS: f32 = 2e-4;
const HIDDEN: f32 = 1e-4;

fn all_logits(model: &Transformer, rows: &Rows, segments: &[Segment]) -> Tensor {
    let want = Want::new(0..rows.len(), 0..model.config().embedding_size);
    model.logits_segments(rows, segments, &want).unwrap()
}

/// Residual streams by the names that the golden file gives them.
fn traced(model: &Transformer, rows: &Rows, segments: &[Segment]) -> Vec<(String, Tensor)> {
    let mut seen = Vec::new();
    let visit = &mut |probe: Probe, x: &Tensor| {
        let name = match probe {
            Probe::Embedding => "hidden_embed".to_owned(),
            Probe::Block(index) => format!("hidden_block{index}"),
            Probe::FinalNorm => "hidden_final_norm".to_owned(),
        };
        seen.push((name, x.clone()));
        Ok(())
    };
    model.trace(rows, segments, visit).unwrap();
    seen
}

#[test]
fn golden_transformer_logits_and_hidden_states() {
    let (_, model) = golden_model(Mode::Frozen);
    let io = Golden::read(&common::golden("transformer/io.safetensors"));
    let rows = Rows::pack(io.ids("ids"));
    let streams = traced(&model, &rows, &rows.segments());
    for (name, expected) in io.iter().filter(|(name, _)| name.starts_with("hidden_")) {
        let (_, got) = streams.iter().find(|(n, _)| n == name).expect(name);
        assert_close(name, got, expected, HIDDEN);
    }
    let logits = all_logits(&model, &rows, &rows.segments());
    assert_close("logits", &logits, io.tensor("logits"), LOGITS);
}

/// Runs of valid and of pad positions, each a segment of its own.
fn runs(rows: &Rows, is_valid: &[Vec<i64>]) -> Vec<Segment> {
    let mut segments = Vec::new();
    for (sequence, is_valid) in rows.sequences.iter().zip(is_valid) {
        let mut start = sequence.start;
        for run in is_valid.chunk_by(|a, b| a == b) {
            let range = start..start + run.len();
            start = range.end;
            segments.push(Segment::new(range.clone(), range));
        }
    }
    segments
}

#[test]
fn golden_transformer_with_pads_as_segments_and_without_pads() {
    let (_, model) = golden_model(Mode::Frozen);
    let io = Golden::read(&common::golden("transformer/io.safetensors"));
    let (ids, is_valid) = (io.ids("padded_ids"), io.integers("padded_attention_mask"));
    let padded = Rows::pack(&ids);
    let segments = runs(&padded, &is_valid);
    let logits = all_logits(&model, &padded, &segments);
    let streams = traced(&model, &padded, &segments);

    let valid: Vec<u32> = (0u32..)
        .zip(is_valid.iter().flatten())
        .filter_map(|(row, is_valid)| (*is_valid == 1).then_some(row))
        .collect();
    let valid = Tensor::new(valid, &Device::Cpu).unwrap();
    // [b, l, …] -> the valid rows of [b·l, …]
    let pick = |x: &Tensor| {
        let last = x.dims()[x.rank() - 1];
        x.reshape(((), last))
            .unwrap()
            .index_select(&valid, 0)
            .unwrap()
    };
    for (name, expected) in io.iter() {
        let Some(stream) = name.strip_prefix("padded_hidden_") else {
            continue;
        };
        let stream = format!("hidden_{stream}");
        let (_, got) = streams.iter().find(|(n, _)| *n == stream).expect(name);
        assert_close(name, &pick(got), &pick(expected), HIDDEN);
    }
    let expected = pick(io.tensor("padded_logits"));
    assert_close("padded logits", &pick(&logits), &expected, LOGITS);

    let dense = Rows::pack(ids.iter().zip(&is_valid).map(|(ids, is_valid)| {
        let kept = ids.iter().zip(is_valid).filter(|(_, v)| **v == 1);
        kept.map(|(id, _)| *id).collect::<Vec<u32>>()
    }));
    let packed = all_logits(&model, &dense, &dense.segments());
    assert_close(
        "packed logits against the original's padded ones",
        &packed,
        &expected,
        LOGITS,
    );
    assert_close(
        "packed logits against our padded ones",
        &packed,
        &pick(&logits),
        LOGITS,
    );

    let alone = Rows::pack(io.ids("unpadded_ids"));
    let logits = all_logits(&model, &alone, &alone.segments());
    assert_close(
        "unpadded logits",
        &logits,
        io.tensor("unpadded_logits"),
        LOGITS,
    );
}

#[test]
fn golden_transformer_wanted_logits_are_a_part_of_all() {
    let (_, model) = golden_model(Mode::Frozen);
    let io = Golden::read(&common::golden("transformer/io.safetensors"));
    let rows = Rows::pack(io.ids("ids"));
    let all = all_logits(&model, &rows, &rows.segments());
    let v = model.config().embedding_size;
    let wanted = [rows.len() - 1, 0, rows.len() / 2, 0];
    let part = v / 3..v / 2;
    let got = model
        .logits(&rows, &Want::new(wanted, part.clone()))
        .unwrap();
    assert_eq!(got.dims(), [wanted.len(), part.len()]);
    for (i, row) in wanted.into_iter().enumerate() {
        let expected = all.i((row, part.clone())).unwrap();
        assert_close("wanted logits", &got.i(i).unwrap(), &expected, LOGITS);
    }
    let none = model.logits(&rows, &Want::new([], 0..v)).unwrap();
    assert_eq!(none.dims(), [0, v]);
}

fn small_model() -> (Params, Transformer) {
    let cfg = Config::new(&small_sizes()).unwrap();
    let (mut params, _) = Transformer::init(&cfg, 7, &Device::Cpu).unwrap();
    // Larger weights than at initialisation, so that attention is far from uniform.
    for (name, var) in params.vars() {
        if !name.contains("norm") {
            params
                .set(&name, &(var.as_tensor() * 5.0).unwrap().detach())
                .unwrap();
        }
    }
    let model = Transformer::load(&cfg, &params.frozen()).unwrap();
    (params, model)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_sequence_alone_is_as_in_a_pack(
        sequences in prop::collection::vec(prop::collection::vec(0u32..40, 0..24), 1..6)
    ) {
        prop_assume!(sequences.iter().any(|s| !s.is_empty()));
        let (_, model) = small_model();
        let rows = Rows::pack(&sequences);
        let packed = model.hidden(&rows).unwrap();
        for (sequence, range) in sequences.iter().zip(&rows.sequences) {
            if sequence.is_empty() {
                continue;
            }
            let alone = model.hidden(&Rows::pack([sequence])).unwrap();
            let packed = packed.narrow(0, range.start, range.len()).unwrap();
            // Values reach 20 here; one in thousands of random cases rounds beyond 1e-5.
            assert_close("packed", &packed, &alone, 4e-5);
        }
    }
}

#[test]
fn wanted_rows_are_those_of_all_rows_and_so_are_their_gradients() {
    let cfg = Config::new(&small_sizes()).unwrap();
    let (params, model) = Transformer::init(&cfg, 5, &Device::Cpu).unwrap();
    let mut rows = Rows::pack([vec![1u32, 2, 3, 4, 5], vec![9, 8], vec![7, 7, 6]]);
    rows.push_after(0..4, 4, &[5, 2]);
    let every: Vec<usize> = (0..rows.len()).collect();
    for wanted in [&every[..], &[8, 0, 3, 0], &[1], &[5, 6], &[11, 2]] {
        let index: Vec<u32> = wanted.iter().map(|row| *row as u32).collect();
        let index = Tensor::new(index, &Device::Cpu).unwrap();
        let all = model.hidden(&rows).unwrap();
        let all = all.index_select(&index, 0).unwrap();
        let few = model.hidden_of(&rows, wanted).unwrap();
        assert_close("hidden", &few, &all, 2e-6);
        let loss = |x: &Tensor| x.sqr().unwrap().narrow(1, 0, 7).unwrap().sum_all().unwrap();
        let (few, all) = (
            loss(&few).backward().unwrap(),
            loss(&all).backward().unwrap(),
        );
        for (name, param) in params.iter() {
            match (few.get(param), all.get(param)) {
                (Some(few), Some(all)) => assert_close(name, few, all, 2e-5),
                (few, all) => assert_eq!(few.is_some(), all.is_some(), "{name}"),
            }
        }
    }
}

#[test]
fn attention_reaches_as_far_as_its_segment() {
    let (_, model) = small_model();
    let rows = Rows::pack([vec![1u32, 2, 3], vec![9, 8]]);
    let joined = [Segment::new(0..5, 0..5)];
    let apart = common::values(&model.hidden(&rows).unwrap());
    let joined = common::values(&model.hidden_segments(&rows, &joined).unwrap());
    let differs = apart.iter().zip(&joined).any(|(a, b)| (a - b).abs() > 1e-2);
    assert!(differs, "rows of one segment must see each other");
}

/// Rows that see what is before their positions, in one sequence: as many sequences of one row.
#[test]
fn rising_rows_are_sequences_of_one_row() {
    let (_, model) = small_model();
    let mut rows = Rows::pack([[1u32, 2, 3]]);
    rows.push_rising(0..5, 3, &[4, 5, 6]);
    rows.push_rising(0..6, 3, &[39, 39, 39, 39]);
    let mut apart = Rows::pack([[1u32, 2, 3]]);
    for (position, id) in [(3, 4), (4, 5), (5, 6)] {
        apart.push_after(0..position, position as u32, &[id]);
    }
    for position in 3..7 {
        apart.push_after(0..position, position as u32, &[39]);
    }
    assert_eq!((&rows.ids, &rows.positions), (&apart.ids, &apart.positions));
    let (got, expected) = (model.hidden(&rows).unwrap(), model.hidden(&apart).unwrap());
    common::assert_close("hidden", &got, &expected, 1e-5);
    // Where only some are looked at, each still sees its own.
    for wanted in [&[6usize, 7, 8, 9][..], &[4, 7, 9], &[8]] {
        let of = |rows: &Rows| model.hidden_of(rows, wanted).unwrap();
        common::assert_close("some", &of(&rows), &of(&apart), 1e-5);
    }
}

/// Windows that go on from a shared past: each as if it were alone behind it, and the past as if
/// nothing followed.
#[test]
fn windows_know_their_past_and_not_each_other() {
    let (_, model) = small_model();
    let packed = |windows: &[(usize, &[u32])]| {
        let mut rows = Rows::pack([[1u32, 2, 3]]);
        rows.push_after(0..3, 3, &[4, 5]);
        for (past, ids) in windows {
            rows.push_after(0..*past, *past as u32, ids);
        }
        model.hidden(&rows).unwrap()
    };
    let (first, second): (&[u32], &[u32]) = (&[9, 9, 9], &[8, 9]);
    let together = packed(&[(3, first), (5, second)]);
    let given = packed(&[]);
    let of_first = packed(&[(3, first)]);
    let of_second = packed(&[(5, second)]);
    let part = |x: &Tensor, rows: std::ops::Range<usize>| {
        common::values(&x.narrow(0, rows.start, rows.len()).unwrap())
    };
    let near = |got: Vec<f32>, expected: Vec<f32>| {
        assert_eq!(got.len(), expected.len());
        let far = got.iter().zip(&expected).any(|(a, b)| (a - b).abs() > 1e-5);
        assert!(!far, "{got:?} {expected:?}");
    };
    near(part(&together, 0..5), part(&given, 0..5));
    near(part(&together, 5..8), part(&of_first, 5..8));
    near(part(&together, 8..10), part(&of_second, 5..7));
    // The prompt alone is a sequence like any other.
    let prompt = model.hidden(&Rows::pack([[1u32, 2, 3]])).unwrap();
    near(part(&given, 0..3), common::values(&prompt));
}

#[test]
fn weights_of_more_layers_than_the_config_are_refused() {
    let (params, _) = small_model();
    let mut cfg = Config::new(&small_sizes()).unwrap();
    cfg.n_layers -= 1;
    let error = Transformer::load(&cfg, &params).unwrap_err();
    assert!(matches!(error, Error::Config { .. }), "{error}");
}

#[test]
fn nll_is_minus_log_softmax_of_the_logits() {
    let (_, model) = small_model();
    let rows = Rows::pack([vec![1u32, 2, 3], vec![9, 8]]);
    let (wanted, targets) = ([4usize, 1], [39u32, 0]);
    let logits = model
        .logits(&rows, &Want::new(wanted, 0..40))
        .unwrap()
        .to_vec2::<f32>()
        .unwrap();
    let check = |nll: Tensor, temperatures: [f64; 2]| {
        let nll = nll.to_vec1::<f32>().unwrap();
        for (row, temperature) in temperatures.into_iter().enumerate() {
            let tempered = |logit: f32| f64::from(logit) / temperature;
            let sum: f64 = logits[row].iter().map(|x| tempered(*x).exp()).sum();
            let expected = sum.ln() - tempered(logits[row][targets[row] as usize]);
            let got = f64::from(nll[row]);
            assert!((got - expected).abs() < 1e-5, "{got} {expected}");
        }
    };
    check(model.nll(&rows, &wanted, &targets).unwrap(), [1.0, 1.0]);
    let at = |temperatures: [f32; 2]| model.tempered_nll(&rows, &wanted, &targets, &temperatures);
    check(at([2.0, 0.5]).unwrap(), [2.0, 0.5]);
    for bad in [0.0, -1.0, f32::NAN] {
        let error = at([1.0, bad]).unwrap_err().to_string();
        assert!(error.contains("one above 0"), "{error}");
    }
}

#[test]
fn initial_weights_depend_on_the_seed_alone_and_have_the_stated_spread() {
    let cfg = Config::new(&small_sizes()).unwrap();
    let (a, _) = Transformer::init(&cfg, 1, &Device::Cpu).unwrap();
    let (b, _) = Transformer::init(&cfg, 1, &Device::Cpu).unwrap();
    let (c, _) = Transformer::init(&cfg, 2, &Device::Cpu).unwrap();
    for (((name, a), (_, b)), (_, c)) in a.iter().zip(b.iter()).zip(c.iter()) {
        assert_eq!(common::values(a), common::values(b), "{name}");
        if name.contains("norm") || name.contains("ln_f") {
            assert!(common::values(a).iter().all(|x| *x == 1.0), "{name}");
            continue;
        }
        assert_ne!(common::values(a), common::values(c), "{name}");
        let is_residual = name.contains("blocks") && name.contains("_out");
        let std = if is_residual { 0.02 / 2.0 } else { 0.02 };
        let values = common::values(a);
        let got = (values.iter().map(|x| x * x).sum::<f32>() / values.len() as f32).sqrt();
        assert!((got / std - 1.0).abs() < 0.15, "{name}: {got} {std}");
    }
}

#[test]
fn a_tied_head_is_the_embedding_table_and_gets_both_gradients() {
    let cfg = Config::new(&mmada_nn::Sizes {
        weight_tying: true,
        ..small_sizes()
    })
    .unwrap();
    let (params, model) = Transformer::init(&cfg, 3, &Device::Cpu).unwrap();
    assert!(!params.contains("model.transformer.ff_out.weight"));
    let rows = Rows::pack([[1u32, 2]]);
    let loss = model.nll(&rows, &[0], &[5]).unwrap().sum_all().unwrap();
    let grads = loss.backward().unwrap();
    let wte = params
        .get("model.transformer.wte.weight", &[40, 32])
        .unwrap();
    let grad = grads.get(&wte).unwrap();
    // Row 1 is read by the embedding, row 5 only by the head.
    for row in [1, 5] {
        assert!(
            common::values(&grad.i(row).unwrap())
                .iter()
                .any(|x| *x != 0.0)
        );
    }
}

#[test]
fn what_does_not_fit_the_model_is_a_typed_error() {
    let (_, model) = small_model();
    let rows = Rows::pack([[1u32, 2, 3]]);
    let long = Rows::pack([vec![0u32; 25]]);
    let whole = rows.segments();
    let short = [Segment::new(0..2, 0..2)];
    let beyond = [Segment::new(0..3, 0..4)];
    let mut uneven = rows.clone();
    uneven.positions.pop();
    let want = |rows: Vec<usize>, ids| Want { rows, vocab: ids };
    let outcomes = [
        ("no rows", model.hidden(&Rows::default())),
        ("id", model.hidden(&Rows::pack([[40u32]]))),
        ("too long", model.hidden(&long)),
        ("positions", model.hidden_segments(&uneven, &whole)),
        ("uncovered", model.hidden_segments(&rows, &short)),
        ("keys", model.hidden_segments(&rows, &beyond)),
        ("wanted row", model.hidden_of(&rows, &[3])),
        ("wanted ids", model.logits(&rows, &want(vec![0], 0..41))),
        ("no ids", model.logits(&rows, &want(vec![0], 4..4))),
        ("target", model.nll(&rows, &[0], &[40])),
        ("targets", model.nll(&rows, &[0, 1], &[4])),
    ];
    for (what, outcome) in outcomes {
        let error = outcome.expect_err(what);
        assert!(matches!(error, Error::Input { .. }), "{what}: {error}");
    }
    let text = model.hidden(&long).unwrap_err().to_string();
    assert!(text.contains("24") && text.contains("25"), "{text}");
}
