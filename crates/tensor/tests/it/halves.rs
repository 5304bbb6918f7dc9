//! Halves of a block as one operation: against their twins, and against the operations they are made of.

use mmada_tensor::ops::{self, Heads, Looking};
use mmada_tensor::{Precision, Result, Rows, Segment, Tensor, Var, composed};

use crate::support::{assert_close, check, normal, numbers, run};

const EPS: f64 = 1e-5;

type Op<'a> = &'a dyn Fn(&[Tensor]) -> Result<Tensor>;

/// A block in small: r rows in segments, d wide, m hidden, heads c wide.
struct Block {
    d: usize,
    m: usize,
    c: usize,
    heads: Heads,
    segments: Vec<Segment>,
    cos: Tensor,
    sin: Tensor,
}

impl Block {
    fn new(lengths: &[usize], (d, m): (usize, usize), heads: (usize, usize), c: usize) -> Self {
        let rows = Rows::pack(lengths.iter().map(|length| vec![0u32; *length]));
        let angles = normal(7, &[rows.len(), c / 2]);
        Self {
            d,
            m,
            c,
            heads: Heads {
                query: heads.0,
                key_value: heads.1,
            },
            segments: rows.segments(),
            cos: angles.cos().unwrap(),
            sin: angles.sin().unwrap(),
        }
    }

    fn name(&self) -> String {
        let rows = self.cos.dim(0).unwrap();
        format!("{rows}×{} to {}, {:?}", self.d, self.m, self.heads)
    }

    fn looking(&self) -> Looking<'_> {
        Looking {
            heads: self.heads,
            cos: &self.cos,
            sin: &self.sin,
            segments: &self.segments,
        }
    }

    /// x, the gain, gate, up and out.
    fn feed_forward(&self) -> Vec<Tensor> {
        let (d, m) = (self.d, self.m);
        self.inputs(&[&[m, d], &[m, d], &[d, m]])
    }

    /// x, the gain, the matrices of q, k and v, and out.
    fn self_attention(&self) -> Vec<Tensor> {
        let (d, q) = (self.d, self.heads.query * self.c);
        let kv = self.heads.key_value * self.c;
        self.inputs(&[&[q, d], &[kv, d], &[kv, d], &[d, q]])
    }

    fn inputs(&self, weights: &[&[usize]]) -> Vec<Tensor> {
        let rows = [
            normal(1, &[self.cos.dim(0).unwrap(), self.d]),
            normal(2, &[self.d]),
        ];
        let weights = (3..).zip(weights).map(|(seed, shape)| {
            let scale = (shape[1] as f64).sqrt().recip();
            (normal(seed, shape) * scale).unwrap()
        });
        rows.into_iter().chain(weights).collect()
    }
}

fn blocks() -> Vec<Block> {
    vec![
        Block::new(&[1], (1, 1), (1, 1), 2),
        Block::new(&[3, 1, 9], (33, 7), (3, 3), 6),
        Block::new(&[70, 61], (64, 200), (4, 2), 16),
    ]
}

fn feed_forward(t: &[Tensor]) -> Result<Tensor> {
    ops::feed_forward(&t[0], (&t[1], EPS), [&t[2], &t[3], &t[4]])
}

fn self_attention(t: &[Tensor], block: &Block) -> Result<Tensor> {
    let weights = [&t[2], &t[3], &t[4], &t[5]];
    ops::self_attention(&t[0], (&t[1], EPS), weights, &block.looking())
}

/// The same by the operations one by one.
fn feed_forward_apart(t: &[Tensor]) -> Result<Tensor> {
    let n = ops::rms_norm(&t[0], &t[1], EPS)?;
    ops::add_linear(&t[0], &ops::gated_linear(&n, &t[2], &t[3])?, &t[4])
}

