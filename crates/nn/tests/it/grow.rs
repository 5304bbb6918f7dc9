//! Larger networks that compute what smaller ones compute.

use mmada_nn::{Config, Error, Growth, Init, Mode, Params, Sizes, Transformer};
use mmada_tensor::random::{Key, Purpose};
use mmada_tensor::{Device, Rows, Tensor, Want};

use crate::common::{Golden, assert_close, golden, golden_model, small_sizes, values};

fn logits(model: &Transformer, rows: &Rows) -> Tensor {
    let want = Want::new(0..rows.len(), 0..model.config().embedding_size);
    model.logits(rows, &want).unwrap()
}

/// A model whose gains differ from each other, as trained ones do.
fn small(weight_tying: bool) -> (Config, Params) {
    let sizes = Sizes {
        weight_tying,
        ..small_sizes()
    };
    let cfg = Config::new(&sizes).unwrap();
    let (mut params, _) = Transformer::init(&cfg, 3, &Device::Cpu).unwrap();
    let key = Key::new(4, Purpose::Weights);
    let mut drawn = Params::new(&Device::Cpu, Mode::Frozen);
    for (name, tensor) in params.clone().iter() {
        let init = match tensor.dims().len() {
            1 => Init::Uniform {
                low: 0.5,
                high: 2.0,
            },
            _ => Init::Normal { std: 0.2 },
        };
        drawn.fresh(name, tensor.dims(), init, key).unwrap();
        params
            .set(name, &drawn.get(name, tensor.dims()).unwrap())
            .unwrap();
    }
    (cfg, params)
}

/// Wider; deeper; more hidden units; all of it.
fn growths(cfg: &Config) -> [Growth; 4] {
    let d_model = Some(cfg.d_model * 3 / 2);
    let n_layers = Some(cfg.n_layers + 2);
    let mlp_hidden_size = Some(cfg.mlp_hidden_size + 5);
    let none = Growth::default();
    [
        Growth { d_model, ..none },
        Growth { n_layers, ..none },
        Growth {
            mlp_hidden_size,
            ..none
        },
        Growth {
            d_model,
            n_layers,
            mlp_hidden_size,
        },
    ]
}

#[test]
fn a_grown_model_computes_the_same() {
    let (params, model) = golden_model(Mode::Frozen);
    let rows = Rows::pack(Golden::read(&golden("transformer/io.safetensors")).ids("ids"));
    let plain = |tied| {
        let (cfg, params) = small(tied);
        let rows = Rows::pack([vec![1, 5, 9, 2, 39, 9], vec![7], vec![7, 7, 3, 9]]);
        (cfg, params, rows)
    };
    let golden = (model.config().clone(), params, rows);
    for (cfg, params, rows) in [golden, plain(false), plain(true)] {
        let before = logits(&Transformer::load(&cfg, &params).unwrap(), &rows);
        for to in growths(&cfg) {
            let (larger, grown) = Transformer::grown(&cfg, &params, &to, 5).unwrap();
            assert_eq!(larger.head_width(), cfg.head_width());
            assert!(grown.element_count() > params.element_count());
            let model = Transformer::load(&larger, &grown).unwrap();
            assert_close(&format!("{to:?}"), &logits(&model, &rows), &before, 2e-3);
            // What a run would save is the larger network.
            let read = Config::parse(&larger.to_json().to_string()).unwrap();
            assert_eq!(read, larger);
        }
    }
}

#[test]
fn what_is_new_learns() {
    let (cfg, params) = small(false);
    let [.., to] = growths(&cfg);
    let (larger, grown) = Transformer::grown(&cfg, &params, &to, 5).unwrap();
    let model = Transformer::load(&larger, &grown).unwrap();
    let rows = Rows::pack([vec![1, 5, 9, 2, 39, 9]]);
    let nll = model.nll(&rows, &[0, 2, 5], &[4, 8, 15]).unwrap();
    let grads = nll.sum_all().unwrap().backward().unwrap();
    let d = larger.d_model;
    for (name, var) in grown.vars() {
        let Some(part) = name.strip_suffix(".weight") else {
            continue;
        };
        let gradient = values(grads.get(&var).unwrap());
        // The last row of what writes to the stream, the last column of the embedding.
        let new = match part.rsplit('.').next().unwrap() {
            "wte" => gradient.iter().skip(d - 1).step_by(d).copied().collect(),
            "attn_out" | "ff_out" if part.contains("blocks") => {
                gradient[gradient.len() / d * (d - 1)..].to_vec()
            }
            _ => continue,
        };
        assert!(new.iter().any(|value: &f32| *value != 0.0), "{name}");
    }
}

#[test]
fn impossible_growth_is_refused_by_key() {
    let (cfg, params) = small(false);
    let none = Growth::default();
    // Heads of 8, and two of them share their keys.
    let cases = [
        (
            "d_model",
            Growth {
                d_model: Some(16),
                ..none
            },
        ),
        (
            "d_model",
            Growth {
                d_model: Some(40),
                ..none
            },
        ),
        (
            "d_model",
            Growth {
                d_model: Some(49),
                ..none
            },
        ),
        (
            "d_model",
            Growth {
                d_model: Some(1 << 40),
                ..none
            },
        ),
        (
            "n_layers",
            Growth {
                n_layers: Some(1),
                ..none
            },
        ),
        (
            "mlp_hidden_size",
            Growth {
                mlp_hidden_size: Some(47),
                ..none
            },
        ),
    ];
    for (expected, to) in cases {
        match Transformer::grown(&cfg, &params, &to, 5) {
            Err(Error::Config { key, .. }) => assert_eq!(&*key, expected),
            other => panic!("{to:?} gave {other:?}"),
        }
    }
}

/// A network that no machine has room for is refused before room is asked for.
#[test]
fn a_network_beyond_all_memory_is_refused() {
    let sizes = Sizes {
        n_layers: 4096,
        d_model: 1 << 14,
        mlp_hidden_size: 1 << 16,
        ..small_sizes()
    };
    let cfg = Config::new(&sizes).unwrap();
    let error = Transformer::init(&cfg, 3, &Device::Cpu).err().unwrap();
    assert!(error.to_string().contains("parameters"), "{error}");
}
