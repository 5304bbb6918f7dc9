//! A transformer whose blocks are computed twice: losses and gradients to the last bit.

use mmada_nn::lora::MODULES;
use mmada_nn::{Config, Lora, LoraConfig, Params, Sizes, Transformer};
use mmada_tensor::{Activations, Device, Precision, Rows, Tensor, Var};

use crate::common::{small_sizes, values};

const CPU: Device = Device::Cpu;

fn bits(tensor: &Tensor) -> Vec<u32> {
    values(tensor).into_iter().map(f32::to_bits).collect()
}

/// Both passes in either way; every one of `vars` must have a gradient.
fn check(what: &str, model: &Transformer, vars: &[(String, Var)]) {
    let rows = Rows::pack([vec![1, 5, 9, 2, 9, 9], vec![7], vec![7, 7, 3, 9]]);
    let some = vec![0, 3, 4, 9];
    for wanted in [some, (0..rows.len()).collect()] {
        let targets: Vec<u32> = wanted.iter().map(|row| (row * 3 % 11) as u32).collect();
        let passes = [Activations::Kept, Activations::Recomputed].map(|how| {
            let nll = how.scope(|| model.nll(&rows, &wanted, &targets).unwrap());
            (bits(&nll), nll.sum_all().unwrap().backward().unwrap())
        });
        let [(loss, kept), (loss_again, again)] = passes;
        assert_eq!(loss, loss_again, "{what}: loss");
        for (name, var) in vars {
            let [kept, again] = [&kept, &again].map(|grads| grads.get(var).map(bits));
            assert!(kept.is_some() && kept == again, "{what}: {name}");
        }
    }
}

fn init(sizes: &Sizes) -> (Config, Params) {
    let cfg = Config::new(sizes).unwrap();
    let (params, _) = Transformer::init(&cfg, 3, &CPU).unwrap();
    (cfg, params)
}

#[test]
fn whole_models_learn_the_same() {
    for weight_tying in [false, true] {
        let (cfg, params) = init(&Sizes {
            weight_tying,
            ..small_sizes()
        });
        let model = Transformer::load(&cfg, &params).unwrap();
        for precision in [Precision::F32, Precision::Bf16] {
            let what = format!("tied {weight_tying}, {precision:?}");
            precision.scope(|| check(&what, &model, &params.vars()));
        }
    }
}

#[test]
fn adapters_learn_the_same() {
    let (cfg, params) = init(&small_sizes());
    for modules in [&MODULES[..], &["q_proj", "v_proj"], &["ff_out"]] {
        let lora = LoraConfig {
            r: 3,
            alpha: 6.0,
            target_modules: modules.iter().map(|name| (*name).to_owned()).collect(),
        };
        let lora = Lora::init(&lora, &cfg, "base", 5, &CPU).unwrap();
        let model = Transformer::adapted(&cfg, &params.frozen(), Some(&lora)).unwrap();
        check(&modules.join(" "), &model, &lora.params().vars());
    }
}
