//! Products of bf16 matrices on the tile unit of recent Intel processors (AMX), summed in f32.
//!
//! ```text
//!   a, f32, rows or columns ──round, pack──▶ panels of 32 rows      ┐
//!                                                               ├─▶ 2 × 2 tiles of sums ──▶ out
//!   b, f32, any strides ──round, pack──▶ panels of 32 columns   ┘
//! ```
//!
//! A tile is 16 rows of 64 bytes. One instruction multiplies 16 × 32 values of bf16 with 32 × 16 and
//! adds to 16 × 16 sums; the second operand holds pairs of neighbouring k side by side. The
//! language's own intrinsics for tiles are not stable yet, so the kernel is assembly.
//!
//! Every sum runs over k in order, in one kernel call per [`DEPTH_BLOCK`], whoever works on it: the
//! bits do not depend on the number of threads.

mod pack;

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::cell::Cell;
use std::sync::OnceLock;

use rayon::prelude::*;

use super::{Factor, Into, Matrix, Workers};
use pack::{Line, Operand, Side, pack};

/// Rows of a tile, and columns of a tile of sums.
const TILE: usize = 16;
/// Values of k in one tile.
const DEPTH: usize = 32;
/// Rows of a, or columns of b, of one kernel call.
const PANEL: usize = 2 * TILE;
/// Values of k summed in one kernel call; a panel of them stays in the core's own cache.
const DEPTH_BLOCK: usize = 2048;
/// Columns of b that all of a meets before the next ones come: with their depth, half a megabyte.
const BLOCK_VALUES: usize = 256 * 1024;
/// Products below this many multiplications stay on the calling thread.
const SMALL: usize = 1 << 20;

/// Whether this processor has the unit and the system lets this process use it.
pub(super) fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        is_x86_feature_detected!("avx512bf16")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && has_tiles()
            && ask_system()
    })
}

/// CPUID leaf 7: bit 24 of edx is AMX-TILE, bit 22 AMX-BF16.
fn has_tiles() -> bool {
    let edx = __cpuid_count(7, 0).edx;
    edx & (1 << 24) != 0 && edx & (1 << 22) != 0
}

/// Tile registers are too large for the system to save them for everybody; a process asks once.
#[cfg(target_os = "linux")]
fn ask_system() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const XFEATURE_XTILEDATA: i64 = 18;
    let mut result = ARCH_PRCTL;
    // SAFETY: a system call with plain numbers; it clobbers rcx and r11 only.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn ask_system() -> bool {
    false
}

thread_local! {
    /// Packed operands of the last product of this thread, kept for the next one.
    static BUFFERS: Cell<(Vec<Line>, Vec<Line>)> = const { Cell::new((Vec::new(), Vec::new())) };
}

/// `out = alpha · a · b`, or that added, with both operands rounded to bf16.
///
/// # Safety
/// The unit [`is_available`]; `a` and `b` lie within their slices and have a column and a row at
/// least; `out` as in [`super::product_at`].
pub(super) unsafe fn product(
    alpha: f32,
    (a, b): (Matrix<'_>, Factor<'_>),
    into: Into,
    (out, row_stride): (*mut f32, usize),
    workers: Workers,
) {
    let work = a.rows * a.cols * b.cols();
    let is_shared = workers == Workers::Pool && work > SMALL && rayon::current_num_threads() > 1;
    let (mut left, mut right) = BUFFERS.take();
    let (a, b) = (Operand::left(a), Operand::right(b));
    for start in (0..a.depth).step_by(DEPTH_BLOCK) {
        let depth = (a.depth - start).min(DEPTH_BLOCK);
        let (a, b) = (a.block(start, depth), b.block(start, depth));
        pack(a, Side::Left, &mut left, is_shared);
        pack(b, Side::Right, &mut right, is_shared);
        let target = Target {
            out,
            row_stride,
            alpha,
            into: if start == 0 { into } else { Into::Add },
        };
        let columns = (BLOCK_VALUES / depth / PANEL).max(1);
        let blocks = b.panels().div_ceil(columns);
        let work = |task: usize| {
            let first = task % blocks * columns;
            let right_panels = first..(first + columns).min(b.panels());
            let left_panel = task / blocks;
            let left = &left[left_panel * a.panel_lines()..][..a.panel_lines()];
            // SAFETY: the unit is there, and this task uses no other code that has tiles.
            let _configured = unsafe { Configured::new() };
            for panel in right_panels {
                let right = &right[panel * b.panel_lines()..][..b.panel_lines()];
                // SAFETY: both panels are packed to `steps` steps; each (left, right) pair is one
                // rectangle of `out`, which the caller lets us write.
                unsafe { target.multiply(left, right, (left_panel, a.lanes), (panel, b.lanes)) };
            }
        };
        let tasks = a.panels() * blocks;
        if is_shared {
            (0..tasks).into_par_iter().for_each(work);
        } else {
            // All of a meets one block of b before the next block comes.
            (0..blocks).for_each(|block| {
                (0..a.panels()).for_each(|panel| work(panel * blocks + block));
            });
        }
    }
    BUFFERS.set((left, right));
}

