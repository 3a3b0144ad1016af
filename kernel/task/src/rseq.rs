//! Restartable sequences, rseq(2): how a program changes what belongs to one CPU without atomic instructions.
//!
//! A thread registers an area of its memory ([`Area`]), in which the kernel keeps the number of the vCPU that the thread runs
//! on. There the thread also names a descriptor of the sequence of instructions that it is in. When it comes
//! back to such a sequence after it was preempted, moved, or interrupted by a signal, it goes on at the sequence's abort address.
//!
//! Nothing happens at a system call that does not move the thread: sequences must not make any.
//!
//! References: the exported header `linux/rseq.h`; the manual page rseq(2) of librseq.

use crate::signal::deliver::FrameMem;
use crate::task::flag;
use crate::{Ctx, Task};
use abi::{Errno, Result};
use core::sync::atomic::{AtomicU32, Ordering};
use hal::arch::UserMem;
use hal::cpu;
use mm::Mm;
use mm::user::ADDR_END;
use sync::SpinLock;

/// Length and alignment of the first version of the area.
const FIRST_LEN: u32 = 32;
/// Bytes of the area that this kernel knows.
pub(crate) const FEATURE_LEN: u32 = 28;
/// Alignment of the area.
pub(crate) const ALIGN: u32 = 32;
/// Offsets in the area: `cpu_id_start` and `cpu_id`, 32 bits each.
const CPU: u64 = 0;
/// `rseq_cs`: address of the descriptor.
const SEQUENCE: u64 = 8;
/// `flags`.
const FLAGS: u64 = 16;
/// `node_id` and `mm_cid`, 32 bits each.
const NODE: u64 = 20;
/// `RSEQ_FLAG_UNREGISTER`
const UNREGISTER: u32 = 1;
/// `cpu_id` where nothing is registered.
const UNINITIALIZED: u32 = u32::MAX;

/// What a thread has registered.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Area {
    addr: u64,
    len: u32,
    /// The word in front of an abort address.
    signature: u32,
}

/// A task's part.
pub(crate) struct Rseq {
    area: SpinLock<Option<Area>, { crate::level::LEAF }>,
    /// The vCPU that the area names.
    cpu: AtomicU32,
}

/// Values of [`Rseq::cpu`]: there is no area; it has not been written yet.
const NO_AREA: u32 = u32::MAX;
const UNKNOWN: u32 = u32::MAX - 1;

impl Rseq {
    pub(crate) fn new() -> Rseq {
        Rseq {
            area: SpinLock::new(None),
            cpu: AtomicU32::new(NO_AREA),
        }
    }
    fn set(&self, area: Option<Area>) {
        *self.area.lock() = area;
        let cpu = if area.is_some() { UNKNOWN } else { NO_AREA };
        self.cpu.store(cpu, Ordering::Relaxed);
    }
    /// Nothing is registered any more (exec).
    pub(crate) fn clear(&self) {
        self.set(None);
    }
    /// What `parent` has registered, for its copy (fork).
    pub(crate) fn copy(&self, parent: &Rseq) {
        self.set(*parent.area.lock());
    }
    /// Whether something is registered.
    #[inline]
    pub(crate) fn is_registered(&self) -> bool {
        self.cpu.load(Ordering::Relaxed) != NO_AREA
    }
    /// Whether something is registered and does not name vCPU `id`.
    #[inline]
    pub(crate) fn is_elsewhere(&self, id: u32) -> bool {
        let cpu = self.cpu.load(Ordering::Relaxed);
        cpu != id && cpu != NO_AREA
    }
}

