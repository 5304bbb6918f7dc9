//! The innermost loops: two packed panels to 32 × 32 sums, on whatever unit the processor has.
//!
//! ```text
//!            left panel (32 rows of a)         right panel (32 columns of b)
//!   step     ┌ tile: line per row    ┐         ┌ tile: line per 4 bytes of k ┐
//!            └ tile                  ┘         └ tile                        ┘
//!   Tiles    one instruction multiplies a tile by a tile (AMX)
//!   Vectors  4 bytes of a row, repeated, times a line (AVX-512: VDPBF16PS, VPDPBUSD)
//! ```
//!
//! A line is 64 bytes of k: 32 values of bf16 or 64 of int8. Sums are f32 or i32, so both kinds of
//! values and both units share one layout. The language's own intrinsics for tiles are not stable
//! yet, so that kernel is assembly.

use std::arch::asm;
use std::arch::x86_64::*;
use std::sync::OnceLock;

use super::pack::Line;
use super::{PANEL, TILE};
use crate::cpu::{self, Level};

/// What packed values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gemm) enum Values {
    /// 2 bytes on both sides, summed in f32.
    Bf16,
    /// Unsigned bytes on the left, signed ones on the right, summed in i32.
    Int8,
}

/// What multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Tiles,
    Vectors,
}

/// A unit of this processor, for one kind of values.
#[derive(Debug, Clone, Copy)]
pub(in crate::gemm) struct Kernel {
    unit: Unit,
    pub(super) values: Values,
}

impl Values {
    /// Values of k in a line.
    pub(super) fn per_line(self) -> usize {
        match self {
            Self::Bf16 => 32,
            Self::Int8 => 64,
        }
    }
}

impl Kernel {
    /// The best unit of this processor; nothing where there is none.
    pub(in crate::gemm) fn best(values: Values) -> Option<Self> {
        static BF16: OnceLock<Option<Unit>> = OnceLock::new();
        static INT8: OnceLock<Option<Unit>> = OnceLock::new();
        let found = match values {
            Values::Bf16 => &BF16,
            Values::Int8 => &INT8,
        };
        let unit = *found.get_or_init(|| Self::all(values).first().map(|kernel| kernel.unit));
        unit.map(|unit| Self { unit, values })
    }

    /// All units of this processor, the best first.
    pub(in crate::gemm) fn all(values: Values) -> Vec<Self> {
        let (level, is_bf16) = (Level::current(), is_x86_feature_detected!("avx512bf16"));
        // The level's own features are what packing needs.
        let has_vectors = level >= Level::Avx512
            && match values {
                Values::Bf16 => is_bf16,
                Values::Int8 => is_x86_feature_detected!("avx512vnni"),
            };
        let has_tiles = level >= Level::Amx && is_bf16 && has_tiles(values) && ask_system();
        let units = [(Unit::Tiles, has_tiles), (Unit::Vectors, has_vectors)];
        let units = units.into_iter().filter(|(_, has)| *has);
        units.map(|(unit, _)| Self { unit, values }).collect()
    }

    /// Makes this thread's registers ready, until the result is dropped.
    pub(super) fn ready(self) -> Ready {
        if self.unit == Unit::Tiles {
            // SAFETY: the unit is there, or the kernel were not; the instruction reads 64 bytes.
            unsafe {
                asm!("ldtilecfg [{}]", in(reg) &raw const CONFIG, options(nostack, preserves_flags));
            }
        }
        Ready { kernel: self }
    }
}

/// A kernel with its registers; what uses tiles must not be called in between.
pub(super) struct Ready {
    kernel: Kernel,
}

impl Drop for Ready {
    fn drop(&mut self) {
        if self.kernel.unit == Unit::Tiles {
            // SAFETY: the registers are this thread's, see `Kernel::ready`.
            unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
        }
    }
}

impl Ready {
    /// 32 × 32 sums at `out`, whose rows are `stride` elements of four bytes apart; they are f32
    /// or i32, and are added to what is there if `add`. Only the first `rows` of them are wanted:
    /// what the others hold afterwards is not said.
    ///
    /// # Safety
    /// Both panels hold `steps` ≥ 1 steps; all the sums may be written, and read when adding.
    #[inline]
    pub(super) unsafe fn multiply(
        &self,
        (left, right): (*const Line, *const Line),
        (rows, steps): (usize, usize),
        (out, stride): (*mut f32, usize),
        add: bool,
    ) {
        let Kernel { unit, values } = self.kernel;
        // SAFETY: the unit was found and made ready; the rest is the caller's promise.
        unsafe {
            match (unit, values) {
                (Unit::Tiles, Values::Bf16) => bf16_tiles(left, right, steps, out, stride, add),
                (Unit::Tiles, Values::Int8) => int8_tiles(left, right, steps, out, stride, add),
                (Unit::Vectors, Values::Bf16) => {
                    bf16_vectors((left, right), (rows, steps), (out, stride), add);
                }
                (Unit::Vectors, Values::Int8) => {
                    int8_vectors((left, right), (rows, steps), (out, stride), add);
                }
            }
        }
    }
}