/// Multiplies the same two panels again and again; returns how many operations that were.
///
/// # Safety
/// The unit [`is_available`].
pub(super) unsafe fn spin() -> f64 {
    const STEPS: usize = 8;
    const CALLS: usize = 64;
    let panel = vec![Line::ZERO; 2 * TILE * STEPS];
    let mut sums = Sums([0.0; PANEL * PANEL]);
    let out = sums.0.as_mut_ptr();
    // SAFETY: as promised; nothing else here has tiles.
    let _configured = unsafe { Configured::new() };
    for _ in 0..CALLS {
        let (left, right) = (panel.as_ptr(), panel.as_ptr());
        // SAFETY: the panels hold `STEPS` steps, the sums have room for all four tiles.
        unsafe { kernel(left, right, STEPS, (true, true), out, PANEL, false) };
    }
    (2 * PANEL * PANEL * DEPTH * STEPS * CALLS) as f64
}

/// Where a product goes.
#[derive(Clone, Copy)]
struct Target {
    out: *mut f32,
    row_stride: usize,
    alpha: f32,
    into: Into,
}

// SAFETY: `Target` only carries the pointer; tasks write disjoint rectangles of what it points to,
// which the caller of `product` lent us exclusively.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

/// Sums of one kernel call.
#[repr(align(64))]
struct Sums([f32; PANEL * PANEL]);

impl Target {
    /// Multiplies two panels; `(number, lanes)` of each tell which part of the product it is.
    ///
    /// # Safety
    /// The registers are [`Configured`], the panels have equally many lines, and the rectangle they
    /// make may be written.
    unsafe fn multiply(
        self,
        left: &[Line],
        right: &[Line],
        (left_panel, rows): (usize, usize),
        (right_panel, cols): (usize, usize),
    ) {
        let (row, col) = (left_panel * PANEL, right_panel * PANEL);
        let (rows, cols) = ((rows - row).min(PANEL), (cols - col).min(PANEL));
        let steps = left.len() / (2 * TILE);
        let has_two = (rows > TILE, cols > TILE);
        let (left, right) = (left.as_ptr(), right.as_ptr());
        // SAFETY: the rectangle starts within `out`.
        let out = unsafe { self.out.add(row * self.row_stride + col) };
        let is_whole = rows % TILE == 0 && cols % TILE == 0 && self.alpha == 1.0;
        if is_whole {
            let add = self.into == Into::Add;
            // SAFETY: all of the tiles lies within the rectangle.
            unsafe { kernel(left, right, steps, has_two, out, self.row_stride, add) };
            return;
        }
        let mut sums = Sums([0.0; PANEL * PANEL]);
        // SAFETY: the sums have room for all four tiles.
        unsafe {
            kernel(
                left,
                right,
                steps,
                has_two,
                sums.0.as_mut_ptr(),
                PANEL,
                false,
            );
        };
        for (r, sums) in sums.0.chunks_exact(PANEL).take(rows).enumerate() {
            // SAFETY: `cols` elements of row r belong to the rectangle.
            let out = unsafe { std::slice::from_raw_parts_mut(out.add(r * self.row_stride), cols) };
            for (out, sum) in out.iter_mut().zip(sums) {
                let old = match self.into {
                    Into::Replace => 0.0,
                    Into::Add => *out,
                };
                *out = old + self.alpha * sum;
            }
        }
    }
}

