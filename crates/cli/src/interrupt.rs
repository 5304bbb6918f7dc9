//! Ctrl-C: once to stop cleanly, twice to stop at once.
//!
//! While somebody holds a [`Guard`] the first Ctrl-C only raises a flag, which the work looks at
//! between its steps. Without a guard, and at the second time, the program ends with code 130.
//! Files are renamed into place when they are whole, so nothing half-written has a real name.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Once, OnceLock};

/// Exit code of a program ended by Ctrl-C, as shells report it.
pub(crate) const EXIT_CODE: u8 = 130;

static GUARDS: AtomicUsize = AtomicUsize::new(0);

/// The work was stopped by Ctrl-C.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// Work that ends by itself soon after the flag is raised.
#[derive(Debug)]
pub(crate) struct Guard(Arc<AtomicBool>);

impl Guard {
    /// From now on the first Ctrl-C only raises the flag.
    pub(crate) fn new() -> Self {
        install();
        GUARDS.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(flag()))
    }

    /// Set by the first Ctrl-C.
    pub(crate) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }

    /// An error once Ctrl-C was pressed.
    pub(crate) fn check(&self) -> Result<(), Interrupted> {
        match self.0.load(Ordering::SeqCst) {
            true => Err(Interrupted),
            false => Ok(()),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        GUARDS.fetch_sub(1, Ordering::SeqCst);
    }
}

fn flag() -> &'static Arc<AtomicBool> {
    static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    FLAG.get_or_init(Arc::default)
}

/// From now on Ctrl-C ends the program with code 130.
pub(crate) fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let pressed = || {
            let is_second = flag().swap(true, Ordering::SeqCst);
            if is_second || GUARDS.load(Ordering::SeqCst) == 0 {
                std::process::exit(i32::from(EXIT_CODE));
            }
        };
        // Where no handler can be set, Ctrl-C ends the program at once: the system's default.
        let _ = ctrlc::set_handler(pressed);
    });
}