fn self_attention_apart(t: &[Tensor], block: &Block) -> Result<Tensor> {
    let (heads, cos, sin) = (block.heads, &block.cos, &block.sin);
    let n = ops::rms_norm(&t[0], &t[1], EPS)?;
    let q = ops::rotary(&ops::linear(&n, &t[2])?, cos, sin, heads.query)?;
    let k = ops::rotary(&ops::linear(&n, &t[3])?, cos, sin, heads.key_value)?;
    let v = ops::linear(&n, &t[4])?;
    let mixed = ops::attention(&q, &k, &v, heads, &block.segments)?;
    ops::add_linear(&t[0], &mixed, &t[5])
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn halves_match_their_twins() {
    for block in blocks() {
        let name = block.name();
        check(
            &format!("feed_forward {name}"),
            1e-5,
            &block.feed_forward(),
            &feed_forward,
            &|t| composed::feed_forward(&t[0], (&t[1], EPS), [&t[2], &t[3], &t[4]]),
        );
        check(
            &format!("self_attention {name}"),
            1e-5,
            &block.self_attention(),
            &|t| self_attention(t, &block),
            &|t| {
                let weights = [&t[2], &t[3], &t[4], &t[5]];
                composed::self_attention(&t[0], (&t[1], EPS), weights, &block.looking())
            },
        );
    }
}

#[test]
fn halves_are_the_bits_of_their_parts() {
    for (block, precision) in blocks()
        .iter()
        .flat_map(|block| [Precision::F32, Precision::Bf16].map(|p| (block, p)))
    {
        let name = format!("{}, {precision:?}", block.name());
        let inputs = block.feed_forward();
        let [whole, apart] = precision.scope(|| {
            [
                run(&inputs, &feed_forward),
                run(&inputs, &feed_forward_apart),
            ]
        });
        for (i, (whole, apart)) in whole.iter().zip(&apart).enumerate() {
            assert!(
                !whole.is_empty() && bits(whole) == bits(apart),
                "{name}: {i}"
            );
        }
        let inputs = block.self_attention();
        let [whole, apart] = precision.scope(|| {
            [
                run(&inputs, &|t| self_attention(t, block)),
                run(&inputs, &|t| self_attention_apart(t, block)),
            ]
        });
        for (i, (whole, apart)) in whole.iter().zip(&apart).enumerate() {
            // Into x and the gain, three products are added in another order.
            match i {
                1 | 2 => assert_close(&format!("{name}: {i}"), 1e-5, whole, apart),
                _ => assert!(
                    !whole.is_empty() && bits(whole) == bits(apart),
                    "{name}: {i}"
                ),
            }
        }
    }
}

/// Only what is learnt has a gradient, and that is the same whatever else is learnt.
#[test]
fn frozen_inputs_have_no_gradient() {
    let block = &blocks()[1];
    let (first, second) = (block.feed_forward(), block.self_attention());
    let attend = |t: &[Tensor]| self_attention(t, block);
    let halves: [(&[Tensor], Op<'_>); 2] = [(&first, &feed_forward), (&second, &attend)];
    for (inputs, half) in halves {
        let all = run(inputs, half);
        for learnt in 0..inputs.len() {
            let vars: Vec<Var> = inputs
                .iter()
                .map(|input| Var::from_tensor(input).unwrap())
                .collect();
            let tensors: Vec<Tensor> = (vars.iter().enumerate())
                .map(|(i, var)| match i == learnt {
                    true => var.as_tensor().clone(),
                    false => var.as_detached_tensor(),
                })
                .collect();
            let y = half(&tensors).unwrap();
            let loss = (&y * normal(99, y.dims())).unwrap().sum_all().unwrap();
            let grads = loss.backward().unwrap();
            for (i, (var, tensor)) in vars.iter().zip(&tensors).enumerate() {
                match i == learnt {
                    true => {
                        let gradient = numbers(grads.get(var).unwrap());
                        assert_eq!(bits(&gradient), bits(&all[i + 1]), "{i}");
                    }
                    false => assert!(grads.get(tensor).is_none(), "{i} beside {learnt}"),
                }
            }
        }
        let y = half(inputs).unwrap();
        assert!(!y.track_op(), "nothing is learnt");
    }
}

#[test]
fn halves_refuse_shapes_that_do_not_fit() {
    let block = &blocks()[1];
    let good = block.feed_forward();
    for wrong in 0..good.len() {
        let mut t = good.clone();
        t[wrong] = normal(1, &[4, 5]);
        assert!(feed_forward(&t).is_err(), "feed_forward input {wrong}");
    }
    let good = block.self_attention();
    for wrong in 0..good.len() {
        let mut t = good.clone();
        t[wrong] = normal(1, &[4, 5]);
        assert!(
            self_attention(&t, block).is_err(),
            "self_attention input {wrong}"
        );
    }
    let with = |looking: &Looking<'_>| {
        let weights = [&good[2], &good[3], &good[4], &good[5]];
        ops::self_attention(&good[0], (&good[1], EPS), weights, looking)
    };
    assert!(with(&block.looking()).is_ok());
    let (angles, odd) = (
        normal(1, &[13, 4]),
        Heads {
            query: 3,
            key_value: 2,
        },
    );
    for (what, looking) in [
        (
            "cosines",
            Looking {
                cos: &angles,
                ..block.looking()
            },
        ),
        (
            "heads",
            Looking {
                heads: odd,
                ..block.looking()
            },
        ),
        (
            "segments",
            Looking {
                segments: &block.segments[1..],
                ..block.looking()
            },
        ),
    ] {
        assert!(with(&looking).is_err(), "{what}");
    }
}
