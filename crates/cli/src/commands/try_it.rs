//! `mmada try`: everything the model does, in under a minute.
//!
//! ```text
//!   two sums ─ a real picture described, and a question about it ─ a painting ─ half of it anew
//! ```

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use console::style;
use mmada_data::picture::{Limits, Mask, Picture};
use mmada_model::{Message, Mmada, PaintOptions, TextOptions};

use crate::args::TryArgs;
use crate::watch::{self, Sight};
use crate::{output, session};

/// A picture of a test split; nothing was trained on it. See `assets/examples/README.md`.
const TRIANGLE: &[u8] = include_bytes!("../../../../assets/examples/red-triangle.png");

/// Questions of the arithmetic pack's test split.
const SUMS: [&str; 2] = [
    "What is 94 + 20?",
    "How many legs do 1 crab and 7 beetles have in total?",
];
const QUESTIONS: [&str; 2] = [
    "what color is the shape?",
    "does the image not contain a circle?",
];
const PAINTING: &str = "a blue circle";
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
    for sum in SUMS {
        show.chat(sum)?;
    }
    let triangle = decode(TRIANGLE)?;
    show.describe("a picture it has never seen", &triangle, "")?;
    for question in QUESTIONS {
        show.describe("the same picture", &triangle, question)?;
    }
    let painted = show.paint()?;
    let repainted = show.repaint(&painted)?;
    let sheet = Picture::grid(&[triangle, painted, repainted], 3, 4)?;
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
        let asked = if question.is_empty() {
            &self.model.defaults().question
        } else {
            question
        };
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

    fn paint(&mut self) -> Result<Picture> {
        heading(&format!("paint: {PAINTING}"))?;
        let mut run = self.model.paint(PAINTING, &self.painting())?;
        watch::drive(&mut run, self.model, "paint", Sight::new(true))?;
        let painted = run
            .finish()?
            .pop()
            .context("paint: the run gave no picture")?
            .picture;
        super::show([&painted])?;
        self.save("painting.png", &painted)?;
        Ok(painted)
    }

    fn repaint(&mut self, painted: &Picture) -> Result<Picture> {
        heading(&format!("repaint where it is: {REPAINTING}"))?;
        let mask = Mask::new(painted.width(), painted.height(), drawing(painted))?;
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

/// The pixels of the box around what is drawn, and one patch more on each side: what differs
/// from the ground, whose colour is that of the first pixel. Everything, where nothing is drawn.
fn drawing(picture: &Picture) -> Vec<bool> {
    const PATCH: usize = 8;
    const DIFFERENCE: u32 = 120;
    let (width, height) = (picture.width(), picture.height());
    let at = |index: usize| {
        picture
            .pixel(index % width, index / width)
            .unwrap_or_default()
    };
    let ground = at(0);
    let is_drawn = |index: &usize| {
        let pairs = at(*index).into_iter().zip(ground);
        pairs.map(|(a, b)| u32::from(a.abs_diff(b))).sum::<u32>() > DIFFERENCE
    };
    let drawn: Vec<usize> = (0..width * height).filter(is_drawn).collect();
    let span = |values: &dyn Fn(usize) -> usize| {
        let first = drawn.iter().map(|&index| values(index)).min().unwrap_or(0);
        let last = drawn
            .iter()
            .map(|&index| values(index))
            .max()
            .unwrap_or(usize::MAX / 2);
        first.saturating_sub(PATCH)..=last + PATCH
    };
    let (columns, rows) = (span(&|index| index % width), span(&|index| index / width));
    (0..width * height)
        .map(|index| columns.contains(&(index % width)) && rows.contains(&(index / width)))
        .collect()
}
