//! `text_sampler/`: the canvas after every step, under the original's rule that any id may win.

use mmada_diffusion::{
    Allowed, CacheRule, Canvas, Commit, Rest, Sampler, Stop, TextPlan, Unconditional,
};
use serde_json::Value;

use crate::fake::seeded;
use crate::golden::{Network, get, json, visible};

#[test]
fn golden_text_canvases() {
    let file = json("text_sampler/cases.json");
    let mut network = Network::load(file["model"].as_str().unwrap());
    let cases = file["cases"].as_array().unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        check(case, &mut network);
    }
}

fn plan(case: &Value, network: &Network, batch: usize) -> TextPlan {
    let remasking: String = get(case, "remasking");
    let end: Option<u32> = get(case, "eot_token_id");
    TextPlan {
        steps: get(case, "steps"),
        block_length: get(case, "block_length"),
        ahead: None,
        temperature: get(case, "temperature"),
        commit: match remasking.as_str() {
            "low_confidence" => Commit::LowConfidence,
            _ => Commit::Random,
        },
        cache: CacheRule::Off,
        allowed: Allowed {
            range: 0..network.0.config().embedding_size as u32,
            banned: Vec::new(),
            banned_at: Vec::new(),
        },
        // The original stops when all rows of a batch agree; ours stops each canvas by itself.
        stop: match end {
            Some(token) if batch == 1 => Stop::BlockEnd { token },
            _ => Stop::Never,
        },
        rest: Rest::Masked,
    }
}

fn check(case: &Value, network: &mut Network) {
    let name: String = get(case, "name");
    let prompts: Vec<Vec<u32>> = get(case, "prompt");
    let scale: f32 = get(case, "cfg_scale");
    let mask: u32 = get(case, "mask_token_id");
    let length: usize = get(case, "gen_length");
    let attention: Option<Vec<Vec<u32>>> = get(case, "attention_mask");
    // The original drops the attention mask under guidance.
    let attention = attention.filter(|_| scale == 0.0);
    let seen = |b: usize, row: &[u32]| {
        visible(
            row,
            attention
                .as_ref()
                .map(|attention| &attention[b][..row.len()]),
        )
    };

    let mut canvases = Vec::new();
    for (b, prompt) in prompts.iter().enumerate() {
        let mut row = prompt.clone();
        row.resize(prompt.len() + length, mask);
        let ids = seen(b, &row);
        let unconditional = Unconditional::all_given(&ids, mask);
        let canvas = Canvas::text(ids, mask, plan(case, network, prompts.len())).unwrap();
        canvases.push(canvas.guided(scale, unconditional).unwrap());
    }
    // The original runs steps that commit nothing where steps exceed tokens; ours does not.
    let mut expected: Vec<Vec<Vec<u32>>> = get(case, "canvases");
    expected.dedup();
    let mut sampler = Sampler::new(network, canvases, seeded(0));
    for (index, expected) in expected.iter().enumerate() {
        let step = sampler
            .next()
            .unwrap_or_else(|| panic!("{name} ended at step {index}"));
        assert_eq!(step.unwrap().index, index);
        for (b, canvas) in sampler.canvases().iter().enumerate() {
            assert_eq!(
                canvas.ids(),
                seen(b, &expected[b]),
                "{name}, step {index}, row {b}"
            );
        }
    }
    let is_cut = prompts.len() > 1 && !case["eot_token_id"].is_null();
    assert!(
        is_cut || sampler.next().is_none(),
        "{name} has too many steps"
    );
    let last: Vec<Vec<u32>> = get(case, "final");
    for (b, canvas) in sampler.canvases().iter().enumerate() {
        if !is_cut {
            assert_eq!(canvas.ids(), seen(b, &last[b]), "{name}, final, row {b}");
        }
    }
}
