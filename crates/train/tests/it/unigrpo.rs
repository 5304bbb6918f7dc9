//! UniGRPO: its formulas against golden numbers, its noising, its rewards.

use std::collections::HashMap;

use mmada_data::Example;
use mmada_grade::grader::{Grader, Reply, Truth};
use mmada_grade::{Case, Each, Judge, Judged};
use mmada_model::{LoadOptions, Mmada};
use mmada_nn::Mode;
use mmada_tensor::random::{Key, Purpose};
use mmada_tensor::{Device, Tensor, candle};
use mmada_tokens::Task;
use mmada_train::objective::Network;
use mmada_train::unigrpo::judges::{Judges, JudgesConfig, guarded};
use mmada_train::unigrpo::policy::{
    Completion, Levels, Ratio, Scale, Surrogate, advantages, structured_levels,
};
use mmada_train::unigrpo::reward::{GraderName, Reward, Rewards};
use mmada_train::unigrpo::rollout::{Estimate, log_likelihoods};
use mmada_train::unigrpo::{EstimateBatch, Policy};
use serde_json::Value;

use crate::golden::golden;
use crate::rollouts::half_learnt;

fn cases() -> Value {
    serde_json::from_slice(&std::fs::read(golden("unigrpo/cases.json")).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    let values = value.as_array().unwrap().iter();
    values.map(|value| value.as_f64().unwrap()).collect()
}

fn assert_close(what: &str, got: &[f64], expected: &[f64]) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (got, expected) in got.iter().zip(expected) {
        assert!(
            (got - expected).abs() < 1e-5,
            "{what}: {got}, expected {expected}"
        );
    }
}

#[test]
fn golden_levels() {
    for case in cases()["timesteps"].as_array().unwrap() {
        let number = |name: &str| case[name].as_u64().unwrap() as u32;
        let got = structured_levels(number("T"), number("t1"), number("mu") as usize);
        let got: Vec<f64> = got.into_iter().map(f64::from).collect();
        assert_eq!(got, numbers(&case["timesteps"]));
    }
}

#[test]
fn golden_advantages() {
    for case in cases()["advantages"].as_array().unwrap() {
        let rewards = numbers(&case["rewards"]);
        for (scale, name) in [
            (Scale::Population, "advantage_population_std"),
            (Scale::Sample, "advantage_sample_std"),
        ] {
            assert_close(name, &advantages(&rewards, scale), &numbers(&case[name]));
        }
    }
}

/// The rows of a `[rows, tokens]` tensor at masked tokens only.
fn masked(tensors: &HashMap<String, Tensor>, name: &str, mask: &[Vec<i64>]) -> Vec<Vec<f32>> {
    let rows = tensors[name].to_vec2::<f32>().unwrap();
    let rows = rows.iter().zip(mask).map(|(row, mask)| {
        let kept = row.iter().zip(mask).filter(|(_, mask)| **mask == 1);
        kept.map(|(value, _)| *value).collect()
    });
    rows.collect()
}

#[test]
fn golden_losses_and_gradients() {
    let tensors =
        candle::safetensors::load(golden("unigrpo/io.safetensors"), &Device::Cpu).unwrap();
    for case in cases()["losses"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let of = |part: &str| format!("{name}.{part}");
        let mask = tensors[&of("mask")].to_vec2::<i64>().unwrap();
        let logp = |part: &str| masked(&tensors, &of(part), &mask);
        let (new, old, reference) = (logp("logp_new"), logp("logp_old"), logp("logp_ref"));
        let advantages = tensors[&of("advantages")].to_vec1::<f32>().unwrap();
        let rows = 0..new.len();
        let completions: Vec<_> = rows
            .map(|row| Completion {
                new: &new[row],
                old: &old[row],
                reference: &reference[row],
                advantage: f64::from(advantages[row]),
            })
            .collect();
        let number = |key: &str| case[key].as_f64().unwrap();
        for (ratio, loss, surrogate, clipped, gradient) in [
            (
                Ratio::Sequence,
                "loss_seq",
                "seq_surrogate_mean",
                "fraction_seq_clipped",
                "grad_loss_seq",
            ),
            (
                Ratio::Token,
                "loss_token",
                "token_surrogate_mean_over_group",
                "",
                "grad_loss_token",
            ),
        ] {
            let rule = Surrogate {
                ratio,
                clip_low: number("eps"),
                clip_high: number("eps"),
                kl: number("beta"),
            };
            let value = rule.value(&completions);
            let what = |part: &str| format!("{name} {ratio:?} {part}");
            assert_close(&what("loss"), &[value.loss], &[number(loss)]);
            assert_close(&what("surrogate"), &[value.surrogate], &[number(surrogate)]);
            assert_close(
                &what("kl"),
                &[value.kl],
                &[number("kl_token_mean_over_group")],
            );
            if !clipped.is_empty() {
                assert_close(&what("clipped"), &[value.clipped], &[number(clipped)]);
            }
            let expected = masked(&tensors, &of(gradient), &mask).concat();
            let expected: Vec<f64> = expected.into_iter().map(f64::from).collect();
            assert_close(&what("gradient"), &value.gradient, &expected);
        }
    }
}

