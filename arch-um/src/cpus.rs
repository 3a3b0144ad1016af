//! Host CPUs and host threads of vCPUs; both engines choose and start them alike.

use crate::Error;
use abi::Errno;
use core::sync::atomic::AtomicU64;
use hal::cpu::{CpuId, SavedStack};
use host_sys::task;
use std::sync::mpsc;

/// The host CPU for each vCPU, -1 if it is not bound (`pin` is false). From the CPU on
/// that the host has chosen for this process: not all machines have their first vCPU on the same one.
pub(crate) fn choose(pin: bool) -> Result<impl Fn(usize) -> i32, Error> {
    let allowed = task::affinity(0).map_err(|e| Error::Host("read the CPU affinity", e))?;
    let allowed: Vec<usize> = allowed.iter().collect();
    // SAFETY: no arguments, no effects.
    let here = unsafe { libc::sched_getcpu() };
    let first = allowed.iter().position(|c| *c as i32 == here).unwrap_or(0);
    Ok(move |i: usize| match (pin, allowed.len()) {
        (true, n) if n > 0 => allowed[(first + i) % n] as i32,
        _ => -1,
    })
}

/// Starts the thread of vCPU `id` on the kernel stack `entry`, which it gets for
/// ever, once `ready` has set the thread up. [`Errno::EAGAIN`]: no thread, or it is not ready.
pub(crate) fn start(
    id: CpuId,
    entry: SavedStack,
    ready: impl FnOnce() -> bool + Send + 'static,
) -> Result<(), Errno> {
    let (tell, told) = mpsc::channel();
    let body = move || {
        let ready = ready();
        let _ = tell.send(ready);
        drop(tell);
        if ready {
            let here = SavedStack(AtomicU64::new(0));
            // SAFETY: the caller of start_cpu has prepared the stack and
            // gives it to this thread; nothing switches back to `here`.
            unsafe { hal::cpu::switch_stack(&here, &entry) };
        }
    };
    std::thread::Builder::new()
        .name(format!("vcpu{id}"))
        .stack_size(128 << 10)
        .spawn(body)
        .map_err(|_| Errno::EAGAIN)?;
    match told.recv() {
        Ok(true) => Ok(()),
        _ => Err(Errno::EAGAIN),
    }
}
