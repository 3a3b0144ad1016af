//! Credentials: user and group ids, supplementary groups, capabilities; credentials(7), capabilities(7).

use crate::args::{Id, In, Out, Ptr};
use crate::cx::{self, mm};
use abi::process::{CapData, CapHeader};
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use task::Ctx;
use vfs::Cred;
use vfs::cred::{CapSet, cap};
use zerocopy::IntoBytes;

/// SECBIT_NO_SETUID_FIXUP and SECBIT_KEEP_CAPS of capabilities(7).
const NO_SETUID_FIXUP: u32 = 1 << 2;
const KEEP_CAPS: u32 = 1 << 4;
/// Capabilities that follow the file-system user id.
const FS_CAPS: u64 = 1 << cap::CHOWN
    | 1 << cap::DAC_OVERRIDE
    | 1 << cap::DAC_READ_SEARCH
    | 1 << cap::FOWNER
    | 1 << cap::FSETID
    | 1 << cap::MKNOD
    | 1 << 9
    | 1 << 32;
/// Most supplementary groups.
const NGROUPS_MAX: usize = 65536;

/// Real user id: `getuid(2)`.
pub fn sys_getuid(cx: &Ctx) -> Result<u32> {
    Ok(cx.cred().uid)
}
/// Effective user id: `geteuid(2)`.
pub fn sys_geteuid(cx: &Ctx) -> Result<u32> {
    Ok(cx.cred().euid)
}
/// Real group id: `getgid(2)`.
pub fn sys_getgid(cx: &Ctx) -> Result<u32> {
    Ok(cx.cred().gid)
}
/// Effective group id: `getegid(2)`.
pub fn sys_getegid(cx: &Ctx) -> Result<u32> {
    Ok(cx.cred().egid)
}

/// All three user ids: `getresuid(2)`.
pub fn sys_getresuid(cx: &Ctx, r: Out<u32>, e: Out<u32>, s: Out<u32>) -> Result {
    let (c, mm) = (cx.cred(), mm(cx));
    r.put(mm, &c.uid)?;
    e.put(mm, &c.euid)?;
    s.put(mm, &c.suid)
}
/// All three group ids: `getresgid(2)`.
pub fn sys_getresgid(cx: &Ctx, r: Out<u32>, e: Out<u32>, s: Out<u32>) -> Result {
    let (c, mm) = (cx.cred(), mm(cx));
    r.put(mm, &c.gid)?;
    e.put(mm, &c.egid)?;
    s.put(mm, &c.sgid)
}

/// Capabilities after a change of user ids, capabilities(7).
fn fix_caps(old: &Cred, new: &mut Cred) {
    if new.securebits & NO_SETUID_FIXUP != 0 {
        return;
    }
    let had_root = [old.uid, old.euid, old.suid].contains(&0);
    let has_root = [new.uid, new.euid, new.suid].contains(&0);
    if had_root && !has_root {
        if new.securebits & KEEP_CAPS == 0 {
            new.permitted = CapSet(0);
            new.effective = CapSet(0);
        }
        new.ambient = CapSet(0);
    }
    if old.euid == 0 && new.euid != 0 {
        new.effective = CapSet(0);
    }
    if old.euid != 0 && new.euid == 0 {
        new.effective = new.permitted;
    }
}

/// Makes new credentials the caller's. A change of identity makes the process undumpable.
fn commit(cx: &Ctx, old: &Cred, new: Cred) {
    if old.euid != new.euid
        || old.egid != new.egid
        || old.fsuid != new.fsuid
        || old.fsgid != new.fsgid
        || new.permitted.0 & !old.permitted.0 != 0
    {
        let dumpable = cx.kernel().sysctl.suid_dumpable.load(Ordering::Relaxed);
        cx.process().dumpable.store(dumpable, Ordering::Relaxed);
        cx.task().pdeath_signal.store(0, Ordering::Relaxed);
    }
    cx.task().set_cred(Arc::new(new));
}

fn change_uids(cx: &Ctx, f: impl FnOnce(&Cred, &mut Cred) -> Result) -> Result {
    let old = cx.cred();
    let mut new = (*old).clone();
    f(&old, &mut new)?;
    new.fsuid = new.euid;
    fix_caps(&old, &mut new);
    commit(cx, &old, new);
    Ok(())
}

fn change_gids(cx: &Ctx, f: impl FnOnce(&Cred, &mut Cred) -> Result) -> Result {
    let old = cx.cred();
    let mut new = (*old).clone();
    f(&old, &mut new)?;
    new.fsgid = new.egid;
    commit(cx, &old, new);
    Ok(())
}

/// An id that a call sets; −1 is no id.
fn valid(id: Id) -> Result<u32> {
    id.get().ok_or(Errno::EINVAL)
}

