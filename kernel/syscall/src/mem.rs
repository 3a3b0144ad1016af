//! Address spaces: mmap(2), mprotect(2), mremap(2), madvise(2), brk(2), mlock(2), membarrier(2), pkeys(7).

use crate::args::{Fd, Hex, Ptr};
use crate::cx::{self, mm};
use crate::flags::{
    Madvice, MapArg, MembarrierCmd, Mlock2Flags, MlockFlags, MsyncFlags, ProtArg, RemapFlags,
};
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use hal::{PAGE_SIZE, Prot};
use mm::Mm;
use mm::aspace::{Backing, Fixed, MapRequest, VmFlags};
use task::{Ctx, sched};
use vfs::File;
use vfs::file::MmapBacking;
use vfs::mount::MountFlags;

const PAGE: u64 = PAGE_SIZE as u64;

fn prot(p: ProtArg) -> Prot {
    Prot::from_bits_truncate(p.0 as u32)
}

/// Length in whole pages; `None` if that overflows.
fn pages(len: u64) -> Option<u64> {
    len.checked_next_multiple_of(PAGE)
}

/// Maps memory: `mmap(2)`.
pub fn sys_mmap(
    cx: &Ctx,
    addr: Ptr,
    len: u64,
    p: ProtArg,
    flags: MapArg,
    fd: Fd,
    offset: Hex,
) -> Result<u64> {
    if offset.0 % PAGE != 0 {
        return Err(Errno::EINVAL);
    }
    let file = if flags.has(MapArg::ANONYMOUS) {
        None
    } else {
        Some(cx::file(cx, fd)?)
    };
    if flags.has(MapArg::HUGETLB) {
        // There are no huge pages to give.
        return Err(if file.is_some() {
            Errno::EINVAL
        } else {
            Errno::ENOMEM
        });
    }
    if len == 0 {
        return Err(Errno::EINVAL);
    }
    let fixed = if flags.has(MapArg::FIXED_NOREPLACE) {
        Fixed::NoReplace
    } else if flags.has(MapArg::FIXED) {
        Fixed::Replace
    } else {
        Fixed::No
    };
    let len = match pages(len) {
        Some(n) if n > 0 && n <= hal::USER_END => n,
        _ => return Err(Errno::ENOMEM),
    };
    if offset.0.checked_add(len).is_none() {
        return Err(Errno::EOVERFLOW);
    }
    if fixed != Fixed::No {
        if addr.0 > hal::USER_END - len {
            return Err(Errno::ENOMEM);
        }
        if addr.0 % PAGE != 0 {
            return Err(Errno::EINVAL);
        }
    }
    let limits = cx.mm_limits();
    if flags.has(MapArg::LOCKED) && limits.memlock == 0 {
        return Err(Errno::EPERM);
    }
    let mut vm = VmFlags::MAYWRITE | VmFlags::MAYEXEC;
    let backing = match &file {
        Some(f) => file_backing(f, p, flags, offset.0, &mut vm)?,
        None => anon_backing(flags, &mut vm)?,
    };
    if flags.has(MapArg::LOCKED) {
        vm |= VmFlags::LOCKED;
    }
    if flags.has(MapArg::NORESERVE) {
        vm |= VmFlags::NORESERVE;
    }
    let populate =
        flags.has(MapArg::LOCKED) || flags.has(MapArg::POPULATE) && !flags.has(MapArg::NONBLOCK);
    let req = MapRequest {
        addr: addr.0,
        len,
        prot: prot(p),
        flags: vm,
        fixed,
        populate,
        backing,
    };
    let mm = mm(cx);
    if flags.has(MapArg::LOW32) && fixed == Fixed::No {
        return map_low(mm, req, &limits);
    }
    mm.map(req, &limits)
}

