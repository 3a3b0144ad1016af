//! The machine as a whole: uname(2), sysinfo(2), sethostname(2), syslog(2), reboot(2), personality(2).

use crate::args::{Bytes, Hex, Out, PathPtr, Ptr};
use crate::cx::mm;
use abi::process::{Sysinfo, Utsname};
use abi::time::NSEC_PER_SEC;
use abi::{Errno, Result};
use alloc::vec::Vec;
use core::fmt::Write;
use core::sync::atomic::Ordering;
use task::Ctx;
use vfs::cred::cap;

/// Longest host or domain name.
const NAME_MAX: i32 = 64;

/// Names of the system: `uname(2)`.
pub fn sys_uname(cx: &Ctx, buf: Out<Utsname>) -> Result {
    fn field(s: &[u8]) -> [u8; 65] {
        let mut f = [0; 65];
        for (d, s) in f.iter_mut().zip(s.iter().take(64)) {
            *d = *s;
        }
        f
    }
    let out = {
        let n = cx.kernel().uts.lock();
        Utsname {
            sysname: field(n.sysname.as_bytes()),
            nodename: field(&n.nodename),
            release: field(n.release.as_bytes()),
            version: field(n.version.as_bytes()),
            machine: field(n.machine.as_bytes()),
            domainname: field(&n.domainname),
        }
    };
    buf.put(mm(cx), &out)
}

fn name(cx: &Ctx, p: Bytes, len: i32) -> Result<Vec<u8>> {
    cx.require(cap::SYS_ADMIN)?;
    if !(0..=NAME_MAX).contains(&len) {
        return Err(Errno::EINVAL);
    }
    let mut v = mm(cx).get_vec::<u8>(p.0, len as usize)?;
    let end = v.iter().position(|b| *b == 0).unwrap_or(v.len());
    v.truncate(end);
    Ok(v)
}

/// Sets the host name: `sethostname(2)`.
pub fn sys_sethostname(cx: &Ctx, p: Bytes, len: i32) -> Result {
    let new = name(cx, p, len)?;
    let old = core::mem::replace(&mut cx.kernel().uts.lock().nodename, new);
    drop(old);
    Ok(())
}

/// Sets the NIS domain name: `setdomainname(2)`.
pub fn sys_setdomainname(cx: &Ctx, p: Bytes, len: i32) -> Result {
    let new = name(cx, p, len)?;
    let old = core::mem::replace(&mut cx.kernel().uts.lock().domainname, new);
    drop(old);
    Ok(())
}

/// Numbers of the system: `sysinfo(2)`.
pub fn sys_sysinfo(cx: &Ctx, info: Out<Sysinfo>) -> Result {
    let k = cx.kernel();
    let m = mm::frame::stats();
    let page = hal::PAGE_SIZE as u64;
    let (threads, _) = k.pids.counts();
    let out = Sysinfo {
        uptime: k.now().div_ceil(NSEC_PER_SEC) as i64,
        loads: k.load_average(),
        totalram: m.total * page,
        freeram: m.free * page,
        sharedram: m.shmem * page,
        procs: u16::try_from(threads).unwrap_or(u16::MAX),
        mem_unit: 1,
        ..Sysinfo::default()
    };
    info.put(mm(cx), &out)
}

/// Execution domain: `personality(2)`. Returns the old one.
pub fn sys_personality(cx: &Ctx, persona: Hex) -> Result<u32> {
    /// Asks only.
    const QUERY: u32 = u32::MAX;
    let new = persona.0 as u32;
    let cell = &cx.task().personality;
    let old = cell.load(Ordering::Relaxed);
    if new != QUERY {
        cell.store(new, Ordering::Relaxed);
    }
    Ok(old)
}