/// Sets the user id: `setuid(2)`.
pub fn sys_setuid(cx: &Ctx, uid: Id) -> Result {
    let uid = valid(uid)?;
    change_uids(cx, |old, new| {
        if old.capable(cap::SETUID) {
            new.uid = uid;
            new.suid = uid;
        } else if uid != old.uid && uid != old.suid {
            return Err(Errno::EPERM);
        }
        new.euid = uid;
        Ok(())
    })
}

/// Sets the group id: `setgid(2)`.
pub fn sys_setgid(cx: &Ctx, gid: Id) -> Result {
    let gid = valid(gid)?;
    change_gids(cx, |old, new| {
        if old.capable(cap::SETGID) {
            new.gid = gid;
            new.sgid = gid;
        } else if gid != old.gid && gid != old.sgid {
            return Err(Errno::EPERM);
        }
        new.egid = gid;
        Ok(())
    })
}

/// Sets real and effective user id: `setreuid(2)`.
pub fn sys_setreuid(cx: &Ctx, ruid: Id, euid: Id) -> Result {
    change_uids(cx, |old, new| {
        let all = old.capable(cap::SETUID);
        if let Some(r) = ruid.get() {
            if !all && ![old.uid, old.euid].contains(&r) {
                return Err(Errno::EPERM);
            }
            new.uid = r;
        }
        if let Some(e) = euid.get() {
            if !all && ![old.uid, old.euid, old.suid].contains(&e) {
                return Err(Errno::EPERM);
            }
            new.euid = e;
        }
        if ruid.get().is_some() || euid.get().is_some_and(|e| e != old.uid) {
            new.suid = new.euid;
        }
        Ok(())
    })
}

/// Sets real and effective group id: `setregid(2)`.
pub fn sys_setregid(cx: &Ctx, rgid: Id, egid: Id) -> Result {
    change_gids(cx, |old, new| {
        let all = old.capable(cap::SETGID);
        if let Some(r) = rgid.get() {
            if !all && ![old.gid, old.egid].contains(&r) {
                return Err(Errno::EPERM);
            }
            new.gid = r;
        }
        if let Some(e) = egid.get() {
            if !all && ![old.gid, old.egid, old.sgid].contains(&e) {
                return Err(Errno::EPERM);
            }
            new.egid = e;
        }
        if rgid.get().is_some() || egid.get().is_some_and(|e| e != old.gid) {
            new.sgid = new.egid;
        }
        Ok(())
    })
}

/// Sets all three user ids: `setresuid(2)`.
pub fn sys_setresuid(cx: &Ctx, ruid: Id, euid: Id, suid: Id) -> Result {
    change_uids(cx, |old, new| {
        let own = [old.uid, old.euid, old.suid];
        let all = old.capable(cap::SETUID);
        let may = |id: &Id| id.get().is_none_or(|v| own.contains(&v));
        if !all && ![ruid, euid, suid].iter().all(may) {
            return Err(Errno::EPERM);
        }
        new.uid = ruid.get().unwrap_or(old.uid);
        new.euid = euid.get().unwrap_or(old.euid);
        new.suid = suid.get().unwrap_or(old.suid);
        Ok(())
    })
}

/// Sets all three group ids: `setresgid(2)`.
pub fn sys_setresgid(cx: &Ctx, rgid: Id, egid: Id, sgid: Id) -> Result {
    change_gids(cx, |old, new| {
        let own = [old.gid, old.egid, old.sgid];
        let all = old.capable(cap::SETGID);
        let may = |id: &Id| id.get().is_none_or(|v| own.contains(&v));
        if !all && ![rgid, egid, sgid].iter().all(may) {
            return Err(Errno::EPERM);
        }
        new.gid = rgid.get().unwrap_or(old.gid);
        new.egid = egid.get().unwrap_or(old.egid);
        new.sgid = sgid.get().unwrap_or(old.sgid);
        Ok(())
    })
}

/// Sets the user id for files: `setfsuid(2)`. Returns the old one, whether it worked or not.
pub fn sys_setfsuid(cx: &Ctx, uid: Id) -> Result<u32> {
    let old = cx.cred();
    if let Some(u) = uid.get()
        && u != old.fsuid
        && ([old.uid, old.euid, old.suid, old.fsuid].contains(&u) || old.capable(cap::SETUID))
    {
        let mut new = (*old).clone();
        new.fsuid = u;
        if new.securebits & NO_SETUID_FIXUP == 0 {
            if old.fsuid == 0 {
                new.effective.0 &= !FS_CAPS;
            } else if u == 0 {
                new.effective.0 |= new.permitted.0 & FS_CAPS;
            }
        }
        commit(cx, &old, new);
    }
    Ok(old.fsuid)
}

