//! Lists of host calls for a mapper thread, and the wait for its answer.
//!
//! Request n lies in one of two buffers by turns. The mapper answers before
//! the last calls of a list, so a buffer is written again only when
//! the *next* request has been answered: then the mapper is done with it.

use super::shared::Slot;
use crate::x86_64::stub::{self, Op};
use core::sync::atomic::{AtomicBool, Ordering};
use host_sys::time::{futex_wait_shared, futex_wake_shared};

/// Descriptor of the memory file in user processes.
pub(crate) const MEM_FD: u64 = 0;
/// Descriptor of the stub file in user processes.
pub(crate) const STUB_FD: u64 = 1;
/// Value of the answer word (and of report words) of a dead process.
pub(crate) const DEAD: u32 = u32::MAX;

const SEQ_MASK: u32 = (1 << 30) - 1;
/// Calls of the path taken after a failure, at the start of each buffer.
const FAILURE_OPS: u64 = 8;
/// Calls kept free behind a list for its end.
const TAIL_OPS: u64 = 7;
const MAX_OPS: u64 = (stub::CTRL_BUF_LEN - 16) / stub::OP_SIZE - FAILURE_OPS - TAIL_OPS;

/// A host call without the rarely used fields.
pub(crate) fn call(nr: libc::c_long, args: [u64; 6]) -> Op {
    Op {
        nr,
        args,
        ..Op::default()
    }
}

/// Letting a stub thread go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Go {
    /// Offset of its area in the stub file.
    pub(crate) offset: u64,
    /// Address of the area in the user process.
    pub(crate) address: u64,
    /// New value of the go word.
    pub(crate) value: u32,
}

/// A mapper's answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// All done.
    Done,
    /// A call failed; the mapper has taken the path for failures.
    Failed,
    /// The process is dead.
    Dead,
}

/// The kernel's end of one mapper.
#[derive(Debug)]
pub(crate) struct Mapper {
    ctrl: Slot,
    /// Offset of the answer word in the stub file.
    ack_offset: u64,
    seq: u32,
    turn: usize,
    answered: bool,
}

impl Mapper {
    /// The mapper of the slot `ctrl` at `offset` in the stub file, which is about to start.
    pub(crate) fn new(ctrl: Slot, offset: u64) -> Mapper {
        ctrl.u32(stub::CTRL_REQ).store(0, Ordering::Relaxed);
        ctrl.u32(stub::CTRL_ACK).store(0, Ordering::Relaxed);
        Mapper {
            ctrl,
            ack_offset: offset + stub::CTRL_ACK,
            seq: 0,
            turn: 0,
            answered: true,
        }
    }

    /// Starts the next list. The last one has been answered.
    pub(crate) fn begin(&mut self) -> List {
        assert!(self.answered, "list begun before the last was answered");
        self.begin_in(self.turn ^ 1)
    }

    /// Starts the next list in the given buffer.
    pub(crate) fn begin_in(&mut self, turn: usize) -> List {
        self.seq = (self.seq % SEQ_MASK) + 1;
        self.turn = turn;
        let list = List {
            ctrl: self.ctrl,
            buf: stub::CTRL_BUF[turn],
            next: FAILURE_OPS,
            ack_offset: self.ack_offset,
            seq: self.seq,
        };
        let ok = self.seq << 1;
        list.ctrl.u32(list.buf).store(ok, Ordering::Relaxed);
        list.ctrl.u32(list.buf + 4).store(ok | 1, Ordering::Relaxed);
        list
    }

    /// Takes an empty list back.
    pub(crate) fn forget(&mut self, _list: List) {
        self.turn ^= 1;
        self.seq = match self.seq {
            0 | 1 => SEQ_MASK,
            n => n - 1,
        };
    }

    /// Which buffer the last list was in.
    pub(crate) fn turn(&self) -> usize {
        self.turn
    }

    /// Notes that the mapper starts with the list just made, without `submit`.
    pub(crate) fn expect_answer(&mut self) {
        self.answered = false;
        self.ctrl
            .u32(stub::CTRL_REQ)
            .store(self.seq, Ordering::Release);
    }