/// The kernel's message buffer: `syslog(2)`.
pub fn sys_syslog(cx: &Ctx, kind: i32, buf: Ptr, len: i32) -> Result<usize> {
    const READ_ALL: i32 = 3;
    const READ_CLEAR: i32 = 4;
    const SIZE_UNREAD: i32 = 9;
    const SIZE_BUFFER: i32 = 10;
    if kind != READ_ALL && kind != SIZE_BUFFER {
        cx.require(34).or_else(|_| cx.require(cap::SYS_ADMIN))?;
    }
    match kind {
        // Open, close, switching the console.
        0 | 1 | 6 | 7 => Ok(0),
        8 if (1..=8).contains(&len) => Ok(0),
        READ_ALL | READ_CLEAR => {
            if buf.0 == 0 || len < 0 {
                return Err(Errno::EINVAL);
            }
            if len == 0 {
                return Ok(0);
            }
            let text = log_text(cx);
            let skip = text.len().saturating_sub(len as usize);
            let tail = text.get(skip..).unwrap_or(&[]);
            mm(cx).write(buf.0, tail)?;
            Ok(tail.len())
        }
        SIZE_UNREAD => Ok(log_text(cx).len()),
        SIZE_BUFFER => Ok(1 << 17),
        // Reading away, clearing: the buffer is also /dev/kmsg's.
        2 | 5 => Err(Errno::EOPNOTSUPP),
        _ => Err(Errno::EINVAL),
    }
}

fn log_text(cx: &Ctx) -> Vec<u8> {
    let mut s = alloc::string::String::new();
    for l in cx.kernel().log_lines(0, usize::MAX) {
        // A String takes everything.
        let _ = writeln!(
            s,
            "<{}>[{:5}.{:06}] {}",
            l.level as u32,
            l.time_ns / NSEC_PER_SEC,
            l.time_ns % NSEC_PER_SEC / 1000,
            l.text
        );
    }
    s.into_bytes()
}

/// Ends or restarts the machine: `reboot(2)`.
pub fn sys_reboot(cx: &Ctx, magic: Hex, magic2: Hex, cmd: Hex, _arg: Ptr) -> Result {
    const MAGIC1: u32 = 0xfee1_dead;
    const MAGIC2: [u32; 4] = [672_274_793, 85_072_278, 369_367_448, 537_993_216];
    const CAD_OFF: u32 = 0;
    const CAD_ON: u32 = 0x89ab_cdef;
    const HALT: u32 = 0xcdef_0123;
    const POWER_OFF: u32 = 0x4321_fedc;
    const RESTART: u32 = 0x0123_4567;
    const RESTART2: u32 = 0xa1b2_c3d4;
    cx.require(cap::SYS_BOOT)?;
    if magic.0 as u32 != MAGIC1 || !MAGIC2.contains(&(magic2.0 as u32)) {
        return Err(Errno::EINVAL);
    }
    match cmd.0 as u32 {
        CAD_OFF | CAD_ON => Ok(()),
        HALT | POWER_OFF | RESTART | RESTART2 => {
            cx.kernel().mounts().sync_all();
            cx.kernel().platform.power_off(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// Hangs the terminal up: `vhangup(2)`.
pub fn sys_vhangup(cx: &Ctx) -> Result {
    cx.require(cap::SYS_TTY_CONFIG)?;
    Err(Errno::ENOTTY)
}

/// Accounting of ended processes: `acct(2)`. There is none.
pub fn sys_acct(cx: &Ctx, _path: PathPtr) -> Result {
    cx.require(20)?;
    Err(Errno::ENOSYS)
}

/// Adds swap space: `swapon(2)`. There is none.
pub fn sys_swapon(cx: &Ctx, _path: PathPtr, _flags: Hex) -> Result {
    cx.require(cap::SYS_ADMIN)?;
    Err(Errno::ENOSYS)
}

/// Takes swap space away: `swapoff(2)`. There is none.
pub fn sys_swapoff(cx: &Ctx, _path: PathPtr) -> Result {
    cx.require(cap::SYS_ADMIN)?;
    Err(Errno::ENOSYS)
}
