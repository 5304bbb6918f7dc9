//! Pictures as image codes, each encoded once: the image tokenizer is frozen, and encoding costs
//! more than a training step.
//!
//! ```text
//!   picture file ──hash──▶ known? ──yes──▶ codes
//!                            └─no──▶ decode, fit, encode in batches ──▶ codes ──▶ OUT/codes.bin
//! ```
//!
//! A picture that data give as codes is known at once. The file is keyed by the content of pictures
//! and by a fingerprint of what makes codes of them: the encoder and the size of pictures, not the
//! decoder.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use mmada_data::picture::Picture;
use mmada_data::{ImageBytes, Mixture};
use mmada_model::Mmada;
use mmada_nn::atomic;

use crate::{Error, Event, Reporter, Result, weights};

/// The codes of a run's pictures, and the file that keeps them.
#[derive(Debug)]
pub struct CodeCache {
    path: PathBuf,
    /// Of encoder, picture size and the way pictures are fitted to it.
    fingerprint: u64,
    known: Known,
    /// How many of them the file has.
    saved: AtomicUsize,
}

/// Codes by the content of the picture. `None`: the picture cannot be read.
type Known = HashMap<u64, Option<Vec<u32>>>;

/// Pictures encoded at once.
const BATCH: usize = 32;
/// Pictures between two saves while many are encoded.
const SAVE_EVERY: usize = 4096;
const MAGIC: &[u8; 8] = b"mmcodes1";

impl CodeCache {
    /// Opens the cache of a run; a file that is absent or damaged is an empty cache, and so is one of
    /// another encoder if it is the run's own.
    ///
    /// # Errors
    /// When the weights of the image tokenizer cannot be read, or a file that is there; when the file
    /// `is_shared` and holds the codes of another encoder, or no codes at all.
    pub fn open(path: &Path, is_shared: bool, model: &Mmada) -> Result<Self> {
        let fingerprint = match model.image_parts() {
            Some(image) => {
                let shown = &model.defaults().image;
                let about = format!("{}x{} {:?}", shown.width, shown.height, shown.fit);
                let of_encoder = |name: &str| !name.starts_with("decoder.");
                weights::fingerprint(&image.params, of_encoder, &about)?
            }
            None => 0,
        };
        let bytes = match std::fs::read(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::file(path, "read the codes of pictures in")(error));
            }
            read => read.unwrap_or_default(),
        };
        if !bytes.is_empty() && !bytes.starts_with(MAGIC) {
            return Err(Error::Config(format!(
                "objective.codes: expected {} to hold codes of pictures, got another kind of file, \
                 which they would replace; name another file",
                path.display()
            )));
        }
        let known = match decode(&bytes) {
            Some((saved, known)) if saved == fingerprint => known,
            Some(_) if is_shared && model.image_parts().is_some() => {
                return Err(Error::Config(not_ours(path)));
            }
            _ => HashMap::new(),
        };
        Ok(Self {
            path: path.to_path_buf(),
            fingerprint,
            saved: AtomicUsize::new(known.len()),
            known,
        })
    }

    /// The codes of a picture, encoded now if they are not known; `None` if it is no picture.
    ///
    /// # Errors
    /// Those of the network.
    pub fn codes(&mut self, image: &ImageBytes, model: &Mmada) -> Result<Option<&[u32]>> {
        let id = image.id();
        if !self.known.contains_key(&id) {
            self.encode(&[(id, image.clone())], model)?;
        }
        Ok(self.known.get(&id).and_then(Option::as_deref))
    }

    /// Encodes every picture of the data that is not known yet, and saves the file. Once `stop` is
    /// set it saves what is done and returns; the next run goes on from there.
    ///
    /// # Errors
    /// When a shard is broken, the network fails or the file cannot be written.
    pub fn encode_all(
        &mut self,
        mixture: &Mixture,
        model: &Mmada,
        reporter: &dyn Reporter,
        stop: &AtomicBool,
    ) -> Result<()> {
        let total = self.count_unknown(mixture)?;
        if total == 0 {
            return Ok(());
        }
        let (mut waiting, mut done) = (Vec::new(), 0);
        let mut report = |cache: &mut Self, waiting: &mut Vec<_>| -> Result<()> {
            cache.encode(waiting, model)?;
            let before = done / SAVE_EVERY;
            done += waiting.len();
            waiting.clear();
            reporter.report(&Event::Preparing {
                what: "pictures as codes",
                done,
                total,
            });
            match done / SAVE_EVERY > before {
                true => cache.save(),
                false => Ok(()),
            }
        };
        for example in mixture.iter_once() {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let Some(image) = example.map_err(Error::data)?.image else {
                continue;
            };
            let id = image.id();
            let is_waiting = waiting.iter().any(|(other, _)| *other == id);
            if self.known.contains_key(&id) || is_waiting {
                continue;
            }
            waiting.push((id, image));
            if waiting.len() == BATCH {
                report(self, &mut waiting)?;
            }
        }
        report(self, &mut waiting)?;
        self.save()
    }

    fn count_unknown(&self, mixture: &Mixture) -> Result<usize> {
        let mut unknown = std::collections::HashSet::new();
        for example in mixture.iter_once() {
            if let Some(image) = example.map_err(Error::data)?.image {
                let id = image.id();
                if !self.known.contains_key(&id) {
                    unknown.insert(id);
                }
            }
        }
        Ok(unknown.len())
    }

    fn encode(&mut self, images: &[(u64, ImageBytes)], model: &Mmada) -> Result<()> {
        let (mut ids, mut pictures) = (Vec::new(), Vec::new());
        for (id, image) in images {
            if let Some(codes) = image.codes() {
                check(&codes, model)?;
                self.known.insert(*id, Some(codes));
                continue;
            }
            match image.picture() {
                Ok(picture) => {
                    ids.push(*id);
                    // At the model's size: a group of photographs is held at once.
                    pictures.push(model.fitted(&picture));
                }
                Err(_) => {
                    self.known.insert(*id, None);
                }
            }
        }
        let pictures: Vec<&Picture> = pictures.iter().collect();
        let seen = model.look(&pictures).map_err(Error::model)?;
        for (id, seen) in ids.into_iter().zip(seen) {
            self.known.insert(id, Some(seen.codes));
        }
        Ok(())
    }

    /// Writes the file if it lacks codes that are known.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(&self) -> Result<()> {
        match self.saved.load(Ordering::Relaxed) == self.known.len() {
            true => Ok(()),
            false => self.save(),
        }
    }

    /// Writes the file, atomically.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self) -> Result<()> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.fingerprint.to_le_bytes());
        let mut ids: Vec<_> = self.known.iter().collect();
        ids.sort_unstable_by_key(|(id, _)| **id);
        for (id, codes) in ids {
            // Pictures that cannot be read are tried again by the next run.
            let Some(codes) = codes else {
                continue;
            };
            bytes.extend_from_slice(&id.to_le_bytes());
            bytes.extend_from_slice(&(codes.len() as u32).to_le_bytes());
            for code in codes {
                bytes.extend_from_slice(&code.to_le_bytes());
            }
        }
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        atomic::write_atomic(&self.path, |file| file.write_all(&bytes))?;
        self.saved.store(self.known.len(), Ordering::Relaxed);
        Ok(())
    }
}