/// Whether the processor multiplies tiles of such values.
fn has_tiles(values: Values) -> bool {
    let tiles = cpu::tiles();
    tiles.registers
        && match values {
            Values::Bf16 => tiles.bf16,
            Values::Int8 => tiles.int8,
        }
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

/// A kernel on tiles: registers 0 to 3 hold sums, 4 and 5 rows of a, 6 and 7 columns of b.
macro_rules! tile_kernel {
    ($name:ident, $multiply:literal) => {
        /// # Safety
        /// As for [`Ready::multiply`]; the tile registers are configured.
        unsafe fn $name(
            left: *const Line,
            right: *const Line,
            steps: usize,
            out: *mut f32,
            stride: usize,
            add: bool,
        ) {
            // A row further down in `out`, and sixteen rows.
            let (bytes, below) = (4 * stride, 4 * stride * TILE);
            // SAFETY: the panels hold `steps` steps of 2,048 bytes each, `out` room for four tiles.
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
                    "tileloadd tmm0, [{out} + {bytes}*1]",
                    "tileloadd tmm1, [{out} + {bytes}*1 + 64]",
                    "tileloadd tmm2, [{under} + {bytes}*1]",
                    "tileloadd tmm3, [{under} + {bytes}*1 + 64]",
                    "2:",
                    "tileloadd tmm4, [{left} + {line}*1]",
                    "tileloadd tmm6, [{right} + {line}*1]",
                    concat!($multiply, " tmm0, tmm4, tmm6"),
                    "tileloadd tmm7, [{right} + {line}*1 + 1024]",
                    concat!($multiply, " tmm1, tmm4, tmm7"),
                    "tileloadd tmm5, [{left} + {line}*1 + 1024]",
                    concat!($multiply, " tmm2, tmm5, tmm6"),
                    concat!($multiply, " tmm3, tmm5, tmm7"),
                    "add {left}, 2048",
                    "add {right}, 2048",
                    "dec {n}",
                    "jnz 2b",
                    "tilestored [{out} + {bytes}*1], tmm0",
                    "tilestored [{out} + {bytes}*1 + 64], tmm1",
                    "tilestored [{under} + {bytes}*1], tmm2",
                    "tilestored [{under} + {bytes}*1 + 64], tmm3",
                    add = in(reg) u32::from(add),
                    left = inout(reg) left => _,
                    right = inout(reg) right => _,
                    n = inout(reg) steps => _,
                    line = in(reg) 64usize,
                    out = in(reg) out,
                    under = in(reg) out.cast::<u8>().add(below),
                    bytes = in(reg) bytes,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    };
}

tile_kernel!(bf16_tiles, "tdpbf16ps");
tile_kernel!(int8_tiles, "tdpbusd");

/// Rows of a whose sums a vector kernel keeps in registers, for both tiles of columns.
const ROWS: usize = 8;

/// A kernel on vectors of 16 sums: `ROWS` rows at a time, and fewer where fewer are wanted.
macro_rules! vector_kernel {
    ($name:ident, $features:literal, $zero:expr, $load:expr, $multiply:expr, $store:expr) => {
        /// # Safety
        /// As for [`Ready::multiply`]; the processor has the features.
        #[target_feature(enable = $features)]
        unsafe fn $name(
            (left, right): (*const Line, *const Line),
            (rows, steps): (usize, usize),
            (out, stride): (*mut f32, usize),
            add: bool,
        ) {
            /// The sums of `N` rows.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn some<const N: usize>(
                (left, right): (*const Line, *const Line),
                steps: usize,
                (out, stride): (*mut f32, usize),
                add: bool,
            ) {
                // SAFETY: as many rows of the sums are the caller's to write; every line lies within
                // its panel of `steps` steps of 2 tiles.
                unsafe {
                    let mut sums = [[$zero; 2]; N];
                    if add {
                        for (row, sums) in sums.iter_mut().enumerate() {
                            let out = out.add(row * stride);
                            *sums = [$load(out.cast()), $load(out.add(TILE).cast())];
                        }
                    }
                    for step in 0..steps {
                        let left = left.add(step * PANEL).cast::<i32>();
                        let right = right.add(step * PANEL);
                        for group in 0..TILE {
                            let b = _mm512_load_si512(right.add(group).cast());
                            let c = _mm512_load_si512(right.add(TILE + group).cast());
                            for (row, [first, second]) in sums.iter_mut().enumerate() {
                                let a = _mm512_set1_epi32(*left.add(row * TILE + group));
                                *first = $multiply(*first, a, b);
                                *second = $multiply(*second, a, c);
                            }
                        }
                    }
                    for (row, sums) in sums.into_iter().enumerate() {
                        let out = out.add(row * stride);
                        $store(out.cast(), sums[0]);
                        $store(out.add(TILE).cast(), sums[1]);
                    }
                }
            }
            for first in (0..rows).step_by(ROWS) {
                // SAFETY: `first` is a row of the panel.
                let (panels, place) = unsafe {
                    let out = out.add(first * stride);
                    ((left.add(first), right), (out, stride))
                };
                // SAFETY: the caller's promise; a panel has a multiple of `ROWS` rows.
                unsafe {
                    match rows - first {
                        1 => some::<1>(panels, steps, place, add),
                        2 => some::<2>(panels, steps, place, add),
                        3 | 4 => some::<4>(panels, steps, place, add),
                        _ => some::<ROWS>(panels, steps, place, add),
                    }
                }
            }
        }
    };
}

vector_kernel!(
    bf16_vectors,
    "avx512f,avx512bf16",
    _mm512_setzero_ps(),
    _mm512_loadu_ps,
    dot_bf16,
    _mm512_storeu_ps
);
vector_kernel!(
    int8_vectors,
    "avx512f,avx512vnni",
    _mm512_setzero_si512(),
    _mm512_loadu_si512,
    _mm512_dpbusd_epi32,
    _mm512_storeu_si512
);

/// `_mm512_dpbf16_ps` on pairs as they lie in lines.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn dot_bf16(sums: __m512, a: __m512i, b: __m512i) -> __m512 {
    // SAFETY: 64 bytes of plain numbers either way.
    let (a, b) = unsafe {
        (
            std::mem::transmute::<__m512i, __m512bh>(a),
            std::mem::transmute::<__m512i, __m512bh>(b),
        )
    };
    _mm512_dpbf16_ps(sums, a, b)
}