#[test]
fn levels_are_drawn_as_named() {
    // The example of the paper's §5.2.
    assert_eq!(structured_levels(900, 100, 5), [100, 300, 500, 700, 900]);
    for example in 0..200 {
        let mut stream = Key::new(3, Purpose::NoiseLevel).example(example).stream();
        let mut draw = |levels: Levels| levels.draw(1000, 4, &mut stream);
        let structured = draw(Levels::Structured);
        assert!(structured.is_sorted() && structured[3] == 1000 && structured[0] < 1000);
        let inside = draw(Levels::Inside);
        assert!(inside.is_sorted() && inside[0] + inside[3] == 1000);
        assert!(draw(Levels::Random).iter().all(|level| *level < 1000));
        assert_eq!(draw(Levels::Full), [1000; 4]);
    }
    // One update alone sees all levels, not only the lower half.
    let once = |example| {
        let mut stream = Key::new(3, Purpose::NoiseLevel).example(example).stream();
        Levels::Inside.draw(1000, 1, &mut stream)[0]
    };
    assert!((0..50).any(|example| once(example) > 600));
}

struct Broken(fn() -> f64);

impl Grader for Broken {
    fn name(&self) -> &str {
        "broken"
    }

    fn grade(&self, _: Reply<'_>, _: Truth<'_>) -> f64 {
        (self.0)()
    }
}

struct Odd;

