//! Sample sheets: what a person looks at while a model learns.
//!
//! ```text
//!   OUT/samples/step-00000500-reconstructions.png      panels as PNG grids
//!   OUT/samples/step-00000500.txt                      chats and descriptions
//! ```

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use mmada_data::Mixture;
use mmada_data::picture::Picture;
use mmada_model::{DescribeRequest, Mmada, PaintOptions, PaintRequest, TextOptions};
use mmada_nn::atomic;
use mmada_tokens::Message;

use crate::config::SamplesConfig;
use crate::objective::Sheet;
use crate::tensorboard::{EventWriter, Payload};
use crate::{Error, Result};

/// Writes a sheet into `folder` and its pictures into the event file; returns the files.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn write(
    folder: &Path,
    step: u64,
    sheet: &Sheet,
    events: &mut EventWriter,
) -> Result<Vec<PathBuf>> {
    std::fs::create_dir_all(folder).map_err(Error::file(folder, "create the folder of samples"))?;
    let mut written = Vec::new();
    for (name, picture) in &sheet.pictures {
        let path = folder.join(format!("step-{step:08}-{name}.png"));
        let png = picture.encode_png().map_err(Error::data)?;
        atomic::write_atomic(&path, |file| file.write_all(&png))?;
        let image = Payload::Image {
            tag: panel(name).to_owned(),
            height: picture.height() as u32,
            width: picture.width() as u32,
            png,
        };
        events.write(step, image)?;
        written.push(path);
    }
    if !sheet.text.is_empty() {
        let path = folder.join(format!("step-{step:08}.txt"));
        atomic::write_atomic(&path, |file| file.write_all(sheet.text.as_bytes()))?;
        written.push(path);
    }
    Ok(written)
}

/// The tag of a panel in event files: upstream's name where it has one.
fn panel(name: &str) -> &str {
    match name {
        "paintings" => "Generated images",
        "pictures" => "Understanding images",
        "reconstructions" => "Original images v.s. Reconstructed images",
        other => other,
    }
}

/// Pictures of the data that the model is asked about, always the same.
pub(crate) struct Probes {
    pictures: Vec<Picture>,
}

impl Probes {
    /// The first pictures of every source that has some, equally many of each.
    ///
    /// # Errors
    /// When a shard is broken.
    pub(crate) fn collect(mixture: &Mixture, count: usize, model: &Mmada) -> Result<Self> {
        let mut pictures = Vec::new();
        if model.image_parts().is_some() {
            pictures = first_pictures(mixture, count)?;
        }
        Ok(Self { pictures })
    }

    /// What the model chats, describes and paints with its present weights.
    ///
    /// # Errors
    /// Those of sampling.
    pub(crate) fn sheet(&self, model: &Mmada, config: &SamplesConfig, seed: u64) -> Result<Sheet> {
        let mut sheet = Sheet::default();
        let defaults = model.defaults();
        let paint = PaintOptions {
            seed,
            ..defaults.paint.clone()
        };
        let thought = TextOptions {
            seed,
            ..defaults.thought.clone()
        };
        if !config.paint.is_empty() && model.image_parts().is_some() {
            let prompts = config.paint.iter().zip(0..);
            let requests = prompts.map(|(prompt, example)| PaintRequest { prompt, example });
            let requests: Vec<_> = requests.collect();
            let painted = model.paintings(&requests, &thought, &paint, &mut |_| {});
            let (thoughts, paintings, _) = painted.map_err(Error::model)?;
            let pictures: Vec<_> = paintings
                .into_iter()
                .map(|painting| painting.picture)
                .collect();
            let grid = Picture::grid(&pictures, COLUMNS, 2).map_err(Error::data)?;
            sheet.pictures.push(("paintings", grid));
            for (index, prompt) in config.paint.iter().enumerate() {
                let (line, column) = (index / COLUMNS + 1, index % COLUMNS + 1);
                let _ = writeln!(sheet.text, "painting {line}.{column}: {prompt}");
                if let Some(thought) = thoughts.get(index) {
                    let _ = writeln!(sheet.text, "  thought: {}", thought.text);
                }
            }
        }
        self.describe(model, config, seed, &mut sheet)?;
        let options = TextOptions {
            seed,
            ..defaults.text.clone()
        };
        for message in &config.chat {
            let turns = [Message::user(message.as_str())];
            let run = model.chat(&turns, &options);
            let replies = run.and_then(|run| run.finish()).map_err(Error::model)?;
            for reply in replies {
                let _ = writeln!(sheet.text, "\nuser: {message}\nmodel: {}", reply.text);
            }
        }
        Ok(sheet)
    }

    fn describe(
        &self,
        model: &Mmada,
        config: &SamplesConfig,
        seed: u64,
        sheet: &mut Sheet,
    ) -> Result<()> {
        if self.pictures.is_empty() || config.describe.is_empty() {
            return Ok(());
        }
        let options = TextOptions {
            seed,
            ..model.defaults().describe.clone()
        };
        let pictures: Vec<&Picture> = self.pictures.iter().collect();
        let seen = model.look(&pictures).map_err(Error::model)?;
        // As the model sees them: through the image tokenizer and back.
        let shown = seen.iter().map(|seen| model.decode(&seen.codes, seen.grid));
        let shown: Vec<_> = shown
            .collect::<std::result::Result<_, _>>()
            .map_err(Error::model)?;
        let grid = Picture::grid(&shown, COLUMNS, 2).map_err(Error::data)?;
        sheet.pictures.push(("pictures", grid));
        for question in &config.describe {
            let requests = seen.iter().zip(0..);
            let requests = requests.map(|(seen, example)| DescribeRequest {
                seen,
                question,
                example,
            });
            let run = model.describe_many(&requests.collect::<Vec<_>>(), &options);
            let replies = run.and_then(|run| run.finish()).map_err(Error::model)?;
            let _ = writeln!(sheet.text, "\nuser: {question}");
            for (index, reply) in replies.iter().enumerate() {
                let (line, column) = (index / COLUMNS + 1, index % COLUMNS + 1);
                let _ = writeln!(sheet.text, "picture {line}.{column}: {}", reply.text);
            }
        }
        Ok(())
    }
}

/// Pictures per line of a sheet.
pub(crate) const COLUMNS: usize = 8;

/// The first readable pictures of every source that has pictures, equally many of each.
pub(crate) fn first_pictures(mixture: &Mixture, count: usize) -> Result<Vec<Picture>> {
    let mut found = Vec::new();
    for source in mixture.sources() {
        let (mut ids, mut pictures) = (Vec::new(), Vec::new());
        for example in source.iter_once().take(LOOKED_AT) {
            let Some(image) = example.map_err(Error::data)?.image else {
                continue;
            };
            // Several views and several questions show one picture again.
            if pictures.len() == count || ids.contains(&image.id()) {
                continue;
            }
            if let Ok(picture) = image.picture() {
                ids.push(image.id());
                pictures.push(picture);
            }
        }
        if !pictures.is_empty() {
            found.push(pictures);
        }
    }
    let share = count.div_ceil(found.len().max(1));
    let mut pictures: Vec<_> = found
        .into_iter()
        .flat_map(|p| p.into_iter().take(share))
        .collect();
    pictures.truncate(count);
    Ok(pictures)
}

/// Examples of a source among which pictures for the sheet are looked for.
const LOOKED_AT: usize = 256;
