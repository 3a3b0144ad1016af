//! System V IPC, sysvipc(7): shared memory, semaphores, message queues.

use crate::args::{In, Ptr};
use crate::cx::{self, mm};
use abi::sysv::*;
use abi::time::Timespec;
use abi::{Errno, Result};
use alloc::sync::Arc;

use alloc::vec::Vec;
use hal::Prot;
use ipc::sysv::{self, Object, READ, Table, WRITE, msg, sem, shm};
use mm::aspace::{Backing, Fixed, MapRequest, VmFlags};
use task::Ctx;
use vfs::File;

const SHM_RDONLY: i32 = 0o10000;
const SHM_RND: i32 = 0o20000;
const SHM_REMAP: i32 = 0o40000;
const SHM_EXEC: i32 = 0o100000;
const SHM_HUGETLB: i32 = 0o4000;
const SHM_LOCK: i32 = 11;
const SHM_UNLOCK: i32 = 12;
const PAGE: u64 = hal::PAGE_SIZE as u64;

/// The object of `x_STAT` (by index, `any` without a permission check) or IPC_STAT (by identifier), and the call's result.
fn look<T>(
    cx: &Ctx,
    table: &Table<T>,
    id: i32,
    by_index: bool,
    any: bool,
) -> Result<(Arc<Object<T>>, i32)> {
    let o = if by_index {
        table.at_index(id)?
    } else {
        table.find(id)?
    };
    if !any {
        o.check(&cx.cred(), READ)?;
    }
    let result = if by_index { o.id } else { 0 };
    Ok((o, result))
}

/// Finds or makes a segment: `shmget(2)`.
pub fn sys_shmget(cx: &Ctx, key: i32, size: u64, flags: i32) -> Result<i32> {
    if flags & SHM_HUGETLB != 0 {
        return Err(Errno::EINVAL);
    }
    cx::ipc(cx)?.sysv.shmget(cx, key, size, flags)
}

/// Attaches a segment: `shmat(2)`.
pub fn sys_shmat(cx: &Ctx, id: i32, addr: Ptr, flags: i32) -> Result<u64> {
    let ipc = cx::ipc(cx)?;
    let mut at = addr.0;
    if at % PAGE != 0 {
        if flags & SHM_RND == 0 {
            return Err(Errno::EINVAL);
        }
        at -= at % PAGE;
        if at == 0 && flags & SHM_REMAP != 0 {
            return Err(Errno::EINVAL);
        }
    }
    if addr.0 == 0 && flags & SHM_REMAP != 0 {
        return Err(Errno::EINVAL);
    }
    let segment = ipc.sysv.shm.find(id)?;
    let write = flags & SHM_RDONLY == 0;
    let mut want = if write { READ | WRITE } else { READ };
    let (mut prot, mut vm) = (Prot::READ, VmFlags::SHARED | VmFlags::MAYEXEC);
    if write {
        prot |= Prot::WRITE;
        vm |= VmFlags::MAYWRITE;
    }
    if flags & SHM_EXEC != 0 {
        prot |= Prot::EXEC;
        want |= 0o111;
    }
    segment.check(&cx.cred(), want)?;
    let file = ipc.shm_file(cx, &segment, write)?;
    let req = MapRequest {
        addr: at,
        len: segment.value.size,
        prot,
        flags: vm,
        fixed: match (at, flags & SHM_REMAP != 0) {
            (0, _) => Fixed::No,
            (_, true) => Fixed::Replace,
            (_, false) => Fixed::NoReplace,
        },
        populate: false,
        backing: Backing::File {
            cache: segment.value.cache.clone(),
            offset: 0,
            owner: Some(file),
        },
    };
    mm(cx).map(req, &cx.mm_limits()).map_err(|e| match e {
        Errno::EEXIST => Errno::EINVAL,
        e => e,
    })
}

/// Detaches the segment at an address: `shmdt(2)`.
pub fn sys_shmdt(cx: &Ctx, addr: Ptr) -> Result {
    if addr.0 % PAGE != 0 {
        return Err(Errno::EINVAL);
    }
    let mm = mm(cx);
    let mut first: Option<Arc<File>> = None;
    let mut parts: Vec<(u64, u64)> = Vec::new();
    for v in mm.vmas(false)? {
        let starts_here = v.start.checked_sub(v.offset) == Some(addr.0);
        let file = v.owner.and_then(|o| o.downcast::<File>().ok());
        let Some(file) = file.filter(|_| starts_here) else {
            continue;
        };
        let ours = match &first {
            Some(f) => Arc::ptr_eq(f, &file),
            None => shm::detaching(cx, &file),
        };
        if ours {
            parts.push((v.start, v.end - v.start));
            first = Some(file);
        }
    }
    if parts.is_empty() {
        return Err(Errno::EINVAL);
    }
    for (start, len) in parts {
        mm.unmap(start, len)?;
    }
    Ok(())
}

