//! Repainting: a masked region of a picture anew, or more picture beyond its edges.
//!
//! ```text
//!   inpaint   a a a a        extend right    a a │ ? ?
//!             a ? ? a                        a a │ ? ?
//!             a ? ? a                        a a │ ? ?
//! ```
//!
//! Known tokens are conditions like a prompt and never change (paper §5.5). Tokens of which any
//! pixel is edited are painted; outside the mask the original's pixels are put back by default.

use mmada_data::picture::{Mask, Picture};

use crate::error::{Error, Result};
use crate::mmada::Mmada;
use crate::options::PaintOptions;
use crate::paint::{Painted, base, check_count};
use crate::run::{Job, Run};

/// A picture to repaint.
#[derive(Debug, Clone, Copy)]
pub struct RepaintRequest<'a> {
    /// The picture; its sides are multiples of the image tokenizer's factor.
    pub picture: &'a Picture,
    /// What is painted anew.
    pub edit: Edit<'a>,
    /// What the whole picture shows; may be empty.
    pub prompt: &'a str,
    /// Number of the request for its random draws.
    pub example: u64,
}

/// What is painted anew.
#[derive(Debug, Clone, Copy)]
pub enum Edit<'a> {
    /// The region of a mask of the picture's size.
    Region(&'a Mask),
    /// What is added at the sides.
    Beyond(Sides),
}

/// Pixels to add at each side, multiples of the image tokenizer's factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sides {
    /// At the left.
    pub left: usize,
    /// At the right.
    pub right: usize,
    /// At the top.
    pub up: usize,
    /// At the bottom.
    pub down: usize,
}

impl Mmada {
    /// Paints the region of a mask anew, [`PaintOptions::count`] times. The picture keeps its
    /// size; the options' size does not matter.
    ///
    /// # Errors
    /// A mask of another size or without an edited pixel; sides that the factor does not divide;
    /// too much for the context.
    pub fn inpaint(
        &self,
        picture: &Picture,
        mask: &Mask,
        prompt: &str,
        options: &PaintOptions,
    ) -> Result<Run<'_, Painted>> {
        self.repaint(picture, Edit::Region(mask), prompt, options)
    }

    /// Paints on beyond the edges of a picture, [`PaintOptions::count`] times.
    ///
    /// # Errors
    /// No side to extend, or by no multiple of the factor; otherwise as [`Mmada::inpaint`].
    pub fn extend(
        &self,
        picture: &Picture,
        sides: Sides,
        prompt: &str,
        options: &PaintOptions,
    ) -> Result<Run<'_, Painted>> {
        self.repaint(picture, Edit::Beyond(sides), prompt, options)
    }

    fn repaint(
        &self,
        picture: &Picture,
        edit: Edit,
        prompt: &str,
        options: &PaintOptions,
    ) -> Result<Run<'_, Painted>> {
        let request = |example| RepaintRequest {
            picture,
            edit,
            prompt,
            example,
        };
        let requests: Vec<_> = check_count(options.count)?.map(request).collect();
        self.repaint_many(&requests, options)
    }

    /// Repaints pictures in common forwards; `count` does not matter here.
    ///
    /// # Errors
    /// As [`Mmada::inpaint`] and [`Mmada::extend`].
    pub fn repaint_many(
        &self,
        requests: &[RepaintRequest],
        options: &PaintOptions,
    ) -> Result<Run<'_, Painted>> {
        let mut jobs = Vec::new();
        for request in requests {
            jobs.extend(self.repaint_jobs(request, options)?);
        }
        Ok(Run::new(self, options.seed, jobs))
    }

    fn repaint_jobs(
        &self,
        request: &RepaintRequest,
        options: &PaintOptions,
    ) -> Result<Vec<Job<Painted>>> {
        let picture = request.picture;
        match request.edit {
            Edit::Region(mask) => {
                let (got, expected) = (
                    (mask.width(), mask.height()),
                    (picture.width(), picture.height()),
                );
                if got != expected {
                    let hint = "fit picture and mask in the same way";
                    let shown = |(w, h)| format!("{w}x{h}");
                    return Err(Error::request(
                        "size of the mask",
                        shown(expected),
                        shown(got),
                        hint,
                    ));
                }
                self.edit_jobs(request, picture.clone(), mask.clone(), (0, 0), options)
            }
            Edit::Beyond(sides) => {
                let (wide, mask) = self.framed(picture, sides)?;
                self.edit_jobs(request, wide, mask, (sides.left, sides.up), options)
            }
        }
    }

    /// The picture on a larger sheet, edited wherever it is not.
    fn framed(&self, picture: &Picture, sides: Sides) -> Result<(Picture, Mask)> {
        let (w, h) = (picture.width(), picture.height());
        let width = w.saturating_add(sides.left).saturating_add(sides.right);
        let height = h.saturating_add(sides.up).saturating_add(sides.down);
        let f = self.image_tokenizer()?.factor();
        let all = [sides.left, sides.right, sides.up, sides.down];
        if (width, height) == (w, h) || !all.iter().all(|side| side.is_multiple_of(f)) {
            return Err(Error::request(
                "pixels beyond the edges",
                format!("multiples of {f}, not all 0"),
                format!(
                    "left {}, right {}, up {}, down {}",
                    sides.left, sides.right, sides.up, sides.down
                ),
                "for example --extend right=32",
            ));
        }
        // Bounds the sheet before it is allocated.
        self.grid(width, height)?;
        let mut pixels = vec![255; width * height * 3];
        let mut is_edited = vec![true; width * height];
        for y in 0..h {
            let start = (sides.up + y) * width + sides.left;
            let row = &picture.pixels()[y * w * 3..(y + 1) * w * 3];
            pixels[start * 3..(start + w) * 3].copy_from_slice(row);
            is_edited[start..start + w].fill(false);
        }
        let mask = Mask::new(width, height, is_edited)?;
        Ok((Picture::new(width, height, pixels)?, mask))
    }

    /// `sheet` holds the request's picture at `corner`; that picture alone is encoded, so that
    /// nothing beyond its edges leaks into its tokens.
    fn edit_jobs(
        &self,
        request: &RepaintRequest,
        sheet: Picture,
        mask: Mask,
        corner: (usize, usize),
        options: &PaintOptions,
    ) -> Result<Vec<Job<Painted>>> {
        let grid = self.grid(sheet.width(), sheet.height())?;
        let f = self.image_tokenizer()?.factor();
        let is_edited = mask.tokens(f)?;
        if !is_edited.contains(&true) {
            let hint = "transparent or white pixels of the mask are painted";
            return Err(Error::request(
                "mask",
                "at least one edited pixel",
                "none",
                hint,
            ));
        }
        let mut image = self.layout().masks(grid.len());
        for seen in self.encode(std::slice::from_ref(request.picture))? {
            let (left, top) = (corner.0 / f, corner.1 / f);
            for (at, id) in self.image_ids(&seen.codes).into_iter().enumerate() {
                let (x, y) = (at % seen.grid.width, at / seen.grid.width);
                let token = (top + y) * grid.width + left + x;
                if !is_edited[token] {
                    image[token] = id;
                }
            }
        }
        let base = base(sheet, mask, options.outside);
        self.picture_jobs(request.prompt, &image, grid, base, options, request.example)
    }
}
