//! `image_sampler/`: canvas, draws, counts and temperature of every step.

use std::collections::HashMap;

use mmada_diffusion::{
    Anneal, Canvas, Count, Draw, Finish, ImagePlan, Move, Noise, Sampler, Unconditional,
};
use mmada_tensor::Tensor;
use mmada_tensor::random::Purpose;
use serde_json::Value;

use crate::golden::{Network, get, json, tensors, visible};

/// Uniforms `[step][row][image position]`, and where the picture starts in each row.
struct Recorded {
    token: Vec<Vec<Vec<f32>>>,
    gumbel: Vec<Vec<Vec<f32>>>,
    starts: Vec<usize>,
}

impl Noise for Recorded {
    fn uniforms(&mut self, draw: Draw, out: &mut [f64]) {
        let table = match draw.purpose {
            Purpose::Token => &self.token,
            _ => &self.gumbel,
        };
        let row = draw.example as usize;
        let u = table[draw.step as usize][row][draw.position - self.starts[row]];
        out.fill(f64::from(u));
    }
}

#[test]
fn golden_image_canvases() {
    let file = json("image_sampler/cases.json");
    let noise = tensors("image_sampler/noise.safetensors");
    let mut network = Network::load(file["model"].as_str().unwrap());
    let cases = file["cases"].as_array().unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        check(case, &noise, &mut network);
    }
}

fn canvas(case: &Value, b: usize) -> (Canvas, usize) {
    let inputs: Vec<Vec<u32>> = get(case, "input_ids");
    let attention: Vec<Vec<u32>> = get(case, "attention_mask");
    let image_start: usize = get(case, "image_start");
    let ids = visible(&inputs[b], Some(&attention[b]));
    let start = image_start - (inputs[b].len() - ids.len());
    let total: usize = get(case, "n_image_tokens");
    let offset: u32 = get(case, "image_token_offset");
    let codes = offset..offset + get::<u32>(case, "codebook_size");
    let mut plan = ImagePlan::new(start..start + total, codes, get(case, "timesteps"));
    plan.schedule = get::<String>(case, "schedule").parse().unwrap();
    plan.temperature = get(case, "temperature");
    plan.anneal = Anneal::Compounding;
    plan.count = Count::Whole;
    plan.finish = Finish::LeaveOne;
    plan.token_temperature = match get::<String>(case, "mode").as_str() {
        "greedy" => 0.0,
        _ => 1.0,
    };
    let canvas = Canvas::image(ids, get(case, "mask_token_id"), plan).unwrap();
    let (Some(rows), Some(sees)) = (
        get::<Option<Vec<Vec<u32>>>>(case, "uncond_input_ids"),
        get::<Option<Vec<Vec<u32>>>>(case, "uncond_attention_mask"),
    ) else {
        return (canvas, start);
    };
    // Start of picture belongs to both; the prefix ends before it.
    let prefix = visible(
        &rows[b][..image_start - 1],
        Some(&sees[b][..image_start - 1]),
    );
    let unconditional = Unconditional::Prefix {
        ids: prefix,
        shared_from: start - 1,
    };
    let scale = get(case, "guidance_scale");
    (canvas.guided(scale, unconditional).unwrap(), start)
}

fn check(case: &Value, noise: &HashMap<String, Tensor>, network: &mut Network) {
    let name: String = get(case, "name");
    let rows = case["input_ids"].as_array().unwrap().len();
    let attention: Vec<Vec<u32>> = get(case, "attention_mask");
    let (canvases, starts): (Vec<_>, Vec<_>) = (0..rows).map(|b| canvas(case, b)).unzip();
    let table = |kind: &str| match get::<Option<String>>(case, "noise_key") {
        Some(key) => noise[&format!("{key}.{kind}")].to_vec3::<f32>().unwrap(),
        None => Vec::new(),
    };
    let recorded = Recorded {
        token: table("u_token"),
        gumbel: table("u_gumbel"),
        starts: starts.clone(),
    };
    let expected: Vec<Vec<Vec<u32>>> = get(case, "canvases");
    let mut sampler = Sampler::new(network, canvases, Box::new(recorded));
    for (index, expected) in expected.iter().enumerate() {
        let step = sampler
            .next()
            .unwrap_or_else(|| panic!("{name} ended at {index}"))
            .unwrap();
        for (b, canvas) in sampler.canvases().iter().enumerate() {
            let place = format!("{name}, step {index}, row {b}");
            let seen = visible(&expected[b], Some(&attention[b]));
            assert_eq!(canvas.ids(), seen, "{place}");
            check_move(case, &step.moves[b], starts[b], &place);
        }
    }
    assert!(sampler.next().is_none(), "{name} has too many steps");
    let codes: Vec<Vec<u32>> = get(case, "final_codes");
    for (canvas, codes) in sampler.canvases().iter().zip(codes) {
        assert_eq!(canvas.codes().unwrap(), codes, "{name}");
    }
}

fn check_move(case: &Value, step: &Move, start: usize, place: &str) {
    let counts: Vec<Vec<usize>> = get(case, "mask_len");
    let counts = &counts[step.step];
    assert_eq!(
        step.masked,
        counts[step.canvas.min(counts.len() - 1)],
        "{place}"
    );
    let temperatures: Vec<f64> = get(case, "effective_temperature");
    // A plan holds its temperature in f32.
    assert!(
        (step.temperature - temperatures[step.step]).abs() < 1e-6,
        "{place}"
    );
    let draws: Vec<Vec<Vec<u32>>> = get(case, "sampled_codes");
    let offset: u32 = get(case, "image_token_offset");
    for draw in step.committed.iter().chain(&step.held) {
        let expected = draws[step.step][step.canvas][draw.position - start];
        assert_eq!(
            draw.id - offset,
            expected,
            "{place}, position {}",
            draw.position
        );
    }
}