/// Asks about, changes or removes a segment: `shmctl(2)`.
pub fn sys_shmctl(cx: &Ctx, id: i32, cmd: i32, buf: Ptr) -> Result<i32> {
    let ipc = cx::ipc(cx)?;
    let table = &ipc.sysv.shm;
    let mm = mm(cx);
    match cmd {
        IPC_STAT | 13 | 15 => {
            let (o, r) = look(cx, table, id, cmd != IPC_STAT, cmd == 15)?;
            mm.put(buf.0, &shm::stat(&o))?;
            Ok(r)
        }
        IPC_SET => {
            let new: ShmidDs = mm.get(buf.0)?;
            table.find(id)?.set_perm(&cx.cred(), &new.perm)?;
            Ok(0)
        }
        IPC_RMID => {
            ipc.sysv.shm_remove(cx, id)?;
            Ok(0)
        }
        IPC_INFO => {
            let info = ShmInfo {
                max: shm::MAX_SIZE,
                min: 1,
                mni: u64::from(shm::MAX_SEGMENTS),
                seg: u64::from(shm::MAX_SEGMENTS),
                all: shm::MAX_SIZE / PAGE,
                ..ShmInfo::default()
            };
            mm.put(buf.0, &info)?;
            Ok(table.highest())
        }
        14 => {
            let all = table.all();
            let info = ShmUsage {
                used_ids: all.len() as i32,
                total: all.iter().map(|o| o.value.size.div_ceil(PAGE)).sum(),
                resident: all.iter().map(|o| o.value.cache.resident()).sum(),
                ..ShmUsage::default()
            };
            mm.put(buf.0, &info)?;
            Ok(table.highest())
        }
        // Nothing is ever swapped out.
        SHM_LOCK | SHM_UNLOCK => {
            table.find(id)?;
            cx.require(vfs::cred::cap::IPC_LOCK)?;
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// Finds or makes a semaphore set: `semget(2)`.
pub fn sys_semget(cx: &Ctx, key: i32, nsems: i32, flags: i32) -> Result<i32> {
    cx::ipc(cx)?.sysv.semget(cx, key, nsems, flags)
}

/// Carries semaphore operations out together: `semop(2)`.
pub fn sys_semop(cx: &Ctx, id: i32, ops: Ptr, nsops: u64) -> Result {
    sys_semtimedop(cx, id, ops, nsops, In::at(0))
}

/// As `semop`, for a limited time: `semtimedop(2)`.
pub fn sys_semtimedop(cx: &Ctx, id: i32, ops: Ptr, nsops: u64, timeout: In<Timespec>) -> Result {
    let mm = mm(cx);
    let deadline = match timeout.get_opt(mm)? {
        Some(t) => Some(cx.kernel().now().saturating_add(t.to_ns()?)),
        None => None,
    };
    if nsops < 1 || id < 0 {
        return Err(Errno::EINVAL);
    }
    let n = usize::try_from(nsops).unwrap_or(usize::MAX);
    if n > sem::MAX_OPS {
        return Err(Errno::E2BIG);
    }
    let ops: Vec<SemBuf> = mm.get_vec(ops.0, n)?;
    cx::ipc(cx)?.sysv.semop(cx, id, &ops, deadline)
}

/// Asks about, changes or removes a semaphore set: `semctl(2)`.
pub fn sys_semctl(cx: &Ctx, id: i32, num: i32, cmd: i32, arg: Ptr) -> Result<i32> {
    const GETPID: i32 = 11;
    const GETVAL: i32 = 12;
    const GETALL: i32 = 13;
    const GETNCNT: i32 = 14;
    const GETZCNT: i32 = 15;
    const SETVAL: i32 = 16;
    const SETALL: i32 = 17;
    let ipc = cx::ipc(cx)?;
    let table = &ipc.sysv.sem;
    let mm = mm(cx);
    match cmd {
        IPC_STAT | 18 | 20 => {
            let (o, r) = look(cx, table, id, cmd != IPC_STAT, cmd == 20)?;
            mm.put(arg.0, &sem::stat(&o))?;
            Ok(r)
        }
        IPC_SET => {
            let new: SemidDs = mm.get(arg.0)?;
            table.find(id)?.set_perm(&cx.cred(), &new.perm)?;
            Ok(0)
        }
        IPC_RMID => {
            ipc.sysv.sem_remove(cx, id)?;
            Ok(0)
        }
        IPC_INFO | 19 => {
            let all = table.all();
            let sems: usize = all.iter().map(|o| sem::count(o)).sum();
            let usage = cmd == 19;
            let info = SemInfo {
                map: 1_024_000_000,
                mni: sem::MAX_SETS as i32,
                mns: 1_024_000_000,
                mnu: 1_024_000_000,
                msl: sem::MAX_SEMS as i32,
                opm: sem::MAX_OPS as i32,
                ume: sem::MAX_OPS as i32,
                usz: if usage { all.len() as i32 } else { 20 },
                vmx: sem::MAX_VALUE,
                aem: if usage {
                    i32::try_from(sems).unwrap_or(i32::MAX)
                } else {
                    sem::MAX_VALUE
                },
            };
            mm.put(arg.0, &info)?;
            Ok(table.highest())
        }
        GETVAL | GETPID | GETNCNT | GETZCNT => {
            let (o, _) = look(cx, table, id, false, false)?;
            let what = match cmd {
                GETVAL => sem::Ask::Value,
                GETPID => sem::Ask::Pid,
                GETNCNT => sem::Ask::WaitingToGrow,
                _ => sem::Ask::WaitingForZero,
            };
            sem::ask(&o, num, what)
        }
        GETALL => {
            let (o, _) = look(cx, table, id, false, false)?;
            let bytes: Vec<u8> = sem::values(&o)?
                .iter()
                .flat_map(|v| v.to_ne_bytes())
                .collect();
            mm.write(arg.0, &bytes)?;
            Ok(0)
        }
        SETVAL => {
            let o = table.find(id)?;
            ipc.sysv.semset(cx, &o, num, &[arg.0 as i32])?;
            Ok(0)
        }
        SETALL => {
            let o = table.find(id)?;
            let new: Vec<u16> = mm.get_vec(arg.0, sem::count(&o))?;
            let new: Vec<i32> = new.into_iter().map(i32::from).collect();
            ipc.sysv.semset(cx, &o, 0, &new)?;
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// Finds or makes a message queue: `msgget(2)`.
pub fn sys_msgget(cx: &Ctx, key: i32, flags: i32) -> Result<i32> {
    cx::ipc(cx)?.sysv.msgget(cx, key, flags)
}

/// Sends a message: `msgsnd(2)`.
pub fn sys_msgsnd(cx: &Ctx, id: i32, buf: Ptr, size: u64, flags: i32) -> Result {
    let mm = mm(cx);
    let kind: i64 = mm.get(buf.0)?;
    let n = usize::try_from(size)
        .ok()
        .filter(|n| *n <= msg::MAX_MESSAGE)
        .ok_or(Errno::EINVAL)?;
    if kind < 1 || id < 0 {
        return Err(Errno::EINVAL);
    }
    let mut data = ::mm::io::try_zeroed(n)?;
    mm.read(buf.0.checked_add(8).ok_or(Errno::EFAULT)?, &mut data)?;
    cx::ipc(cx)?.sysv.msgsnd(cx, id, kind, data, flags)
}

/// Receives a message: `msgrcv(2)`.
pub fn sys_msgrcv(cx: &Ctx, id: i32, buf: Ptr, size: u64, kind: i64, flags: i32) -> Result<usize> {
    let (kind, data) = cx::ipc(cx)?.sysv.msgrcv(cx, id, size, kind, flags)?;
    let mm = mm(cx);
    mm.put(buf.0, &kind)?;
    mm.write(buf.0.checked_add(8).ok_or(Errno::EFAULT)?, &data)?;
    Ok(data.len())
}

/// Asks about, changes or removes a message queue: `msgctl(2)`.
pub fn sys_msgctl(cx: &Ctx, id: i32, cmd: i32, buf: Ptr) -> Result<i32> {
    let ipc = cx::ipc(cx)?;
    let table = &ipc.sysv.msg;
    let mm = mm(cx);
    match cmd {
        IPC_STAT | 11 | 13 => {
            let (o, r) = look(cx, table, id, cmd != IPC_STAT, cmd == 13)?;
            mm.put(buf.0, &msg::stat(&o))?;
            Ok(r)
        }
        IPC_SET => {
            let new: MsqidDs = mm.get(buf.0)?;
            msg::set(cx, &*table.find(id)?, &new)?;
            Ok(0)
        }
        IPC_RMID => {
            msg::removed(&*table.remove(cx, id)?);
            Ok(0)
        }
        IPC_INFO | 12 => {
            let all: Vec<MsqidDs> = table.all().iter().map(|o| msg::stat(o)).collect();
            let sum = |f: fn(&MsqidDs) -> u64| {
                i32::try_from(all.iter().map(f).sum::<u64>()).unwrap_or(i32::MAX)
            };
            let usage = cmd == 12;
            let info = MsgInfo {
                pool: if usage { all.len() as i32 } else { 512_000 },
                map: if usage { sum(|q| q.qnum) } else { 16384 },
                max: msg::MAX_MESSAGE as i32,
                mnb: msg::MAX_BYTES as i32,
                mni: msg::MAX_QUEUES as i32,
                ssz: 16,
                tql: if usage { sum(|q| q.cbytes) } else { 16384 },
                seg: 0xffff,
            };
            mm.put(buf.0, &info)?;
            Ok(table.highest())
        }
        _ => Err(Errno::EINVAL),
    }
}

/// The end of a process: its semaphore adjustments are carried out. For boot to register.
pub fn process_exit(p: &task::Process) {
    let slot = p.kernel.slots.ipc.get().cloned();
    if let Some(ipc) = slot.and_then(|s| s.downcast::<ipc::Ipc>().ok()) {
        let sysv: &sysv::SysV = &ipc.sysv;
        sysv.process_exit(p.pid());
    }
}
