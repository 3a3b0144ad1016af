//! Signals when a file becomes ready: O_ASYNC, F_SETOWN and F_SETSIG of fcntl(2).
//!
//! An [`Async`] is a callback on the wait queues of its file. It runs under
//! whatever locks the waker holds, so it only notes the event and raises
//! [`IRQ_ASYNC`]; the signal is sent when this vCPU next looks at its
//! interrupts, which is before the waker's system call returns.

use crate::level;
use crate::{Kernel, Process, signal};
use abi::SigInfo;
use abi::signal::SIGIO;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use hal::cpu::{self, IRQ_ASYNC};
use sync::{Once, SpinLock, WakeCallback};
use vfs::file::{Owner, OwnerKind};
use vfs::poll::Registration;
use vfs::{File, PollEvents, PollTable};

/// Files with news, until their signals are sent.
pub(crate) type Pending = SpinLock<Vec<Arc<Async>>, { level::LEAF }>;

/// Bit of [`Async::news`]: something happened, though not which.
const UNKNOWN: u32 = 1 << 31;

/// A file that signals.
pub struct Async {
    this: Weak<Async>,
    kernel: &'static Kernel,
    file: Weak<File>,
    fd: i32,
    /// Events since the last signal; not 0: on the list.
    news: AtomicU32,
    registrations: Once<Vec<Registration>>,
}

impl Async {
    /// Starts to watch `file`, known to the caller as `fd`.
    pub fn new(kernel: &'static Kernel, file: &Arc<File>, fd: i32) -> Arc<Async> {
        let a = Arc::new_cyclic(|this| Async {
            this: this.clone(),
            kernel,
            file: Arc::downgrade(file),
            fd,
            news: AtomicU32::new(0),
            registrations: Once::new(),
        });
        let weak = Arc::downgrade(&a);
        let callback: Weak<dyn WakeCallback> = weak;
        let mut list = Vec::new();
        file.poll(Some(&mut PollTable::new(&mut |owner| {
            list.push(Registration::new(owner, callback.clone(), false));
        })));
        let _ = a.registrations.set(list);
        a
    }
    fn send(&self) {
        let mut events = self.news.swap(0, Ordering::AcqRel);
        let Some(file) = self.file.upgrade() else {
            return;
        };
        if events & UNKNOWN != 0 {
            events |= file.poll(None).bits();
        }
        let owner = *file.owner.lock();
        let has = |e: PollEvents| events & e.bits() != 0;
        type E = PollEvents;
        // POLL_IN, POLL_OUT, POLL_HUP with their bands.
        let (code, band) = if has(E::IN) {
            (1, E::IN | E::RDNORM)
        } else if has(E::OUT) {
            (2, E::OUT | E::WRNORM | E::WRBAND)
        } else if has(E::HUP) {
            (6, E::HUP | E::ERR)
        } else {
            return;
        };
        let info = match owner.signal {
            0 => SigInfo::new(SIGIO, signal::SI_KERNEL),
            n => SigInfo::poll(n, code, band.bits(), self.fd),
        };
        let pids = &self.kernel.pids;
        // Without room for the signal that was asked for, SIGIO says that something was lost, fcntl(2).
        let plain = SigInfo::new(SIGIO, signal::SI_KERNEL);
        let to_process = |p: &Arc<Process>| {
            if signal::queue_process(p, info).is_err() {
                signal::send_process(p, plain);
            }
        };
        match owner.kind {
            OwnerKind::Thread => {
                if let Some(t) = pids.task(owner.id).filter(|t| may(&owner, &t.process)) {
                    if signal::queue_task(&t, info).is_err() {
                        signal::send_task(&t, plain);
                    }
                }
            }
            OwnerKind::Process => {
                if let Some(p) = pids.process(owner.id).filter(|p| may(&owner, p)) {
                    to_process(&p);
                }
            }
            OwnerKind::Group => {
                for p in pids.group(owner.id).iter().filter(|p| may(&owner, p)) {
                    to_process(p);
                }
            }
        }
    }
}

/// Whether whoever set the owner may signal it.
fn may(owner: &Owner, p: &Arc<Process>) -> bool {
    let Some(t) = p.any_thread() else {
        return false;
    };
    let c = t.cred();
    let reaches = |uid: u32| uid == c.suid || uid == c.uid;
    owner.euid == 0 || reaches(owner.euid) || reaches(owner.uid)
}

impl WakeCallback for Async {
    fn woken(&self, key: u32) -> bool {
        let news = if key == 0 { UNKNOWN } else { key };
        if self.news.fetch_or(news, Ordering::AcqRel) == 0
            && let Some(this) = self.this.upgrade()
        {
            self.kernel.sigio.lock().push(this);
            cpu::current_cpu()
                .pending
                .fetch_or(IRQ_ASYNC, Ordering::SeqCst);
        }
        true
    }
}

/// Sends what is due.
pub(crate) fn run(kernel: &'static Kernel) {
    let due = core::mem::take(&mut *kernel.sigio.lock());
    for a in due {
        a.send();
    }
}