/// Sizes of the tile registers, as the processor reads them.
#[repr(C, align(64))]
struct TileConfig {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

static CONFIG: TileConfig = TileConfig {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// The tile registers of this thread, ready for use; released at the end.
struct Configured;

impl Configured {
    /// # Safety
    /// The unit is available, and nobody else on this thread uses tiles meanwhile.
    unsafe fn new() -> Self {
        // SAFETY: the instruction reads 64 bytes.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const CONFIG, options(nostack, preserves_flags));
        }
        Self
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        // SAFETY: the registers are this task's, see `new`.
        unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
    }
}

/// A kernel for one arrangement of tiles: registers 0 to 3 hold sums, 4 and 5 rows of a, 6 and 7
/// columns of b.
macro_rules! kernel {
    ($l:expr, $r:expr, $n:expr, $out:expr, $stride:expr, $begin:expr, [$($load:literal),*], [$($step:literal),*], [$($store:literal),*]) => {{
        // A row further down in `out`, and sixteen rows.
        let (bytes, below) = (4 * $stride, 4 * $stride * TILE);
        // SAFETY: the panels hold `steps` steps of 2,048 bytes each, `out` room for the tiles that
        // are stored; the tile registers are configured.
        unsafe {
            asm!(
                "test {add:e}, {add:e}",
                "jnz 3f",
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "jmp 2f",
                "3:",
                $($load,)*
                "2:",
                $($step,)*
                "add {left}, 2048",
                "add {right}, 2048",
                "dec {n}",
                "jnz 2b",
                $($store,)*
                add = in(reg) u32::from($begin),
                left = inout(reg) $l => _,
                right = inout(reg) $r => _,
                n = inout(reg) $n => _,
                line = in(reg) 64usize,
                out = in(reg) $out,
                under = in(reg) $out.cast::<u8>().add(below),
                bytes = in(reg) bytes,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }};
}

/// Multiplies two packed panels into up to 2 × 2 tiles at `out`.
///
/// # Safety
/// The registers are [`Configured`]; the panels hold `steps` ≥ 1 steps; the tiles that `has_two` names may be
/// written at `out`, whose rows are `stride` elements apart, and read when adding.
unsafe fn kernel(
    left: *const Line,
    right: *const Line,
    steps: usize,
    has_two: (bool, bool),
    out: *mut f32,
    stride: usize,
    add: bool,
) {
    match has_two {
        (true, true) => kernel!(
            left,
            right,
            steps,
            out,
            stride,
            add,
            [
                "tileloadd tmm0, [{out} + {bytes}*1]",
                "tileloadd tmm1, [{out} + {bytes}*1 + 64]",
                "tileloadd tmm2, [{under} + {bytes}*1]",
                "tileloadd tmm3, [{under} + {bytes}*1 + 64]"
            ],
            [
                "tileloadd tmm4, [{left} + {line}*1]",
                "tileloadd tmm6, [{right} + {line}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{right} + {line}*1 + 1024]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{left} + {line}*1 + 1024]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7"
            ],
            [
                "tilestored [{out} + {bytes}*1], tmm0",
                "tilestored [{out} + {bytes}*1 + 64], tmm1",
                "tilestored [{under} + {bytes}*1], tmm2",
                "tilestored [{under} + {bytes}*1 + 64], tmm3"
            ]
        ),
        (false, true) => kernel!(
            left,
            right,
            steps,
            out,
            stride,
            add,
            [
                "tileloadd tmm0, [{out} + {bytes}*1]",
                "tileloadd tmm1, [{out} + {bytes}*1 + 64]"
            ],
            [
                "tileloadd tmm4, [{left} + {line}*1]",
                "tileloadd tmm6, [{right} + {line}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{right} + {line}*1 + 1024]",
                "tdpbf16ps tmm1, tmm4, tmm7"
            ],
            [
                "tilestored [{out} + {bytes}*1], tmm0",
                "tilestored [{out} + {bytes}*1 + 64], tmm1",
                "/* {under} */"
            ]
        ),
        (true, false) => kernel!(
            left,
            right,
            steps,
            out,
            stride,
            add,
            [
                "tileloadd tmm0, [{out} + {bytes}*1]",
                "tileloadd tmm2, [{under} + {bytes}*1]"
            ],
            [
                "tileloadd tmm4, [{left} + {line}*1]",
                "tileloadd tmm6, [{right} + {line}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm5, [{left} + {line}*1 + 1024]",
                "tdpbf16ps tmm2, tmm5, tmm6"
            ],
            [
                "tilestored [{out} + {bytes}*1], tmm0",
                "tilestored [{under} + {bytes}*1], tmm2"
            ]
        ),
        (false, false) => kernel!(
            left,
            right,
            steps,
            out,
            stride,
            add,
            ["tileloadd tmm0, [{out} + {bytes}*1]"],
            [
                "tileloadd tmm4, [{left} + {line}*1]",
                "tileloadd tmm6, [{right} + {line}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6"
            ],
            ["tilestored [{out} + {bytes}*1], tmm0", "/* {under} */"]
        ),
    }
}
