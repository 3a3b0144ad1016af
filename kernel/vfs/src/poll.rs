//! Readiness of files, poll(2).

use alloc::sync::Weak;
use sync::{WaitQueue, WakeCallback};

bitflags::bitflags! {
    /// Event bits of poll(2); epoll uses the same.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct PollEvents: u32 {
        /// `POLLIN`
        const IN = 0x1;
        /// `POLLPRI`
        const PRI = 0x2;
        /// `POLLOUT`
        const OUT = 0x4;
        /// `POLLERR`
        const ERR = 0x8;
        /// `POLLHUP`
        const HUP = 0x10;
        /// `POLLNVAL`
        const NVAL = 0x20;
        /// `POLLRDNORM`
        const RDNORM = 0x40;
        /// `POLLRDBAND`
        const RDBAND = 0x80;
        /// `POLLWRNORM`
        const WRNORM = 0x100;
        /// `POLLWRBAND`
        const WRBAND = 0x200;
        /// `POLLMSG`
        const MSG = 0x400;
        /// `POLLRDHUP`
        const RDHUP = 0x2000;
    }
}

/// What `poll` of a file calls for each queue it depends on. The queue is
/// owned by an `Arc`ed object (`owner`) so that the registration can outlive the call.
pub struct PollTable<'a> {
    /// Called by [`PollTable::add`].
    register: &'a mut dyn FnMut(alloc::sync::Arc<dyn QueueOwner>),
}

/// An object that has a wait queue; lets poll and epoll keep the queue alive.
pub trait QueueOwner: Send + Sync {
    /// The queue.
    fn queue(&self) -> &WaitQueue;
}

impl QueueOwner for WaitQueue {
    fn queue(&self) -> &WaitQueue {
        self
    }
}

impl<'a> PollTable<'a> {
    /// A table that calls `register` for each queue.
    pub fn new(register: &'a mut dyn FnMut(alloc::sync::Arc<dyn QueueOwner>)) -> Self {
        PollTable { register }
    }
    /// Files call this for each queue that is woken when their readiness changes.
    pub fn add(&mut self, owner: alloc::sync::Arc<dyn QueueOwner>) {
        (self.register)(owner);
    }
}

/// Registration of one callback on one queue; removed on drop.
pub struct Registration {
    owner: alloc::sync::Arc<dyn QueueOwner>,
    entry: sync::WaitEntry,
}

impl Registration {
    /// Registers `callback`; `exclusive` as in [`WaitQueue::add_callback`].
    pub fn new(
        owner: alloc::sync::Arc<dyn QueueOwner>,
        callback: Weak<dyn WakeCallback>,
        exclusive: bool,
    ) -> Registration {
        let entry = owner.queue().add_callback(callback, exclusive);
        Registration { owner, entry }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.owner.queue().remove(self.entry);
    }
}
