//! Settings of the whole process that make training on processors faster. Results do not change.

/// Prepares the process; call it first thing in `main`, before any thread is started.
///
/// - The tensor library's own elementwise pool waits by spinning, which steals the processor from
///   the kernels' pool: it is set to one thread, unless `CANDLE_NUM_THREADS` says otherwise.
/// - glibc gives buffers of megabytes back to the system and faults them in again at every
///   operation: it is told to keep them. Other allocators are left alone.
///
/// Does nothing in a process that already runs several threads.
pub fn prepare() {
    if !is_single_threaded() {
        return;
    }
    const POOL: &str = "CANDLE_NUM_THREADS";
    if std::env::var_os(POOL).is_none() {
        // SAFETY: the environment is changed while the process has one thread, so nobody reads it.
        unsafe { std::env::set_var(POOL, "1") };
    }
    keep_memory();
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