/// Refuses codes that are not a picture of this model's.
fn check(codes: &[u32], model: &Mmada) -> Result<()> {
    let shown = &model.defaults().image;
    let grid = model
        .grid(shown.width, shown.height)
        .map_err(Error::model)?;
    let below = model.vocab().codes();
    if codes.len() == grid.len() && codes.iter().all(|&code| code < below) {
        return Ok(());
    }
    Err(Error::Data(format!(
        "a picture given as codes: expected {} codes below {below}, got {} codes up to {}; \
         they are of another image tokenizer",
        grid.len(),
        codes.len(),
        codes.iter().max().unwrap_or(&0),
    )))
}

fn not_ours(path: &Path) -> String {
    format!(
        "objective.codes: {} holds codes of another image tokenizer, or of pictures of another size; \
         name another file, or delete it",
        path.display()
    )
}

/// Whose codes a file holds, and the codes; `None` when it is damaged.
fn decode(bytes: &[u8]) -> Option<(u64, Known)> {
    let (body, checksum) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*checksum) {
        return None;
    }
    let rest = body.strip_prefix(MAGIC)?;
    let (saved, mut rest) = rest.split_first_chunk::<8>()?;
    let mut known = HashMap::new();
    while let Some((id, after)) = rest.split_first_chunk::<8>() {
        let (count, after) = after.split_first_chunk::<4>()?;
        let (codes, after) = after.split_at_checked(u32::from_le_bytes(*count) as usize * 4)?;
        let codes = codes
            .chunks_exact(4)
            .map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]]));
        known.insert(u64::from_le_bytes(*id), Some(codes.collect()));
        rest = after;
    }
    Some((u64::from_le_bytes(*saved), known))
}
