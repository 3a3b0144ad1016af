//! Message queues, msgget(2), msgop(2).

use super::{Charge, Object, READ, SysV, WRITE, seconds};
use abi::sysv::{IPC_NOWAIT, MsqidDs};
use abi::{Errno, Result};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use sync::{SpinLock, WaitQueue, level};
use vfs::cred::cap;
use vfs::file::Caller;

/// Most queues (`MSGMNI`).
pub const MAX_QUEUES: u32 = 32000;
/// Longest message (`MSGMAX`).
pub const MAX_MESSAGE: usize = 8192;
/// Default capacity of a queue in bytes (`MSGMNB`).
pub const MAX_BYTES: u64 = 16384;
/// msgrcv(2) flags.
const MSG_NOERROR: i32 = 0o10000;
const MSG_EXCEPT: i32 = 0o20000;
const MSG_COPY: i32 = 0o40000;

struct Message {
    kind: i64,
    data: Vec<u8>,
    _charge: Charge,
}

struct Inner {
    messages: VecDeque<Message>,
    bytes: u64,
    capacity: u64,
    times: [i64; 3],
    pids: [i32; 2],
}

/// A message queue.
pub struct Queue {
    inner: SpinLock<Inner, { level::IPC }>,
    readers: WaitQueue,
    writers: WaitQueue,
}

/// `struct msqid_ds` of a queue.
pub fn stat(o: &Object<Queue>) -> MsqidDs {
    let perm = o.perm();
    let i = o.value.inner.lock();
    MsqidDs {
        perm,
        stime: i.times[0],
        rtime: i.times[1],
        ctime: i.times[2],
        cbytes: i.bytes,
        qnum: i.messages.len() as u64,
        qbytes: i.capacity,
        lspid: i.pids[0],
        lrpid: i.pids[1],
        unused: [0; 2],
    }
}

/// Tells those who wait for a removed queue; its messages are gone.
pub fn removed(o: &Object<Queue>) {
    let lost = core::mem::take(&mut o.value.inner.lock().messages);
    drop(lost);
    o.value.readers.wake_all();
    o.value.writers.wake_all();
}

/// IPC_SET: owner, mode and capacity. [`Errno::EPERM`].
pub fn set(cx: &dyn Caller, o: &Object<Queue>, new: &MsqidDs) -> Result {
    let cred = cx.cred();
    if new.qbytes > MAX_BYTES && !cred.capable(cap::SYS_RESOURCE) {
        return Err(Errno::EPERM);
    }
    o.set_perm(&cred, &new.perm)?;
    {
        let mut i = o.value.inner.lock();
        i.capacity = new.qbytes.min(i32::MAX as u64);
        i.times[2] = seconds(cx);
    }
    o.value.writers.wake_all();
    Ok(())
}

/// Which message msgrcv(2) wants.
fn wanted(messages: &VecDeque<Message>, kind: i64, flags: i32) -> Option<usize> {
    match kind {
        0 => (!messages.is_empty()).then_some(0),
        k if k > 0 && flags & MSG_EXCEPT != 0 => messages.iter().position(|m| m.kind != k),
        k if k > 0 => messages.iter().position(|m| m.kind == k),
        k => {
            let most = k.checked_neg().unwrap_or(i64::MAX);
            let lowest = messages
                .iter()
                .map(|m| m.kind)
                .filter(|m| *m <= most)
                .min()?;
            messages.iter().position(|m| m.kind == lowest)
        }
    }
}

