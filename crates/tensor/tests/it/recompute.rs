//! Blocks whose activations are computed twice: the same bits, a smaller graph, and who gets what.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use mmada_tensor::ops::{self, Heads};
use mmada_tensor::{Activations, Precision, Result, Rows, Segment, Tensor, Var, candle, recompute};

use crate::support::{normal, numbers};

/// How wide the rows are, and how many there are.
const WIDTH: usize = 24;
const ROWS: usize = 17;

/// A block of a transformer in small, of 6 variables; every second row comes out.
fn through(x: &Tensor, w: &[Tensor], segments: &[Segment]) -> Result<Tensor> {
    let heads = Heads {
        query: 3,
        key_value: 3,
    };
    let n = ops::rms_norm(x, &w[0], 1e-5)?;
    let q = ops::linear(&n, &w[1])?;
    let mixed = ops::attention(&q, &n, &n, heads, segments)?;
    let x = ops::add_linear(x, &mixed, &w[2])?;
    let hidden = ops::gated_linear(&x, &w[3], &w[4])?;
    let x = ops::add_linear(&x, &hidden, &w[5])?;
    let chosen: Vec<u32> = (0..x.dim(0)? as u32).step_by(2).collect();
    Ok(x.index_select(&Tensor::new(chosen, x.device())?, 0)?)
}

fn weights(seed: u64) -> Vec<Var> {
    let shapes: [&[usize]; 6] = [
        &[WIDTH],
        &[WIDTH, WIDTH],
        &[WIDTH, WIDTH],
        &[40, WIDTH],
        &[40, WIDTH],
        &[WIDTH, 40],
    ];
    let vars = shapes.iter().zip(seed..);
    vars.map(|(shape, seed)| Var::from_tensor(&normal(seed, shape)).unwrap())
        .collect()
}

/// A loss of two blocks, the second of them on the rows that the first gives.
fn loss(x: &Tensor, first: &[Var], second: &[Var]) -> Tensor {
    let block = |x: &Tensor, vars: &[Var]| {
        let vars: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
        let segments = Rows::pack([vec![0u32; 4], vec![0; x.dim(0).unwrap() - 4]]).segments();
        recompute::block(x, move |x| through(x, &vars, &segments)).unwrap()
    };
    let y = block(&block(x, first), second);
    let factors = normal(9, y.dims());
    (y * factors).unwrap().sum_all().unwrap()
}

/// A result that begins within another's storage is handed out like any other.
#[test]
fn a_part_of_a_larger_value_comes_out() {
    let x = normal(1, &[6, 4]);
    let part = |how: Activations| {
        let var = Var::from_tensor(&x).unwrap();
        let tail = |x: &Tensor| Ok((x * 2.0)?.narrow(0, 2, 3)?);
        let y = how.scope(|| recompute::block(var.as_tensor(), tail).unwrap());
        let grads = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        (numbers(&y), numbers(grads.get(&var).unwrap()))
    };
    assert_eq!(part(Activations::Kept), part(Activations::Recomputed));
}

fn bits(x: &Tensor) -> Vec<u32> {
    numbers(x).into_iter().map(f32::to_bits).collect()
}

/// The loss and all gradients, with x a variable or a constant.
fn all_bits(how: Activations, precision: Precision, x: &Tensor) -> Vec<Vec<u32>> {
    let (first, second) = (weights(10), weights(20));
    let loss = precision.scope(|| how.scope(|| loss(x, &first, &second)));
    // Outside of the scopes: an operation remembers what it was made in.
    let grads = loss.backward().unwrap();
    let tensors = first.iter().chain(&second).map(Var::as_tensor);
    let variables = tensors.chain(Some(x).filter(|x| x.is_variable()));
    let gradients = variables.map(|variable| grads.get(variable).map(bits));
    [bits(&loss)]
        .into_iter()
        .chain(gradients.map(Option::unwrap_or_default))
        .collect()
}

#[test]
fn values_and_gradients_are_the_same_bits() {
    let constant = normal(1, &[ROWS, WIDTH]);
    let variable = Var::from_tensor(&constant).unwrap();
    for precision in [Precision::F32, Precision::Bf16] {
        for (x, gradients) in [(&constant, 12), (variable.as_tensor(), 13)] {
            let kept = all_bits(Activations::Kept, precision, x);
            let again = all_bits(Activations::Recomputed, precision, x);
            assert!(kept == again, "{precision:?}, {gradients} gradients");
            let found = kept[1..].iter().filter(|bits| !bits.is_empty()).count();
            assert_eq!(found, gradients);
        }
    }
}

#[test]
fn nothing_within_a_block_is_kept() {
    let x = Var::from_tensor(&normal(1, &[ROWS, WIDTH])).unwrap();
    let (first, second) = (weights(10), weights(20));
    let elements = |how: Activations| -> usize {
        let loss = how.scope(|| loss(&x, &first, &second));
        let nodes = loss.sorted_nodes().into_iter();
        nodes
            .filter(|node| !node.is_variable())
            .map(Tensor::elem_count)
            .sum()
    };
    // The results of both blocks, their product with the factors, the loss (a sum, reshaped), 12 numbers on
    // the way.
    let between = (9 + 5 + 5) * WIDTH + 2 + 12;
    assert_eq!(elements(Activations::Recomputed), between);
    assert!(elements(Activations::Kept) > 5 * between);
}

#[test]
fn a_receiver_gets_the_gradients_last_block_first() {
    let x = Var::from_tensor(&normal(1, &[ROWS, WIDTH])).unwrap();
    let (first, second) = (weights(10), weights(20));
    let expected = loss(&x, &first, &second).backward().unwrap();

    let received = Arc::new(Mutex::new(Vec::new()));
    let receiver = {
        let received = received.clone();
        move |variable: &Tensor, gradient: &Tensor| -> Result<()> {
            // A variable may be changed at once: nothing looks at it any more.
            Var::from_tensor(variable)?.set(&variable.zeros_like()?)?;
            let entry = (variable.id(), bits(gradient));
            received.lock().unwrap().push(entry);
            Ok(())
        }
    };
    let how = Activations::Passed(Arc::new(receiver));
    let rest = how.scope(|| loss(&x, &first, &second)).backward().unwrap();
    assert_eq!(bits(rest.get(&x).unwrap()), bits(expected.get(&x).unwrap()));
    let received = received.lock().unwrap();
    let order: HashMap<_, _> = received.iter().map(|(id, _)| *id).zip(0..).collect();
    for (block, vars) in [(1, &first), (0, &second)] {
        for var in vars {
            assert!(rest.get(var).is_none());
            let place = order[&var.id()];
            assert_eq!(place / 6, block, "the order of the blocks");
            assert_eq!(received[place].1, bits(expected.get(var).unwrap()));
        }
    }
    assert_eq!(received.len(), 12);
}

#[test]
fn errors_of_the_second_time_come_back() {
    let x = Var::from_tensor(&normal(1, &[ROWS, WIDTH])).unwrap();
    let calls = Arc::new(Mutex::new(0));
    let f = move |x: &Tensor| -> Result<Tensor> {
        *calls.lock().unwrap() += 1;
        match *calls.lock().unwrap() {
            1 => Ok(x.sqr()?),
            _ => Err(candle::Error::msg("not again").into()),
        }
    };
    let y = Activations::Recomputed.scope(|| recompute::block(&x, f).unwrap());
    let error = y.sum_all().unwrap().backward().unwrap_err();
    assert!(error.to_string().contains("not again"), "{error}");
    assert!(!Activations::are_recomputed());
}
