//! The matrix of a convolution's columns without writing it down: each of its rows is the same pixels
//! of a plane, shifted.
//!
//! ```text
//!   plane   . . . . . .      row of columns, tap (0, 0):  a b c d e f g h i …
//!           . a b c . .      tap (0, 1):                  b c . e f . h i . …
//!           . d e f . .      width pixels of a run side by side, runs a pitch apart
//!           . g h i . .
//! ```

use super::Matrix;

/// `[rows, pixels]`: element (r, p) is `data[offsets[r] + p / width · pitch + p mod width]`.
#[derive(Clone, Copy)]
pub(crate) struct Columns<'a> {
    data: &'a [f32],
    offsets: &'a [usize],
    width: usize,
    pitch: usize,
    pixels: usize,
}

/// The right factor of a product.
#[derive(Clone, Copy)]
pub(crate) enum Factor<'a> {
    /// Written down.
    Matrix(Matrix<'a>),
    /// Columns, `[rows, pixels]`.
    Columns(Columns<'a>),
    /// Columns transposed, `[pixels, rows]`.
    ColumnsT(Columns<'a>),
}

impl<'a> Columns<'a> {
    /// Rows that begin at `offsets`; whole runs of `width` pixels, `pitch` elements apart.
    pub(crate) fn new(
        data: &'a [f32],
        offsets: &'a [usize],
        (width, pitch): (usize, usize),
        pixels: usize,
    ) -> Self {
        let last = offsets.iter().max().copied().unwrap_or(0);
        let runs = pixels.div_ceil(width.max(1));
        assert!(
            runs == 0 || last + (runs - 1) * pitch + width <= data.len(),
            "columns reach beyond their slice"
        );
        Self {
            data,
            offsets,
            width,
            pitch,
            pixels,
        }
    }

    /// All elements.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn data(&self) -> &'a [f32] {
        self.data
    }

    /// Where each row begins.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn starts(&self) -> &'a [usize] {
        self.offsets
    }

    /// Where pixel `first` is within each row, and how many pixels from there on lie side by side.
    pub(super) fn place(&self, first: usize) -> (usize, usize) {
        let (run, at) = (first / self.width, first % self.width);
        (run * self.pitch + at, self.width - at)
    }

    /// Copies the pixels of a row from `first` on.
    pub(super) fn copy(&self, row: usize, mut first: usize, mut out: &mut [f32]) {
        while !out.is_empty() {
            let (at, side_by_side) = self.place(first);
            let n = side_by_side.min(out.len());
            let (now, later) = out.split_at_mut(n);
            now.copy_from_slice(&self.data[self.offsets[row] + at..][..n]);
            (first, out) = (first + n, later);
        }
    }

    /// Elements of the matrix.
    pub(super) fn len(&self) -> usize {
        self.offsets.len() * self.pixels
    }

    /// The matrix, row after row, in a buffer of [`Columns::len`] elements.
    pub(super) fn write(&self, out: &mut [f32]) {
        for (row, out) in out.chunks_exact_mut(self.pixels.max(1)).enumerate() {
            self.copy(row, 0, out);
        }
    }
}

impl Factor<'_> {
    /// The transpose, without moving anything.
    pub(crate) fn t(self) -> Self {
        match self {
            Self::Matrix(matrix) => Self::Matrix(matrix.t()),
            Self::Columns(columns) => Self::ColumnsT(columns),
            Self::ColumnsT(columns) => Self::Columns(columns),
        }
    }

    pub(super) fn rows(&self) -> usize {
        match self {
            Self::Matrix(matrix) => matrix.rows,
            Self::Columns(columns) => columns.offsets.len(),
            Self::ColumnsT(columns) => columns.pixels,
        }
    }

    pub(super) fn cols(&self) -> usize {
        match self {
            Self::Matrix(matrix) => matrix.cols,
            Self::Columns(columns) => columns.pixels,
            Self::ColumnsT(columns) => columns.offsets.len(),
        }
    }

    /// Calls `work` with the factor written down.
    pub(super) fn written<T>(&self, work: impl FnOnce(Matrix<'_>) -> T) -> T {
        let columns = match self {
            Self::Matrix(matrix) => return work(*matrix),
            Self::Columns(columns) | Self::ColumnsT(columns) => columns,
        };
        crate::scratch::with(columns.len(), |buffer| {
            columns.write(buffer);
            let matrix = Matrix::new(buffer, columns.offsets.len(), columns.pixels);
            match self {
                Self::ColumnsT(_) => work(matrix.t()),
                _ => work(matrix),
            }
        })
    }
}

impl<'a> From<Matrix<'a>> for Factor<'a> {
    fn from(matrix: Matrix<'a>) -> Self {
        Self::Matrix(matrix)
    }
}
