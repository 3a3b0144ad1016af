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

/// What each buffer counts beside its data: its descriptor.
const DESCRIPTOR: usize = 256;
/// What lies behind the data in the first part of a buffer.
const TAIL: usize = 320;
/// Least size of a buffer's first part.
const MIN_PART: usize = 512;
/// Size of the further parts.
const PAGE: usize = 4096;
/// Data in the first part of a stream's buffer, if there are others.
const STREAM_FIRST: usize = PAGE - TAIL;
/// Data in the further parts of a stream's buffer.
const STREAM_MORE: usize = 32 << 10;
/// Data of a datagram that needs no further parts.
const DGRAM_FIRST: usize = 4 * PAGE - TAIL;

/// Most stream data in one buffer, for a send buffer of `sndbuf` bytes: two fit in any case.
pub(super) fn stream_piece(sndbuf: usize) -> usize {
    (sndbuf / 2)
        .saturating_sub(64)
        .min(STREAM_FIRST + STREAM_MORE)
}

/// What a buffer counts against SO_SNDBUF, as SIOCOUTQ shows it: more than its data. The first part
/// has the size of a power of two, the `more` bytes in further ones fill pages.
fn cost(len: usize, more: usize) -> usize {
    let more = more.min(len);
    let first = (len - more + TAIL).next_power_of_two().max(MIN_PART);
    DESCRIPTOR + first + more.next_multiple_of(PAGE)
}

/// [`cost`] of a buffer of stream data.
pub(super) fn stream_cost(len: usize) -> usize {
    cost(len, len.saturating_sub(STREAM_FIRST).next_multiple_of(PAGE))
}

/// [`cost`] of a datagram.
pub(super) fn dgram_cost(len: usize) -> usize {
    cost(len, len.saturating_sub(DGRAM_FIRST).next_multiple_of(PAGE))
}

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

/// A datagram, or what one write (or a part of it) gave to a stream.
pub(super) struct Message {
    pub(super) data: Vec<u8>,
    /// Bytes of `data` that have been read (streams).
    pub(super) start: usize,
    pub(super) rights: Option<Rights>,
    pub(super) cred: UCred,
    pub(super) from: Option<Arc<Name>>,
    pub(super) _charge: Charge,
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
        v.try_reserve_exact(size).ok()?;
        Some(v)
    }
    /// Keeps the buffer of a message that has been read.
    pub(super) fn recycle(&mut self, mut data: Vec<u8>) {
        // The larger one: it serves most writes.
        if (self.spare.as_ref()).is_none_or(|s| s.capacity() < data.capacity()) {
            data.clear();
            self.spare = Some(data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs() {
        // As Linux counts them.
        for (len, want) in [(1, 768), (192, 768), (193, 1280), (704, 1280), (705, 2304)] {
            assert_eq!(stream_cost(len), want, "{len}");
            assert_eq!(dgram_cost(len), want, "{len}");
        }
        for (len, stream, dgram) in [
            (3776, 4352, 4352),
            (3777, 4864, 8448),
            (7872, 8448, 8448),
            (7873, 8960, 16640),
            (16064, 16640, 16640),
            (16065, 17152, 20736),
            (20000, 20736, 20736),
            (32449, 33536, 37120),
        ] {
            assert_eq!(stream_cost(len), stream, "{len}");
            assert_eq!(dgram_cost(len), dgram, "{len}");
        }
        assert_eq!(stream_piece(4608), 2240);
        assert_eq!(stream_piece(212_992), 36544);
    }
}