/// Sets the group id for files: `setfsgid(2)`. Returns the old one, whether it worked or not.
pub fn sys_setfsgid(cx: &Ctx, gid: Id) -> Result<u32> {
    let old = cx.cred();
    if let Some(g) = gid.get()
        && g != old.fsgid
        && ([old.gid, old.egid, old.sgid, old.fsgid].contains(&g) || old.capable(cap::SETGID))
    {
        let mut new = (*old).clone();
        new.fsgid = g;
        commit(cx, &old, new);
    }
    Ok(old.fsgid)
}

/// Supplementary groups: `getgroups(2)`.
pub fn sys_getgroups(cx: &Ctx, size: i32, list: Ptr) -> Result<usize> {
    let size = usize::try_from(size).map_err(|_| Errno::EINVAL)?;
    let cred = cx.cred();
    if size != 0 {
        if cred.groups.len() > size {
            return Err(Errno::EINVAL);
        }
        mm(cx).write(list.0, cred.groups.as_slice().as_bytes())?;
    }
    Ok(cred.groups.len())
}

/// Sets the supplementary groups: `setgroups(2)`. They are kept sorted.
pub fn sys_setgroups(cx: &Ctx, size: i32, list: Ptr) -> Result {
    cx.require(cap::SETGID)?;
    let size = usize::try_from(size).map_err(|_| Errno::EINVAL)?;
    if size > NGROUPS_MAX {
        return Err(Errno::EINVAL);
    }
    let mut groups = mm(cx).get_vec::<u32>(list.0, size)?;
    if groups.contains(&u32::MAX) {
        return Err(Errno::EINVAL);
    }
    groups.sort_unstable();
    let old = cx.cred();
    let new = Cred {
        groups,
        ..(*old).clone()
    };
    cx.task().set_cred(Arc::new(new));
    Ok(())
}

/// `_LINUX_CAPABILITY_VERSION_1`, `_2` and `_3`.
const CAP_VERSIONS: [u32; 3] = [0x1998_0330, 0x2007_1026, 0x2008_0522];

/// Number of words of the version in the header; stores the preferred version if it is unknown.
fn cap_words(cx: &Ctx, header: Out<CapHeader>) -> Result<(CapHeader, usize)> {
    let mm = mm(cx);
    let h = header.get(mm)?;
    if !CAP_VERSIONS.contains(&h.version) {
        let mut answer = h;
        answer.version = CAP_VERSIONS[2];
        header.put(mm, &answer)?;
        return Err(Errno::EINVAL);
    }
    Ok((h, if h.version == CAP_VERSIONS[0] { 1 } else { 2 }))
}

/// Reads capabilities: `capget(2)`.
pub fn sys_capget(cx: &Ctx, header: Out<CapHeader>, data: Out<[CapData; 2]>) -> Result {
    let (h, words) = match cap_words(cx, header) {
        // Asking for the version with no place for data is no error.
        Err(Errno::EINVAL) if data.is_null() => return Ok(()),
        r => r?,
    };
    if h.pid < 0 {
        return Err(Errno::EINVAL);
    }
    let c = cx::task_of(cx, h.pid)?.cred();
    if data.is_null() {
        return Ok(());
    }
    let all: [CapData; 2] = core::array::from_fn(|i| {
        let word = |s: CapSet| (s.0 >> (32 * i)) as u32;
        CapData {
            effective: word(c.effective),
            permitted: word(c.permitted),
            inheritable: word(c.inheritable),
        }
    });
    let n = words * size_of::<CapData>();
    mm(cx).write(data.0, all.as_bytes().get(..n).unwrap_or(&[]))
}

/// Sets capabilities of the calling thread: `capset(2)`.
pub fn sys_capset(cx: &Ctx, header: Out<CapHeader>, data: In<[CapData; 2]>) -> Result {
    let (h, words) = cap_words(cx, header)?;
    if h.pid != 0 && h.pid != cx.task().tid() {
        return Err(Errno::EPERM);
    }
    let list = mm(cx).get_vec::<CapData>(data.0, words)?;
    let join = |f: fn(&CapData) -> u32| {
        let all = list
            .iter()
            .enumerate()
            .fold(0u64, |s, (i, d)| s | u64::from(f(d)) << (32 * i));
        CapSet(all & CapSet::FULL.0)
    };
    let (effective, permitted, inheritable) = (
        join(|d| d.effective),
        join(|d| d.permitted),
        join(|d| d.inheritable),
    );
    let old = cx.cred();
    let beyond = |a: CapSet, b: u64| a.0 & !b != 0;
    if !old.capable(cap::SETPCAP) && beyond(inheritable, old.inheritable.0 | old.permitted.0)
        || beyond(inheritable, old.inheritable.0 | old.bounding.0)
        || beyond(permitted, old.permitted.0)
        || beyond(effective, permitted.0)
    {
        return Err(Errno::EPERM);
    }
    let new = Cred {
        effective,
        permitted,
        inheritable,
        ambient: CapSet(old.ambient.0 & permitted.0 & inheritable.0),
        ..(*old).clone()
    };
    commit(cx, &old, new);
    Ok(())
}