    /// Sends the list. `on_failure`: done if a call fails. `then_go`: thread to let go at the end.
    pub(crate) fn submit(&mut self, mut list: List, on_failure: Option<Op>, then_go: Option<Go>) {
        if let Some(go) = then_go {
            let value = list.ctrl.u32(list.buf + 8);
            value.store(go.value, Ordering::Relaxed);
        }
        list.finish(0, then_go);
        list.next = 0;
        if let Some(op) = on_failure {
            list.raw_push(op);
        }
        list.finish(4, then_go);
        assert!(list.next <= FAILURE_OPS);
        self.answered = false;
        let start = stub::CTRL + list.offset_of(FAILURE_OPS);
        let req = self.ctrl.u32(stub::CTRL_REQ);
        self.ctrl
            .u64(stub::CTRL_PROG)
            .store(start, Ordering::Relaxed);
        req.store(self.seq, Ordering::Release);
        futex_wake_shared(req);
    }

    /// The answer to the last list, if it is there.
    pub(crate) fn poll(&mut self) -> Option<Answer> {
        let v = self.ctrl.u32(stub::CTRL_ACK).load(Ordering::Acquire);
        if v == DEAD {
            return Some(Answer::Dead);
        }
        if v >> 1 != self.seq {
            return None;
        }
        self.answered = true;
        Some(if v & 1 == 0 {
            Answer::Done
        } else {
            Answer::Failed
        })
    }

    /// Whether the last list has been taken note of by [`Mapper::poll`].
    pub(crate) fn answered(&self) -> bool {
        self.answered
    }

    /// Waits for the answer. `dead` is set before the words of a dead process
    /// are overwritten and woken, so either it is seen here or the sleep ends.
    pub(crate) fn wait(&mut self, dead: &AtomicBool) -> Answer {
        let ack = self.ctrl.u32(stub::CTRL_ACK);
        loop {
            let seen = ack.load(Ordering::Acquire);
            if let Some(a) = self.poll() {
                return a;
            }
            if dead.load(Ordering::Acquire) {
                return Answer::Dead;
            }
            let _ = futex_wait_shared(ack, seen, None);
        }
    }
}

/// A list under construction.
pub(crate) struct List {
    ctrl: Slot,
    buf: u64,
    next: u64,
    ack_offset: u64,
    seq: u32,
}

impl List {
    fn offset_of(&self, index: u64) -> u64 {
        self.buf + 16 + index * stub::OP_SIZE
    }
    /// Address of call number `index` in the user process.
    pub(crate) fn address_of(&self, index: u64) -> u64 {
        stub::CTRL + self.offset_of(index)
    }
    /// Address of the path for failures.
    pub(crate) fn failure(&self) -> u64 {
        self.address_of(0)
    }
    /// Number of the next call.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }
    /// Goes on at another place.
    pub(crate) fn seek(&mut self, index: u64) {
        self.next = index;
    }
    /// Whether `n` more calls fit.
    pub(crate) fn has_room(&self, n: u64) -> bool {
        self.next + n <= FAILURE_OPS + MAX_OPS
    }
    /// Whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.next == FAILURE_OPS
    }
    /// Adds a call.
    pub(crate) fn push(&mut self, op: Op) {
        assert!(self.has_room(1));
        self.raw_push(op);
    }
    fn raw_push(&mut self, op: Op) {
        let at = self.offset_of(self.next);
        let mut bytes = [0; stub::OP_SIZE as usize];
        let words =
            [op.nr as u64]
                .into_iter()
                .chain(op.args)
                .chain([op.child, op.on_error, op.expect]);
        for (b, w) in bytes.chunks_exact_mut(8).zip(words) {
            b.copy_from_slice(&w.to_ne_bytes());
        }
        self.ctrl.write(at, &bytes);
        self.next += 1;
    }
    /// The end: answer with the word at `word` of the buffer, wake, wait for the next request.
    pub(crate) fn finish(&mut self, word: u64, then_go: Option<Go>) {
        let consts = stub::CTRL + self.buf;
        let write = |from, offset| call(libc::SYS_pwrite64, [STUB_FD, from, 4, offset, 0, 0]);
        let wake = |word| call(libc::SYS_futex, [word, libc::FUTEX_WAKE as u64, 1, 0, 0, 0]);
        if let Some(go) = then_go {
            self.raw_push(write(consts + 8, go.offset + stub::GO));
            self.raw_push(write(consts + 8, go.offset + stub::PARK));
            self.raw_push(wake(go.address + stub::PARK));
        }
        // Behind that wake-up: an answer says that no more of them come.
        self.raw_push(write(consts + word, self.ack_offset));
        self.raw_push(wake(stub::CTRL + stub::CTRL_ACK));
        let seq = u64::from(self.seq);
        self.raw_push(call(-1, [stub::mapper(), seq, 0, 0, 0, 0]));
    }
}
