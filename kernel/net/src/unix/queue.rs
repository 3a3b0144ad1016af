//! Receive queues.

use super::addr::Name;
use super::inflight::Rights;
use abi::io::UCred;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};
use sync::WaitQueue;
use vfs::PollEvents;

/// Bytes that a queued datagram counts beside its data.
pub(super) const OVERHEAD: usize = 512;
/// Least room made for stream data, so that small writes share a buffer.
pub(super) const MIN_BUFFER: usize = 4096;
/// Most stream data in one buffer.
pub(super) const MAX_BUFFER: usize = 32 << 10;

/// Bytes of one sender that wait in other sockets.
#[derive(Default)]
pub(super) struct SendAccount {
    pub(super) bytes: AtomicUsize,
    /// Bytes at or below which writers are woken.
    pub(super) low: AtomicUsize,
    /// Tasks and pollers that wait to write.
    pub(super) wait: Arc<WaitQueue>,
}

impl SendAccount {
    pub(super) fn wake(&self) {
        let key = PollEvents::OUT | PollEvents::WRNORM | PollEvents::WRBAND;
        self.wait.wake_key(key.bits());
    }
}

/// Part of a [`SendAccount`], given back on drop.
pub(super) struct Charge {
    account: Arc<SendAccount>,
    bytes: usize,
}

impl Charge {
    pub(super) fn new(account: &Arc<SendAccount>, bytes: usize, low: usize) -> Charge {
        account.bytes.fetch_add(bytes, Ordering::AcqRel);
        account.low.store(low, Ordering::Relaxed);
        Charge {
            account: account.clone(),
            bytes,
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let before = self.account.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        if before.saturating_sub(self.bytes) <= self.account.low.load(Ordering::Relaxed) {
            self.account.wake();
        }
    }
}

/// A datagram, or a run of stream data from one writer.
pub(super) struct Message {
    pub(super) data: Vec<u8>,
    /// Bytes of `data` that have been read (streams).
    pub(super) start: usize,
    pub(super) rights: Option<Rights>,
    pub(super) cred: UCred,
    pub(super) from: Option<Arc<Name>>,
    /// Datagrams only.
    pub(super) _charge: Option<Charge>,
}

impl Message {
    pub(super) fn left(&self) -> usize {
        self.data.len() - self.start.min(self.data.len())
    }
}

/// What a socket has received. Messages with rights are dropped only after the lock is released.
#[derive(Default)]
pub(super) struct Rx {
    pub(super) messages: VecDeque<Message>,
    /// A buffer used up, for the next write.
    spare: Option<Vec<u8>>,
}

impl Rx {
    /// Unread bytes of the first message.
    pub(super) fn first_len(&self) -> usize {
        self.messages.front().map_or(0, Message::left)
    }
    /// An empty buffer for stream data; `None`: no memory.
    pub(super) fn buffer(&mut self, size: usize) -> Option<Vec<u8>> {
        if let Some(b) = self.spare.take_if(|b| b.capacity() >= size) {
            return Some(b);
        }
        let mut v = Vec::new();
        v.try_reserve_exact(size.max(MIN_BUFFER)).ok()?;
        Some(v)
    }
    /// Keeps the buffer of a message that has been read.
    pub(super) fn recycle(&mut self, mut data: Vec<u8>) {
        if self.spare.is_none() {
            data.clear();
            self.spare = Some(data);
        }
    }
}
