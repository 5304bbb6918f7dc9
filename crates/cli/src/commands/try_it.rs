//! `mmada try`: everything the model does, in under a minute.
//!
//! ```text
//!   two sums ─ a real picture described, and a question about it ─ two paintings ─ a shape anew
//! ```

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use console::style;
use mmada_data::picture::{Limits, Mask, Picture};
use mmada_grade::Drawing;
use mmada_model::{Message, Mmada, PaintOptions, TextOptions};

use super::paint;
use crate::args::TryArgs;
use crate::watch::{self, Sight};
use crate::{output, session};

/// A picture of a test split; nothing was trained on it. See `assets/examples/README.md`.
const TRIANGLE: &[u8] = include_bytes!("../../../../assets/examples/red-triangle.png");

/// Of the test splits of the arithmetic and the reasoning pack.
const PROBLEMS: [&str; 3] = [
    "What is 94 + 20?",
    "How many legs do 1 crab and 7 beetles have in total?",
    "Monty endures the color brown. Humza covets woodworking. Ossian execrates coffee. Who endures the color brown?",
];
const QUESTIONS: [&str; 2] = [
    "what is the color of the shape?",
    "does the image not contain a circle?",
];
const THING: &str = "red apple";
const PAINTING: &str = "a teal circle";
const REPAINTING: &str = "a red circle";

struct Show<'a> {
    model: &'a Mmada,
    seed: u64,
    output: &'a Path,
    written: Vec<PathBuf>,
}

pub(crate) fn run(args: &TryArgs) -> Result<()> {
    let started = std::time::Instant::now();
    output::create_dir(&args.output)?;
    let model = session::open(&args.model)?;
    let mut show = Show {
        model: &model,
        seed: args.model.seed,
        output: &args.output,
        written: Vec::new(),
    };
    let millions = model.params().element_count() as f64 / 1e6;
    output::line(format!(
        "One model ({millions:.1} M parameters, {}) that chats, describes pictures and paints them.",
        session::name(&args.model)
    ))?;
    output::line(
        "Each answer begins as masks (░); every step decides the tokens it is surest of.",
    )?;
    for problem in PROBLEMS {
        show.chat(problem)?;
    }
    let triangle = decode(TRIANGLE)?;
    show.describe("a picture it has never seen", &triangle, "")?;
    for question in QUESTIONS {
        show.describe("the same picture", &triangle, question)?;
    }
    let thing = show.paint(THING, "thing.png")?;
    let painted = show.paint(PAINTING, "painting.png")?;
    let repainted = show.repaint(&painted)?;
    let sheet = Picture::grid(&[triangle, thing, painted, repainted], 4, 4)?;
    show.save("sheet.png", &sheet)?;
    heading(&format!("done in {:.1} s", started.elapsed().as_secs_f64()))?;
    for path in &show.written {
        output::line(path.display().to_string())?;
    }
    output::line(format!(
        "Next: mmada chat \"What is 12 + 30?\" --show-thought\n      \
         mmada paint \"a green triangle\" --count 4 --watch\n      \
         mmada describe {} \"what is the shape?\"",
        args.output.join("painting.png").display()
    ))
}

impl Show<'_> {
    fn chat(&self, question: &str) -> Result<()> {
        heading(&format!("chat: {question}"))?;
        let options = self.text(&self.model.defaults().text);
        let mut run = self.model.chat(&[Message::user(question)], &options)?;
        watch::drive(&mut run, self.model, "chat", Sight::new(true))?;
        let reply = run
            .finish()?
            .pop()
            .context("chat: the run gave no answer")?;
        if let Some(reasoning) = &reply.thought.reasoning {
            output::line(format!("it thinks   {reasoning}"))?;
        }
        output::line(format!("it answers  {}", reply.thought.answer))
    }

    fn describe(&self, what: &str, picture: &Picture, question: &str) -> Result<()> {
        let asked = self.model.defaults().asked(question);
        heading(&format!("describe {what}: {asked}"))?;
        super::show([picture])?;
        let options = self.text(&self.model.defaults().describe);
        let mut run = self.model.describe(picture, question, &options)?;
        watch::drive(&mut run, self.model, "describe", Sight::new(true))?;
        let reply = run
            .finish()?
            .pop()
            .context("describe: the run gave no answer")?;
        output::line(format!("it answers  {}", reply.thought.answer))
    }

    fn paint(&mut self, prompt: &str, name: &str) -> Result<Picture> {
        heading(&format!("paint: {prompt}"))?;
        let thought = &self.model.defaults().thought;
        let sight = Sight::new(true);
        let mut run = paint::painted(self.model, prompt, thought, &self.painting(), sight)?;
        let painted = run
            .paintings
            .pop()
            .context("paint: the run gave no picture")?
            .picture;
        for thought in run.thoughts {
            output::line(format!("it thinks   {thought}"))?;
        }
        super::show([&painted])?;
        self.save(name, &painted)?;
        Ok(painted)
    }

    fn repaint(&mut self, painted: &Picture) -> Result<Picture> {
        heading(&format!("repaint where it is: {REPAINTING}"))?;
        let mask = Mask::new(
            painted.width(),
            painted.height(),
            around_the_drawing(painted, self.model.image_tokenizer()?.factor()),
        )?;
        let mut run = self
            .model
            .inpaint(painted, &mask, REPAINTING, &self.painting())?;
        watch::drive(&mut run, self.model, "repaint", Sight::new(true))?;
        let repainted = run
            .finish()?
            .pop()
            .context("inpaint: the run gave no picture")?
            .picture;
        super::show([painted, &repainted])?;
        self.save("repainted.png", &repainted)?;
        Ok(repainted)
    }

    fn save(&mut self, name: &str, picture: &Picture) -> Result<()> {
        let path = self.output.join(name);
        super::save(&path, picture)?;
        self.written.push(path);
        Ok(())
    }

    fn text(&self, defaults: &TextOptions) -> TextOptions {
        TextOptions {
            seed: self.seed,
            ..defaults.clone()
        }
    }

    fn painting(&self) -> PaintOptions {
        PaintOptions {
            seed: self.seed,
            count: 1,
            ..self.model.defaults().paint.clone()
        }
    }
}

fn decode(bytes: &[u8]) -> Result<Picture> {
    Picture::decode(bytes, &Limits::default()).context("the example picture inside this program")
}

fn heading(text: &str) -> Result<()> {
    output::line(format!("\n{}", style(text).bold()))
}

/// The pixels of the box around the drawing and `margin` more on each side; all of them where the
/// judge of drawings sees none.
fn around_the_drawing(picture: &Picture, margin: usize) -> Vec<bool> {
    let (width, height) = (picture.width(), picture.height());
    let Some(bounds) = Drawing::read(picture).bounds else {
        return vec![true; width * height];
    };
    let span = |first: usize, length: usize| first.saturating_sub(margin)..first + length + margin;
    let columns = span(bounds.left, bounds.width);
    let rows = span(bounds.top, bounds.height);
    (0..width * height)
        .map(|at| columns.contains(&(at % width)) && rows.contains(&(at / width)))
        .collect()
}
