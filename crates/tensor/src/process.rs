//! The process as a whole: settings that make work on processors faster and change no result, and how
//! much memory it takes.

use crate::cpu::{self, Level};

/// Prepares the process; call it first thing in `main`, before any thread is started.
///
/// - The tensor library's own elementwise pool waits by spinning, which steals the processor from
///   the kernels' pool: it is set to one thread, unless `CANDLE_NUM_THREADS` says otherwise.
/// - The engine of f32 products has a variable of its own for the level of [`cpu::VARIABLE`].
/// - glibc gives buffers of megabytes back to the system and faults them in again at every
///   operation: it is told to keep them. Other allocators are left alone.
///
/// Does nothing in a process that already runs several threads.
pub fn prepare() {
    if !is_single_threaded() {
        return;
    }
    set_default("CANDLE_NUM_THREADS", "1");
    let wanted = cpu::wanted().ok().flatten();
    if let Some(name) = wanted.and_then(Level::for_gemmkit) {
        set_default("GEMMKIT_REQUIRE_ISA", name);
    }
    keep_memory();
}

/// Does some work on one of the threads that kernels run on. From any other thread every kernel has
/// to wake them and to sleep until they are done, which takes longer than a small kernel does.
pub fn among_workers<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    rayon::scope(|_| work())
}

/// How many threads kernels run on, where this is called.
pub fn workers() -> usize {
    rayon::current_num_threads()
}

/// Sets a variable that is not set. The process has one thread.
fn set_default(name: &str, value: &str) {
    if std::env::var_os(name).is_none() {
        // SAFETY: there is no other thread that could read the environment meanwhile.
        unsafe { std::env::set_var(name, value) };
    }
}

/// The most bytes of memory that this process has held at once, where the system says so.
pub fn peak_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(target_os = "linux")]
fn is_single_threaded() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1)
}

#[cfg(not(target_os = "linux"))]
fn is_single_threaded() -> bool {
    false
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn keep_memory() {
    use std::ffi::c_int;
    // Names and numbers of malloc.h.
    const M_TRIM_THRESHOLD: c_int = -1;
    const M_TOP_PAD: c_int = -2;
    const M_MMAP_THRESHOLD: c_int = -3;
    const MIB: c_int = 1024 * 1024;
    unsafe extern "C" {
        fn mallopt(param: c_int, value: c_int) -> c_int;
    }
    // SAFETY: `mallopt` takes plain numbers, has no other precondition, and refuses bad ones.
    unsafe {
        mallopt(M_MMAP_THRESHOLD, 32 * MIB);
        mallopt(M_TRIM_THRESHOLD, c_int::MAX);
        mallopt(M_TOP_PAD, 64 * MIB);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn keep_memory() {}
