//! Pictures as codes and back: everything the model does with its image tokenizer.

use mmada_data::augment::Augment;
use mmada_data::picture::Picture;
use mmada_nn::magvit::ImageTokenizer;
use mmada_tensor::{Precision, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::mmada::Mmada;

/// Size of a picture in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grid {
    /// Tokens across.
    pub width: usize,
    /// Tokens down.
    pub height: usize,
}

impl Grid {
    /// How many tokens.
    pub fn len(self) -> usize {
        self.width.saturating_mul(self.height)
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// A picture as the model sees it: codes, row by row from the top.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Image codes, counted from 0.
    pub codes: Vec<u32>,
    /// Their arrangement.
    pub grid: Grid,
    /// Codes of the same picture at further looks; see [`Mmada::look_often`].
    pub again: Vec<Vec<u32>>,
}

impl Seen {
    /// No picture at all.
    pub fn nothing() -> Self {
        Self {
            codes: Vec::new(),
            grid: Grid {
                width: 0,
                height: 0,
            },
            again: Vec::new(),
        }
    }
}

/// Pictures that go through the image tokenizer at once; its activations are its memory.
const BATCH: usize = 16;

impl Mmada {
    /// The image tokenizer.
    ///
    /// # Errors
    /// [`Error::NoImageTokenizer`].
    pub fn image_tokenizer(&self) -> Result<&ImageTokenizer> {
        self.image
            .as_ref()
            .map(|image| &image.tokenizer)
            .ok_or(Error::NoImageTokenizer)
    }

    /// The token grid of a picture of this size.
    ///
    /// # Errors
    /// [`Error::Request`] for sides that are not multiples of the factor, or too large.
    pub fn grid(&self, width: usize, height: usize) -> Result<Grid> {
        let f = self.image_tokenizer()?.factor();
        let is_fine = |side: usize| side > 0 && side.is_multiple_of(f);
        if !is_fine(width) || !is_fine(height) {
            return Err(Error::request(
                "size of the picture",
                format!("width and height that are multiples of {f}"),
                format!("{width}x{height}"),
                "round the sides, or resize the picture first",
            ));
        }
        let grid = Grid {
            width: width / f,
            height: height / f,
        };
        let limit = self.layout().context();
        if grid.len() > limit {
            return Err(mmada_tokens::Error::TooLong {
                what: "the picture",
                got: grid.len(),
                limit,
                hint: "use a smaller size",
            }
            .into());
        }
        Ok(grid)
    }

    /// The picture at the size that the model was made for (`image` of [`crate::Defaults`]).
    pub fn fitted(&self, picture: &Picture) -> Picture {
        let image = &self.defaults().image;
        match (picture.width(), picture.height()) == (image.width, image.height) {
            true => picture.clone(),
            false => picture.fit(image.width, image.height, image.fit),
        }
    }

    /// Looks at pictures: fits them to the model's size and encodes them, several at once.
    ///
    /// # Errors
    /// [`Error::NoImageTokenizer`], and those of the network.
    pub fn look(&self, pictures: &[&Picture]) -> Result<Vec<Seen>> {
        let mut seen = Vec::with_capacity(pictures.len());
        for chunk in pictures.chunks(BATCH) {
            let fitted: Vec<Picture> = chunk.iter().map(|picture| self.fitted(picture)).collect();
            seen.extend(self.encode(&fitted)?);
        }
        Ok(seen)
    }

    /// Looks at pictures so often, each time moved, made smaller or turned a little as `image.looks`
    /// of [`crate::Defaults`] says, which also says how often where the caller does not: answers then
    /// rest on all looks.
    ///
    /// # Errors
    /// As [`Mmada::look`], and [`Error::Request`] for a number of looks that is out of range.
    pub fn look_often(&self, pictures: &[&Picture], looks: Option<usize>) -> Result<Vec<Seen>> {
        let own = &self.defaults().image.looks;
        let variants = looks.unwrap_or(own.variants);
        let most = Augment::MOST;
        if !(1..=most).contains(&variants) {
            let hint = "four are usual";
            let expected = format!("1 to {most}");
            return Err(Error::request(
                "looks at a picture",
                expected,
                variants,
                hint,
            ));
        }
        let augment = Augment {
            variants,
            ..own.clone()
        };
        let mut seen = self.look(pictures)?;
        for alteration in augment.looks().skip(1) {
            for (seen, pictures) in seen.chunks_mut(BATCH).zip(pictures.chunks(BATCH)) {
                let altered = pictures
                    .iter()
                    .map(|picture| alteration.apply(&self.fitted(picture)));
                let altered = altered.collect::<std::result::Result<Vec<_>, _>>()?;
                for (seen, again) in seen.iter_mut().zip(self.encode(&altered)?) {
                    seen.again.push(again.codes);
                }
            }
        }
        for seen in &mut seen {
            // Looks that all show the same say what one says.
            if seen.again.iter().all(|codes| *codes == seen.codes) {
                seen.again.clear();
            }
        }
        Ok(seen)
    }

    /// Encodes pictures of one size as they are.
    ///
    /// # Errors
    /// [`Error::Request`] for sizes that are no multiples of the factor, and those of the network.
    pub fn encode(&self, pictures: &[Picture]) -> Result<Vec<Seen>> {
        let Some(first) = pictures.first() else {
            return Ok(Vec::new());
        };
        let tokenizer = self.image_tokenizer()?;
        let grid = self.grid(first.width(), first.height())?;
        let tensors = pictures
            .iter()
            .map(|picture| picture.to_tensor(tokenizer.device()));
        let tensors = tensors.collect::<std::result::Result<Vec<_>, _>>()?;
        let images = Tensor::stack(&tensors, 0).map_err(mmada_tensor::Error::from)?;
        // Codes are signs of numbers near zero, whatever the transformer is computed in.
        let codes = Precision::F32.scope(|| tokenizer.encode_codes(&images))?;
        Ok(codes
            .into_iter()
            .map(|codes| Seen {
                codes,
                grid,
                again: Vec::new(),
            })
            .collect())
    }

    /// The picture of codes.
    ///
    /// # Errors
    /// Codes that do not fill the grid or are none of the tokenizer's.
    pub fn decode(&self, codes: &[u32], grid: Grid) -> Result<Picture> {
        let tokenizer = self.image_tokenizer()?;
        let images = Precision::F32
            .scope(|| tokenizer.decode_codes(&[codes.to_vec()], grid.height, grid.width))?;
        let image = images.squeeze(0).map_err(mmada_tensor::Error::from)?;
        Ok(Picture::from_tensor(&image)?)
    }
}
