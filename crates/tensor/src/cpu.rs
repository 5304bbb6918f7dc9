//! What this processor can do, and how much of that is used.
//!
//! ```text
//!   portable < avx2 < avx512 < amx        the kernels use what is found, or less: MMADA_CPU=avx2
//! ```
//!
//! Every kernel exists for every level. Results of different levels differ by rounding; a lower one is
//! for tests, for comparisons, and for a machine that is to give what an older one gives, up to rounding: how
//! products are blocked depends on its caches too.

use std::sync::OnceLock;

use serde::Serialize;

use crate::{Error, Result};

/// The environment variable that holds the level low; read once.
pub const VARIABLE: &str = "MMADA_CPU";

/// How far the instruction set of a processor reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing beyond the target the program was built for.
    Portable,
    /// 256-bit vectors and fused multiply-add.
    Avx2,
    /// 512-bit vectors.
    Avx512,
    /// Tiles beside the 512-bit vectors, which multiply bf16.
    Amx,
}

impl Level {
    /// All of them, the least first.
    pub const ALL: [Self; 4] = [Self::Portable, Self::Avx2, Self::Avx512, Self::Amx];

    /// What this processor offers.
    pub fn found() -> Self {
        static FOUND: OnceLock<Level> = OnceLock::new();
        *FOUND.get_or_init(detect)
    }

    /// What is used: what was found, or the level of [`VARIABLE`] where that is less.
    #[inline]
    pub fn current() -> Self {
        static CURRENT: OnceLock<Level> = OnceLock::new();
        *CURRENT.get_or_init(|| {
            let wanted = wanted().ok().flatten();
            wanted.map_or(Self::found(), |wanted| wanted.min(Self::found()))
        })
    }

    /// Its name, as in [`VARIABLE`].
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Amx => "amx",
        }
    }

    /// The same in the words of `gemmkit`, which reads them from an environment variable of its own;
    /// absent where its own choice is meant.
    pub(crate) fn for_gemmkit(self) -> Option<&'static str> {
        match self {
            Self::Portable => Some("scalar"),
            Self::Avx2 => Some("fma"),
            Self::Avx512 | Self::Amx => None,
        }
    }
}

/// The level that [`VARIABLE`] asks for.
///
/// # Errors
/// When it holds no name of a level, or one that this processor does not reach. Kernels take no
/// notice of it then; a program had better refuse.
pub fn wanted() -> Result<Option<Level>> {
    let Some(name) = std::env::var_os(VARIABLE).filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    let wanted = Level::ALL.into_iter().find(|level| name == level.name());
    match wanted {
        Some(level) if level <= Level::found() => Ok(Some(level)),
        _ => {
            let reached = Level::ALL.iter().filter(|level| **level <= Level::found());
            let reached: Vec<&str> = reached.map(|level| level.name()).collect();
            let expected = format!("one of {} on this processor", reached.join(", "));
            Err(Error::shape(VARIABLE, expected, name.to_string_lossy()))
        }
    }
}

/// Features of the instruction set that make a difference here, by the system's names.
pub fn features() -> Vec<&'static str> {
    let features = all_features().into_iter();
    features
        .filter_map(|(name, is_there)| is_there.then_some(name))
        .collect()
}

#[cfg(target_arch = "x86_64")]
fn all_features() -> [(&'static str, bool); 9] {
    let has_tiles = tiles();
    [
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("avx_vnni", is_x86_feature_detected!("avxvnni")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512_bf16", is_x86_feature_detected!("avx512bf16")),
        ("avx512_vnni", is_x86_feature_detected!("avx512vnni")),
        ("amx_tile", has_tiles.registers),
        ("amx_bf16", has_tiles.bf16),
        ("amx_int8", has_tiles.int8),
    ]
}

#[cfg(not(target_arch = "x86_64"))]
fn all_features() -> [(&'static str, bool); 0] {
    []
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Level {
    let has_fma = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let has_wide = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq");
    let tiles = tiles();
    match (has_fma, has_wide, tiles.registers && tiles.bf16) {
        (true, true, true) => Level::Amx,
        (true, true, false) => Level::Avx512,
        (true, false, _) => Level::Avx2,
        (false, ..) => Level::Portable,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Level {
    Level::Portable
}

/// The parts of AMX.
#[cfg(target_arch = "x86_64")]
pub(crate) struct Tiles {
    pub(crate) registers: bool,
    pub(crate) bf16: bool,
    pub(crate) int8: bool,
}

/// CPUID leaf 7, edx; the standard library's detection of these is not stable yet.
#[cfg(target_arch = "x86_64")]
pub(crate) fn tiles() -> Tiles {
    let edx = std::arch::x86_64::__cpuid_count(7, 0).edx;
    let has = |bit: u32| edx & (1 << bit) != 0;
    Tiles {
        registers: has(24),
        bf16: has(22),
        int8: has(25),
    }
}