impl SysV {
    /// msgget(2).
    pub fn msgget(&self, cx: &dyn Caller, key: i32, flags: i32) -> Result<i32> {
        let make = || {
            Ok(Queue {
                inner: SpinLock::new(Inner {
                    messages: VecDeque::new(),
                    bytes: 0,
                    capacity: MAX_BYTES,
                    times: [0, 0, seconds(cx)],
                    pids: [0; 2],
                }),
                readers: WaitQueue::new(),
                writers: WaitQueue::new(),
            })
        };
        self.msg.get(cx, key, flags, MAX_QUEUES, |_| Ok(()), make)
    }
    /// msgsnd(2), the message copied in. [`Errno::EINVAL`] for a bad type or length,
    /// [`Errno::ENOMEM`] when the messages of all queues take too much memory.
    pub fn msgsnd(&self, cx: &dyn Caller, id: i32, kind: i64, data: Vec<u8>, flags: i32) -> Result {
        if kind < 1 || data.len() > MAX_MESSAGE {
            return Err(Errno::EINVAL);
        }
        let o = self.msg.find(id)?;
        o.check(&cx.cred(), WRITE)?;
        let len = data.len() as u64;
        let bytes = size_of::<Message>() + data.len();
        let mut message = Some(Message {
            kind,
            data,
            _charge: Charge::new(&self.messages, bytes).ok_or(Errno::ENOMEM)?,
        });
        let now = seconds(cx);
        let pid = cx.pid();
        let mut step = || -> Option<Result> {
            if o.removed() {
                return Some(Err(Errno::EIDRM));
            }
            let mut i = o.value.inner.lock();
            // Empty messages count as one byte, or there could be any number.
            let full = i.bytes + len > i.capacity || i.messages.len() as u64 >= i.capacity;
            if full {
                return (flags & IPC_NOWAIT != 0).then_some(Err(Errno::EAGAIN));
            }
            if i.messages.try_reserve(1).is_err() {
                return Some(Err(Errno::ENOMEM));
            }
            i.messages.extend(message.take());
            i.bytes += len;
            i.times[0] = now;
            i.pids[0] = pid;
            Some(Ok(()))
        };
        // Wake-up proof: readers make room, and removal is noted, before the queue is woken.
        match o.value.writers.wait(&mut step) {
            Ok(r) => r?,
            // msgsnd(2) is never restarted.
            Err(_) => return Err(Errno::EINTR),
        }
        o.value.readers.wake_all();
        Ok(())
    }
    /// msgrcv(2): type and data of the message, cut to `max` with MSG_NOERROR.
    pub fn msgrcv(
        &self,
        cx: &dyn Caller,
        id: i32,
        max: u64,
        kind: i64,
        flags: i32,
    ) -> Result<(i64, Vec<u8>)> {
        if max > i64::MAX as u64 {
            return Err(Errno::EINVAL);
        }
        if flags & MSG_COPY != 0 {
            return Err(Errno::ENOSYS);
        }
        let o = self.msg.find(id)?;
        o.check(&cx.cred(), READ)?;
        let now = seconds(cx);
        let pid = cx.pid();
        let mut step = || -> Option<Result<Message>> {
            if o.removed() {
                return Some(Err(Errno::EIDRM));
            }
            let mut i = o.value.inner.lock();
            let Some(at) = wanted(&i.messages, kind, flags) else {
                return (flags & IPC_NOWAIT != 0).then_some(Err(Errno::ENOMSG));
            };
            let len = i.messages.get(at).map_or(0, |m| m.data.len() as u64);
            if len > max && flags & MSG_NOERROR == 0 {
                return Some(Err(Errno::E2BIG));
            }
            let m = i.messages.remove(at)?;
            i.bytes = i.bytes.saturating_sub(len);
            i.times[1] = now;
            i.pids[1] = pid;
            Some(Ok(m))
        };
        // Wake-up proof: a writer queues, and removal is noted, before the queue is woken.
        let mut m = match o.value.readers.wait(&mut step) {
            Ok(r) => r?,
            // msgrcv(2) is never restarted.
            Err(_) => return Err(Errno::EINTR),
        };
        o.value.writers.wake_all();
        m.data.truncate(usize::try_from(max).unwrap_or(usize::MAX));
        Ok((m.kind, m.data))
    }
}
