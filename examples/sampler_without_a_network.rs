//! The sampler knows no network: anything that gives logits can be sampled from.
//! `cargo run --release --example sampler_without_a_network`

#![allow(clippy::print_stdout)]

use std::error::Error;

use mmada_diffusion::{Canvas, Denoiser, Sampler, SeededNoise, TextPlan};
use mmada_tensor::{Device, Result, Rows, Tensor, Want};
use mmada_tokens::Vocab;

/// Says at every position the id of the position, and is surer the further right it is.
struct CountsUp;

impl Denoiser for CountsUp {
    fn logits(&mut self, rows: &Rows, want: &Want) -> Result<Tensor> {
        let mut logits = vec![0.0f32; want.rows.len() * want.vocab.len()];
        for (line, &row) in logits.chunks_mut(want.vocab.len()).zip(&want.rows) {
            let position = rows.positions[row] as usize;
            line[position] = 5.0 + position as f32;
        }
        let shape = (want.rows.len(), want.vocab.len());
        Ok(Tensor::from_vec(logits, shape, &Device::Cpu)?)
    }
}

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let vocab = Vocab::published();
    let mask = vocab.special.mask;
    let plan = TextPlan::greedy(&vocab, 5, 10);
    let canvas = Canvas::text(vec![mask; 10], mask, plan)?;
    let mut sampler = Sampler::new(CountsUp, vec![canvas], Box::new(SeededNoise(0)));
    while let Some(step) = sampler.next() {
        step?;
        let glyph = |&id: &u32| {
            if id == mask {
                "▒".to_owned()
            } else {
                id.to_string()
            }
        };
        let line: Vec<String> = sampler.canvases()[0].ids().iter().map(glyph).collect();
        println!("{}", line.join(" "));
    }
    Ok(())
}
