//! Waiting for several files at once: poll(2), select(2).

use abi::{Errno, Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use sync::{WaitQueue, WakeCallback};
use vfs::poll::Registration;
use vfs::{File, PollEvents, PollTable};

/// One file to wait for.
pub struct PollItem {
    /// The file; `None`: skipped, `revents` stays as the caller set it (and counts if not empty).
    pub file: Option<Arc<File>>,
    /// What is asked for; ERR and HUP always are.
    pub events: PollEvents,
    /// What is there.
    pub revents: PollEvents,
}

/// What the files' queues wake.
struct Poller {
    /// Events that anybody asked for.
    interest: u32,
    woken: AtomicBool,
    queue: WaitQueue,
}

impl WakeCallback for Poller {
    fn woken(&self, key: u32) -> bool {
        if key != 0 && key & self.interest == 0 {
            return false;
        }
        // Wake-up proof: the flag is set before the queue is woken.
        self.woken.store(true, Ordering::Release);
        self.queue.wake_all();
        true
    }
}

const ALWAYS: PollEvents = PollEvents::ERR.union(PollEvents::HUP);

fn look(
    items: &mut [PollItem],
    mut register: Option<&mut dyn FnMut(Arc<dyn vfs::poll::QueueOwner>)>,
) -> usize {
    let mut n = 0;
    for item in items {
        if let Some(file) = &item.file {
            let want = item.events | ALWAYS;
            // A long list must not use the last memory up for its registrations.
            if register.is_some() {
                let me = hal::cpu::current_waiter();
                me.yield_if_needed();
                // The wait is over before it begins.
                if me.interrupted() {
                    register = None;
                }
            }
            let got = match &mut register {
                // Something is ready already: no need to be woken.
                Some(r) if n == 0 => file.poll(Some(&mut PollTable::new(*r))),
                _ => file.poll(None),
            };
            item.revents = got & want;
        }
        if !item.revents.is_empty() {
            n += 1;
        }
    }
    n
}

/// Waits until at least one file has one of its events, or until `deadline_ns`
/// (monotonic; 0 = do not wait, `None` = for ever). Returns the number of items
/// with `revents`. Errors: [`Errno::ERESTARTNOHAND`] if a signal came first.
///
/// Each file is registered with once, however often it wakes the caller for nothing.
pub fn poll_files(items: &mut [PollItem], deadline_ns: Option<u64>) -> Result<usize> {
    let n = look(items, None);
    if n > 0 {
        return Ok(n);
    }
    if deadline_ns == Some(0) {
        // As on Linux, a pending signal counts even if there is no time to wait.
        return if hal::cpu::current_waiter().interrupted() {
            Err(Errno::ERESTARTNOHAND)
        } else {
            Ok(0)
        };
    }
    let interest = items
        .iter()
        .fold(ALWAYS, |all, item| all | item.events)
        .bits();
    let poller = Arc::new(Poller {
        interest,
        woken: AtomicBool::new(false),
        queue: WaitQueue::new(),
    });
    let weak = Arc::downgrade(&poller);
    let callback: Weak<dyn WakeCallback> = weak;
    let mut registrations: Vec<Registration> = Vec::new();
    registrations
        .try_reserve(items.len())
        .map_err(|_| Errno::ENOMEM)?;
    let mut register =
        |owner| registrations.push(Registration::new(owner, callback.clone(), false));
    let n = look(items, Some(&mut register));
    if n > 0 {
        return Ok(n);
    }
    loop {
        let r = poller.queue.wait_until(deadline_ns, || {
            poller.woken.swap(false, Ordering::AcqRel).then_some(())
        });
        let n = look(items, None);
        match r {
            _ if n > 0 => return Ok(n),
            Ok(()) => {}
            Err(Errno::ETIMEDOUT) => return Ok(0),
            Err(_) => return Err(Errno::ERESTARTNOHAND),
        }
    }
}
