//! What this layer keeps in a machine.

use crate::memfd::MemFs;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use task::Ctx;

/// Numbers beyond this share one mark.
const NUMBERS: usize = 1024;

/// State of the system-call layer, in [`task::kernel::Slots::syscall`].
pub struct State {
    /// Bit per number: its absence was logged.
    missed: [AtomicU64; NUMBERS / 64],
    /// Home of memfd_create(2).
    pub memfs: Arc<MemFs>,
}

impl State {
    fn new() -> State {
        State {
            missed: [const { AtomicU64::new(0) }; NUMBERS / 64],
            memfs: MemFs::new(),
        }
    }
    /// Whether `nr` is missed for the first time.
    pub fn first_miss(&self, nr: u64) -> bool {
        let i = usize::try_from(nr).unwrap_or(usize::MAX).min(NUMBERS - 1);
        let Some(word) = self.missed.get(i / 64) else {
            return false;
        };
        let bit = 1 << (i % 64);
        word.fetch_or(bit, Ordering::Relaxed) & bit == 0
    }
}

/// The machine's state, made at the first use.
pub fn of(cx: &Ctx) -> Arc<State> {
    let slot = &cx.kernel().slots.syscall;
    loop {
        if let Some(s) = slot.get() {
            match s.clone().downcast::<State>() {
                Ok(s) => return s,
                // Somebody else's: then nothing is remembered.
                Err(_) => return Arc::new(State::new()),
            }
        }
        // A concurrent setter wins.
        let _ = slot.set(Arc::new(State::new()));
        core::hint::spin_loop();
    }
}