fn file_backing(
    f: &Arc<File>,
    p: ProtArg,
    flags: MapArg,
    offset: u64,
    vm: &mut VmFlags,
) -> Result<Backing> {
    // All flags that existed before MAP_SHARED_VALIDATE.
    const LEGACY: u64 = MapArg::TYPE
        | MapArg::FIXED
        | MapArg::ANONYMOUS
        | MapArg::LOW32
        | MapArg::GROWSDOWN
        | 0x800
        | 0x1000
        | MapArg::LOCKED
        | MapArg::NORESERVE
        | MapArg::POPULATE
        | MapArg::NONBLOCK
        | 0x20000
        | MapArg::HUGETLB
        | 0x3f << 26;
    let shared = match flags.0 & MapArg::TYPE {
        MapArg::SHARED => true,
        MapArg::SHARED_VALIDATE => {
            if flags.0 & !(LEGACY | MapArg::FIXED_NOREPLACE) != 0 {
                return Err(Errno::EOPNOTSUPP);
            }
            true
        }
        MapArg::PRIVATE => false,
        _ => return Err(Errno::EINVAL),
    };
    if shared {
        *vm |= VmFlags::SHARED;
        if !f.flags().writable() {
            if p.has(ProtArg::PROT_WRITE) {
                return Err(Errno::EACCES);
            }
            vm.remove(VmFlags::MAYWRITE);
        }
    }
    if !f.flags().readable() {
        return Err(Errno::EACCES);
    }
    let noexec = f
        .path
        .as_ref()
        .is_some_and(|p| p.mnt.flags().contains(MountFlags::NOEXEC));
    if noexec {
        if p.has(ProtArg::PROT_EXEC) {
            return Err(Errno::EPERM);
        }
        vm.remove(VmFlags::MAYEXEC);
    }
    let backing = f.ops.mmap(f, shared)?;
    if flags.has(MapArg::GROWSDOWN) {
        return Err(Errno::EINVAL);
    }
    if shared {
        crate::memfd::check_map(f, p.has(ProtArg::PROT_WRITE), vm)?;
    }
    Ok(match backing {
        MmapBacking::Cache(cache) => Backing::File {
            cache,
            offset,
            owner: Some(f.clone()),
        },
        MmapBacking::Anon => Backing::Anon,
    })
}