impl Judge for Odd {
    fn judge(&self, cases: &[Case<'_>]) -> Vec<Judged> {
        assert!(cases.len() < 3, "too many");
        vec![Ok(f64::INFINITY)]
    }
}

#[test]
fn a_judge_that_fails_gives_no_verdict() {
    let case = Case {
        prompt: "",
        shown: None,
        reply: Reply::Text("a"),
        truth: Truth::Text("a"),
    };
    let judged = |judge: &dyn Judge, n: usize| guarded(judge, &vec![case; n]);
    let why = |reasons: &[&str]| -> Vec<Judged> {
        reasons
            .iter()
            .map(|reason| Err((*reason).to_owned()))
            .collect()
    };
    assert_eq!(judged(&Each(Broken(|| 0.25)), 2), [Ok(0.25), Ok(0.25)]);
    assert_eq!(judged(&Each(Broken(|| f64::NAN)), 1), why(&["it gave NaN"]));
    let broken = Each(Broken(|| panic!("no verdict")));
    assert_eq!(judged(&broken, 1), why(&["it panicked"]));
    // Too few numbers, none of them finite; and a panic of the whole batch.
    assert_eq!(
        judged(&Odd, 2),
        why(&["it gave inf", "it gave too few numbers"])
    );
    assert_eq!(judged(&Odd, 3), why(&["it panicked"; 3]));
}

fn example() -> Example {
    Example {
        key: 0,
        name: "a".to_owned(),
        source: "s".into(),
        task: Task::Chat,
        messages: Vec::new(),
        prompt: "What is 2 + 2?".to_owned(),
        thought: None,
        answer: "4".to_owned(),
        image: None,
        weight: 1.0,
        blank: 0.0,
        patch_dropout: 0.0,
        thought_share: None,
        shows: None,
    }
}

fn judges(rewards: &Rewards, config: &JudgesConfig) -> mmada_train::Result<Judges> {
    Judges::open(rewards, config, &Device::Cpu)
}

#[test]
fn rewards_add_up_by_task() {
    let example = example();
    let rewards = Rewards::default();
    let paper = judges(&rewards, &JudgesConfig::default()).unwrap();
    let table = [
        ("<think>2 + 2 = 4.</think>4", 2.5),
        ("4", 2.0),
        ("$\\frac{8}{2}$", 2.0),
        ("<think>so</think>5", 0.5),
        ("5", 0.0),
    ];
    let replies = table.map(|(reply, _)| (&example, Reply::Text(reply)));
    let verdicts = paper.judge(Task::Chat, &replies);
    for ((reply, expected), verdict) in table.into_iter().zip(verdicts) {
        let verdict = verdict.unwrap();
        assert_eq!(verdict.reward, expected, "{reply}");
        assert_eq!(verdict.parts.len(), 2);
    }
    let plain = Rewards {
        chat: vec![Reward {
            grader: GraderName::Plain,
            weight: 3.0,
        }],
        ..rewards
    };
    let plain = judges(&plain, &JudgesConfig::default()).unwrap();
    let verdicts = plain.judge(Task::Chat, &[(&example, Reply::Text("the 4."))]);
    assert_eq!(verdicts[0].as_ref().unwrap().reward, 3.0);
    assert!(plain.judge(Task::Text, &[]).is_empty());
}

#[test]
fn graders_have_names_in_run_files() {
    let read = |text: &str| toml::from_str::<Reward>(text);
    for name in [
        "answer",
        "format",
        "plain",
        "clip",
        "http://127.0.0.1:1/judge",
    ] {
        let reward = read(&format!("grader = {name:?}\nweight = 0.1")).unwrap();
        assert_eq!(
            (reward.grader.to_string(), reward.weight),
            (name.to_owned(), 0.1)
        );
        let written = toml::to_string(&reward).unwrap();
        assert_eq!(read(&written).unwrap(), reward);
    }
    let error = read("grader = \"beauty\"").unwrap_err().to_string();
    assert!(
        error.contains("answer") && error.contains("http://"),
        "{error}"
    );

    let rewards = |text: &str| toml::from_str::<Rewards>(text).unwrap();
    let none = JudgesConfig::default();
    for (text, part) in [
        ("chat = [{ grader = \"clip\" }]", "objective.rewards.chat"),
        ("describe = [{ grader = \"drawing\" }]", "judges paintings"),
        ("paint = [{ grader = \"format\" }]", "judges texts"),
        ("think_paint = [{ grader = \"plain\" }]", "judges texts"),
        ("paint = [{ grader = \"clip\" }]", "objective.judges.clip"),
        (
            "paint = [{ grader = \"likeness\" }]",
            "objective.judges.likeness",
        ),
        (
            "paint = [{ grader = \"coverage\" }]",
            "objective.judges.coverage",
        ),
        ("chat = [{ grader = \"coverage\" }]", "judges paintings"),
        (
            "paint = [{ grader = \"image_reward\" }]",
            "objective.judges.image_reward",
        ),
        (
            "chat = [{ grader = \"plain\", weight = nan }]",
            "weight of plain",
        ),
    ] {
        let error = judges(&rewards(text), &none).err().unwrap().to_string();
        assert!(error.contains(part), "{error}");
    }
    // Each of the two has packs of its own: the other's are not taken instead.
    for (own, other) in [("likeness", "coverage"), ("coverage", "likeness")] {
        let given: JudgesConfig = toml::from_str(&format!("{other} = [\"nowhere\"]")).unwrap();
        let asked = rewards(&format!("paint = [{{ grader = \"{own}\" }}]"));
        let error = judges(&asked, &given).err().unwrap().to_string();
        assert!(
            error.contains(&format!("objective.judges.{own}")),
            "{error}"
        );
    }
    let mut lazy = none;
    lazy.endpoint.timeout = 0.0;
    assert!(judges(&Rewards::default(), &lazy).is_err());
}

/// A batch that is cut into forwards has the loss and the gradients of one that is not.
#[test]
fn a_batch_is_the_sum_of_its_forwards() {
    let world = half_learnt();
    let options = LoadOptions {
        mode: Mode::Trainable,
        ..LoadOptions::default()
    };
    let model = Mmada::open(world.path("first/model"), &options).unwrap();
    let mask = model.vocab().special.mask;
    // Rows of three lengths, with one, two and three masks.
    let estimates = (1..4_u32).map(|n| {
        let masks = 2..2 + n as usize;
        let mut ids: Vec<u32> = (1..8 + n).collect();
        let targets = ids[masks.clone()].to_vec();
        ids[masks.clone()].fill(mask);
        Estimate {
            ids,
            pieces: Vec::new(),
            positions: masks.collect(),
            targets,
            temperature: 1.0,
            old: Vec::new(),
            reference: Vec::new(),
            advantage: f64::from(n) - 2.0,
        }
    });
    let mut estimates: Vec<Estimate> = estimates.collect();
    let old = log_likelihoods(&model, &estimates).unwrap();
    for (estimate, old) in estimates.iter_mut().zip(old) {
        estimate.reference = old.iter().map(|p| p + 0.1).collect();
        estimate.old = old;
    }
    let batch = EstimateBatch {
        estimates,
        asked: 4,
        metrics: Vec::new(),
    };
    let learnt = |rows: usize| {
        let policy = Policy {
            model: model.clone().with_row_budget(rows),
            surrogate: Surrogate {
                kl: 0.1,
                ..Surrogate::default()
            },
        };
        let loss = policy.loss(&batch).unwrap();
        let grads = loss.total.backward().unwrap();
        let vars = policy.model.trainable().vars();
        let norms = vars.iter().map(|(_, var)| {
            let grad = grads.get(var).expect("every tensor has a gradient");
            let norm = grad.sqr().unwrap().sum_all().unwrap();
            f64::from(norm.to_scalar::<f32>().unwrap()).sqrt()
        });
        let norms: Vec<f64> = norms.collect();
        (f64::from(loss.total.to_scalar::<f32>().unwrap()), norms)
    };
    let (whole, expected) = learnt(1 << 20);
    let sum: f64 = expected.iter().sum();
    assert!(sum > 1e-3, "{expected:?}");
    let shares = |norms: &[f64]| norms.iter().map(|norm| norm / sum).collect::<Vec<f64>>();
    // One row a forward: the budget is never below a completion. Twenty rows: two, then one.
    for rows in [1, 20] {
        let (loss, norms) = learnt(rows);
        assert!((loss - whole).abs() < 1e-5, "{rows}: {loss} {whole}");
        assert_close("gradient norms", &shares(&norms), &shares(&expected));
    }
}