/// rseq(2). Errors: [`Errno::EINVAL`], [`Errno::EPERM`] (another signature), [`Errno::EBUSY`], [`Errno::EFAULT`].
pub fn rseq(cx: &Ctx, addr: u64, len: u32, flags: u32, signature: u32) -> Result {
    let t = cx.task();
    let area = Area {
        addr,
        len,
        signature,
    };
    let known = *t.rseq.area.lock();
    if flags & UNREGISTER != 0 {
        let same = known.filter(|k| k.addr == addr && k.len == len);
        let same = same.filter(|_| flags == UNREGISTER).ok_or(Errno::EINVAL)?;
        if same.signature != signature {
            return Err(Errno::EPERM);
        }
        let mm = cx.mm();
        write_ids(&mut FrameMem { task: t, mm }, &area, 0, UNINITIALIZED, 0)?;
        t.rseq.clear();
        return Ok(());
    }
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    if let Some(k) = known {
        return Err(match k {
            _ if k.addr != addr || k.len != len => Errno::EINVAL,
            _ if k.signature != signature => Errno::EPERM,
            _ => Errno::EBUSY,
        });
    }
    if len < FIRST_LEN || addr % u64::from(ALIGN) != 0 {
        return Err(Errno::EINVAL);
    }
    if addr.checked_add(len.into()).is_none_or(|e| e > ADDR_END) {
        return Err(Errno::EFAULT);
    }
    cx.mm().put(addr + SEQUENCE, &0u64)?;
    t.rseq.set(Some(area));
    t.set_flag(flag::RSEQ);
    Ok(())
}

fn write_ids(mem: &mut dyn UserMem, area: &Area, start: u32, cpu: u32, mm_cid: u32) -> Result {
    let two = |a: u32, b: u32| (u64::from(a) | u64::from(b) << 32).to_ne_bytes();
    mem.write(area.addr + CPU, &two(start, cpu))?;
    mem.write(area.addr + NODE, &two(0, mm_cid))
}

fn word(mem: &mut dyn UserMem, addr: u64) -> Result<u64> {
    let mut b = [0; 8];
    mem.read(addr, &mut b)?;
    Ok(u64::from_ne_bytes(b))
}

fn half_word(mem: &mut dyn UserMem, addr: u64) -> Result<u32> {
    let mut b = [0; 4];
    mem.read(addr, &mut b)?;
    Ok(u32::from_ne_bytes(b))
}

/// Before the task goes back to its program: it may have been preempted, or moved. An error is the program's: SIGSEGV.
pub(crate) fn resume(t: &Task, mm: &Mm) -> Result {
    let area = *t.rseq.area.lock();
    let Some(area) = area else { return Ok(()) };
    let mut mem = FrameMem { task: t, mm };
    leave_sequence(&mut mem, &area)?;
    let id = cpu::current_cpu().id;
    // If the task is moved while it writes, it is told to come back.
    t.rseq.cpu.store(id, Ordering::Relaxed);
    write_ids(&mut mem, &area, id, id, id)
}

/// Before a handler of a signal runs. Errors as for [`resume`].
pub(crate) fn interrupt(t: &Task, mm: &Mm) -> Result {
    let area = *t.rseq.area.lock();
    area.map_or(Ok(()), |a| {
        leave_sequence(&mut FrameMem { task: t, mm }, &a)
    })
}

/// Lets the program go on at the abort address of the sequence that it is in.
fn leave_sequence(mem: &mut FrameMem<'_>, area: &Area) -> Result {
    let at = word(mem, area.addr + SEQUENCE)?;
    if at == 0 {
        return Ok(());
    }
    // struct rseq_cs: version and flags, 32 bits each; start, length, abort address.
    let mut part = |i: u64| word(mem, at.wrapping_add(8 * i));
    let (head, start, len, abort) = (part(0)?, part(1)?, part(2)?, part(3)?);
    let (version, flags) = (head as u32, (head >> 32) as u32);
    let end = start.checked_add(len).filter(|e| *e <= ADDR_END);
    let inside = |a: u64| a.wrapping_sub(start) < len;
    if version != 0 || end.is_none() || abort >= ADDR_END || inside(abort) {
        return Err(Errno::EINVAL);
    }
    let signature = half_word(mem, abort.wrapping_sub(4))?;
    if signature != area.signature {
        return Err(Errno::EINVAL);
    }
    let none = 0u64.to_ne_bytes();
    let arch = mem.task.kernel.platform.arch();
    if !inside(mem.task.with_regs(|r| arch.ip(r))) {
        return mem.write(area.addr + SEQUENCE, &none);
    }
    // Flags that once kept a sequence from being restarted.
    let more = half_word(mem, area.addr + FLAGS)?;
    if flags | more != 0 {
        return Err(Errno::EINVAL);
    }
    mem.write(area.addr + SEQUENCE, &none)?;
    mem.task.with_regs(|r| arch.set_ip(r, abort));
    Ok(())
}
