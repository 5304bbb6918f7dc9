//! ImageReward as a judge, on a folder with random weights of the published names.

use mmada_data::picture::Picture;
use mmada_grade::{Case, ImageRewardScore, Judge, Reply, Truth};
use mmada_nn::{Init, Mode, Params};
use mmada_tensor::Device;
use mmada_tensor::random::{Key, Purpose};
use serde_json::Value;

use crate::tiny_clip;

/// Ids of the tokenizer of the test, more than the table of the small model in the file has.
const IDS: usize = 120;

/// A folder in the layout that the judge opens; names and sizes are those of the network's own test.
fn folder() -> tempfile::TempDir {
    let cases = include_str!("../../../nn/tests/image_reward.json");
    let mut cases: Value = serde_json::from_str(cases).unwrap();
    let dir = tiny_clip::folder();
    let mut params = Params::new(&Device::Cpu, Mode::Frozen);
    for (name, made_of) in cases["tensors"].as_object().unwrap() {
        let mut shape: Vec<usize> = serde_json::from_value(made_of["shape"].clone()).unwrap();
        if name.ends_with("word_embeddings.weight") {
            shape[0] = IDS;
        }
        let std = if name.starts_with("mlp.") { 0.3 } else { 0.1 };
        let key = Key::new(1, Purpose::Weights);
        params
            .fresh(name, &shape, Init::Normal { std }, key)
            .unwrap();
    }
    params.save(dir.path(), &Default::default()).unwrap();
    cases["med_config"]["vocab_size"] = IDS.into();
    let config = cases["med_config"].to_string();
    std::fs::write(dir.path().join("med_config.json"), config).unwrap();
    dir
}

#[test]
fn paintings_are_judged_in_batches() {
    let dir = folder();
    let judge = ImageRewardScore::open(dir.path(), &Device::Cpu).unwrap();
    let picture = |i: usize| {
        let pixels = (0..40 * 30 * 3).map(|at| ((at * (i + 3) * 31) % 251) as u8);
        Picture::new(40, 30, pixels.collect()).unwrap()
    };
    let pictures: Vec<Picture> = (0..20).map(picture).collect();
    let painted = pictures.iter().map(|picture| Case {
        prompt: "a red circle",
        shown: None,
        reply: Reply::Picture(picture),
        truth: Truth::Unknown,
    });
    let mut cases: Vec<Case> = painted.collect();
    cases[3].prompt = "red";
    let long = "red circle ".repeat(90);
    cases[4].prompt = &long;
    cases.push(Case {
        reply: Reply::Text("no picture"),
        ..cases[0]
    });
    let together = judge.judge(&cases);
    assert_eq!(together.len(), 21);
    assert!(together[20].is_err());
    let scores: Vec<f64> = together.iter().flatten().copied().collect();
    assert_eq!(scores.len(), 20);
    assert!(
        scores.windows(2).all(|pair| pair[0] != pair[1]),
        "{scores:?}"
    );
    for (case, score) in cases.iter().zip(&scores) {
        let alone = judge.judge(std::slice::from_ref(case)).remove(0).unwrap();
        assert!((alone - score).abs() < 1e-3 * (1.0 + score.abs()));
    }
    assert!(ImageRewardScore::open(tiny_clip::folder().path(), &Device::Cpu).is_err());
}