fn anon_backing(flags: MapArg, vm: &mut VmFlags) -> Result<Backing> {
    match flags.0 & MapArg::TYPE {
        MapArg::SHARED if flags.has(MapArg::GROWSDOWN) => return Err(Errno::EINVAL),
        MapArg::SHARED => *vm |= VmFlags::SHARED,
        MapArg::PRIVATE => {
            if flags.has(MapArg::GROWSDOWN) {
                *vm |= VmFlags::GROWSDOWN;
            }
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(Backing::Anon)
}

/// MAP_32BIT: a free place in the first 2 GiB, from 1 GiB on. [`Errno::ENOMEM`].
fn map_low(mm: &Mm, mut req: MapRequest, limits: &mm::aspace::MmLimits) -> Result<u64> {
    const LOW: u64 = 0x4000_0000;
    const HIGH: u64 = 0x8000_0000;
    req.fixed = Fixed::NoReplace;
    // Another thread may take the place; then look again.
    for _ in 0..16 {
        let mut at = LOW;
        for v in mm.vmas(false)? {
            if v.end <= at {
                continue;
            }
            if v.start >= at && v.start - at >= req.len {
                break;
            }
            at = v.end;
        }
        if at.checked_add(req.len).is_none_or(|end| end > HIGH) {
            return Err(Errno::ENOMEM);
        }
        req.addr = at;
        match mm.map(req.clone(), limits) {
            Err(Errno::EEXIST) => {}
            r => return r,
        }
    }
    Err(Errno::ENOMEM)
}

/// Unmaps memory: `munmap(2)`.
pub fn sys_munmap(cx: &Ctx, addr: Ptr, len: u64) -> Result {
    if addr.0 % PAGE != 0 || addr.0 > hal::USER_END || len > hal::USER_END - addr.0 || len == 0 {
        return Err(Errno::EINVAL);
    }
    mm(cx).unmap(addr.0, len)
}

/// Sets rights of memory: `mprotect(2)`.
pub fn sys_mprotect(cx: &Ctx, addr: Ptr, len: u64, p: ProtArg) -> Result {
    const GROWS: u64 = ProtArg::PROT_GROWSDOWN | ProtArg::PROT_GROWSUP;
    if p.0 & GROWS == GROWS || addr.0 % PAGE != 0 {
        return Err(Errno::EINVAL);
    }
    if len == 0 {
        return Ok(());
    }
    let end = pages(len)
        .and_then(|n| addr.0.checked_add(n))
        .filter(|e| *e > addr.0)
        .ok_or(Errno::ENOMEM)?;
    if p.beyond(ProtArg::ALL) {
        return Err(Errno::EINVAL);
    }
    let mm = mm(cx);
    let mut start = addr.0;
    if p.has(GROWS) {
        let v = mm
            .vmas(false)?
            .into_iter()
            .find(|v| v.end > addr.0)
            .ok_or(Errno::ENOMEM)?;
        if p.has(ProtArg::PROT_GROWSUP) || !v.flags.contains(VmFlags::GROWSDOWN) {
            return Err(Errno::EINVAL);
        }
        if v.start >= end {
            return Err(Errno::ENOMEM);
        }
        start = v.start;
    }
    if end > hal::USER_END {
        return Err(Errno::ENOMEM);
    }
    mm.protect(start, end - start, prot(p))
}

/// As mprotect, with a protection key: `pkey_mprotect(2)`. Only key −1 exists.
pub fn sys_pkey_mprotect(cx: &Ctx, addr: Ptr, len: u64, p: ProtArg, pkey: i32) -> Result {
    if pkey != -1 {
        return Err(Errno::EINVAL);
    }
    sys_mprotect(cx, addr, len, p)
}

/// Allocates a protection key: `pkey_alloc(2)`. The CPU has none.
pub fn sys_pkey_alloc(_cx: &Ctx, flags: u32, rights: Hex) -> Result<i32> {
    if flags != 0 || rights.0 & !3 != 0 {
        return Err(Errno::EINVAL);
    }
    Err(Errno::ENOSPC)
}

/// Frees a protection key: `pkey_free(2)`.
pub fn sys_pkey_free(_cx: &Ctx, _pkey: i32) -> Result {
    Err(Errno::EINVAL)
}

/// Moves the end of the heap: `brk(2)`.
pub fn sys_brk(cx: &Ctx, addr: Ptr) -> Result<u64> {
    Ok(mm(cx).brk(addr.0, &cx.mm_limits()))
}

/// Resizes or moves a mapping: `mremap(2)`.
pub fn sys_mremap(
    cx: &Ctx,
    old: Ptr,
    old_len: u64,
    new_len: u64,
    flags: RemapFlags,
    new: Ptr,
) -> Result<u64> {
    type F = RemapFlags;
    let moves = flags.has(F::MREMAP_MAYMOVE);
    if flags.beyond(F::ALL)
        || flags.has(F::MREMAP_FIXED) && !moves
        || flags.has(F::MREMAP_DONTUNMAP) && (!moves || old_len != new_len)
        || old.0 % PAGE != 0
    {
        return Err(Errno::EINVAL);
    }
    let old_len = pages(old_len).ok_or(Errno::EINVAL)?;
    let new_len = match pages(new_len) {
        Some(n) if n > 0 => n,
        _ => return Err(Errno::EINVAL),
    };
    if flags.has(F::MREMAP_FIXED) {
        let end = new.0.checked_add(new_len).ok_or(Errno::EINVAL)?;
        if new.0 % PAGE != 0 || end > hal::USER_END {
            return Err(Errno::EINVAL);
        }
        if old.0 < end && new.0 < old.0.saturating_add(old_len) {
            return Err(Errno::EINVAL);
        }
    }
    let limits = cx.mm_limits();
    mm(cx).remap(old.0, old_len, new_len, flags.0 as u32, new.0, &limits)
}

/// Gives advice about memory: `madvise(2)`.
pub fn sys_madvise(cx: &Ctx, addr: Ptr, len: u64, advice: Madvice) -> Result {
    advise(mm(cx), addr.0, len, advice)
}

/// Checks of madvise(2) that do not depend on the mappings, then the advice.
pub fn advise(mm: &Mm, addr: u64, len: u64, advice: Madvice) -> Result {
    if addr % PAGE != 0 {
        return Err(Errno::EINVAL);
    }
    let len = pages(len).ok_or(Errno::EINVAL)?;
    addr.checked_add(len).ok_or(Errno::EINVAL)?;
    mm.advise(addr, len, advice.0)
}

/// Writes a shared mapping back: `msync(2)`.
pub fn sys_msync(cx: &Ctx, addr: Ptr, len: u64, flags: MsyncFlags) -> Result {
    type F = MsyncFlags;
    if flags.beyond(F::ALL) || addr.0 % PAGE != 0 || flags.has(F::MS_ASYNC) && flags.has(F::MS_SYNC)
    {
        return Err(Errno::EINVAL);
    }
    let len = pages(len).ok_or(Errno::ENOMEM)?;
    addr.0.checked_add(len).ok_or(Errno::ENOMEM)?;
    if len == 0 {
        return Ok(());
    }
    mm(cx).msync(addr.0, len, flags.0)
}

/// Which pages are resident: `mincore(2)`.
pub fn sys_mincore(cx: &Ctx, addr: Ptr, len: u64, vec: Ptr) -> Result {
    /// Pages looked at in one go.
    const BATCH: u64 = 4096;
    if addr.0 % PAGE != 0 {
        return Err(Errno::EINVAL);
    }
    let len = pages(len).ok_or(Errno::ENOMEM)?;
    let end = addr.0.checked_add(len).ok_or(Errno::ENOMEM)?;
    if end > hal::USER_END {
        return Err(Errno::ENOMEM);
    }
    cx::check_range(vec.0, len / PAGE)?;
    let mm = mm(cx);
    let mut done = 0;
    while done < len / PAGE {
        let n = (len / PAGE - done).min(BATCH);
        let state = mm.mincore(addr.0 + done * PAGE, n * PAGE)?;
        mm.write(vec.0 + done, &state)?;
        done += n;
        hal::cpu::current_waiter().yield_if_needed();
    }
    Ok(())
}

fn lock(cx: &Ctx, addr: u64, len: u64, on: bool) -> Result {
    let limits = cx.mm_limits();
    if on && limits.memlock == 0 {
        return Err(Errno::EPERM);
    }
    let start = addr & !(PAGE - 1);
    let end = addr.checked_add(len).and_then(pages).ok_or(if len > 0 {
        Errno::EINVAL
    } else {
        Errno::ENOMEM
    })?;
    mm(cx).lock(start, end - start, on, &limits)
}

/// Keeps memory resident: `mlock(2)`.
pub fn sys_mlock(cx: &Ctx, addr: Ptr, len: u64) -> Result {
    lock(cx, addr.0, len, true)
}

/// Keeps memory resident, with flags: `mlock2(2)`.
pub fn sys_mlock2(cx: &Ctx, addr: Ptr, len: u64, flags: Mlock2Flags) -> Result {
    if flags.beyond(Mlock2Flags::ALL) {
        return Err(Errno::EINVAL);
    }
    lock(cx, addr.0, len, true)
}

/// Lets memory go: `munlock(2)`.
pub fn sys_munlock(cx: &Ctx, addr: Ptr, len: u64) -> Result {
    lock(cx, addr.0, len, false)
}

/// Keeps all memory resident: `mlockall(2)`.
pub fn sys_mlockall(cx: &Ctx, flags: MlockFlags) -> Result {
    if flags.0 == 0 || flags.beyond(MlockFlags::ALL) || flags.0 == MlockFlags::MCL_ONFAULT {
        return Err(Errno::EINVAL);
    }
    let limits = cx.mm_limits();
    if limits.memlock == 0 {
        return Err(Errno::EPERM);
    }
    mm(cx).lock_all(flags.0, &limits)
}

/// Lets all memory go: `munlockall(2)`.
pub fn sys_munlockall(cx: &Ctx) -> Result {
    mm(cx).lock_all(0, &cx.mm_limits())
}

/// Orders memory accesses of all threads: `membarrier(2)`.
pub fn sys_membarrier(cx: &Ctx, cmd: MembarrierCmd, flags: u32, _cpu: i32) -> Result<i32> {
    type C = MembarrierCmd;
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let mm = cx.mm();
    let register = |what: i32| {
        mm.membarrier.fetch_or(what as u32, Ordering::AcqRel);
        Ok(0)
    };
    match cmd.0 {
        C::MEMBARRIER_CMD_QUERY => Ok(C::MEMBARRIER_CMD_GLOBAL
            | C::MEMBARRIER_CMD_GLOBAL_EXPEDITED
            | C::MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED
            | C::MEMBARRIER_CMD_PRIVATE_EXPEDITED
            | C::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED
            | C::MEMBARRIER_CMD_GET_REGISTRATIONS),
        C::MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED
        | C::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED => register(cmd.0),
        C::MEMBARRIER_CMD_GET_REGISTRATIONS => Ok(mm.membarrier.load(Ordering::Acquire) as i32),
        C::MEMBARRIER_CMD_PRIVATE_EXPEDITED
            if mm.membarrier.load(Ordering::Acquire)
                & C::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED as u32
                == 0 =>
        {
            Err(Errno::EPERM)
        }
        C::MEMBARRIER_CMD_GLOBAL
        | C::MEMBARRIER_CMD_GLOBAL_EXPEDITED
        | C::MEMBARRIER_CMD_PRIVATE_EXPEDITED => {
            visit_cpus(cx);
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// Runs on every vCPU once: each has then switched tasks since the call, which orders all its accesses.
fn visit_cpus(cx: &Ctx) {
    let task = cx.task();
    let old = sched::affinity(task);
    for cpu in 0..cx.kernel().ncpus() {
        // One that does not run has nothing to order.
        if sched::set_affinity(task, 1 << cpu).is_ok() {
            sched::obey_affinity();
        }
    }
    // It held before, so it can be set again.
    let _ = sched::set_affinity(task, old);
}
