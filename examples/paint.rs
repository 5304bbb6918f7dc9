//! Paints a picture and watches the masks go: `cargo run --release --example paint -- MODEL WORDS OUT.png`

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::Path;

use mmada_model::{LoadOptions, Mmada};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, words, out] = args.as_slice() else {
        return Err("usage: paint MODEL WORDS OUT.png".into());
    };
    let model = Mmada::open(Path::new(model), &LoadOptions::default())?;
    let mut options = model.defaults().paint.clone();
    options.seed = 7;

    // A request is an iterator of views, one per denoising step, ...
    let mut run = model.paint(words, &options)?;
    for view in &mut run {
        let view = view?;
        let is_masked = &view.canvases[0].is_masked;
        let masks = is_masked.iter().filter(|is_masked| **is_masked).count();
        println!(
            "step {:2} of {}: {masks} tokens still masked",
            view.step + 1,
            view.total
        );
    }
    // ... and then its results.
    let paintings = run.finish()?;
    std::fs::write(out, paintings[0].picture.encode_png()?)?;
    Ok(())
}
